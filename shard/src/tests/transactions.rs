//! Transactions in one group and over two, with all that can come between their steps.

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::answer::Answer as Did;
use caucus_api::shard::compare::{Relation, Target};
use caucus_api::shard::operation::Operation as Do;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Change, Compact, Compare, Get, Operation, Participant, Place, Prepare, Put, RangeRead, Ranged,
    Reply, Request, Span, Txn, TxnDone, Write, change,
};
use prost::Message;

use super::support::{Cluster, failure, patient, until, value, within};
use crate::Options;

fn operation(operation: Do) -> Operation {
    Operation {
        operation: Some(operation),
    }
}

fn place(key: &Bytes, value: &'static str) -> Operation {
    operation(Do::Place(Place {
        key: key.clone(),
        put: Some(Put {
            value: Bytes::from_static(value.as_bytes()),
            ..Put::default()
        }),
        ..Place::default()
    }))
}

fn add(key: &Bytes, number: i64) -> Operation {
    operation(Do::Change(Change {
        key: key.clone(),
        by: Some(change::By::Add(number)),
        previous: false,
    }))
}

fn read(key: &Bytes) -> Operation {
    operation(Do::Range(RangeRead {
        span: Some(one(key)),
        ..RangeRead::default()
    }))
}

fn one(key: &Bytes) -> Span {
    Span {
        start: key.clone(),
        ..Span::default()
    }
}

/// Whether a key has this many versions.
fn version_is(key: &Bytes, version: i64) -> Compare {
    Compare {
        span: Some(one(key)),
        relation: Relation::Equal as i32,
        target: Some(Target::Version(version)),
    }
}

impl Cluster {
    /// Over groups 1 and 2, coordinated by group 1.
    fn over_both(&self, home: &Bytes, txn: Txn) -> Request {
        self.prepared(self.write(home, Action::Delete(Default::default())), txn)
    }

    /// The same request as another one.
    fn prepared(&self, write: Write, txn: Txn) -> Request {
        let participants = [1, 2].map(|group| Participant {
            group,
            vnodes: self.vnodes(group).to_packed().into(),
        });
        let prepare = Prepare {
            txn: Some(txn),
            coordinator: 1,
            participants: participants.into(),
            ..Prepare::default()
        };
        let write = Write {
            action: Some(Action::Prepare(prepare)),
            ..write
        };
        self.request(Body::Write(write.encode_to_vec().into()))
    }

    async fn read_of(&self, group: u32, key: &Bytes) -> Option<Bytes> {
        let request = self.get_of(group, key, 0);
        value(self.send(self.leader(group).await, request).reply().await)
    }

    fn get_of(&self, group: u32, key: &Bytes, revision: u64) -> Request {
        Request {
            group,
            ..self.request(Body::Get(Get {
                key: key.clone(),
                head: false,
                revision,
            }))
        }
    }

    fn put_of(&self, group: u32, key: &Bytes, value: &'static str) -> Request {
        Request {
            group,
            ..self.put(key, value)
        }
    }
}

#[track_caller]
fn done(reply: Reply) -> TxnDone {
    match reply.body {
        Some(Answer::Txn(done)) => done,
        other => panic!("{other:?}"),
    }
}

fn text(value: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(value.as_bytes()))
}

/// What a transaction's reads found.
fn ranged(done: &TxnDone) -> impl Iterator<Item = &Ranged> {
    let answers = done.answers.iter();
    answers.filter_map(|answer| match &answer.answer {
        Some(Did::Ranged(ranged)) => Some(ranged),
        _ => None,
    })
}

/// The values that a transaction read.
fn values(done: &TxnDone) -> Vec<Vec<Bytes>> {
    let records =
        ranged(done).map(|ranged| ranged.items.iter().filter_map(|item| item.record.clone()));
    records
        .map(|records| records.map(|record| record.value).collect())
        .collect()
}

