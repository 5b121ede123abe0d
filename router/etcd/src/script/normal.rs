//! Takes from answers what two servers that agree may say differently.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use tonic::Status;

use super::{STEPS, Step};
use crate::etcdserverpb::compare::TargetUnion;
use crate::etcdserverpb::range_request::SortTarget;
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::response_op::Response;
use crate::etcdserverpb::{
    Compare, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use crate::mvccpb::KeyValue;

/// Behind all revisions there are: where the names of steps begin.
const NAMES: i64 = 1 << 60;

/// The name of the revision that holds after a step, for a request.
pub(super) fn revision_of(step: usize) -> i64 {
    NAMES + i64::try_from(step).unwrap_or_default()
}

fn step_of(revision: i64) -> Option<usize> {
    let step = usize::try_from(revision.checked_sub(NAMES)?).ok()?;
    (step < STEPS).then_some(step)
}

/// What revisions a server gave to the steps.
pub(super) struct Revisions {
    base: i64,
    made: BTreeMap<i64, usize>,
    /// What holds after each step.
    after: Vec<i64>,
}

impl Revisions {
    pub(super) fn new(base: i64) -> Self {
        Self {
            base,
            made: BTreeMap::new(),
            after: Vec::with_capacity(STEPS),
        }
    }

    /// A step wrote something.
    pub(super) fn made(&mut self, step: usize, header: Option<&ResponseHeader>) {
        let revision = header.map_or(0, |header| header.revision);
        self.made.entry(revision).or_insert(step);
    }

    pub(super) fn step_ends(&mut self) {
        let last = self.made.last_key_value();
        self.after
            .push(last.map_or(self.base, |(revision, _)| *revision));
    }

    /// Names in a request become what they stand for.
    pub(super) fn resolve(&self, step: &mut Step) {
        match step {
            Step::Range(request) => self.resolve_range(request),
            Step::Txn(request) => self.resolve_txn(request),
            Step::Compact(request) => self.replace(&mut request.revision),
            Step::Put(_) | Step::DeleteRange(_) => {}
        }
    }

    fn replace(&self, revision: &mut i64) {
        if let Some(step) = step_of(*revision) {
            *revision = self.after.get(step).copied().unwrap_or(self.base);
        }
    }

    fn resolve_range(&self, request: &mut RangeRequest) {
        for revision in [
            &mut request.revision,
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            self.replace(revision);
        }
    }

    fn resolve_txn(&self, request: &mut TxnRequest) {
        for Compare { target_union, .. } in &mut request.compare {
            if let Some(
                TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision),
            ) = target_union
            {
                self.replace(revision);
            }
        }
        for operation in request.success.iter_mut().chain(&mut request.failure) {
            match &mut operation.request {
                Some(Request::RequestRange(request)) => self.resolve_range(request),
                Some(Request::RequestTxn(request)) => self.resolve_txn(request),
                _ => {}
            }
        }
    }

    /// An answer, readable.
    pub(super) fn answer(&self, answer: &impl Serialize) -> String {
        readable(answer, &|name, revision| match name {
            // A server may be further than the last write, if nothing is there to see.
            "revision" => self.at(revision),
            _ => self.exactly(revision),
        })
    }

    fn at(&self, revision: i64) -> String {
        match self.made.range(..=revision).next_back() {
            Some((_, step)) => format!("step {step}"),
            None if revision == 0 => "none".to_owned(),
            None if revision < self.base => format!("{revision}, before the start"),
            None => "start".to_owned(),
        }
    }

    /// Keys have the revision of a step, or the script isn't alone.
    fn exactly(&self, revision: i64) -> String {
        match self.made.get(&revision) {
            Some(step) => format!("step {step}"),
            None if revision <= self.base => "before the start".to_owned(),
            None => format!("{revision}, of no step"),
        }
    }
}

