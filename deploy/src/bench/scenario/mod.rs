//! Workloads that are more than a request each: many watchers, many that wait for one lock, many leases. All over
//! etcd's gRPC, so that the same program loads etcd and Caucus.
//!
//! What a user of such numbers is after, beside throughput and latency, are *figures*: memory of one watcher, what
//! was lost, how late leases end. They stand in the report under their names.

mod leases;
mod waiters;
mod watchers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use caucus_etcd::etcdserverpb::PutRequest;
use caucus_etcd::etcdserverpb::kv_client::KvClient;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::args::{Args, Workload};
use super::driver::Outcome;
use super::error::Error;
use super::process::Reading;
use super::tally::Tally;

/// Requests under way while a load is prepared.
const PREPARING: usize = 64;
/// How long after the load what was caused by it may take.
const AFTERMATH: Duration = Duration::from_secs(60);

/// Runs one of them.
pub(super) async fn drive(args: &Args) -> Result<Outcome, Error> {
    match args.workload {
        Workload::Waiters => waiters::drive(args).await,
        Workload::Leases => leases::drive(args).await,
        _ => watchers::drive(args).await,
    }
}

/// The connections, spread over the servers.
async fn connect(args: &Args) -> Result<Vec<Channel>, Error> {
    let mut channels = Vec::new();
    for (_, endpoint) in (0..args.connections()).zip(args.endpoints.iter().cycle()) {
        let failed = |cause: tonic::transport::Error| Error::Prepare {
            endpoint: endpoint.clone(),
            cause: cause.to_string(),
        };
        let address = match endpoint.contains("://") {
            true => endpoint.clone(),
            false => format!("http://{endpoint}"),
        };
        let target = Endpoint::from_shared(address).map_err(failed)?;
        channels.push(target.connect().await.map_err(failed)?);
    }
    Ok(channels)
}

/// What was asked for while the load was prepared was refused.
fn unprepared(status: &tonic::Status) -> Error {
    Error::Prepare {
        endpoint: "a server".to_owned(),
        cause: status.to_string(),
    }
}

/// Writes keys, many at a time.
async fn put_all(
    channels: &[Channel],
    puts: impl Iterator<Item = PutRequest>,
) -> Result<(), Error> {
    let puts = puts.zip(channels.iter().cycle()).map(|(put, channel)| {
        let mut client = KvClient::new(channel.clone());
        async move { client.put(put).await.map(|_| ()) }
    });
    let puts = futures::stream::iter(puts).buffer_unordered(PREPARING);
    let done: Result<Vec<()>, tonic::Status> = puts.try_collect().await;
    done.map(|_| ()).map_err(|status| unprepared(&status))
}

/// When it is measured, what was seen, and whether it goes on: shared by the tasks of a load.
struct Load {
    from: Instant,
    until: Instant,
    over: AtomicBool,
    tally: Mutex<Tally>,
}

impl Load {
    /// Begins with the warm-up.
    fn begin(args: &Args) -> Arc<Load> {
        let from = Instant::now() + args.warmup;
        Arc::new(Load {
            from,
            until: from + args.duration,
            over: AtomicBool::new(false),
            tally: Mutex::new(Tally::new()),
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no panic under this lock")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Counts what ends now, if that is measured.
    fn succeeded(&self, began: Instant) {
        let now = Instant::now();
        if (self.from..self.until).contains(&now) {
            self.tally().record_success(1, now - began);
        }
    }

    fn failed(&self, status: &tonic::Status) {
        let measured = (self.from..self.until).contains(&Instant::now());
        self.tally().record_failure(&status.to_string(), measured);
    }

    /// Waits for the end of the measured window; what was used in it.
    async fn measure(&self, args: &Args) -> Result<Reading, Error> {
        tokio::time::sleep_until(self.from.into()).await;
        let before = Reading::take(&args.pids)?;
        tokio::time::sleep_until(self.until.into()).await;
        let used = Reading::take(&args.pids)?.since(&before);
        self.over.store(true, Ordering::Relaxed);
        Ok(used)
    }

    /// What was seen, once nobody adds to it.
    fn take(&self) -> Tally {
        std::mem::replace(&mut self.tally(), Tally::new())
    }
}

/// Waits until it is true; whether it became so in the time of the aftermath.
async fn settled(mut is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + AFTERMATH;
    while !is_true() {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Resident memory of all servers together, in bytes.
fn resident(args: &Args) -> Result<f64, Error> {
    let reading = Reading::take(&args.pids)?;
    let servers = reading.servers.iter();
    Ok(servers.map(|server| server.rss_bytes as f64).sum())
}

/// Ends the tasks of a load.
async fn end(mut tasks: JoinSet<()>) {
    tasks.shutdown().await;
}
