//! Transactions: `POST /v1/txn`. If all compares hold the operations of `then` are executed, else those of
//! `else`; all at one revision, or none.

use bytes::Bytes;
use caucus_api::limits::TXN_OPERATIONS_MAX;
use caucus_api::shard::answer::Answer as Did;
use caucus_api::shard::change::By;
use caucus_api::shard::compare::{Relation, Target};
use caucus_api::shard::operation::Operation as Kind;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{
    self, Change, Compare, Operation, Place, RangeRead, Remove, Span, Txn, TxnDone,
};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::batch::{Text, given, json_value, key_of};
use super::json::{self, Object};
use super::params::Params;
use super::payload::Payload;
use super::problem::{Code, Problem};
use super::recipes::leases;
use super::reply::{self, Answer};
use super::{idempotency, key, kv, media};
use crate::Router;
use crate::txn::smallest_key;
use caucus_api::range::prefix_end;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnBody<'a> {
    #[serde(borrow, default, rename = "if")]
    compares: Vec<CompareBody<'a>>,
    #[serde(borrow, default)]
    then: Vec<OpBody<'a>>,
    #[serde(borrow, default, rename = "else")]
    otherwise: Vec<OpBody<'a>>,
}

/// A key or all keys with a prefix.
#[derive(serde::Deserialize)]
struct SpanBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
    #[serde(borrow, default)]
    prefix: Option<Text<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
    #[serde(borrow, default)]
    prefix: Option<Text<'a>>,
    #[serde(default)]
    is: Is,
    #[serde(default)]
    version: Option<i64>,
    #[serde(default)]
    create_revision: Option<i64>,
    #[serde(default)]
    revision: Option<i64>,
    #[serde(default)]
    number: Option<i64>,
    #[serde(default)]
    count: Option<u64>,
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
}

