//! Watching a group: what its leader tells a router, question by question.

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Compact, Follow, Followed, Interest, Operation, Participant, Place, Prepare, Put, Record,
    Replay, Reply, Request, Span, Txn, operation,
};
use prost::Message;

use super::support::{Cluster, failure, outcome, patient};

/// A router that watches group 1.
struct Watcher {
    turn: u64,
}

impl Watcher {
    fn new() -> Watcher {
        Watcher { turn: 0 }
    }

    fn next(&mut self, follow: Follow) -> Body {
        self.turn += 1;
        Body::Follow(Follow {
            watcher: 9,
            turn: self.turn,
            wait_ms: 60_000,
            ..follow
        })
    }

    /// Begins to watch, from now on.
    fn begin(&mut self, add: Vec<Interest>) -> Body {
        self.next(Follow {
            anew: true,
            now: true,
            add,
            ..Follow::default()
        })
    }
}

fn key_interest(key: &Bytes) -> Interest {
    Interest {
        span: Some(Span {
            start: key.clone(),
            ..Span::default()
        }),
        previous: true,
    }
}

fn all_of(cluster: &Cluster, group: u32) -> Interest {
    Interest {
        span: Some(Span {
            range: true,
            vnodes: cluster.vnodes(group).to_packed().into(),
            ..Span::default()
        }),
        previous: true,
    }
}

#[track_caller]
fn followed(reply: Reply) -> Followed {
    match reply.body {
        Some(Answer::Followed(followed)) => followed,
        other => panic!("{other:?}"),
    }
}

/// Revision, value and value before, of each event.
fn seen(followed: &Followed) -> Vec<(u64, Option<Bytes>, Option<Bytes>)> {
    let value = |stored: &Bytes| match stored.is_empty() {
        true => None,
        false => Some(Record::decode(stored.clone()).unwrap().value),
    };
    let events = followed.events.iter();
    events
        .map(|event| (event.revision, value(&event.record), value(&event.previous)))
        .collect()
}

