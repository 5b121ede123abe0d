//! All data groups in memory, with the ways in which a test wants them to fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caucus_api::shard::condition::Kind as Must;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Condition, Found, Item, List, Listed, Outcome, Record, Reply, Request, RequestId,
    SessionProgress, Write,
};
use caucus_api::{Failure, Groups, ReplyTo};
use caucus_ring::{ClusterMap, VnodeSet};
use prost::Message;

pub struct MemoryGroups {
    map: Arc<ClusterMap>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    groups: HashMap<u32, BTreeMap<Bytes, Record>>,
    /// The highest revision that each group has applied.
    applied: HashMap<u32, u64>,
    done: HashMap<(u64, u64), Outcome>,
    /// What the next requests are answered instead; `None`: never.
    script: VecDeque<Option<Failure>>,
    /// The replies that are never given.
    silenced: Vec<ReplyTo>,
    ids: Vec<RequestId>,
    at_least: u64,
    progress: u64,
}

impl MemoryGroups {
    pub fn new(map: Arc<ClusterMap>) -> MemoryGroups {
        MemoryGroups {
            map,
            state: Mutex::default(),
        }
    }

    /// The next requests fail so, each once; `None` is no answer at all.
    pub fn fail(&self, failures: impl IntoIterator<Item = Option<Failure>>) {
        self.state.lock().unwrap().script.extend(failures);
    }

    /// The ids of all writes that arrived, retries included.
    pub fn ids(&self) -> Vec<RequestId> {
        self.state.lock().unwrap().ids.clone()
    }

    /// The `at_least` of the last request.
    pub fn at_least(&self) -> u64 {
        self.state.lock().unwrap().at_least
    }

    /// How many groups hold keys.
    pub fn groups_in_use(&self) -> usize {
        let state = self.state.lock().unwrap();
        let used = state.groups.values().filter(|keys| !keys.is_empty());
        used.count()
    }

    fn answer(&self, state: &mut State, request: &Request) -> Answer {
        match &request.body {
            Some(Body::Write(write)) => {
                let write = Write::decode(write.clone()).unwrap();
                let (_, owner) = self.map.locate(&write.key);
                assert_eq!(owner.0, request.group, "sent to the owner");
                Answer::Outcome(state.write(request.group, write))
            }
            Some(Body::Get(get)) => {
                let (_, owner) = self.map.locate(&get.key);
                assert_eq!(owner.0, request.group, "sent to the owner");
                let keys = state.groups.entry(request.group).or_default();
                let mut record = keys.get(&get.key).cloned();
                if let (true, Some(record)) = (get.head, &mut record) {
                    record.value = Bytes::new();
                }
                Answer::Found(Found { record })
            }
            Some(Body::List(list)) => Answer::Listed(self.list(state, request.group, list)),
            Some(
                Body::History(_)
                | Body::Fate(_)
                | Body::Evaluate(_)
                | Body::Compact(_)
                | Body::Follow(_)
                | Body::Replay(_)
                | Body::Lease(_)
                | Body::Hash(_),
            )
            | None => {
                panic!("not asked by routers")
            }
        }
    }

    fn list(&self, state: &mut State, group: u32, list: &List) -> Listed {
        let vnodes = VnodeSet::from_packed(&list.vnodes).unwrap();
        assert!(vnodes.iter().all(|v| self.map.owner(v).0 == group));
        let mut listed = Listed::default();
        let mut bytes = 0;
        for (key, record) in state
            .groups
            .entry(group)
            .or_default()
            .range(list.start.clone()..)
        {
            if !list.end.is_empty() && *key >= list.end {
                break;
            }
            if !vnodes.contains(self.map.vnode(key)) {
                continue;
            }
            let item = fold(list, key, record);
            if listed.items.last().is_some_and(|last| last.key == item.key) {
                continue;
            }
            if listed.items.len() >= list.limit as usize || bytes > list.bytes_max as usize {
                listed.more = true;
                break;
            }
            bytes += key.len() + record.value.len();
            listed.items.push(item);
        }
        listed
    }
}

