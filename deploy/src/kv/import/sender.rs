//! One chunk, until each of its lines is written or can't be.

use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::super::lines::Line;
use crate::endpoints::{Ask, Endpoints, Error, Problem};

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What became of a chunk.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Its keys, for whoever waits for one of them.
    pub(super) keys: Vec<String>,
    /// Lines written.
    pub(super) written: u64,
    /// Requests that were sent again.
    pub(super) retries: u64,
    /// Line and reason.
    pub(super) failed: Vec<(u64, String)>,
    /// Why it makes no sense to go on.
    pub(super) gave_up: Option<String>,
}

/// Sends chunks.
#[derive(Debug)]
pub(super) struct Sender {
    endpoints: Endpoints,
    patience: Duration,
}

/// What one request did to its lines.
enum Attempt {
    /// One result a line, in order.
    Answered(Vec<Result<(), Problem>>),
    /// The request as a whole is refused for good.
    Refused(Problem),
    /// Nothing is known; it may work later or elsewhere.
    Later(String),
}

impl Sender {
    pub(super) fn new(endpoints: Endpoints, patience: Duration) -> Sender {
        Sender {
            endpoints,
            patience,
        }
    }

    /// Sends until nothing is left to send.
    pub(super) async fn send(&self, lines: Vec<Line>) -> Outcome {
        let keys = lines.iter().map(|line| line.key.clone()).collect();
        let mut outcome = Outcome {
            keys,
            ..Outcome::default()
        };
        let mut waiting = vec![lines];
        let mut progress = Instant::now();
        let mut pause = PAUSE_MIN;
        while let Some(lines) = waiting.pop() {
            let (left, reason) = match self.attempt(&lines).await {
                Attempt::Answered(results) => {
                    let before = outcome.written;
                    let kept = settle(lines, results, &mut outcome);
                    if outcome.written > before {
                        (progress, pause) = (Instant::now(), PAUSE_MIN);
                    }
                    kept
                }
                Attempt::Refused(problem) if lines.len() == 1 => {
                    outcome.failed.push((lines[0].number, problem.to_string()));
                    continue;
                }
                // One line spoils the request: find it by halves.
                Attempt::Refused(_) => {
                    let mut first = lines;
                    let second = first.split_off(first.len() / 2);
                    waiting.extend([second, first]);
                    continue;
                }
                Attempt::Later(reason) => (lines, reason),
            };
            if left.is_empty() {
                continue;
            }
            if progress.elapsed() >= self.patience {
                waiting.push(left);
                let lines = waiting.iter().flatten();
                outcome
                    .failed
                    .extend(lines.map(|line| (line.number, reason.clone())));
                outcome.gave_up = Some(reason);
                return outcome;
            }
            outcome.retries += 1;
            waiting.push(left);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        outcome
    }

    async fn attempt(&self, lines: &[Line]) -> Attempt {
        let operations: Vec<&str> = lines.iter().map(|line| line.operation.as_str()).collect();
        let body = format!("{{\"operations\":[{}]}}", operations.join(","));
        let ask = Ask::new(Method::POST, "/v1/batch".to_owned())
            .header(CONTENT_TYPE, "application/json")
            .expect("a fixed header")
            .body(body);
        let endpoint = self.endpoints.in_use();
        match self.endpoints.attempt(endpoint, &ask).await {
            Ok(body) => match results(&body, lines.len()) {
                Some(results) => Attempt::Answered(results),
                None => Attempt::Later("the answer isn't one to a batch".to_owned()),
            },
            Err(Error::Refused(problem)) if !problem.retryable => Attempt::Refused(problem),
            Err(error) => {
                self.endpoints.leave(endpoint);
                Attempt::Later(error.to_string())
            }
        }
    }
}

/// Counts what is decided; returns the lines that can be sent again, with the last reason.
fn settle(
    lines: Vec<Line>,
    results: Vec<Result<(), Problem>>,
    outcome: &mut Outcome,
) -> (Vec<Line>, String) {
    let mut left = Vec::new();
    let mut reason = String::new();
    for (line, result) in lines.into_iter().zip(results) {
        match result {
            Ok(()) => outcome.written += 1,
            Err(problem) if problem.retryable => {
                reason = problem.to_string();
                left.push(line);
            }
            Err(problem) => outcome.failed.push((line.number, problem.to_string())),
        }
    }
    (left, reason)
}

/// The results of a batch; none if there isn't one for each operation.
fn results(body: &[u8], count: usize) -> Option<Vec<Result<(), Problem>>> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    let Value::Array(results) = answer.get_mut("results")?.take() else {
        return None;
    };
    let read = |mut result: Value| match result.get_mut("error") {
        Some(error) => Err(serde_json::from_value(error.take()).unwrap_or_default()),
        None => Ok(()),
    };
    (results.len() == count).then(|| results.into_iter().map(read).collect())
}
