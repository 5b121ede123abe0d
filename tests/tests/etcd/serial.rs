//! Strict serializability, from outside: one order by revision explains every answer, and agrees with real
//! time, whichever node was asked and whatever became of nodes meanwhile.
//!
//! Clients of etcd's API write, read and compare keys of many groups at once while nodes are killed. In the
//! end the histories of all keys say what happened at which revision, and every answer is held against
//! them: a write is there at its revision and nowhere else, a read shows the state at the revision of its
//! header, a comparison held or not just before its own, and no revision in an answer lies below one that
//! anybody was told of before the question.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use caucus_etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::request_op::Request as Op;
use caucus_etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use caucus_tests::http::Client;
use caucus_tests::{Cluster, Options, kv};
use tonic::Status;
use tonic::transport::Channel;

use crate::node;

const CLIENTS: u64 = 6;
const OPERATIONS: u64 = 250;
const DIRECTORIES: u64 = 6;
const PREFIX: &str = "/serial/";

/// Keys in as many directories, two in each.
fn key(number: u64) -> String {
    let directory = number % DIRECTORIES;
    format!("{PREFIX}{directory}/{}", number / DIRECTORIES % 2)
}

/// What a client did and heard. Moments are counted, so that their order is known.
#[derive(Debug)]
struct Event {
    begun: u64,
    ended: u64,
    revision: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Put {
        key: String,
        value: String,
    },
    Deleted {
        key: String,
    },
    /// Keys with their values and revisions.
    Read {
        prefix: String,
        found: BTreeMap<String, (u64, String)>,
    },
    /// If both keys were at these revisions, both have the value now.
    Swapped {
        keys: [(String, u64); 2],
        value: String,
        succeeded: bool,
    },
}

/// Small and the same everywhere: which numbers come doesn't matter, as long as they differ.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Actor {
    name: u64,
    channels: Vec<Channel>,
    moments: Arc<AtomicU64>,
    dice: Dice,
    events: Vec<Event>,
    /// What was last seen of each key.
    seen: HashMap<String, u64>,
}

impl Actor {
    async fn play(mut self) -> Vec<Event> {
        for turn in 0..OPERATIONS {
            let at = self.dice.roll(self.channels.len() as u64) as usize;
            let mut client = KvClient::new(self.channels[at].clone());
            let begun = self.moments.fetch_add(1, Ordering::SeqCst);
            // Who isn't answered knows nothing.
            if let Ok((revision, what)) = self.act(&mut client, turn).await {
                let ended = self.moments.fetch_add(1, Ordering::SeqCst);
                self.events.push(Event {
                    begun,
                    ended,
                    revision,
                    what,
                });
            }
        }
        self.events
    }

    async fn act(
        &mut self,
        client: &mut KvClient<Channel>,
        turn: u64,
    ) -> Result<(u64, What), Status> {
        let key = key(self.dice.roll(2 * DIRECTORIES));
        let value = format!("{}.{turn}", self.name);
        match self.dice.roll(10) {
            0..3 => {
                let put = put(&key, &value);
                let answer = client.put(put).await?.into_inner();
                let revision = answer.header.expect("a header").revision as u64;
                Ok((revision, What::Put { key, value }))
            }
            3 => {
                let delete = DeleteRangeRequest {
                    key: key.clone().into(),
                    ..DeleteRangeRequest::default()
                };
                let answer = client.delete_range(delete).await?.into_inner();
                let revision = answer.header.expect("a header").revision as u64;
                match answer.deleted {
                    0 => Ok((
                        revision,
                        What::Read {
                            prefix: key,
                            found: BTreeMap::new(),
                        },
                    )),
                    _ => Ok((revision, What::Deleted { key })),
                }
            }
            4..6 => self.swap(client, key, value).await,
            6..8 => self.read(client, key, Vec::new()).await,
            _ => {
                self.read(client, PREFIX.to_owned(), b"/serial0".to_vec())
                    .await
            }
        }
    }