fn text(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

fn place(key: &Bytes, value: &'static str) -> Operation {
    Operation {
        operation: Some(operation::Operation::Place(Place {
            key: key.clone(),
            put: Some(Put {
                value: Bytes::from_static(value.as_bytes()),
                ..Put::default()
            }),
            ..Place::default()
        })),
    }
}

/// A transaction that writes in groups 1 and 2, coordinated by group 1.
fn over_both(cluster: &Cluster, keys: [&Bytes; 2]) -> Request {
    let prepare = Prepare {
        txn: Some(Txn {
            then: keys.map(|key| place(key, "both")).into(),
            ..Txn::default()
        }),
        coordinator: 1,
        participants: [1, 2]
            .map(|group| Participant {
                group,
                vnodes: cluster.vnodes(group).to_packed().into(),
            })
            .into(),
        ..Prepare::default()
    };
    let write = cluster.write(keys[0], Action::Prepare(prepare));
    cluster.request(Body::Write(write.encode_to_vec().into()))
}

#[tokio::test]
async fn a_question_waits_for_what_is_watched() {
    let cluster = Cluster::one().await;
    let (key, other) = (cluster.key(1, 0), cluster.key(1, 1));
    let mut watcher = Watcher::new();
    let begin = watcher.next(Follow {
        anew: true,
        now: true,
        partial: true,
        ..Follow::default()
    });
    let begun = followed(cluster.ask(cluster.request(begin)).await);
    assert!(begun.events.is_empty());
    let add = watcher.next(Follow {
        add: vec![key_interest(&key)],
        ..Follow::default()
    });
    let mut pending = cluster.send(1, cluster.request(add));
    let first = outcome(cluster.ask(cluster.put(&other, "not watched")).await).revision;
    assert!(pending.is_open());
    let one = outcome(cluster.ask(cluster.put(&key, "one")).await).revision;
    let told = followed(pending.reply().await);
    assert_eq!(seen(&told), [(one, text("one"), None)]);
    assert!(told.position >= one && one > first);

    let two = outcome(cluster.ask(cluster.put(&key, "two")).await).revision;
    let gone = outcome(cluster.ask(cluster.delete(&key)).await).revision;
    let next = watcher.next(Follow::default());
    let told = followed(cluster.ask(cluster.request(next)).await);
    assert_eq!(
        seen(&told),
        [(two, text("two"), text("one")), (gone, None, text("two"))]
    );
    cluster.end().await;
}

#[tokio::test]
async fn a_second_question_answers_the_first_and_a_gap_is_noticed() {
    let cluster = Cluster::one().await;
    let (key, other) = (cluster.key(1, 0), cluster.key(1, 1));
    let mut watcher = Watcher::new();
    let begin = watcher.begin(vec![key_interest(&key)]);
    let first = cluster.send(1, cluster.request(begin));
    let more = watcher.next(Follow {
        add: vec![key_interest(&other)],
        ..Follow::default()
    });
    let second = cluster.send(1, cluster.request(more));
    let told = followed(first.reply().await);
    assert!(told.events.is_empty());
    let put = outcome(cluster.ask(cluster.put(&other, "x")).await).revision;
    let told = followed(second.reply().await);
    assert_eq!(seen(&told), [(put, text("x"), None)]);

    let remove = watcher.next(Follow {
        remove: vec![key_interest(&other).span.unwrap()],
        ..Follow::default()
    });
    let third = cluster.send(1, cluster.request(remove));
    outcome(cluster.ask(cluster.put(&other, "y")).await);
    let put = outcome(cluster.ask(cluster.put(&key, "z")).await).revision;
    assert_eq!(
        seen(&followed(third.reply().await)),
        [(put, text("z"), None)]
    );

    watcher.turn += 1;
    let late = watcher.next(Follow::default());
    assert!(followed(cluster.ask(cluster.request(late)).await).out_of_step);
    cluster.end().await;
}

#[tokio::test]
async fn an_idle_group_shows_that_nothing_follows() {
    let cluster = Cluster::one().await;
    let mine = cluster.key(1, 0);
    let mut watcher = Watcher::new();
    let begin = watcher.begin(vec![all_of(&cluster, 1)]);
    let begin = cluster.send(1, cluster.request(begin));
    // Revisions are granted elsewhere.
    let theirs = Request {
        group: 2,
        ..cluster.put(&cluster.key(2, 0), "x")
    };
    let elsewhere = outcome(cluster.send(1, theirs).reply().await).revision;
    let reach = watcher.next(Follow {
        reach: elsewhere,
        ..Follow::default()
    });
    let reached = cluster.send(1, cluster.request(reach));
    assert!(followed(begin.reply().await).events.is_empty());
    let told = followed(reached.reply().await);
    assert!(told.events.is_empty());
    assert!(told.position >= elsewhere);
    let put = outcome(cluster.ask(cluster.put(&mine, "y")).await).revision;
    let next = watcher.next(Follow::default());
    let told = followed(cluster.ask(cluster.request(next)).await);
    assert_eq!(seen(&told), [(put, text("y"), None)]);
    cluster.end().await;
}

#[tokio::test]
async fn a_prepared_transaction_holds_later_changes_back() {
    let cluster = Cluster::one().await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    let other = cluster.key(2, 1);
    let of_two = |body| Request {
        group: 2,
        ..cluster.request(body)
    };
    let mut watcher = Watcher::new();
    let begin = watcher.begin(vec![all_of(&cluster, 2)]);
    let mut told = cluster.send(1, of_two(begin));
    // The participant hears of no commit.
    cluster.reach.gate(|_, body| {
        let Body::Write(write) = body else {
            return true;
        };
        let write = caucus_api::shard::Write::decode(write.clone()).unwrap();
        !matches!(write.action, Some(Action::Commit(_)))
    });
    let done = cluster.ask(over_both(&cluster, [&mine, &theirs])).await;
    let Some(Answer::Txn(done)) = done.body else {
        panic!("{done:?}")
    };
    let later = Request {
        group: 2,
        ..cluster.put(&other, "later")
    };
    let later = outcome(cluster.send(1, later).reply().await).revision;
    assert!(later > done.revision);
    assert!(told.is_open(), "it would come before what happened before");
    cluster.reach.open();
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(seen(&followed(told.reply().await)));
        let next = watcher.next(Follow::default());
        told = cluster.send(1, of_two(next));
    }
    assert_eq!(
        events,
        [
            (done.revision, text("both"), None),
            (later, text("later"), None)
        ]
    );
    cluster.end().await;
}