#[derive(serde::Deserialize, Default, Clone, Copy)]
enum Is {
    #[default]
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">")]
    Greater,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpBody<'a> {
    Put(#[serde(borrow)] PutBody<'a>),
    Get(#[serde(borrow)] SpanBody<'a>),
    Delete(#[serde(borrow)] SpanBody<'a>),
    Increment(#[serde(borrow)] NumberBody<'a>),
    Min(#[serde(borrow)] NumberBody<'a>),
    Max(#[serde(borrow)] NumberBody<'a>),
    Append(#[serde(borrow)] AppendBody<'a>),
    Txn(#[serde(borrow)] TxnBody<'a>),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    lease: Option<Text<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
    by: i64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AppendBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
    #[serde(borrow)]
    text: Text<'a>,
}

/// Answers a transaction.
pub(super) async fn handle(
    router: &Router,
    parts: &Parts,
    payload: &mut Payload,
) -> Result<Answer, Problem> {
    if parts.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let params = Params::parse(parts.uri.query(), &["timeout"]).map_err(Problem::of_write)?;
    let timeout = params
        .timeout(parts, router.options())
        .map_err(Problem::of_write)?;
    let body = payload.read().await.map_err(Problem::of_write)?;
    let mut txn = parse(&body).map_err(Problem::of_write)?;
    let smallest = smallest_key(&mut txn);
    let name = idempotency::name(parts, &[b"txn", &smallest], &[&body])?;
    let deadline = Instant::now() + timeout;
    let transacted = router.txn_named(txn.clone(), name, deadline).await?;
    if let Some(problem) = &transacted.done.problem {
        return Err(Problem::of_write(impossible(problem)));
    }
    let mut out = Vec::new();
    write_done(&mut out, &txn, &transacted.done);
    let mut answer = reply::json(StatusCode::OK, out);
    reply::set_revision(answer.headers_mut(), transacted.revision);
    Ok(answer)
}

fn parse(body: &Bytes) -> Result<Txn, Problem> {
    let parsed: TxnBody<'_> = serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    let mut count = 0;
    let txn = txn_of(parsed, body, &mut count)?;
    if count == 0 {
        return Err(Problem::new(
            Code::InvalidRequest,
            "a transaction has operations",
        ));
    }
    Ok(txn)
}

fn txn_of(parsed: TxnBody<'_>, body: &Bytes, count: &mut usize) -> Result<Txn, Problem> {
    let compares = parsed
        .compares
        .into_iter()
        .map(|compare| compare_of(compare, body));
    let compares = compares.collect::<Result<Vec<_>, _>>()?;
    *count += compares.len();
    let mut branch = |operations: Vec<OpBody<'_>>| {
        let operations = operations.into_iter();
        operations
            .map(|op| op_of(op, body, count))
            .collect::<Result<Vec<_>, _>>()
    };
    let then = branch(parsed.then)?;
    let otherwise = branch(parsed.otherwise)?;
    if *count > TXN_OPERATIONS_MAX {
        return Err(Problem::new(
            Code::TooManyOperations,
            format!("a transaction has at most {TXN_OPERATIONS_MAX} operations and compares"),
        ));
    }
    Ok(Txn {
        compares,
        then,
        otherwise,
    })
}

fn span_of(span: SpanBody<'_>, body: &Bytes) -> Result<Span, Problem> {
    let Some(prefix) = span.prefix else {
        return Ok(Span {
            start: key_of(span.key, span.key64, body)?,
            ..Span::default()
        });
    };
    if span.key.is_some() || span.key64.is_some() {
        return Err(Problem::new(
            Code::KeyEmpty,
            "give a key or a prefix, not both",
        ));
    }
    let start = prefix.bytes(body);
    Ok(Span {
        end: prefix_end(&start).unwrap_or_default(),
        start,
        range: true,
        ..Span::default()
    })
}

fn compare_of(compare: CompareBody<'_>, body: &Bytes) -> Result<Compare, Problem> {
    let span = span_of(
        SpanBody {
            key: compare.key,
            key64: compare.key64,
            prefix: compare.prefix,
        },
        body,
    )?;
    let value = match compare.value {
        Some(value) => Some(Target::Value(json_value(value, None, body)?.0)),
        None => None,
    };
    let targets = [
        compare.version.map(Target::Version),
        compare.create_revision.map(Target::CreateRevision),
        compare.revision.map(Target::ModRevision),
        compare.number.map(Target::Number),
        compare.count.map(Target::Count),
        value,
    ];
    let mut targets = targets.into_iter().flatten();
    let (Some(target), None) = (targets.next(), targets.next()) else {
        return Err(Problem::new(
            Code::InvalidRequest,
            "a compare has one of version, revision, create_revision, number, count and value",
        ));
    };
    let relation = match compare.is {
        Is::Equal => Relation::Equal,
        Is::NotEqual => Relation::NotEqual,
        Is::Less => Relation::Less,
        Is::Greater => Relation::Greater,
    };
    Ok(Compare {
        span: Some(span),
        relation: relation as i32,
        target: Some(target),
    })
}

fn op_of(op: OpBody<'_>, body: &Bytes, count: &mut usize) -> Result<Operation, Problem> {
    *count += 1;
    let kind = match op {
        OpBody::Put(put) => Kind::Place(place_of(put, body)?),
        OpBody::Get(span) => Kind::Range(RangeRead {
            span: Some(span_of(span, body)?),
            ..RangeRead::default()
        }),
        OpBody::Delete(span) => Kind::Remove(Remove {
            span: Some(span_of(span, body)?),
            previous: false,
            ..Remove::default()
        }),
        OpBody::Increment(change) => number_of(change, By::Add, body)?,
        OpBody::Min(change) => number_of(change, By::Min, body)?,
        OpBody::Max(change) => number_of(change, By::Max, body)?,
        OpBody::Append(append) => Kind::Change(Change {
            key: key_of(append.key, append.key64, body)?,
            previous: false,
            by: Some(By::Append(append.text.bytes(body))),
        }),
        OpBody::Txn(inner) => Kind::Txn(txn_of(inner, body, count)?),
    };
    Ok(Operation {
        operation: Some(kind),
    })
}

fn number_of(change: NumberBody<'_>, by: fn(i64) -> By, body: &Bytes) -> Result<Kind, Problem> {
    Ok(Kind::Change(Change {
        key: key_of(change.key, change.key64, body)?,
        previous: false,
        by: Some(by(change.by)),
    }))
}

fn place_of(put: PutBody<'_>, body: &Bytes) -> Result<Place, Problem> {
    let key = key_of(put.key, put.key64, body)?;
    let Some(value) = put.value else {
        return Err(Problem::new(Code::MalformedJson, "a put has a value"));
    };
    let named = put.content_type.as_ref().map(|text| &*text.0);
    let (value, content_type) = json_value(value, named, body)?;
    media::check(content_type, &value)?;
    let lease = put.lease.as_ref().map(|text| leases::id(&text.0));
    Ok(Place {
        key: key::checked(key)?,
        put: Some(shard::Put {
            value,
            content_type: content_type.to_owned(),
            lease: lease.transpose()?.unwrap_or(0),
            ..shard::Put::default()
        }),
        ..Place::default()
    })
}

pub(super) fn impossible(problem: &shard::Problem) -> Problem {
    let why = match problem.kind() {
        ProblemKind::None => "it cannot be executed",
        ProblemKind::KeyNotFound => "its key is not there",
        ProblemKind::NotAnInteger => "its value is not a decimal 64-bit integer",
        ProblemKind::Overflow => "its result does not fit into 64 bits",
        ProblemKind::TooLarge => "its result is too large a value",
        ProblemKind::Compacted => "its revision is compacted",
        ProblemKind::FutureRevision => "its revision has not been granted yet",
        ProblemKind::LeaseNotFound | ProblemKind::LeaseNotOpen => "its lease is not there",
        ProblemKind::LeaseExists => "its lease lives already",
        ProblemKind::LeaseHasKeys => "its lease holds other keys",
        ProblemKind::TooManyKeys => "it touches too many keys",
    };
    let code = match problem.kind() {
        ProblemKind::LeaseNotFound | ProblemKind::LeaseNotOpen => Code::LeaseNotFound,
        _ => Code::Impossible,
    };
    Problem::new(code, format!("operation {}: {why}", problem.operation))
}

fn write_done(out: &mut Vec<u8>, txn: &Txn, done: &TxnDone) {
    let mut path = done.path.iter().copied();
    let mut answers = done.answers.iter();
    let mut object = Object::begin(out);
    write_branch(&mut object, txn, done.revision, &mut path, &mut answers);
    object.number("revision", done.revision);
    if done.forgotten {
        object.boolean("results_forgotten", true);
    }
    object.end();
}

type Answers<'a> = std::slice::Iter<'a, shard::Answer>;

fn write_branch(
    object: &mut Object<'_>,
    txn: &Txn,
    revision: u64,
    path: &mut dyn Iterator<Item = bool>,
    answers: &mut Answers<'_>,
) {
    let succeeded = path.next().unwrap_or(false);
    object.boolean("succeeded", succeeded);
    let operations = if succeeded { &txn.then } else { &txn.otherwise };
    json::array(object.field("results"), operations, |out, operation| {
        let mut result = Object::begin(out);
        match &operation.operation {
            Some(Kind::Txn(inner)) => {
                let mut nested = Object::begin(result.field("txn"));
                write_branch(&mut nested, inner, revision, path, answers);
                nested.end();
            }
            Some(kind) => {
                let answer = answers.next().and_then(|answer| answer.answer.as_ref());
                write_answer(&mut result, kind, answer, revision);
            }
            None => {}
        }
        result.end();
    });
}

fn write_answer(result: &mut Object<'_>, asked: &Kind, did: Option<&Did>, revision: u64) {
    match (asked, did) {
        (Kind::Place(place), Some(Did::Placed(_))) => {
            let mut put = Object::begin(result.field("put"));
            put.key(&place.key);
            put.number("revision", revision);
            put.end();
        }
        (_, Some(Did::Removed(removed))) => {
            let mut delete = Object::begin(result.field("delete"));
            delete.number("deleted", removed.count);
            delete.end();
        }
        (_, Some(Did::Ranged(ranged))) => {
            let mut get = Object::begin(result.field("get"));
            get.number("count", ranged.count);
            let items = ranged.items.iter();
            let items = items.filter_map(|item| Some((&item.key, item.record.as_ref()?)));
            json::array(get.field("items"), items, |out, (key, record)| {
                kv::write_record(out, key, record);
            });
            get.end();
        }
        (Kind::Change(change), Some(Did::Changed(changed))) => {
            if let Some(record) = &changed.record {
                kv::write_record(result.field("changed"), &change.key, record);
            }
        }
        (_, _) => {}
    }
}
