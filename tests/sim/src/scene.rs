//! What clients of all kinds share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::compare::Target;
use caucus_api::shard::{Compare, Operation, Put, Span, Txn, operation};
use caucus_history::Recorder;
use caucus_history::history::{Line, Process, Type};
use caucus_history::record::line;
use caucus_router::{Outcome, Router};
use serde_json::Value;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::wire::Wire;

/// A request is given up after this.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Scene {
    pub(crate) plan: Plan,
    pub(crate) recorder: Recorder,
    over: AtomicBool,
    /// Numbers for clients: after an unknown outcome one goes on under another.
    processes: AtomicU64,
    /// Values that were never used.
    values: AtomicU64,
    /// What watchers wait for in the end; 0 until then.
    pub(crate) until: AtomicU64,
    /// Watchers that have got there.
    pub(crate) arrived: AtomicU64,
}

impl Scene {
    pub(crate) fn new(plan: Plan, wire: Wire) -> Arc<Scene> {
        let clock = move || wire.now() * 1_000_000;
        Arc::new(Scene {
            plan,
            recorder: Recorder::with_clock(Box::new(clock)),
            over: AtomicBool::new(false),
            processes: AtomicU64::new(0),
            values: AtomicU64::new(1),
            until: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn write(&self, line: Line) {
        self.recorder.write(line);
    }

    pub(crate) fn say(&self, kind: Type, by: &str, f: &str, value: Value) {
        self.write(line(kind, Process::Other(by.to_owned()), f, value));
    }
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

pub(crate) fn one(key: &str) -> Option<Span> {
    Some(Span {
        start: Bytes::copy_from_slice(key.as_bytes()),
        ..Span::default()
    })
}

/// All keys that begin with something that ends with a `/`.
pub(crate) fn all(prefix: &str) -> Option<Span> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    Some(Span {
        start: Bytes::copy_from_slice(prefix.as_bytes()),
        end: end.into(),
        range: true,
        ..Span::default()
    })
}

pub(crate) fn does(operation: operation::Operation) -> Operation {
    Operation {
        operation: Some(operation),
    }
}

pub(crate) fn put(value: &str) -> Option<Put> {
    Some(Put {
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Put::default()
    })
}

pub(crate) fn only(then: Vec<Operation>) -> Txn {
    Txn {
        then,
        ..Txn::default()
    }
}

/// Does something if a key is as it should be: how that ended, and at which revision.
pub(crate) async fn apply_if(
    router: &Router,
    (key, target): (&str, Target),
    operation: Operation,
) -> (Type, u64) {
    let txn = Txn {
        compares: vec![Compare {
            span: one(key),
            target: Some(target),
            ..Compare::default()
        }],
        ..only(vec![operation])
    };
    match router.txn(txn, deadline()).await {
        Ok(answer) if answer.done.path.first() == Some(&true) => (Type::Ok, answer.done.revision),
        Ok(_) => (Type::Fail, 0),
        Err(error) if error.outcome == Outcome::NotApplied => (Type::Fail, 0),
        Err(_) => (Type::Info, 0),
    }
}