#[tokio::test]
async fn compares_choose_the_branch_in_one_group() {
    let cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    let txn = Txn {
        compares: vec![version_is(&key, 0)],
        then: vec![place(&key, "first"), read(&key)],
        otherwise: vec![read(&key), place(&key, "second")],
    };
    let ask = || {
        let write = cluster.write(&key, Action::Txn(txn.clone()));
        cluster.request(Body::Write(write.encode_to_vec().into()))
    };
    let first = done(cluster.ask(ask()).await);
    assert_eq!(first.path, [true]);
    assert_eq!(
        values(&first),
        [[Bytes::from_static(b"first")]],
        "it sees its own write"
    );
    let request = ask();
    let second = done(cluster.ask(request.clone()).await);
    assert_eq!(second.path, [false]);
    assert_eq!(values(&second), [[Bytes::from_static(b"first")]]);
    assert!(second.revision > first.revision);
    assert_eq!(value(cluster.ask(cluster.get(&key)).await), text("second"));
    let again = done(cluster.ask(request).await);
    assert_eq!(again, second, "the same id gets the same answer");
    assert_eq!(value(cluster.ask(cluster.get(&key)).await), text("second"));
    cluster.end().await;
}

/// Not all of a span is looked at, but what the transaction has written is part of it.
#[tokio::test]
async fn the_first_keys_of_a_span_without_the_rest() {
    let cluster = Cluster::one().await;
    // With a common prefix they are all in one group.
    let home = cluster.key(1, 0);
    let key = |n: u32| Bytes::from([&home[..], format!("{n:02}").as_bytes()].concat());
    let keys: Vec<Bytes> = (0..20).map(|n| key(n * 2)).collect();
    let fill = Txn {
        then: keys.iter().map(|key| place(key, "old")).collect(),
        ..Txn::default()
    };
    let ask = |txn: Txn| {
        let write = cluster.write(&home, Action::Txn(txn));
        cluster.request(Body::Write(write.encode_to_vec().into()))
    };
    done(cluster.ask(ask(fill)).await);
    let first = |limit: u64, uncounted: bool| {
        let span = Span {
            start: key(0),
            end: key(99),
            range: true,
            vnodes: cluster.vnodes(1).to_packed().into(),
        };
        operation(Do::Range(RangeRead {
            span: Some(span),
            limit,
            uncounted,
            ..RangeRead::default()
        }))
    };
    let remove = |n: u32| {
        operation(Do::Remove(caucus_api::shard::Remove {
            span: Some(one(&key(n))),
            ..Default::default()
        }))
    };
    let txn = Txn {
        then: vec![
            first(3, true),
            remove(0),
            remove(2),
            place(&key(5), "new"),
            place(&key(39), "new"),
            first(3, true),
            first(3, false),
            first(30, true),
        ],
        ..Txn::default()
    };
    let answer = done(cluster.ask(ask(txn)).await);
    let ranged: Vec<&Ranged> = ranged(&answer).collect();
    let names = |at: usize| ranged[at].items.iter().map(|item| item.key.clone());
    assert!(names(0).eq([0, 2, 4].map(key)));
    assert!(names(1).eq([4, 5, 6].map(key)), "{:?}", ranged[1]);
    assert_eq!(ranged[1].items, ranged[2].items);
    assert_eq!(
        [ranged[1].more, ranged[2].more, ranged[3].more],
        [true, true, false]
    );
    assert_eq!([ranged[2].count, ranged[3].count], [20, 20]);
    assert!(ranged[1].count <= 4, "{}", ranged[1].count);
    cluster.end().await;
}

#[tokio::test]
async fn a_transaction_over_groups_happens_at_one_revision() {
    let cluster = Cluster::one().await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    let txn = Txn {
        compares: vec![version_is(&mine, 0), version_is(&theirs, 0)],
        then: vec![place(&mine, "a"), place(&theirs, "b"), read(&theirs)],
        otherwise: vec![read(&mine), read(&theirs)],
    };
    let request = cluster.over_both(&mine, txn.clone());
    let first = done(cluster.ask(request.clone()).await);
    assert_eq!(first.path, [true]);
    assert_eq!(values(&first), [[Bytes::from_static(b"b")]]);
    assert_eq!(cluster.read_of(1, &mine).await, text("a"));
    assert_eq!(cluster.read_of(2, &theirs).await, text("b"));
    for (group, key) in [(1, &mine), (2, &theirs)] {
        let before = cluster.get_of(group, key, first.revision - 1);
        let before = cluster.send(1, before).reply().await;
        assert_eq!(value(before), None, "nothing before its revision");
        let at = cluster.get_of(group, key, first.revision);
        assert!(value(cluster.send(1, at).reply().await).is_some());
    }
    let again = done(cluster.ask(request).await);
    assert_eq!(again, first, "the same id gets the same answer");
    let other = done(cluster.ask(cluster.over_both(&mine, txn)).await);
    assert_eq!(other.path, [false]);
    assert_eq!(
        values(&other),
        [[Bytes::from_static(b"a")], [Bytes::from_static(b"b")]]
    );
    cluster.end().await;
}

