//! Settings of the groups of a node.

/// Settings that all groups of a node share.
#[derive(Debug, Clone)]
pub struct Options {
    /// A leader's sign of life, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// The shortest time without a leader before a campaign, in milliseconds.
    pub election_timeout_ms_min: u64,
    /// The longest.
    pub election_timeout_ms_max: u64,
    /// Bytes of entries in one append to a follower; the first entry goes in any case.
    pub append_bytes_max: usize,
    /// Bytes of recent entries that a replica keeps in memory.
    pub tail_bytes_max: usize,
    /// A log longer than this is purged, in bytes.
    pub log_bytes_max: u64,
    /// What a purge leaves for followers that lag, in bytes.
    pub log_bytes_kept: u64,
    /// Bytes of keys and values in one chunk of a snapshot.
    pub snapshot_chunk_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            heartbeat_interval_ms: 250,
            election_timeout_ms_min: 600,
            election_timeout_ms_max: 700,
            append_bytes_max: 2 << 20,
            tail_bytes_max: 1 << 20,
            log_bytes_max: 64 << 20,
            log_bytes_kept: 32 << 20,
            snapshot_chunk_bytes: 256 << 10,
        }
    }
}