fn fold(list: &List, key: &Bytes, record: &Record) -> Item {
    let after_prefix = &key[list.prefix_length as usize..];
    let delimiter = &list.delimiter[..];
    let found = (!delimiter.is_empty())
        .then(|| {
            after_prefix
                .windows(delimiter.len())
                .position(|w| w == delimiter)
        })
        .flatten();
    if let Some(at) = found {
        return Item {
            key: key.slice(..list.prefix_length as usize + at + delimiter.len()),
            record: None,
        };
    }
    let mut record = record.clone();
    if list.keys_only {
        record.value = Bytes::new();
    }
    Item {
        key: key.clone(),
        record: Some(record),
    }
}

impl State {
    fn write(&mut self, group: u32, write: Write) -> Outcome {
        let id = write.id.expect("an id");
        if let Some(outcome) = self.done.get(&(id.session, id.sequence)) {
            return *outcome;
        }
        self.revision += 1;
        let revision = self.revision;
        self.applied.insert(group, revision);
        let keys = self.groups.entry(group).or_default();
        let found = keys.get(&write.key);
        let mut outcome = Outcome {
            revision,
            ..Outcome::default()
        };
        if !holds(&write.condition, found.map(|record| record.mod_revision)) {
            outcome.kind = Kind::ConditionFailed as i32;
            outcome.found_revision = found.map_or(0, |record| record.mod_revision);
            return outcome;
        }
        match write.action.expect("an action") {
            Action::Put(put) => {
                let record = Record {
                    create_revision: found.map_or(revision, |record| record.create_revision),
                    mod_revision: revision,
                    version: found.map_or(1, |record| record.version + 1),
                    lease: 0,
                    content_type: put.content_type,
                    value: put.value,
                    lease_grant: 0,
                };
                outcome.kind = Kind::Put as i32;
                outcome.create_revision = record.create_revision;
                outcome.version = record.version;
                keys.insert(write.key, record);
            }
            Action::Delete(_) => {
                let existed = keys.remove(&write.key).is_some();
                outcome.kind = if existed { Kind::Deleted } else { Kind::Absent } as i32;
            }
            Action::Txn(_)
            | Action::Prepare(_)
            | Action::Decide(_)
            | Action::Commit(_)
            | Action::Abort(_)
            | Action::Forget(_)
            | Action::Own(_) => panic!("not sent by these tests"),
        }
        self.done.insert((id.session, id.sequence), outcome);
        outcome
    }
}

fn holds(condition: &Option<Condition>, found: Option<u64>) -> bool {
    match condition
        .as_ref()
        .and_then(|condition| condition.kind.as_ref())
    {
        None => true,
        Some(Must::Absent(_)) => found.is_none(),
        Some(Must::Present(_)) => found.is_some(),
        Some(Must::RevisionIs(is)) => found.is_some_and(|found| is.revisions.contains(&found)),
        Some(Must::RevisionIsNot(not)) => found.is_none_or(|found| !not.revisions.contains(&found)),
    }
}

impl Groups for MemoryGroups {
    fn submit(&self, request: Request, reply: ReplyTo) {
        let mut state = self.state.lock().unwrap();
        state.at_least = request.at_least;
        if let Some(Body::Write(write)) = &request.body {
            let id = Write::decode(write.clone()).unwrap().id.expect("an id");
            state.ids.push(id);
        }
        let body = match state.script.pop_front() {
            None => self.answer(&mut state, &request),
            Some(Some(failure)) => {
                if failure.is_unknown() {
                    // The worst case: it was applied, and only the answer is lost.
                    self.answer(&mut state, &request);
                }
                Answer::Error(failure.into())
            }
            Some(None) => {
                state.silenced.push(reply);
                return;
            }
        };
        let applied = state.applied.get(&request.group).copied();
        let revision = applied.unwrap_or(0).max(request.at_least);
        drop(state);
        reply(Reply {
            call: request.call,
            revision,
            body: Some(body),
        });
    }

    fn progress(&self, progress: SessionProgress) {
        self.state.lock().unwrap().progress = progress.finished_below;
    }
}

impl MemoryGroups {
    /// What the groups were told of the session.
    pub fn finished_below(&self) -> u64 {
        self.state.lock().unwrap().progress
    }
}