#[tokio::test]
async fn an_impossible_operation_leaves_nothing_anywhere() {
    let cluster = Cluster::one().await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    let leader = cluster.leader(2).await;
    cluster
        .send(leader, cluster.put_of(2, &theirs, "no number"))
        .reply()
        .await;
    let txn = Txn {
        then: vec![place(&mine, "a"), add(&theirs, 1)],
        ..Txn::default()
    };
    let refused = done(cluster.ask(cluster.over_both(&mine, txn)).await);
    let problem = refused.problem.unwrap();
    assert_eq!(problem.operation, 1);
    assert_eq!(
        problem.kind(),
        caucus_api::shard::problem::Kind::NotAnInteger
    );
    assert_eq!(cluster.read_of(1, &mine).await, None);
    assert_eq!(cluster.read_of(2, &theirs).await, text("no number"));
    cluster.end().await;
}

#[tokio::test]
async fn who_meets_a_prepared_transaction_waits_for_its_end() {
    let cluster = Cluster::one().await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    let other = cluster.key(2, 1);
    let leader = cluster.leader(2).await;
    let before = cluster
        .send(leader, cluster.put_of(2, &theirs, "old"))
        .reply()
        .await;
    cluster
        .reach
        .gate(|_, body| !is(body, |action| matches!(action, Action::Commit(_))));
    let txn = Txn {
        then: vec![place(&mine, "a"), place(&theirs, "b")],
        ..Txn::default()
    };
    let txn = cluster.send(1, cluster.over_both(&mine, txn));
    let standing = |group: u32| cluster.nodes[&1].shard.standing(group);
    until("a decision", || {
        standing(1).iter().any(|attempt| attempt.revision > 0)
    })
    .await;
    let mut read = cluster.send(1, cluster.get_of(2, &theirs, 0));
    let mut write = cluster.send(1, cluster.put_of(2, &theirs, "c"));
    // What it doesn't touch goes on, and so does the past.
    assert_eq!(cluster.read_of(2, &other).await, None);
    let past = cluster.get_of(2, &theirs, before.revision);
    assert_eq!(value(cluster.send(1, past).reply().await), text("old"));
    assert_eq!(
        cluster.read_of(1, &mine).await,
        text("a"),
        "there it is committed"
    );
    assert!(read.is_open() && write.is_open());
    // Its client is told as soon as it is decided.
    assert!(done(txn.reply().await).problem.is_none());
    cluster.reach.open();
    // The participant asks by itself.
    let read = value(read.reply().await);
    assert!([text("b"), text("c")].contains(&read), "{read:?}");
    write.reply().await;
    assert_eq!(cluster.read_of(2, &theirs).await, text("c"));
    until("the end of it", || {
        standing(1).is_empty() && standing(2).is_empty()
    })
    .await;
    cluster.end().await;
}

fn is(body: &Body, matches: impl Fn(&Action) -> bool) -> bool {
    let Body::Write(write) = body else {
        return false;
    };
    Write::decode(write.clone())
        .unwrap()
        .action
        .as_ref()
        .is_some_and(matches)
}

fn options() -> Options {
    patient()
}

