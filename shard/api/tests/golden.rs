//! The bytes of what stands in logs and states, and of what nodes of other versions will read.
//!
//! The constants were made from `proto/shard.proto` by another encoder than the one under test. A test that
//! fails here means that stored data can't be read any more: change the code, never a constant.

use std::fmt::Debug;

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::change::By;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::compare::Target;
use caucus_api::shard::condition::Kind as Must;
use caucus_api::shard::lease_step::Kind as LeaseKind;
use caucus_api::shard::operation::Operation as Op;
use caucus_api::shard::outcome::Kind as Did;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Abort, Batch, Bootstrap, Change, Command, Commit, Compact, Compare, Condition, Decide, Delete,
    Error, Filter, Forget, Found, Get, Hash, Hashed, Item, Lease, LeaseStep, List, Listed,
    Operation, Outcome, Participant, Place, Prepare, Put, RangeRead, Record, Remove, Replies,
    Reply, Request, RequestId, Requests, Revisions, SessionProgress, Span, Txn, Unit, Write,
};
use prost::Message;

const REQUEST_ID: &str = "09080706050403020110ac0218f0a204";
const PROGRESS: &str = "09080706050403020110ab0218f0a204";
const BOOTSTRAP: &str = "0a220a100707070707070707070707070707070710051880202203020081280332020803";
const BATCH: &str = "121c08f1a2041202010212001a1009080706050403020110ab0218f0a204";
const WRITE_PUT: &str = "\
    0a1009080706050403020110ac0218f0a20412062f612f622f631a071a050a0305ac0222026d65280630\
    0352180a027b7d12106170706c69636174696f6e2f6a736f6e184d";
const LEASE_OPERATION: &str = "320a080110f8acd19101201e";
const LEASE: &str = "0809101e18dc0b20012a020304";
const LEASED_PUT: &str = "0a0178184d2009280a";
const LEASED_REMOVE: &str = "0a040a022f61184d2009";
const WRITE_DELETE: &str = "0a1009080706050403020110ac0218f0a20412062f612f622f635a00";
const WRITE_TXN: &str = "\
    0a1009080706050403020110ac0218f0a20412022f6138096a520a0a0a040a022f6110031803120f120d\
    0a022f6112030a01782001280112082a060a022f6e18091a131a110a0f0a032f622f12032f6230180122\
    01011a140a120a040a022f61100718032002280342020804";
const WRITE_PREPARE: &str = "\
    0a1009080706050403020110ac0218f0a20412022f6138098201200a08120612040a022f61100418ac02\
    20c8012a0508041201022a050805120102";
const WRITE_DECIDE: &str = "0a1009080706050403020110ac0218f0a20412022f6138098a010708ac0212020100";
const WRITE_COMMIT: &str = "\
    0a1009080706050403020110ac0218f0a20412022f61380992010908ac021090031a0101";
const WRITE_ABORT: &str = "0a1009080706050403020110ac0218f0a20412022f6138099a010308ac02";
const WRITE_FORGET: &str = "0a1009080706050403020110ac0218f0a20412022f613809a2010308ac02";
const COMPACT: &str = "6a0308ac02";
const TIMED_BATCH: &str = "1208080520ac0228c801";
const IF_ABSENT: &str = "0a00";
const IF_PRESENT: &str = "1200";
const IF_REVISION_IS: &str = "1a050a0305ac02";
const IF_REVISION_IS_NOT: &str = "22030a0109";
const RECORD: &str = "080510ac021802204d2a0a746578742f706c61696e32026869";
const OUTCOME: &str = "080110f1a2041805200228ac02";
const OUTCOME_DELETED: &str = "080210f1a204";
const OUTCOME_ABSENT: &str = "080310f1a204";
const OUTCOME_CONDITION_FAILED: &str = "080410f1a204";
const REQUESTS: &str = "\
    0a1908091005180c20f0a20428882732026d6538064003520201020a1d08091005180c20f0a204288827\
    32026d65380640035a060a022f6110010a3308091005180c20f0a20428882732026d6538064003621c0a\
    032f612f12032f61301a03020081200a280132012f3803408080040a1708091005180c20f0a204288827\
    32026d65380640036a00121009080706050403020110ab0218f0a204";
