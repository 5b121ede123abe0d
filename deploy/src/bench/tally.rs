//! What the clients of a thread have seen inside the measured window.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts and latencies of many clients.
#[derive(Debug)]
pub(super) struct Tally {
    /// Microseconds from sending a request to having its whole answer.
    pub(super) latency_us: Histogram<u64>,
    /// Requests answered with success.
    pub(super) requests: u64,
    /// Keys of these requests.
    pub(super) operations: u64,
    /// Requests that failed.
    pub(super) errors: u64,
    /// The first failure, warm-up included: usually it explains the others.
    pub(super) first_error: Option<String>,
}

impl Tally {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Tally {
            latency_us: Histogram::new(3).expect("three digits are in the allowed range"),
            requests: 0,
            operations: 0,
            errors: 0,
            first_error: None,
        }
    }

    /// Counts an answer of the measured window.
    pub(super) fn record_success(&mut self, operations: u64, latency: Duration) {
        self.requests += 1;
        self.operations += operations;
        self.latency_us += u64::try_from(latency.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
    }

    /// Keeps the failure if it's the first, and counts it if it is of the measured window.
    pub(super) fn record_failure(&mut self, message: &str, measured: bool) {
        self.errors += u64::from(measured);
        self.first_error.get_or_insert_with(|| message.to_owned());
    }

    /// Adds what another thread has seen.
    pub(super) fn merge(&mut self, other: Tally) {
        self.latency_us += &other.latency_us;
        self.requests += other.requests;
        self.operations += other.operations;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}
