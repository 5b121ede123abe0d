//! The same operations for two servers, to find where their answers differ.
//!
//! ```text
//!  seed ─▶ steps ─┬─▶ server A ─▶ answers, normalised ─┐
//!                 └─▶ server B ─▶ answers, normalised ─┴─▶ the first difference
//! ```
//!
//! Servers count revisions differently, some with gaps. So a request names "the revision of step N", and in
//! answers a revision is replaced by the step that made it. Both servers have to be empty at the start.

mod generate;
mod normal;

use std::fmt;

use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::etcdserverpb::kv_client::KvClient;
use crate::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};

use normal::Revisions;

/// How many operations a script has.
pub const STEPS: usize = 600;

/// One operation of a script; revisions in it are names of steps.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
}

/// What was asked in a step, and what the server said; revisions are names of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The request, readable.
    pub request: String,
    /// The answer as JSON, or the error.
    pub answer: String,
}

/// What a server said to a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The seed that the script was made from.
    pub seed: u64,
    /// The steps in their order.
    pub entries: Vec<Entry>,
}

/// Where two transcripts part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The seed of both scripts.
    pub seed: u64,
    /// The step at which the answers differ.
    pub step: usize,
    /// What was asked.
    pub request: String,
    /// What the first server said.
    pub left: String,
    /// What the second server said.
    pub right: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, step {}: {}",
            self.seed, self.step, self.request
        )?;
        writeln!(f, "   left: {}", self.left)?;
        write!(f, "  right: {}", self.right)
    }
}

/// Sends the script of a seed to a server, one operation after the other.
pub async fn run(channel: Channel, seed: u64) -> Transcript {
    let mut client = KvClient::new(channel);
    let mut revisions = Revisions::new(base(&mut client).await);
    let mut entries = Vec::with_capacity(STEPS);
    for (number, step) in generate::steps(seed).into_iter().enumerate() {
        let request = normal::request(&step);
        let answer = ask(&mut client, step, number, &mut revisions).await;
        let answer = answer.unwrap_or_else(|status| normal::error(&status));
        revisions.step_ends();
        entries.push(Entry { request, answer });
    }
    Transcript { seed, entries }
}

/// Where two servers' answers to the same script part first; none if they agree.
pub fn compare(left: &Transcript, right: &Transcript) -> Option<Difference> {
    const NOTHING: &str = "(nothing)";
    let both = left.entries.len().max(right.entries.len());
    for step in 0..both {
        let (a, b) = (left.entries.get(step), right.entries.get(step));
        if a == b {
            continue;
        }
        let said = |entry: Option<&Entry>| {
            entry.map_or_else(|| NOTHING.to_owned(), |entry| entry.answer.clone())
        };
        return Some(Difference {
            seed: left.seed,
            step,
            request: a
                .or(b)
                .map(|entry| entry.request.clone())
                .unwrap_or_default(),
            left: said(a),
            right: said(b),
        });
    }
    None
}

/// The revision of what is there before the first step.
async fn base(client: &mut KvClient<Channel>) -> i64 {
    let request = RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    let answer = client.range(request).await;
    let header = answer.ok().and_then(|answer| answer.into_inner().header);
    header.map_or(0, |header| header.revision)
}

async fn ask(
    client: &mut KvClient<Channel>,
    mut step: Step,
    number: usize,
    revisions: &mut Revisions,
) -> Result<String, Status> {
    revisions.resolve(&mut step);
    match step {
        Step::Range(request) => {
            let answer = client.range(request.clone()).await;
            let mut answer = answer.map(Response::into_inner)?;
            normal::order(&request, &mut answer);
            Ok(revisions.answer(&answer))
        }
        Step::Put(request) => {
            let answer = client.put(request).await?.into_inner();
            revisions.made(number, answer.header.as_ref());
            Ok(revisions.answer(&answer))
        }
        Step::DeleteRange(request) => {
            let answer = client.delete_range(request).await?.into_inner();
            if answer.deleted > 0 {
                revisions.made(number, answer.header.as_ref());
            }
            Ok(revisions.answer(&answer))
        }
        Step::Txn(request) => {
            let answer = client.txn(request.clone()).await;
            let mut answer = answer.map(Response::into_inner)?;
            if normal::wrote(&answer) {
                revisions.made(number, answer.header.as_ref());
            }
            normal::order_txn(&request, &mut answer);
            Ok(revisions.answer(&answer))
        }
        Step::Compact(request) => {
            let answer = client.compact(request).await?.into_inner();
            Ok(revisions.answer(&answer))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_script() {
        assert_eq!(generate::steps(1), generate::steps(1));
        assert_ne!(generate::steps(1), generate::steps(2));
        assert_eq!(generate::steps(1).len(), STEPS);
    }

    #[test]
    fn the_first_difference_is_found() {
        let transcript = |answers: &[&str]| Transcript {
            seed: 3,
            entries: answers
                .iter()
                .map(|answer| Entry {
                    request: "get".to_owned(),
                    answer: (*answer).to_owned(),
                })
                .collect(),
        };
        let left = transcript(&["1", "2", "3"]);
        assert_eq!(compare(&left, &left), None);
        let found = compare(&left, &transcript(&["1", "4", "5"])).expect("a difference");
        let text = "seed 3, step 1: get\n   left: 2\n  right: 4";
        assert_eq!(found.to_string(), text);
        let found = compare(&left, &transcript(&["1", "2"])).expect("a difference");
        assert_eq!((found.step, found.right.as_str()), (2, "(nothing)"));
    }
}
