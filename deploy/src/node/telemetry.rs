//! The metrics recorder, and the gauges of the node itself.

use std::sync::Arc;

use caucus_engine::Stats;
use caucus_router::http::MetricsText;
use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const DISK: &str = "caucus_engine_disk_bytes";
const WAL: &str = "caucus_engine_wal_bytes";
const MEMTABLES: &str = "caucus_engine_memtable_bytes";
const CACHE: &str = "caucus_engine_block_cache_bytes";
const PENDING: &str = "caucus_engine_pending_compaction_bytes";
const FREE: &str = "caucus_engine_free_bytes";
const SYNCS: &str = "caucus_engine_syncs";
const SYNC_REQUESTS: &str = "caucus_engine_sync_requests";

/// Seconds: from a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Counts of things that share something.
const COUNTS: [f64; 12] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
];

/// The recorder of this process.
pub(super) struct Telemetry(PrometheusHandle);

impl Telemetry {
    /// What `/metrics` answers.
    pub(super) fn text(&self) -> MetricsText {
        let handle = self.0.clone();
        Arc::new(move || {
            handle.run_upkeep();
            handle.render()
        })
    }
}

/// Installs the recorder; before anything resolves a handle.
pub(super) fn install() -> Result<Telemetry, String> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| format!("the metrics recorder: {error}"))?;
    caucus_raft::describe_metrics();
    caucus_shard::describe_metrics();
    caucus_placement::describe_metrics();
    caucus_router::metrics::describe();
    describe();
    Ok(Telemetry(handle))
}

fn describe() {
    describe_gauge!(DISK, Unit::Bytes, "Data files");
    describe_gauge!(WAL, Unit::Bytes, "Write-ahead log");
    describe_gauge!(MEMTABLES, Unit::Bytes, "Memory for recent writes");
    describe_gauge!(CACHE, Unit::Bytes, "Memory for cached blocks");
    describe_gauge!(PENDING, Unit::Bytes, "What compaction has still to rewrite");
    describe_gauge!(FREE, Unit::Bytes, "Free space of the file system");
    describe_gauge!(SYNCS, Unit::Count, "Syncs of the device since the start");
    describe_gauge!(SYNC_REQUESTS, Unit::Count, "Requests that shared them");
}

/// Sets the gauges of the engine.
pub(super) fn gauge(stats: &Stats) {
    for (name, value) in [
        (DISK, stats.disk_bytes),
        (WAL, stats.wal_bytes),
        (MEMTABLES, stats.memtable_bytes),
        (CACHE, stats.block_cache_bytes),
        (PENDING, stats.pending_compaction_bytes),
        (FREE, stats.free_bytes),
        (SYNCS, stats.syncs),
        (SYNC_REQUESTS, stats.sync_requests),
    ] {
        gauge!(name).set(value as f64);
    }
}
