//! etcd's lock: who holds it too long doesn't know, and only the token keeps harm away (Jepsen's report of etcd 3.4.3).

use caucus_history::history::Type;
use serde_json::{Value, json};

use crate::gateway::{Gateway, encode, number};
use crate::members::Members;
use crate::scene::{Scene, judge, refused_by, turn};

const NAME: &str = "subject";
/// The least that etcd gives; nobody renews anything here.
const SHORT_S: u64 = 2;
const LONG_S: u64 = 60;

/// Who holds the lock, or believes so.
struct Holder {
    name: String,
    key: Value,
    token: u64,
}

/// Takes the lock, and waits for it as long as that takes.
fn lock(scene: &Scene, gateway: &mut Gateway, ttl_s: u64) -> Holder {
    let name = format!("locker-{}", scene.number());
    let said = |token: &Value| json!({"lock": NAME, "token": token});
    scene.say(Type::Invoke, &name, "lock", said(&Value::Null));
    let lease = gateway.must("lease/grant", &json!({"TTL": ttl_s}));
    let ask = json!({"name": encode(NAME), "lease": lease["ID"]});
    let key = gateway.must("lock/lock", &ask)["key"].take();
    let found = gateway.must("kv/range", &json!({"key": key}));
    let token = number(&found["kvs"][0]["create_revision"]);
    scene.say(Type::Ok, &name, "lock", said(&token.into()));
    Holder { name, key, token }
}

impl Holder {
    /// Does what only the holder may; if it is `guarded`, only if the lock's key is the one that the holder made.
    fn act(&self, scene: &Scene, gateway: &mut Gateway, guarded: bool) {
        let said = json!({"lock": NAME, "token": self.token});
        scene.say(Type::Invoke, &self.name, "guarded", said.clone());
        let token = self.token.to_string();
        let compare = json!({"key": self.key, "target": "CREATE", "create_revision": token});
        let put = json!({"request_put": {"key": encode("/guarded"), "value": encode(&token)}});
        let compares = if guarded { vec![compare] } else { vec![] };
        let body = json!({"compare": compares, "success": [put]});
        let answer = gateway.must("kv/txn", &body);
        let kind = match answer["succeeded"] == json!(true) {
            true => Type::Ok,
            false => Type::Fail,
        };
        scene.say(kind, &self.name, "guarded", said);
    }
}

/// One holder is away for longer than its lease, another comes, and then the first goes on.
fn two_holders(what: &str, guarded: bool) -> Option<Vec<&'static str>> {
    let _turn = turn();
    let members = Members::start(&[])?;
    let scene = Scene::new();
    let mut gateway = Gateway::new(&members.address(0));
    let first = lock(&scene, &mut gateway, SHORT_S);
    first.act(&scene, &mut gateway, guarded);
    let second = lock(&scene, &mut Gateway::new(&members.address(1)), LONG_S);
    second.act(&scene, &mut Gateway::new(&members.address(1)), guarded);
    first.act(&scene, &mut gateway, guarded);
    Some(refused_by(&judge(what, &scene.recorder.history())))
}

#[test]
fn a_lock_alone_lets_two_holders_act() {
    if let Some(refused) = two_holders("etcd lock", false) {
        assert_eq!(refused, ["locks"]);
    }
}

#[test]
fn a_lock_whose_token_is_checked_does_not() {
    if let Some(refused) = two_holders("etcd lock with token", true) {
        assert_eq!(refused, [""; 0]);
    }
}

/// Who waits for longer than his own lease lasts gets the lock all the same, and has no key to show for it.
#[test]
fn a_lock_is_given_to_who_has_lost_his_lease() {
    let _turn = turn();
    let Some(members) = Members::start(&[]) else {
        return;
    };
    let scene = Scene::new();
    for member in 0..2 {
        _ = lock(&scene, &mut Gateway::new(&members.address(member)), SHORT_S);
    }
    let found = judge("etcd lock without lease", &scene.recorder.history());
    assert_eq!(refused_by(&found), ["locks"]);
}
