//! The metrics of this crate. Handles are resolved once.

use std::time::Duration;

use metrics::{Counter, Histogram, Unit};

const SYNC_SECONDS: &str = "caucus_raft_log_sync_seconds";
const BATCH_OPS: &str = "caucus_raft_log_batch_operations";
const BATCH_BYTES: &str = "caucus_raft_log_written_bytes";
const APPLY_ENTRIES: &str = "caucus_raft_applied_entries_total";
const APPLY_ROUND_ENTRIES: &str = "caucus_raft_apply_round_entries";
const APPLY_BYTES: &str = "caucus_raft_applied_bytes_total";
const PROPOSALS: &str = "caucus_raft_proposals_total";
const CONFIRM_ROUNDS: &str = "caucus_raft_confirm_rounds_total";
const CONFIRM_SECONDS: &str = "caucus_raft_confirm_seconds";
const LEADER_CHANGES: &str = "caucus_raft_leader_changes_total";
const SNAPSHOTS: &str = "caucus_raft_snapshots_total";
pub(crate) const GROUP_LAG: &str = "caucus_raft_apply_lag_entries";
pub(crate) const COMMIT_LAG: &str = "caucus_raft_commit_lag_entries";
pub(crate) const LED: &str = "caucus_raft_led_groups";
pub(crate) const REPLICAS: &str = "caucus_raft_replicas";
pub(crate) const STOPPED: &str = "caucus_raft_stopped_replicas";

/// Gives each metric its unit and meaning.
pub fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(
        SYNC_SECONDS,
        Unit::Seconds,
        "Write and fsync of one log batch"
    );
    describe_histogram!(
        BATCH_OPS,
        Unit::Count,
        "Appends and votes that shared one log batch"
    );
    describe_counter!(BATCH_BYTES, Unit::Bytes, "Bytes written to Raft logs");
    describe_counter!(APPLY_ENTRIES, Unit::Count, "Log entries applied");
    describe_histogram!(
        APPLY_ROUND_ENTRIES,
        Unit::Count,
        "Entries applied as one batch"
    );
    describe_counter!(
        APPLY_BYTES,
        Unit::Bytes,
        "Bytes that applies wrote to states"
    );
    describe_counter!(PROPOSALS, Unit::Count, "Proposals by result");
    describe_counter!(
        CONFIRM_ROUNDS,
        Unit::Count,
        "Leadership confirmations, one for all that waited"
    );
    describe_histogram!(
        CONFIRM_SECONDS,
        Unit::Seconds,
        "Time of one leadership confirmation"
    );
    describe_counter!(
        LEADER_CHANGES,
        Unit::Count,
        "Leaders that replicas here have seen come"
    );
    describe_counter!(SNAPSHOTS, Unit::Count, "Snapshots by direction and result");
    describe_gauge!(
        GROUP_LAG,
        Unit::Count,
        "Entries committed and not yet applied, largest of all replicas here"
    );
    describe_gauge!(
        COMMIT_LAG,
        Unit::Count,
        "Entries appended and not yet committed, largest of all replicas here"
    );
    describe_gauge!(LED, Unit::Count, "Groups led by this node");
    describe_gauge!(REPLICAS, Unit::Count, "Replicas on this node");
    describe_gauge!(
        STOPPED,
        Unit::Count,
        "Replicas on this node that stopped for a fault"
    );
}

pub(crate) struct LogWriter {
    sync_seconds: Histogram,
    ops: Histogram,
    bytes: Counter,
}

impl LogWriter {
    pub(crate) fn new() -> LogWriter {
        LogWriter {
            sync_seconds: metrics::histogram!(SYNC_SECONDS),
            ops: metrics::histogram!(BATCH_OPS),
            bytes: metrics::counter!(BATCH_BYTES),
        }
    }

    pub(crate) fn batch(&self, ops: usize, bytes: usize) {
        self.ops.record(ops as f64);
        self.bytes.increment(bytes as u64);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.sync_seconds.record(took.as_secs_f64());
    }
}

pub(crate) struct Apply {
    entries: Counter,
    round: Histogram,
    bytes: Counter,
}

impl Apply {
    pub(crate) fn new() -> Apply {
        Apply {
            entries: metrics::counter!(APPLY_ENTRIES),
            round: metrics::histogram!(APPLY_ROUND_ENTRIES),
            bytes: metrics::counter!(APPLY_BYTES),
        }
    }

    pub(crate) fn round(&self, entries: usize, bytes: usize) {
        self.entries.increment(entries as u64);
        self.round.record(entries as f64);
        self.bytes.increment(bytes as u64);
    }
}

pub(crate) struct Group {
    pub(crate) proposed: Counter,
    pub(crate) refused: Counter,
    pub(crate) unknown: Counter,
    pub(crate) confirms: Counter,
    pub(crate) confirm_seconds: Histogram,
    pub(crate) leader_changes: Counter,
}

impl Group {
    pub(crate) fn new() -> Group {
        Group {
            proposed: metrics::counter!(PROPOSALS, "result" => "applied"),
            refused: metrics::counter!(PROPOSALS, "result" => "refused"),
            unknown: metrics::counter!(PROPOSALS, "result" => "unknown"),
            confirms: metrics::counter!(CONFIRM_ROUNDS),
            confirm_seconds: metrics::histogram!(CONFIRM_SECONDS),
            leader_changes: metrics::counter!(LEADER_CHANGES),
        }
    }
}

pub(crate) fn snapshot(direction: &'static str, result: &'static str) {
    metrics::counter!(SNAPSHOTS, "direction" => direction, "result" => result).increment(1);
}
