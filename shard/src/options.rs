//! Settings of the data groups of a node.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Settings that all data groups of a node share.
#[derive(Debug, Clone)]
pub struct Options {
    /// Writes of one log entry.
    pub batch_writes_max: usize,
    /// Bytes of writes in one log entry; the first goes in any case.
    pub batch_bytes_max: usize,
    /// Writes that may wait for a group's sequencer.
    pub queue_writes_max: usize,
    /// Reads that may wait for a group's confirmation.
    pub queue_reads_max: usize,
    /// Long listings of a node that are read at the same time; others wait. More than there are cores
    /// only cost memory: each has a thread of its own, with all that it reads ahead.
    pub long_reads_max: usize,
    /// Log entries of a group under way at the same time.
    pub entries_under_way_max: usize,
    /// While an entry of the group is under way, the next one waits for so many writes...
    pub beside_writes_min: usize,
    /// ... or for so many bytes of them.
    pub beside_bytes_min: usize,
    /// An ask for revisions that isn't answered within this is void: see `Sequencer`. A group whose asks take
    /// longer gives them more: see `Patience`.
    pub ask_timeout: Duration,
    /// Requests that clients named (`Idempotency-Key`) are remembered for this long at least.
    pub idempotency_window: Duration,
    /// Names that a group remembers at most: beyond, new ones are refused until old ones are forgotten.
    pub idempotency_keys_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            batch_writes_max: 1024,
            batch_bytes_max: 1 << 20,
            queue_writes_max: 16_384,
            queue_reads_max: 16_384,
            long_reads_max: std::thread::available_parallelism().map_or(2, NonZeroUsize::get),
            entries_under_way_max: 2,
            beside_writes_min: 64,
            beside_bytes_min: 64 << 10,
            ask_timeout: Duration::from_millis(50),
            idempotency_window: Duration::from_secs(3600),
            idempotency_keys_max: 100_000,
        }
    }
}
