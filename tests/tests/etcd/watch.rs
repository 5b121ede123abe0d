//! etcd's Watch service: the same talk with a real etcd and with Caucus, and `etcdctl watch`.

use std::time::Duration;

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::request_op::Request as Op;
use caucus_etcd::etcdserverpb::watch_client::WatchClient;
use caucus_etcd::etcdserverpb::watch_create_request::FilterType;
use caucus_etcd::etcdserverpb::watch_request::RequestUnion;
use caucus_etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use caucus_etcd::mvccpb::{Event, KeyValue};
use caucus_tests::{Cluster, Options};
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::{node, real_etcd, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// A stream of watches, beside a client that writes.
struct Talk {
    kv: KvClient<Channel>,
    ask: mpsc::UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    /// Of the writes so far.
    revisions: Vec<i64>,
    /// What was heard, with the numbers of writes for their revisions.
    heard: Vec<String>,
}

impl Talk {
    async fn begin(channel: Channel) -> Talk {
        let (ask, asked) = mpsc::unbounded_channel();
        let mut watch = WatchClient::new(channel.clone());
        // A real etcd answers the call only when it has been asked something.
        let first = WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
        };
        ask.send(first).expect("a stream");
        let asked = futures::stream::unfold(asked, |mut asked| async move {
            let request = asked.recv().await?;
            Some((request, asked))
        });
        let answers = watch.watch(asked).await;
        let mut talk = Talk {
            kv: KvClient::new(channel),
            ask,
            answers: answers.expect("a stream").into_inner(),
            revisions: Vec::new(),
            heard: Vec::new(),
        };
        talk.next().await;
        talk
    }

    fn ask(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.ask.send(request).expect("the stream is open");
    }

    async fn next(&mut self) -> WatchResponse {
        let next = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        let next = next.unwrap_or_else(|_| panic!("nothing more after {:#?}", self.heard));
        next.expect("an answer").expect("the stream goes on")
    }

    /// Notes an answer that isn't about events.
    async fn note(&mut self, what: &str) -> WatchResponse {
        let answer = self.next().await;
        let note = format!(
            "{what}: id {} created {} canceled {} reason {:?} compacted {} events {}",
            answer.watch_id,
            answer.created,
            answer.canceled,
            answer.cancel_reason,
            answer.compact_revision > 0,
            answer.events.len(),
        );
        self.heard.push(note);
        answer
    }

    /// Notes so many events of a watch; those of one revision must come together.
    async fn note_events(&mut self, what: &str, count: usize) {
        let mut last = 0;
        let mut seen = 0;
        while seen < count {
            let answer = self.next().await;
            let header = answer.header.expect("a header").revision;
            assert!(!answer.events.is_empty(), "{answer:?}");
            seen += answer.events.len();
            let mut events: Vec<Event> = answer.events;
            events.sort_by_key(|event| {
                let kv = event.kv.clone().unwrap_or_default();
                (kv.mod_revision, kv.key)
            });
            for event in &events {
                let kv = event.kv.as_ref().expect("a key");
                assert!(kv.mod_revision > last, "divided over answers: {event:?}");
                assert!(header >= kv.mod_revision);
                let note = format!(
                    "{what} {}: {:?} {} before {}",
                    answer.watch_id,
                    event.r#type(),
                    self.shown(kv),
                    event
                        .prev_kv
                        .as_ref()
                        .map_or("-".into(), |kv| self.shown(kv)),
                );
                self.heard.push(note);
            }
            let newest = events.last().and_then(|event| event.kv.as_ref());
            last = newest.map_or(0, |kv| kv.mod_revision);
        }
        assert_eq!(seen, count, "{:#?}", self.heard);
    }

    fn shown(&self, kv: &KeyValue) -> String {
        let number = |revision| match revision {
            0 => "none".to_owned(),
            known => match self.revisions.iter().position(|other| *other == known) {
                Some(number) => number.to_string(),
                None => format!("unknown {known}"),
            },
        };
        format!(
            "{}={} mod {} create {} version {}",
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value),
            number(kv.mod_revision),
            number(kv.create_revision),
            kv.version,
        )
    }

    fn wrote(&mut self, header: Option<caucus_etcd::etcdserverpb::ResponseHeader>) {
        self.revisions.push(header.expect("a header").revision);
    }

    async fn put(&mut self, key: &str, value: &str) {
        let put = self.kv.put(put(key, value)).await.expect("a put");
        self.wrote(put.into_inner().header);
    }

    async fn delete(&mut self, key: &str) {
        let request = DeleteRangeRequest {
            key: key.to_owned().into(),
            ..DeleteRangeRequest::default()
        };
        let deleted = self.kv.delete_range(request).await.expect("a delete");
        self.wrote(deleted.into_inner().header);
    }

    async fn put_both(&mut self, keys: [&str; 2], value: &str) {
        let success = keys.map(|key| RequestOp {
            request: Some(Op::RequestPut(put(key, value))),
        });
        let request = TxnRequest {
            success: success.into(),
            ..TxnRequest::default()
        };
        let done = self.kv.txn(request).await.expect("a transaction");
        self.wrote(done.into_inner().header);
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

/// All keys from `/w/` to before `/w0`.
fn prefix() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "/w/".into(),
        range_end: "/w0".into(),
        ..WatchCreateRequest::default()
    }
}

