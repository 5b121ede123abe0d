//! Leases of etcd.

use std::time::Duration;

use caucus_history::history::Type;
use caucus_tests::http::Client;
use caucus_tests::wait::{Stopwatch, pause, wait_until};
use serde_json::{Value, json};

use crate::gateway::{Failed, Gateway, number};
use crate::members::{COUNT, Members};
use crate::scene::{Scene, judge, refused_by, turn};

const LIMIT: Duration = Duration::from_secs(60);
/// As many as a leader revokes at once: the others wait for these.
const REVOKED_AT_ONCE: u32 = 16;
const LEASES: usize = 200;
const TTL_S: u64 = 5;
/// Between the stop of the followers and the end of the first lease; the leader believes in itself for a second.
const MOMENT: Duration = Duration::from_millis(100);
/// Longer than a leader waits for an answer that never comes.
const WATCHED: Duration = Duration::from_secs(12);
const ATTEMPTS: usize = 3;

/// One call about a lease, written down; whether it is still there.
fn call(scene: &Scene, gateway: &mut Gateway, lease: &str, what: &str) -> Option<bool> {
    let by = format!("holder-{}", scene.number());
    let said = json!({"lease": lease, "do": what});
    scene.say(Type::Invoke, &by, "lease", said.clone());
    let (path, body) = match what {
        "renew" => ("lease/keepalive", json!({"ID": lease})),
        _ => ("lease/grant", json!({"ID": lease, "TTL": TTL_S})),
    };
    let mut answer = match gateway.call(path, &body) {
        Ok(answer) => answer,
        Err(Failed::Never(_)) => {
            scene.say(Type::Fail, &by, "lease", said);
            return None;
        }
        Err(Failed::Unknown(_)) => {
            scene.say(Type::Info, &by, "lease", said);
            return None;
        }
    };
    if what == "renew" {
        answer = answer["result"].take();
    }
    let ttl = number(&answer["TTL"]);
    let mut told = said;
    match ttl {
        0 => told["gone"] = Value::from(true),
        ttl => told["ttl"] = Value::from(ttl),
    }
    scene.say(Type::Ok, &by, "lease", told);
    Some(ttl > 0)
}

/// etcd issues 12528 and 15247: a leader that revokes what has expired goes on with that when it isn't leader any
/// more, whatever its successor has renewed. Fixed in 3.4.31.
#[test]
fn an_old_leader_revokes_what_was_renewed() {
    let _turn = turn();
    let Some(members) = Members::start(&[]) else {
        return;
    };
    for attempt in 1..=ATTEMPTS {
        let scene = Scene::new();
        change_the_leader(&scene, &members);
        let found = judge("etcd leases", &scene.recorder.history());
        if found.is_empty() {
            continue;
        }
        eprintln!("attempt {attempt}");
        assert_eq!(refused_by(&found), ["leases"]);
        assert!(found[0].why.contains("before its time"), "{found:?}");
        return;
    }
    panic!("no lease was lost in {ATTEMPTS} attempts");
}

/// Lets leases expire at a leader whose followers are stopped, so that it can't revoke them; stops it, lets the others
/// elect another, renews there what is left, and lets the old one go on.
fn change_the_leader(scene: &Scene, members: &Members) {
    let old = members.leader(0).expect("a leader");
    let others = [(old + 1) % COUNT, (old + 2) % COUNT];
    let clock = Stopwatch::start();
    let mut gateway = Gateway::new(&members.address(old));
    let mut leases: Vec<String> = (0..LEASES)
        .map(|_| (1000 + scene.number()).to_string())
        .collect();
    leases.retain(|lease| call(scene, &mut gateway, lease, "grant") == Some(true));
    wait_until("the end of the leases", LIMIT, || {
        clock.elapsed() > Duration::from_secs(TTL_S) - MOMENT
    });
    others.iter().for_each(|other| members.pause(*other));
    let mut old_one = Client::new(&members.address(old));
    wait_until("a leader that revokes leases", LIMIT, || {
        let metrics = old_one.request("GET", "/metrics", &[], b"");
        let text = metrics.expect("metrics").text();
        let pending = text
            .lines()
            .find_map(|line| line.strip_prefix("etcd_server_proposals_pending "));
        pending.is_some_and(|pending| pending.parse::<u32>().is_ok_and(|n| n >= REVOKED_AT_ONCE))
    });
    members.pause(old);
    others.iter().for_each(|other| members.go_on(*other));
    wait_until("another leader", LIMIT, || {
        members
            .leader(others[0])
            .is_some_and(|leader| leader != old)
    });
    let mut gateway = Gateway::new(&members.address(others[0]));
    // What the old one has told the others to revoke is gone, and rightly so.
    for _ in 0..2 {
        leases.retain(|lease| call(scene, &mut gateway, lease, "renew") == Some(true));
    }
    members.go_on(old);
    let clock = Stopwatch::start();
    while clock.elapsed() < WATCHED {
        for lease in &leases {
            if call(scene, &mut gateway, lease, "renew") == Some(false) {
                return;
            }
        }
        pause();
    }
}
