//! etcd's v3 API on the client port: gRPC and its JSON gateway, over the same router as `/v1`.
//!
//! ```text
//!  gRPC ─▶ tonic ───┐                   ┌─ one key ──────▶ Router::get_at, Router::write
//!                   ├─▶ Etcd (services) ─┼─ a range ──────▶ Router::list, at one revision
//!                   │                   ├─ watches ──────▶ Router::watches
//!  /v3/ ─▶ gateway ─┘                   └─ a transaction ▶ Router::txn
//! ```
//!
//! Every read that isn't `serializable` asks the oracle first which revision was granted last, and is
//! made at or above that; so the revision in headers never goes back, whichever node is asked. What
//! differs from etcd: revisions have gaps, `member_id` is the answering node's, `raft_term` and `leader`
//! are the placement group's, `HashKV` is the same from every node, keys have at most 4 KiB.

mod cluster;
mod election;
mod kv;
mod lease;
mod lock;
mod maintenance;
pub(crate) mod mount;
mod range;
mod reply;
mod tree;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use caucus_etcd::etcdserverpb::ResponseHeader;
use caucus_ring::{NodeId, Revision};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;

pub(crate) use mount::Mount;

use crate::metrics::EtcdMetrics;
use crate::{Error, Router};

/// What the node says of itself.
pub trait NodeFacts: Send + Sync + 'static {
    /// Its id.
    fn node(&self) -> NodeId;
    /// Its database.
    fn database(&self) -> Database;
    /// Rewrites the database's files so that what was deleted takes no space; `Err` says why not.
    fn defragment(&self) -> BoxFuture<'static, Result<(), String>>;
}

/// A node's database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Database {
    /// Bytes on disk, its log included.
    pub bytes: u64,
    /// Of these, bytes of data files.
    pub data_bytes: u64,
    /// Whether writes are refused for want of space.
    pub is_full: bool,
}

/// Settings of the API.
#[derive(Debug, Clone, Copy)]
pub struct EtcdOptions {
    /// Operations of a branch of a transaction, or its compares; etcd's `--max-txn-ops`.
    pub txn_operations_max: usize,
    /// A watch whose client asked for that hears how far it has got when nothing has happened for so long;
    /// etcd's `--experimental-watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        EtcdOptions {
            txn_operations_max: caucus_etcd::check::MAX_TXN_OPS,
            watch_progress_interval: Duration::from_secs(600),
        }
    }
}

/// All services.
#[derive(Clone)]
pub(crate) struct Etcd {
    router: Router,
    node: Arc<dyn NodeFacts>,
    options: EtcdOptions,
    metrics: Arc<EtcdMetrics>,
    /// Ends streams.
    shutdown: CancellationToken,
}

impl Etcd {
    fn header(&self, revision: Revision) -> ResponseHeader {
        let map = self.router.map();
        let cluster = map.map_or(0, |map| map.cluster_id().short());
        ResponseHeader {
            cluster_id: cluster,
            member_id: u64::from(self.node.node().0),
            revision: revision.0 as i64,
            raft_term: self.router.placement_facts().term,
        }
    }

    /// The revision below which nothing read is: the last that was granted, unless what this router has
    /// seen is enough.
    async fn current(&self, serializable: bool, deadline: Instant) -> Result<Revision, Error> {
        let highest = self.router.highest();
        if serializable && highest > Revision(0) {
            return Ok(highest);
        }
        self.router.granted(deadline).await
    }

    fn deadline(&self, metadata: &MetadataMap) -> Instant {
        let options = self.router.options();
        let asked = metadata.get("grpc-timeout");
        let asked = asked.and_then(|value| grpc_timeout(value.to_str().ok()?));
        let timeout = asked.unwrap_or(options.timeout).min(options.timeout_max);
        Instant::now() + timeout
    }
}

/// A timeout as gRPC writes it: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// What isn't built, in words that say so.
fn unimplemented(what: &str) -> Status {
    Status::unimplemented(format!("caucus: {what} is not supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_grpc() {
        assert_eq!(grpc_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            grpc_timeout("99999999H").map(|d| d.as_secs()),
            Some(359_999_996_400)
        );
        for wrong in ["", "S", "5", "123456789S", "-1S", "5s", "1é"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong:?}");
        }
    }
}