/// A request with the names of steps.
pub(super) fn request(step: &Step) -> String {
    let name = |_: &str, revision| match step_of(revision) {
        Some(step) => format!("step {step}"),
        None => revision.to_string(),
    };
    match step {
        Step::Range(request) => format!("range {}", readable(request, &name)),
        Step::Put(request) => format!("put {}", readable(request, &name)),
        Step::DeleteRange(request) => format!("delete {}", readable(request, &name)),
        Step::Txn(request) => format!("txn {}", readable(request, &name)),
        Step::Compact(request) => format!("compact {}", readable(request, &name)),
    }
}

pub(super) fn error(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// JSON with keys and values as text, revisions as names, and nothing about the server.
fn readable(message: &impl Serialize, name: &dyn Fn(&str, i64) -> String) -> String {
    match serde_json::to_value(message) {
        Ok(mut value) => {
            rename(&mut value, name);
            value.to_string()
        }
        Err(error) => error.to_string(),
    }
}

fn rename(value: &mut Value, name: &dyn Fn(&str, i64) -> String) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, name)),
        Value::Object(fields) => {
            for server in ["cluster_id", "member_id", "raft_term"] {
                fields.remove(server);
            }
            for (field, value) in fields {
                let Value::String(text) = value else {
                    rename(value, name);
                    continue;
                };
                if field.ends_with("revision")
                    && let Ok(revision) = text.parse()
                {
                    *text = name(field, revision);
                } else if ["key", "range_end", "value"].contains(&field.as_str())
                    && let Ok(bytes) = STANDARD.decode(&*text)
                {
                    *text = bytes.escape_ascii().to_string();
                }
            }
        }
        _ => {}
    }
}

/// Whether a transaction made a revision.
pub(super) fn wrote(answer: &TxnResponse) -> bool {
    let mut responses = answer.responses.iter();
    responses.any(|operation| match &operation.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(answer)) => answer.deleted > 0,
        Some(Response::ResponseTxn(answer)) => wrote(answer),
        _ => false,
    })
}

/// Puts the answers to the reads of a transaction in order.
pub(super) fn order_txn(request: &TxnRequest, answer: &mut TxnResponse) {
    let operations = match answer.succeeded {
        true => &request.success,
        false => &request.failure,
    };
    for (RequestOp { request }, operation) in operations.iter().zip(&mut answer.responses) {
        match (request, &mut operation.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(answer))) => {
                order(request, answer);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(answer))) => {
                order_txn(request, answer);
            }
            _ => {}
        }
    }
}

/// Among equals the order isn't defined: they are put in the order of their keys. Where a limit cuts, it
/// isn't defined which of the last ones there are: only how many they are is kept.
pub(super) fn order(request: &RangeRequest, answer: &mut RangeResponse) {
    let Ok(target) = SortTarget::try_from(request.sort_target) else {
        return;
    };
    if target == SortTarget::Key {
        return;
    }
    // Values that aren't shown can't be compared: all may be equal, but nothing may be out of place.
    let hidden = request.keys_only && target == SortTarget::Value;
    let equal = |a: &KeyValue, b: &KeyValue| hidden || by(target, a, b) == Ordering::Equal;
    let mut ordered = Vec::with_capacity(answer.kvs.len());
    let groups: Vec<&[KeyValue]> = answer.kvs.chunk_by(equal).collect();
    for (number, group) in groups.iter().enumerate() {
        let mut group = group.to_vec();
        group.sort_by(|a, b| a.key.cmp(&b.key));
        if answer.more && number + 1 == groups.len() {
            for pair in &mut group {
                *pair = anonymous(target, pair);
            }
        }
        ordered.extend(group);
    }
    answer.kvs = ordered;
}

fn by(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}

/// Only what the pair was sorted by.
fn anonymous(target: SortTarget, pair: &KeyValue) -> KeyValue {
    let mut kept = KeyValue::default();
    match target {
        SortTarget::Key => kept.key = pair.key.clone(),
        SortTarget::Version => kept.version = pair.version,
        SortTarget::Create => kept.create_revision = pair.create_revision,
        SortTarget::Mod => kept.mod_revision = pair.mod_revision,
        SortTarget::Value => kept.value = pair.value.clone(),
    }
    kept
}