const REPLIES: &str = "\
    0a15080910f1a2041a0d080110f1a2041805200228ac020a11080910f1a20422090a07080510ac021802\
    0a08080910f1a20422000a20080910f1a2042a180a0d0a022f611207080510ac0218020a050a032f622f\
    10010a10080910f1a20432080804120466756c6c0a1e080910f1a2043a16082810031a10000102030405\
    060708090a0b0c0d0e0f";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

#[track_caller]
fn check<M: Message + Default + PartialEq + Debug>(message: M, hex: &str) {
    let written = message.encode_to_vec();
    let text: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text, hex);
    assert_eq!(M::decode(&bytes(hex)[..]).expect("readable"), message);
}

fn id() -> RequestId {
    RequestId {
        session: 0x0102_0304_0506_0708,
        sequence: 300,
        stamp: 70_000,
    }
}

fn progress() -> SessionProgress {
    SessionProgress {
        session: 0x0102_0304_0506_0708,
        finished_below: 299,
        stamp: 70_000,
    }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn must(kind: Must) -> Condition {
    Condition { kind: Some(kind) }
}

fn revisions(revisions: &[u64]) -> Revisions {
    Revisions {
        revisions: revisions.to_vec(),
    }
}

fn outcome() -> Outcome {
    Outcome {
        kind: Did::Put as i32,
        revision: 70_001,
        create_revision: 5,
        version: 2,
        found_revision: 300,
    }
}

#[test]
fn names_of_requests() {
    check(id(), REQUEST_ID);
    check(progress(), PROGRESS);
}

#[test]
fn commands_of_the_log() {
    let bootstrap = Bootstrap {
        cluster_id: vec![7; 16].into(),
        group: 5,
        vnodes: 4096,
        owned: vec![2, 0, 0x81].into(),
        rules_version: 3,
        rules: vec![8, 3].into(),
    };
    let batch = Batch {
        first_revision: 70_001,
        writes: vec![vec![1, 2].into(), Bytes::new()],
        progress: vec![progress()],
        ..Batch::default()
    };
    let timed = Batch {
        first_revision: 5,
        time_ms: 300,
        forget_before_ms: 200,
        ..Batch::default()
    };
    for (command, hex) in [
        (Kind::Bootstrap(bootstrap), BOOTSTRAP),
        (Kind::Batch(batch), BATCH),
        (Kind::Batch(timed), TIMED_BATCH),
        (Kind::Compact(Compact { revision: 300 }), COMPACT),
    ] {
        let command = Command {
            command: Some(command),
        };
        check(command, hex);
    }
}

/// A replica of this version skips what a later one proposes; so it must read as no command, not as
/// an error and not as another command.
#[test]
fn commands_of_later_versions_read_as_none() {
    // 13 is of this version.
    for field in (3_u8..=12).chain([14]) {
        let later = [field << 3 | 2, 2, 8, 1];
        assert_eq!(Command::decode(&later[..]), Ok(Command { command: None }));
    }
}

#[test]
fn writes() {
    let put = Write {
        id: Some(id()),
        key: text("/a/b/c"),
        condition: Some(must(Must::RevisionIs(revisions(&[5, 300])))),
        principal: text("me"),
        auth_version: 6,
        rules_version: 3,
        fingerprint: 0,
        action: Some(Action::Put(Put {
            value: text("{}"),
            content_type: "application/json".to_owned(),
            lease: 77,
            ..Put::default()
        })),
    };
    check(put, WRITE_PUT);
    let delete = Write {
        id: Some(id()),
        key: text("/a/b/c"),
        action: Some(Action::Delete(Delete {})),
        ..Write::default()
    };
    check(delete, WRITE_DELETE);
    check(must(Must::Absent(Unit {})), IF_ABSENT);
    check(must(Must::Present(Unit {})), IF_PRESENT);
    let is = Must::RevisionIs(revisions(&[5, 300]));
    check(must(is), IF_REVISION_IS);
    let is_not = Must::RevisionIsNot(revisions(&[9]));
    check(must(is_not), IF_REVISION_IS_NOT);
}

fn txn() -> Txn {
    let key = |key| {
        Some(Span {
            start: text(key),
            ..Span::default()
        })
    };
    let operation = |operation| Operation {
        operation: Some(operation),
    };
    let place = Place {
        key: text("/a"),
        put: Some(Put {
            value: text("x"),
            ..Put::default()
        }),
        keep_lease: true,
        previous: true,
        ..Place::default()
    };
    let change = Change {
        key: text("/n"),
        by: Some(By::Add(-5)),
        ..Change::default()
    };
    let remove = Remove {
        span: Some(Span {
            start: text("/b/"),
            end: text("/b0"),
            range: true,
            vnodes: vec![1].into(),
        }),
        previous: false,
        ..Remove::default()
    };
    let range = RangeRead {
        span: key("/a"),
        revision: 7,
        limit: 3,
        order: 2,
        target: 3,
        filter: Some(Filter {
            mod_min: 4,
            ..Filter::default()
        }),
        ..RangeRead::default()
    };
    Txn {
        compares: vec![Compare {
            span: key("/a"),
            relation: 3,
            target: Some(Target::Version(-2)),
        }],
        then: vec![operation(Op::Place(place)), operation(Op::Change(change))],
        otherwise: vec![operation(Op::Remove(remove)), operation(Op::Range(range))],
    }
}

#[test]
fn transactions_and_their_steps() {
    let place = Op::Place(Place {
        key: text("/a"),
        ..Place::default()
    });
    let participant = |group| Participant {
        group,
        vnodes: vec![2].into(),
    };
    let prepare = Prepare {
        txn: Some(Txn {
            then: vec![Operation {
                operation: Some(place),
            }],
            ..Txn::default()
        }),
        coordinator: 4,
        attempt: 300,
        age: 200,
        participants: vec![participant(4), participant(5)],
    };
    let decide = Decide {
        attempt: 300,
        path: vec![true, false],
    };
    let commit = Commit {
        attempt: 300,
        revision: 400,
        path: vec![true],
    };
    for (action, hex) in [
        (Action::Txn(txn()), WRITE_TXN),
        (Action::Prepare(prepare), WRITE_PREPARE),
        (Action::Decide(decide), WRITE_DECIDE),
        (Action::Commit(commit), WRITE_COMMIT),
        (Action::Abort(Abort { attempt: 300 }), WRITE_ABORT),
        (Action::Forget(Forget { attempt: 300 }), WRITE_FORGET),
    ] {
        let write = Write {
            id: Some(id()),
            key: text("/a"),
            fingerprint: 9,
            action: Some(action),
            ..Write::default()
        };
        check(write, hex);
    }
}

#[test]
fn leases() {
    let step = LeaseStep {
        kind: LeaseKind::Grant as i32,
        id: 0x1234_5678,
        ttl_s: 30,
        ..LeaseStep::default()
    };
    let operation = Operation {
        operation: Some(Op::Lease(step)),
    };
    check(operation, LEASE_OPERATION);
    let lease = Lease {
        grant: 9,
        ttl_s: 30,
        rest_ms: 1500,
        ends: true,
        groups: vec![3, 4],
    };
    check(lease, LEASE);
    let put = Put {
        value: text("x"),
        content_type: String::new(),
        lease: 77,
        lease_grant: 9,
        lease_open: 10,
    };
    check(put, LEASED_PUT);
    let remove = Remove {
        span: Some(Span {
            start: text("/a"),
            ..Span::default()
        }),
        previous: false,
        lease: 77,
        lease_grant: 9,
    };
    check(remove, LEASED_REMOVE);
}

#[test]
fn records_and_outcomes_of_the_state() {
    let record = Record {
        create_revision: 5,
        mod_revision: 300,
        version: 2,
        lease: 77,
        content_type: "text/plain".to_owned(),
        value: text("hi"),
        lease_grant: 0,
    };
    check(record, RECORD);
    check(outcome(), OUTCOME);
    for (kind, hex) in [
        (Did::Deleted, OUTCOME_DELETED),
        (Did::Absent, OUTCOME_ABSENT),
        (Did::ConditionFailed, OUTCOME_CONDITION_FAILED),
    ] {
        let outcome = Outcome {
            kind: kind as i32,
            revision: 70_001,
            ..Outcome::default()
        };
        check(outcome, hex);
    }
}

#[test]
fn requests() {
    let list = List {
        start: text("/a/"),
        end: text("/a0"),
        vnodes: vec![2, 0, 0x81].into(),
        limit: 10,
        keys_only: true,
        delimiter: text("/"),
        prefix_length: 3,
        bytes_max: 65_536,
        ..List::default()
    };
    let get = Get {
        key: text("/a"),
        head: true,
        revision: 0,
    };
    let request = |body| Request {
        call: 9,
        group: 5,
        epoch: 12,
        at_least: 70_000,
        deadline_ms: 5_000,
        principal: text("me"),
        auth_version: 6,
        rules_version: 3,
        body: Some(body),
    };
    let bodies = [
        Body::Write(vec![1, 2].into()),
        Body::Get(get),
        Body::List(list),
        Body::Hash(Hash {}),
    ];
    let requests = Requests {
        requests: bodies.map(request).into(),
        progress: Some(progress()),
    };
    check(requests, REQUESTS);
}

#[test]
fn replies() {
    let record = Record {
        create_revision: 5,
        mod_revision: 300,
        version: 2,
        ..Record::default()
    };
    let listed = Listed {
        items: vec![
            Item {
                key: text("/a"),
                record: Some(record.clone()),
            },
            Item {
                key: text("/b/"),
                record: None,
            },
        ],
        more: true,
        ..Listed::default()
    };
    let hashed = Hashed {
        index: 40,
        term: 3,
        hash: (0..16).collect::<Vec<u8>>().into(),
    };
    let error = Error {
        code: 4,
        message: "full".to_owned(),
        ..Error::default()
    };
    let bodies = [
        Answer::Outcome(outcome()),
        Answer::Found(Found {
            record: Some(record),
        }),
        Answer::Found(Found { record: None }),
        Answer::Listed(listed),
        Answer::Error(error),
        Answer::Hashed(hashed),
    ];
    let reply = |body| Reply {
        call: 9,
        revision: 70_001,
        body: Some(body),
    };
    let replies = Replies {
        replies: bodies.map(reply).into(),
    };
    check(replies, REPLIES);
}

#[test]
fn failures() {
    let text = || "why".to_owned();
    for (failure, hex) in [
        (Failure::NotLeader { leader: Some(3) }, "08011803"),
        (Failure::NotLeader { leader: None }, "0801"),
        (Failure::Moved { epoch: 9 }, "08022009"),
        (Failure::Busy(text()), "08031203776879"),
        (Failure::NoSpace, "0804"),
        (
            Failure::Unavailable {
                reason: text(),
                unknown: true,
            },
            "080512037768792801",
        ),
        (
            Failure::Unavailable {
                reason: text(),
                unknown: false,
            },
            "08051203776879",
        ),
        (Failure::Expired, "0806"),
        (Failure::FutureRevision, "0807"),
        (Failure::Invalid(text()), "08081203776879"),
        (Failure::NoReplica, "0809"),
        (Failure::Internal(text()), "080a12037768792801"),
        (Failure::Deadline { unknown: true }, "080b2801"),
        (Failure::Deadline { unknown: false }, "080b"),
        (Failure::Rules, "080c"),
    ] {
        check(Error::from(failure.clone()), hex);
        let read = Error::decode(&bytes(hex)[..]).expect("readable");
        assert_eq!(Failure::from(read), failure);
    }
}