#[tokio::test]
async fn what_memory_has_lost_is_read_from_the_index() {
    let mut cluster = Cluster::one().await;
    let (key, other) = (cluster.key(1, 0), cluster.key(1, 1));
    let mut expected = Vec::new();
    let mut before = None;
    for (number, value) in ["one", "two", "three"].into_iter().enumerate() {
        let put = outcome(cluster.ask(cluster.put(&key, value)).await).revision;
        expected.push((put, text(value), before.clone()));
        before = text(value);
        outcome(cluster.ask(cluster.put(&other, value)).await);
        if number == 1 {
            let gone = outcome(cluster.ask(cluster.delete(&key)).await).revision;
            expected.push((gone, None, before.take()));
        }
    }
    let engine = cluster.stop_node(1).await;
    cluster.start_node(1, engine).await;
    cluster.leader(1).await;
    let mut watcher = Watcher::new();
    let begin = watcher.next(Follow {
        anew: true,
        after: expected[0].0 - 1,
        add: vec![key_interest(&key)],
        ..Follow::default()
    });
    let told = followed(cluster.ask(cluster.request(begin)).await);
    assert_eq!(seen(&told), expected);

    let replay = |after| {
        cluster.request(Body::Replay(Replay {
            interests: vec![key_interest(&key)],
            after,
            through: 0,
        }))
    };
    let told = followed(cluster.ask(replay(expected[0].0)).await);
    assert_eq!(seen(&told), expected[1..]);
    let compact = Body::Compact(Compact {
        revision: expected[1].0,
    });
    cluster.ask(cluster.request(compact)).await;
    let compacted = Failure::Compacted {
        revision: expected[1].0,
    };
    assert_eq!(failure(cluster.ask(replay(expected[0].0)).await), compacted);
    let told = followed(cluster.ask(replay(expected[1].0)).await);
    assert_eq!(seen(&told), expected[2..]);
    let begin = watcher.next(Follow {
        anew: true,
        after: expected[0].0,
        add: vec![key_interest(&key)],
        ..Follow::default()
    });
    assert_eq!(
        failure(cluster.ask(cluster.request(begin)).await),
        compacted
    );
    cluster.end().await;
}

#[tokio::test]
async fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let mut cluster = Cluster::start(3, patient()).await;
    let key = cluster.key(1, 0);
    let old = cluster.leader(1).await;
    let mut watcher = Watcher::new();
    let begin = watcher.begin(vec![key_interest(&key)]);
    let pending = cluster.send(old, cluster.request(begin));
    let one = outcome(cluster.ask(cluster.put(&key, "one")).await).revision;
    assert_eq!(seen(&followed(pending.reply().await)).len(), 1);
    let next = watcher.next(Follow::default());
    let pending = cluster.send(old, cluster.request(next));
    cluster.stop_node(old).await;
    drop(pending);
    let new = cluster.leader(1).await;
    let next = watcher.next(Follow::default());
    let lost = cluster.send(new, cluster.request(next)).reply().await;
    assert!(followed(lost).out_of_step);
    let again = watcher.next(Follow {
        anew: true,
        after: one,
        add: vec![key_interest(&key)],
        ..Follow::default()
    });
    let pending = cluster.send(new, cluster.request(again));
    let two = outcome(cluster.ask(cluster.put(&key, "two")).await).revision;
    let told = followed(pending.reply().await);
    assert_eq!(seen(&told), [(two, text("two"), text("one"))]);
    cluster.end().await;
}

#[tokio::test]
async fn what_the_group_does_not_own_cannot_be_watched() {
    let cluster = Cluster::one().await;
    let theirs = cluster.key(2, 0);
    let mut watcher = Watcher::new();
    for add in [key_interest(&theirs), all_of(&cluster, 2)] {
        let begin = watcher.begin(vec![add]);
        let refused = failure(cluster.ask(cluster.request(begin)).await);
        assert_eq!(refused, Failure::Moved { epoch: 0 });
    }
    cluster.end().await;
}