    async fn read(
        &mut self,
        client: &mut KvClient<Channel>,
        prefix: String,
        range_end: Vec<u8>,
    ) -> Result<(u64, What), Status> {
        let range = RangeRequest {
            key: prefix.clone().into(),
            range_end: range_end.into(),
            ..RangeRequest::default()
        };
        let answer = client.range(range).await?.into_inner();
        let revision = answer.header.as_ref().expect("a header").revision as u64;
        let found = found(answer);
        self.seen.extend(
            found
                .iter()
                .map(|(key, (revision, _))| (key.clone(), *revision)),
        );
        Ok((revision, What::Read { prefix, found }))
    }

    async fn swap(
        &mut self,
        client: &mut KvClient<Channel>,
        one: String,
        value: String,
    ) -> Result<(u64, What), Status> {
        let step = 1 + self.dice.roll(DIRECTORIES - 1);
        let other = (0..2 * DIRECTORIES)
            .map(|n| key(n + step))
            .find(|other| *other != one);
        let keys = [one, other.expect("there are others")];
        let keys = keys.map(|key| {
            let revision = self.seen.get(&key).copied().unwrap_or(0);
            (key, revision)
        });
        let then = keys.iter().map(|(key, _)| RequestOp {
            request: Some(Op::RequestPut(put(key, &value))),
        });
        let compares = keys.iter().map(|(key, revision)| Compare {
            key: key.clone().into(),
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            target_union: Some(TargetUnion::ModRevision(*revision as i64)),
            ..Compare::default()
        });
        let txn = TxnRequest {
            compare: compares.collect(),
            success: then.collect(),
            failure: Vec::new(),
        };
        let answer = client.txn(txn).await?.into_inner();
        let revision = answer.header.expect("a header").revision as u64;
        let succeeded = answer.succeeded;
        Ok((
            revision,
            What::Swapped {
                keys,
                value,
                succeeded,
            },
        ))
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

fn found(answer: RangeResponse) -> BTreeMap<String, (u64, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let pair = |kv: caucus_etcd::mvccpb::KeyValue| {
        (text(&kv.key), (kv.mod_revision as u64, text(&kv.value)))
    };
    answer.kvs.into_iter().map(pair).collect()
}

/// What happened to each key, by revision; `None`: it was deleted.
struct Truth(BTreeMap<String, BTreeMap<u64, Option<String>>>);

impl Truth {
    fn read(client: &mut Client) -> Truth {
        let mut truth = BTreeMap::new();
        for number in 0..2 * DIRECTORIES {
            let key = key(number);
            let target = format!("{}/history?limit=1000", kv::path(&key));
            let answer = client.request("GET", &target, &[], b"").expect("an answer");
            let page = answer.json();
            assert_eq!(page.get("below"), None, "more changes than a page has");
            let mut changes = BTreeMap::new();
            for change in page["changes"].as_array().expect("changes") {
                let revision = change["revision"].as_u64().expect("a number");
                let value = change["value"].as_str().map(str::to_owned);
                let before = changes.insert(revision, value);
                assert!(before.is_none(), "two changes of {key} at {revision}");
            }
            truth.insert(key, changes);
        }
        Truth(truth)
    }

    /// The revision and value of a key as of a revision.
    fn at(&self, key: &str, revision: u64) -> Option<(u64, String)> {
        let (changed, value) = self.0[key].range(..=revision).next_back()?;
        value.clone().map(|value| (*changed, value))
    }

    fn changed(&self, key: &str, revision: u64) -> Option<&Option<String>> {
        self.0[key].get(&revision)
    }

    fn check(&self, event: &Event) {
        let at = event.revision;
        match &event.what {
            What::Put { key, value } => {
                assert_eq!(
                    self.changed(key, at),
                    Some(&Some(value.clone())),
                    "{event:?}"
                );
            }
            What::Deleted { key } => assert_eq!(self.changed(key, at), Some(&None), "{event:?}"),
            What::Read { prefix, found } => {
                let keys = self.0.keys().filter(|key| key.starts_with(prefix));
                let state = keys.filter_map(|key| Some((key.clone(), self.at(key, at)?)));
                assert_eq!(*found, state.collect(), "{event:?}");
            }
            What::Swapped {
                keys,
                value,
                succeeded,
            } => {
                let held = keys.iter().all(|(key, expected)| {
                    let stood = self.at(key, at - 1).map_or(0, |(revision, _)| revision);
                    stood == *expected
                });
                let story = || keys.each_ref().map(|(key, _)| &self.0[key]);
                assert_eq!(held, *succeeded, "{event:?}\n{:?}", story());
                for (key, _) in keys {
                    let changed = self.changed(key, at);
                    let expected = succeeded.then(|| Some(value.clone()));
                    assert_eq!(changed, expected.as_ref(), "{event:?}: {key}");
                }
            }
        }
    }

    /// A value that was written once is there once: in a swap on both of its keys, at one revision.
    fn check_once(&self) {
        let mut places: HashMap<&str, BTreeSet<u64>> = HashMap::new();
        for changes in self.0.values() {
            for (revision, value) in changes {
                if let Some(value) = value {
                    places.entry(value).or_default().insert(*revision);
                }
            }
        }
        let twice: Vec<_> = places.iter().filter(|(_, at)| at.len() > 1).collect();
        assert!(twice.is_empty(), "written twice: {twice:?}");
    }
}

/// Whoever asks after somebody was told of a revision is answered at or above it; a write above it.
fn check_real_time(events: &[Event]) {
    let mut by_end: Vec<&Event> = events.iter().collect();
    by_end.sort_by_key(|event| event.ended);
    let mut by_begin: Vec<&Event> = events.iter().collect();
    by_begin.sort_by_key(|event| event.begun);
    let (mut told, mut ended) = (0, by_end.iter().peekable());
    for event in by_begin {
        while let Some(before) = ended.next_if(|before| before.ended < event.begun) {
            told = told.max(before.revision);
        }
        let writes = match &event.what {
            What::Put { .. } | What::Deleted { .. } => true,
            What::Swapped { succeeded, .. } => *succeeded,
            What::Read { .. } => false,
        };
        let least = told + u64::from(writes);
        assert!(
            event.revision >= least,
            "{event:?} after {told} was told of"
        );
    }
}

#[test]
fn one_order_explains_every_answer() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let moments = Arc::new(AtomicU64::new(0));
    // Threads of its own: killing a node blocks this one.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    let events: Vec<Event> = runtime.expect("a runtime").block_on(async {
        let actors = (0..CLIENTS).map(|name| Actor {
            name,
            channels: cluster
                .nodes()
                .map(|number| node(&cluster, number))
                .collect(),
            moments: moments.clone(),
            dice: Dice(name.wrapping_mul(77) + 5),
            events: Vec::new(),
            seen: HashMap::new(),
        });
        let playing: Vec<_> = actors.map(|actor| tokio::spawn(actor.play())).collect();
        // Nodes fail when a part of the operations has begun.
        for (victim, part) in [(2, 4), (3, 2)] {
            let goal = 2 * CLIENTS * OPERATIONS / part / 2;
            while moments.load(Ordering::SeqCst) < goal {
                tokio::task::yield_now().await;
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            cluster.kill(victim);
            cluster.revive(victim);
        }
        let mut events = Vec::new();
        for actor in playing {
            events.extend(actor.await.expect("it plays to the end"));
        }
        events
    });
    let answered = events.len() as u64;
    assert!(
        answered * 2 > CLIENTS * OPERATIONS,
        "only {answered} answers"
    );
    let truth = Truth::read(&mut cluster.client(1));
    for event in &events {
        truth.check(event);
    }
    truth.check_once();
    check_real_time(&events);
}