fn cancel(watch_id: i64) -> RequestUnion {
    RequestUnion::CancelRequest(WatchCancelRequest { watch_id })
}

async fn talk(channel: Channel) -> Vec<String> {
    let mut talk = Talk::begin(channel).await;
    talk.ask(RequestUnion::CreateRequest(prefix()));
    talk.note("all").await;
    talk.put("/w/1/a", "1").await;
    talk.put("/w/2/b", "2").await;
    talk.put("/x/other", "-").await;
    talk.put_both(["/w/1/a", "/w/3/c"], "both").await;
    talk.delete("/w/1/a").await;
    talk.note_events("all", 5).await;

    let twice = WatchCreateRequest {
        watch_id: 7,
        ..prefix()
    };
    talk.ask(cancel(0));
    talk.note("cancel").await;
    talk.ask(cancel(99));
    talk.ask(RequestUnion::CreateRequest(WatchCreateRequest {
        start_revision: talk.revisions[1],
        prev_kv: true,
        ..twice.clone()
    }));
    talk.note("from the past").await;
    talk.note_events("from the past", 4).await;
    talk.ask(RequestUnion::CreateRequest(twice));
    talk.note("the same id").await;
    talk.ask(cancel(7));
    talk.note("cancel").await;

    talk.ask(RequestUnion::CreateRequest(WatchCreateRequest {
        key: "b".into(),
        range_end: "a".into(),
        ..WatchCreateRequest::default()
    }));
    talk.note("an empty range").await;
    talk.ask(RequestUnion::CreateRequest(WatchCreateRequest {
        start_revision: talk.revisions[0],
        filters: vec![FilterType::Noput as i32],
        prev_kv: true,
        ..prefix()
    }));
    talk.note("deletes").await;
    talk.note_events("deletes", 1).await;
    talk.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    let mark = talk.note("progress").await;
    assert!(mark.header.expect("a header").revision >= talk.revisions[4]);

    talk_of_one_key_and_the_past(&mut talk).await;
    talk.heard
}

async fn talk_of_one_key_and_the_past(talk: &mut Talk) {
    let one = WatchCreateRequest {
        key: "/w/2/b".into(),
        filters: vec![FilterType::Nodelete as i32],
        ..WatchCreateRequest::default()
    };
    talk.ask(RequestUnion::CreateRequest(one));
    talk.note("one key").await;
    talk.put("/w/2/b0", "not that").await;
    talk.put("/w/2/b", "3").await;
    talk.note_events("one key", 1).await;

    let compact = CompactionRequest {
        revision: talk.revisions[4],
        ..CompactionRequest::default()
    };
    talk.kv.compact(compact).await.expect("a compaction");
    talk.ask(RequestUnion::CreateRequest(WatchCreateRequest {
        start_revision: talk.revisions[1],
        ..prefix()
    }));
    talk.note("what is compacted").await;
    let ended = talk.note("what is compacted").await;
    assert!(ended.compact_revision >= talk.revisions[4]);
}

#[test]
fn a_talk_over_watches_is_the_same_as_with_etcd() {
    let cluster = Cluster::start(Options::nodes(3));
    let ours = run(async { talk(node(&cluster, 2)).await });
    let Some(etcd) = real_etcd() else {
        return;
    };
    let theirs = run(async { talk(etcd.channel()).await });
    assert_eq!(ours, theirs);
}
