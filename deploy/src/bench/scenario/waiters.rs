//! Many that wait for one lock: each takes it in its turn, gives it back at once and waits again.

use std::sync::Arc;
use std::time::Instant;

use caucus_etcd::etcdserverpb::LeaseGrantRequest;
use caucus_etcd::etcdserverpb::lease_client::LeaseClient;
use caucus_etcd::v3lockpb::lock_client::LockClient;
use caucus_etcd::v3lockpb::{LockRequest, UnlockRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Load, connect, end, unprepared};
use crate::bench::args::Args;
use crate::bench::driver::Outcome;
use crate::bench::error::Error;

/// Longer than any run.
const LEASE_TTL_S: i64 = 3600;

/// An operation is a turn; its latency is how long a client has waited for it.
pub(super) async fn drive(args: &Args) -> Result<Outcome, Error> {
    let channels = connect(args).await?;
    let mut leases = Vec::new();
    for (_, channel) in (0..args.clients).zip(channels.iter().cycle()) {
        let grant = LeaseGrantRequest {
            ttl: LEASE_TTL_S,
            ..LeaseGrantRequest::default()
        };
        let granted = LeaseClient::new(channel.clone()).lease_grant(grant).await;
        let granted = granted.map_err(|status| unprepared(&status))?;
        leases.push((granted.into_inner().id, channel.clone()));
    }
    let load = Load::begin(args);
    let mut waiters = JoinSet::new();
    for (lease, channel) in leases {
        waiters.spawn(wait(channel, lease, Arc::clone(&load)));
    }
    let used = load.measure(args).await?;
    end(waiters).await;
    Ok(Outcome {
        tally: load.take(),
        used,
        figures: Vec::new(),
    })
}

async fn wait(channel: Channel, lease: i64, load: Arc<Load>) {
    let mut client = LockClient::new(channel);
    while !load.is_over() {
        let began = Instant::now();
        let lock = LockRequest {
            name: "/bench/waiters".into(),
            lease,
        };
        let key = match client.lock(lock).await {
            Ok(locked) => locked.into_inner().key,
            Err(status) => {
                load.failed(&status);
                continue;
            }
        };
        load.succeeded(began);
        if let Err(status) = client.unlock(UnlockRequest { key }).await {
            load.failed(&status);
        }
    }
}
