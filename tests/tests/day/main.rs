//! A day's primitives at once: configuration, a lock, an election, a registry, a topic and a lease are used for two
//! minutes while nodes are killed at random. Every promise that was made meanwhile is looked at afterwards.

mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use caucus_tests::random::Random;
use caucus_tests::wait::{Stopwatch, pause, wait_for};
use caucus_tests::{Cluster, Options};

const LIMIT: Duration = Duration::from_secs(90);
/// How long it goes on.
const DAY: Duration = Duration::from_secs(120);
/// Between two kills the cluster is whole for so long.
const WHOLE: Duration = Duration::from_secs(3);
/// Without the node it goes on for so long.
const WITHOUT: Duration = Duration::from_secs(4);

/// Lets time pass in which others work.
fn go_on_for(time: Duration) {
    let begun = Stopwatch::start();
    while begun.elapsed() < time {
        pause();
    }
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}

#[track_caller]
fn join<T>(worker: JoinHandle<T>) -> T {
    worker
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[test]
fn a_day_of_primitives_while_nodes_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let over = Arc::new(AtomicBool::new(false));
    let any = || workers::Any::of(&cluster);
    workers::prepare(&mut any());
    let publisher = {
        let (any, over) = (any(), over.clone());
        spawn(move || workers::publish_configuration(any, &over))
    };
    let lockers: Vec<_> = (0..3)
        .map(|n| {
            let (any, over) = (any().starting_at(n), over.clone());
            spawn(move || workers::count_under_lock(any, &over))
        })
        .collect();
    let candidates: Vec<_> = (0..2)
        .map(|n| {
            let (any, over) = (any().starting_at(n), over.clone());
            spawn(move || workers::lead_and_resign(any, &over))
        })
        .collect();
    let instance = {
        let (any, over) = (any(), over.clone());
        spawn(move || workers::stay_registered(any, &over))
    };
    let speaker = {
        let (any, over) = (any(), over.clone());
        spawn(move || workers::publish_messages(any, &over))
    };
    let reader = {
        let (any, over) = (any(), over.clone());
        spawn(move || workers::read_messages(any, &over))
    };
    let keeper = {
        let (any, over) = (any(), over.clone());
        spawn(move || workers::keep_a_lease(any, &over))
    };
    let kills = kill_at_random(&mut cluster);
    over.store(true, Ordering::Release);
    assert!(kills >= 8, "only {kills} kills");

    let mut any = workers::Any::of(&cluster);
    workers::check_configuration(&mut any, &join(publisher));
    let tokens: Vec<u64> = lockers.into_iter().flat_map(join).collect();
    workers::check_lock(&mut any, tokens);
    let tokens: Vec<u64> = candidates.into_iter().flat_map(join).collect();
    workers::check_election(tokens);
    assert!(join(instance) > 50, "too few heartbeats");
    let said = join(speaker);
    workers::check_messages(&mut any, &said, &join(reader));
    assert!(join(keeper) > 50, "too few keepalives");
    workers::check_that_all_ends(&mut any);
}

/// Kills one node after the other, and lets it come back; how often.
fn kill_at_random(cluster: &mut Cluster) -> usize {
    let mut random = Random::new(0x5eed_0f0d_a15a_daca);
    let begun = Stopwatch::start();
    let mut kills = 0;
    while begun.elapsed() < DAY {
        go_on_for(WHOLE);
        let node = 1 + random.below(3) as u32;
        cluster.kill(node);
        go_on_for(WITHOUT);
        cluster.revive(node);
        wait_for("it is back", LIMIT, || {
            let mut client = cluster.client(node);
            let ready = client.request("GET", "/readyz", &[], b"").ok()?;
            (ready.status == 200).then_some(())
        });
        kills += 1;
    }
    kills
}
