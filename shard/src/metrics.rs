//! The metrics of this crate. Handles are resolved once.

use metrics::{Counter, Gauge, Histogram, Unit};

const BATCH_WRITES: &str = "caucus_shard_batch_writes";
const WRITES: &str = "caucus_shard_writes_total";
const READS: &str = "caucus_shard_reads_total";
const READ_ROUND: &str = "caucus_shard_read_round_requests";
const READ_WAITS: &str = "caucus_shard_read_waits_total";
const READ_LOCKED: &str = "caucus_shard_locked_reads_total";
const WRITE_LOCKED: &str = "caucus_shard_locked_writes_total";
const TXNS: &str = "caucus_shard_transactions_total";
const TXN_SECONDS: &str = "caucus_shard_transaction_seconds";
const COMPACTED: &str = "caucus_shard_compacted_records_total";
const RECOVERED: &str = "caucus_shard_recovered_transactions_total";
const WATCH_PAST: &str = "caucus_shard_watch_past_reads_total";
const WATCH_MARKS: &str = "caucus_shard_watch_marks_total";
const LEASES: &str = "caucus_shard_leases";
const LEASES_ENDED: &str = "caucus_shard_ended_leases_total";
const KEEPALIVES: &str = "caucus_shard_keepalives_total";
const ASK_SECONDS: &str = "caucus_shard_ask_seconds";
const ASKS_VOID: &str = "caucus_shard_void_asks_total";
const ASKS_FAILED: &str = "caucus_shard_failed_asks_total";
const WRITE_QUEUE: &str = "caucus_shard_write_queue_requests";
const READ_QUEUE: &str = "caucus_shard_read_queue_requests";
const ENTRY_SECONDS: &str = "caucus_shard_entry_seconds";

/// Gives each metric its unit and meaning.
pub fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_watches();
    describe_leases();
    describe_histogram!(BATCH_WRITES, Unit::Count, "Writes of one log entry");
    describe_counter!(WRITES, Unit::Count, "Writes by result");
    describe_counter!(READS, Unit::Count, "Reads by result");
    describe_histogram!(
        READ_ROUND,
        Unit::Count,
        "Reads that shared one leadership confirmation"
    );
    describe_counter!(
        READ_WAITS,
        Unit::Count,
        "Reads that waited for a write of their key"
    );
    describe_counter!(
        READ_LOCKED,
        Unit::Count,
        "Reads that waited for a transaction over several groups"
    );
    describe_counter!(
        WRITE_LOCKED,
        Unit::Count,
        "Writes that waited for a transaction over several groups"
    );
    describe_counter!(
        TXNS,
        Unit::Count,
        "Attempts of transactions over several groups by result, at the coordinator"
    );
    describe_histogram!(
        TXN_SECONDS,
        Unit::Seconds,
        "Time of a committed transaction over several groups"
    );
    describe_counter!(
        RECOVERED,
        Unit::Count,
        "Transactions over several groups that were ended for a lost driver"
    );
    describe_counter!(COMPACTED, Unit::Count, "Past records removed by compaction");
    describe_histogram!(ASK_SECONDS, Unit::Seconds, "Time for a block of revisions");
    describe_counter!(
        ASKS_VOID,
        Unit::Count,
        "Asks for revisions given up as too slow"
    );
    describe_counter!(
        ASKS_FAILED,
        Unit::Count,
        "Asks for revisions without an answer"
    );
    describe_gauge!(
        WRITE_QUEUE,
        Unit::Count,
        "Writes waiting in the fullest sequencer queue"
    );
    describe_gauge!(
        READ_QUEUE,
        Unit::Count,
        "Reads waiting in the fullest read queue"
    );
    describe_histogram!(
        ENTRY_SECONDS,
        Unit::Seconds,
        "Time from proposing an entry to its answer"
    );
}

fn describe_watches() {
    metrics::describe_counter!(
        WATCH_PAST,
        Unit::Count,
        "Times that watchers needed what memory had no more of"
    );
    metrics::describe_counter!(
        WATCH_MARKS,
        Unit::Count,
        "Rounds to show watchers that nothing older follows"
    );
}

fn describe_leases() {
    metrics::describe_gauge!(
        LEASES,
        Unit::Count,
        "Leases that are at home in groups led here"
    );
    metrics::describe_counter!(
        LEASES_ENDED,
        Unit::Count,
        "Leases that have ended or begun to, by reason"
    );
    metrics::describe_counter!(KEEPALIVES, Unit::Count, "Keepalives that found their lease");
}

pub(crate) struct Meters {
    pub(crate) batch_writes: Histogram,
    pub(crate) written: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) read: Counter,
    pub(crate) unread: Counter,
    pub(crate) read_round: Histogram,
    pub(crate) read_waits: Counter,
    pub(crate) read_locked: Counter,
    pub(crate) write_locked: Counter,
    pub(crate) committed: Counter,
    pub(crate) aborted: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) recovered: Counter,
    pub(crate) compacted: Counter,
    pub(crate) watch_past: Counter,
    pub(crate) watch_marks: Counter,
    pub(crate) leases_expired: Counter,
    pub(crate) leases_revoked: Counter,
    pub(crate) keepalives: Counter,
    pub(crate) txn_seconds: Histogram,
    pub(crate) ask_seconds: Histogram,
    pub(crate) asks_void: Counter,
    pub(crate) entry_seconds: Histogram,
}

impl Meters {
    pub(crate) fn new() -> Meters {
        Meters {
            batch_writes: metrics::histogram!(BATCH_WRITES),
            written: metrics::counter!(WRITES, "result" => "done"),
            refused: metrics::counter!(WRITES, "result" => "refused"),
            failed: metrics::counter!(WRITES, "result" => "failed"),
            read: metrics::counter!(READS, "result" => "done"),
            unread: metrics::counter!(READS, "result" => "failed"),
            read_round: metrics::histogram!(READ_ROUND),
            read_waits: metrics::counter!(READ_WAITS),
            read_locked: metrics::counter!(READ_LOCKED),
            write_locked: metrics::counter!(WRITE_LOCKED),
            committed: metrics::counter!(TXNS, "result" => "committed"),
            aborted: metrics::counter!(TXNS, "result" => "aborted"),
            conflicts: metrics::counter!(TXNS, "result" => "conflict"),
            recovered: metrics::counter!(RECOVERED),
            compacted: metrics::counter!(COMPACTED),
            watch_past: metrics::counter!(WATCH_PAST),
            watch_marks: metrics::counter!(WATCH_MARKS),
            leases_expired: metrics::counter!(LEASES_ENDED, "reason" => "expired"),
            leases_revoked: metrics::counter!(LEASES_ENDED, "reason" => "revoked"),
            keepalives: metrics::counter!(KEEPALIVES),
            txn_seconds: metrics::histogram!(TXN_SECONDS),
            ask_seconds: metrics::histogram!(ASK_SECONDS),
            asks_void: metrics::counter!(ASKS_VOID),
            entry_seconds: metrics::histogram!(ENTRY_SECONDS),
        }
    }
}

/// Of all groups that are led here.
pub(crate) fn leases() -> Gauge {
    metrics::gauge!(LEASES)
}

pub(crate) fn ask_failed() {
    metrics::counter!(ASKS_FAILED).increment(1);
}

pub(crate) fn queues() -> (Gauge, Gauge) {
    (metrics::gauge!(WRITE_QUEUE), metrics::gauge!(READ_QUEUE))
}