/// A coordinator's leader goes at a step; what becomes of the transaction, and of the request under its
/// old id.
async fn coordinator_goes(step: fn(&Action) -> bool, decided: bool) {
    let mut cluster = Cluster::start(3, options()).await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    cluster.reach.gate(move |_, body| !is(body, step));
    let txn = Txn {
        then: vec![add(&mine, 1), add(&theirs, 1)],
        ..Txn::default()
    };
    let write = cluster.write(&mine, Action::Delete(Default::default()));
    let leader = cluster.leader(1).await;
    let pending = cluster.send(leader, cluster.prepared(write.clone(), txn.clone()));
    until("the step", || {
        let standing = cluster.nodes[&leader].shard.standing(1);
        standing
            .iter()
            .any(|attempt| (attempt.revision > 0) == decided)
    })
    .await;
    let engine = cluster.stop_node(leader).await;
    drop(pending);
    cluster.reach.open();
    let successor = cluster.leader(1).await;
    until("the end of it", || {
        let shards = cluster.nodes.values().map(|node| &node.shard);
        shards
            .flat_map(|shard| [shard.standing(1), shard.standing(2)])
            .all(|all| all.is_empty())
    })
    .await;
    let expected = decided.then(|| Bytes::from_static(b"1"));
    assert_eq!(cluster.read_of(1, &mine).await, expected);
    assert_eq!(cluster.read_of(2, &theirs).await, expected);
    let again = done(
        cluster
            .send(successor, cluster.prepared(write, txn))
            .reply()
            .await,
    );
    assert!(again.problem.is_none() && !again.forgotten && again.answers.len() == 2);
    assert_eq!(cluster.read_of(1, &mine).await, text("1"), "once, in all");
    assert_eq!(cluster.read_of(2, &theirs).await, text("1"), "once, in all");
    cluster.start_node(leader, engine).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_coordinator_that_goes_before_the_decision_leaves_nothing() {
    coordinator_goes(|action| matches!(action, Action::Prepare(_)), false).await;
}

#[tokio::test]
async fn a_coordinator_that_goes_after_the_decision_leaves_all() {
    coordinator_goes(|action| matches!(action, Action::Commit(_)), true).await;
}

#[tokio::test]
async fn a_participant_without_a_leader_fails_the_transaction_for_certain() {
    let cluster = Cluster::one().await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    cluster.reach.gate(|group, _| group != 2);
    let txn = Txn {
        then: vec![place(&mine, "a"), place(&theirs, "b")],
        ..Txn::default()
    };
    let request = Request {
        deadline_ms: 300,
        ..cluster.over_both(&mine, txn)
    };
    let refused = failure(cluster.ask(request).await);
    assert!(!refused.is_unknown(), "{refused:?}");
    assert_eq!(cluster.read_of(1, &mine).await, None);
    cluster.reach.open();
    assert_eq!(cluster.read_of(2, &theirs).await, None);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_meet_all_happen_once_and_readers_see_them_whole() {
    let cluster = Cluster::start(3, options()).await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    let txn = Txn {
        then: vec![add(&mine, 1), add(&theirs, 1)],
        ..Txn::default()
    };
    let leader = cluster.leader(1).await;
    let mut pending = Vec::new();
    for _ in 0..40 {
        pending.push(cluster.send(leader, cluster.over_both(&mine, txn.clone())));
    }
    let mut revisions = Vec::new();
    for pending in pending {
        let done = done(within("a transaction", pending.reply()).await);
        assert!(done.problem.is_none());
        revisions.push(done.revision);
    }
    assert_eq!(cluster.read_of(1, &mine).await, text("40"));
    assert_eq!(cluster.read_of(2, &theirs).await, text("40"));
    revisions.sort_unstable();
    let second_leader = cluster.leader(2).await;
    for (number, revision) in revisions.into_iter().enumerate() {
        let expected = Some(Bytes::from((number + 1).to_string()));
        let one = cluster
            .send(leader, cluster.get_of(1, &mine, revision))
            .reply()
            .await;
        assert_eq!(value(one), expected, "at {revision}");
        let other = cluster.get_of(2, &theirs, revision);
        let other = cluster.send(second_leader, other).reply().await;
        assert_eq!(value(other), expected, "at {revision}");
    }
    cluster.end().await;
}

#[tokio::test]
async fn a_revision_that_is_compacted_cannot_be_read() {
    let cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    let first = cluster.ask(cluster.put(&key, "one")).await.revision;
    let second = cluster.ask(cluster.put(&key, "two")).await.revision;
    let compact = || cluster.request(Body::Compact(Compact { revision: second }));
    let compacted = cluster.ask(compact()).await;
    assert!(matches!(compacted.body, Some(Answer::Outcome(_))));
    let again = failure(cluster.ask(compact()).await);
    assert_eq!(again, Failure::Compacted { revision: second });
    let refused = failure(cluster.ask(cluster.get_of(1, &key, first)).await);
    assert_eq!(refused, Failure::Compacted { revision: second });
    let kept = cluster.ask(cluster.get_of(1, &key, second)).await;
    assert_eq!(value(kept), text("two"));
    cluster.end().await;
}
