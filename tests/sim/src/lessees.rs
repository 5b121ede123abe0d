//! Leases: granted, given keys in several groups, renewed, looked at, and ended or left alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::answer::Answer;
use caucus_api::shard::operation::Operation as Op;
use caucus_api::shard::{Place, Put, RangeRead, TxnDone};
use caucus_history::history::Type;
use caucus_router::{LeaseError, Reason, Router};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::scene::{Scene, deadline, does, one, only};

/// In seconds.
const TTL_MAX: u64 = 4;
const KEYS: u64 = 3;
/// Renewals.
const ROUNDS_MAX: u64 = 6;
const TRUSTING_MAX: u64 = 20;
/// Who has waited so long for an end has other things to do.
const END_WAIT: Duration = Duration::from_secs(15);

pub(crate) async fn play(scene: Arc<Scene>, router: Router, number: u64) {
    let mut lessee = Lessee {
        random: fastrand::Rng::with_seed(scene.plan.seed.rotate_left(29) ^ number),
        scene,
        router,
        lease: 0,
        keys: Vec::new(),
    };
    while !lessee.scene.is_over() {
        lessee.life().await;
        let pause = lessee.random.u64(0..2 * lessee.scene.plan.think_max);
        sleep(Duration::from_millis(pause)).await;
    }
}

/// Who has one lease after the other.
struct Lessee {
    scene: Arc<Scene>,
    router: Router,
    random: fastrand::Rng,
    lease: u64,
    keys: Vec<String>,
}

impl Lessee {
    /// One lease, from its grant to its end.
    async fn life(&mut self) {
        let number = self.scene.value();
        self.lease = number + 1;
        let ttl = self.random.u64(2..=TTL_MAX);
        let directories = self.scene.plan.directories;
        let key = |at| format!("/lease/{}/{number}-{at}", (number + at) % directories);
        self.keys = (0..KEYS).map(key).collect();
        let granted = self.grant(ttl).await;
        let attached = granted && self.attach(number).await;
        // Who trusts looks at nothing, and so hears of no other leader than the one that answers him.
        let trusts = self.scene.plan.has_odd && self.random.bool();
        let rounds = if trusts { TRUSTING_MAX } else { ROUNDS_MAX };
        for _ in 0..self.random.u64(0..rounds) {
            if !trusts {
                self.look().await;
            }
            if !attached || !self.keep_alive().await {
                break;
            }
            sleep(Duration::from_millis(self.random.u64(0..ttl * 900))).await;
        }
        if self.random.bool() {
            self.revoke().await;
            self.look().await;
        } else {
            self.await_end().await;
        }
    }

    /// Until its keys are gone.
    async fn await_end(&mut self) {
        let end = Instant::now() + END_WAIT;
        while Instant::now() < end && !self.scene.is_over() {
            if self.look().await == Some(false) {
                self.keep_alive().await;
                return;
            }
            sleep(Duration::from_millis(self.random.u64(50..500))).await;
        }
    }

    fn begin(&self, mut what: Value) -> (String, Value) {
        let by = format!("lessee-{}", self.scene.process());
        what["lease"] = format!("{:016x}", self.lease).into();
        self.scene.say(Type::Invoke, &by, "lessee", what.clone());
        (by, what)
    }

    /// Says what came of it: true if it was done, false if the lease isn't there.
    fn end(&self, (by, what): (String, Value), done: Result<(), LeaseError>) -> Option<bool> {
        let kind = match done {
            Ok(()) => Type::Ok,
            Err(LeaseError::NotFound) => Type::Fail,
            Err(LeaseError::Store(error)) if error.reason == Reason::LeaseNotFound => Type::Fail,
            Err(LeaseError::Store(_) | LeaseError::Exists) => Type::Info,
        };
        self.scene.say(kind, &by, "lessee", what);
        match kind {
            Type::Ok => Some(true),
            Type::Fail => Some(false),
            Type::Invoke | Type::Info => None,
        }
    }

    async fn grant(&self, ttl: u64) -> bool {
        let begun = self.begin(json!({"do": "grant", "ttl": ttl}));
        let granted = self.router.grant(Some(self.lease), ttl, deadline()).await;
        self.end(begun, granted.map(|_| ())) == Some(true)
    }

    async fn attach(&self, value: u64) -> bool {
        let begun = self.begin(json!({"do": "attach", "keys": self.keys, "value": value}));
        let place = |key: &String| {
            does(Op::Place(Place {
                key: Bytes::copy_from_slice(key.as_bytes()),
                put: Some(Put {
                    value: value.to_string().into(),
                    lease: self.lease,
                    ..Put::default()
                }),
                ..Place::default()
            }))
        };
        let txn = only(self.keys.iter().map(place).collect());
        let put = self.router.txn(txn, deadline()).await;
        let put = put.map_err(LeaseError::Store);
        self.end(begun, put.and_then(|put| refused(&put.done))) == Some(true)
    }

    /// Whether it is worth going on.
    async fn keep_alive(&self) -> bool {
        let begun = self.begin(json!({"do": "keepalive"}));
        let kept = self.router.keep_alive(self.lease, deadline()).await;
        self.end(begun, kept.map(|_| ())) != Some(false)
    }

    async fn revoke(&self) {
        let begun = self.begin(json!({"do": "revoke"}));
        let revoked = self.router.revoke(self.lease, deadline()).await;
        self.end(begun, revoked);
    }

    /// Whether any key is there.
    async fn look(&self) -> Option<bool> {
        let (by, mut what) = self.begin(json!({"do": "look", "keys": self.keys}));
        let read = |key: &String| {
            does(Op::Range(RangeRead {
                span: one(key),
                ..RangeRead::default()
            }))
        };
        let txn = only(self.keys.iter().map(read).collect());
        let Ok(answer) = self.router.txn(txn, deadline()).await else {
            self.scene.say(Type::Info, &by, "lessee", what);
            return None;
        };
        let seen: Vec<Value> = answer
            .done
            .answers
            .iter()
            .map(|a| value(&a.answer))
            .collect();
        let is_there = seen.iter().any(|value| !value.is_null());
        what["seen"] = seen.into();
        self.scene.say(Type::Ok, &by, "lessee", what);
        Some(is_there)
    }
}

/// A transaction that was refused for its lease.
fn refused(done: &TxnDone) -> Result<(), LeaseError> {
    match done.problem {
        None => Ok(()),
        Some(_) => Err(LeaseError::NotFound),
    }
}

fn value(answer: &Option<Answer>) -> Value {
    let Some(Answer::Ranged(ranged)) = answer else {
        return Value::Null;
    };
    let record = ranged.items.first().and_then(|item| item.record.as_ref());
    let text = record.map(|record| std::str::from_utf8(&record.value).expect("ours"));
    let number = text.map(|text| text.parse::<u64>().expect("a number"));
    Value::from(number)
}
