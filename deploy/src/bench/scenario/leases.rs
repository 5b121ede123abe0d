//! Many leases that are kept alive; then many that end at once, while others write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::lease_client::LeaseClient;
use caucus_etcd::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, PutRequest, RangeRequest,
};
use futures::channel::mpsc;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Load, PREPARING, connect, end, settled, unprepared};
use crate::bench::args::Args;
use crate::bench::driver::Outcome;
use crate::bench::error::Error;
use crate::bench::tally::Tally;

/// Of those that are kept alive; each is, three times in it.
const TTL_S: u64 = 30;
/// How many end at once.
const ENDING: usize = 10_000;
/// Of those: long enough to grant all of them before the first ends.
const ENDING_TTL_S: u64 = 15;
/// How often it is looked how many are left: it is a load too.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Keepalives go out in portions so far apart.
const TICK: Duration = Duration::from_millis(20);

pub(super) async fn drive(args: &Args) -> Result<Outcome, Error> {
    let channels = connect(args).await?;
    let lost = Arc::new(AtomicU64::new(0));
    let before = super::resident(args)?;
    let mut keepers = JoinSet::new();
    let mut lines = Vec::new();
    for channel in &channels {
        let (leases, line) = mpsc::unbounded();
        keepers.spawn(keep_alive(channel.clone(), line, Arc::clone(&lost)));
        lines.push(leases);
    }
    grant_all(&channels, args.clients, TTL_S, |at, id| {
        // Its keeper goes on as long as it isn't told to end.
        _ = lines[at % lines.len()].unbounded_send(id);
    })
    .await?;
    let memory = (super::resident(args)? - before) / args.clients as f64;

    // Others write meanwhile: first beside the keepalives alone, then while many end.
    let load = Load::begin(args);
    let mut writers = JoinSet::new();
    for (number, channel) in (0..args.writers).zip(channels.iter().cycle()) {
        writers.spawn(write(channel.clone(), number, Arc::clone(&load)));
    }
    let used = load.measure(args).await?;
    while writers.join_next().await.is_some() {}
    let calm = load.take();
    let ending = end_at_once(args, &channels).await?;

    let listed = LeaseClient::new(channels[0].clone())
        .lease_leases(LeaseLeasesRequest {})
        .await
        .map_err(|status| unprepared(&status))?;
    let alive = listed.into_inner().leases.len();
    end(keepers).await;
    let lost = lost
        .load(Ordering::Relaxed)
        .max(args.clients.saturating_sub(alive) as u64);
    let during = ending.tally.latency_us.value_at_quantile(0.99);
    Ok(Outcome {
        figures: vec![
            ("rss_bytes_a_lease", memory),
            ("leases_lost", lost as f64),
            ("ended_late_s", ending.late_s),
            (
                "write_p99_us_before",
                calm.latency_us.value_at_quantile(0.99) as f64,
            ),
            ("write_p99_us_while_ending", during as f64),
        ],
        tally: calm,
        used,
    })
}

/// Grants leases; tells each one's number and id.
async fn grant_all(
    channels: &[Channel],
    count: usize,
    ttl_s: u64,
    mut told: impl FnMut(usize, i64),
) -> Result<(), Error> {
    let grants = (0..count)
        .zip(channels.iter().cycle())
        .map(|(at, channel)| {
            let mut client = LeaseClient::new(channel.clone());
            async move {
                let grant = LeaseGrantRequest {
                    ttl: ttl_s as i64,
                    ..LeaseGrantRequest::default()
                };
                let granted = client.lease_grant(grant).await?;
                Ok::<_, tonic::Status>((at, granted.into_inner().id))
            }
        });
    let mut grants = futures::stream::iter(grants).buffer_unordered(PREPARING);
    while let Some((at, id)) = grants
        .try_next()
        .await
        .map_err(|status| unprepared(&status))?
    {
        told(at, id);
    }
    Ok(())
}

/// Keeps the leases alive that it is told of, each every third of its time, over one stream.
async fn keep_alive(
    channel: Channel,
    mut told: mpsc::UnboundedReceiver<i64>,
    lost: Arc<AtomicU64>,
) {
    let (requests, outgoing) = mpsc::unbounded();
    let Ok(answers) = LeaseClient::new(channel).lease_keep_alive(outgoing).await else {
        lost.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut answers = answers.into_inner();
    let counting = async {
        while let Ok(Some(answer)) = answers.message().await {
            lost.fetch_add(u64::from(answer.ttl <= 0), Ordering::Relaxed);
        }
    };
    let sending = async {
        let (mut leases, mut at, mut due) = (Vec::new(), 0, 0.0);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            while let Ok(lease) = told.try_recv() {
                leases.push(lease);
            }
            due += leases.len() as f64 * TICK.as_secs_f64() * 3.0 / TTL_S as f64;
            while due >= 1.0 {
                due -= 1.0;
                at = (at + 1) % leases.len();
                let request = LeaseKeepAliveRequest { id: leases[at] };
                if requests.unbounded_send(request).is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = counting => {}
        () = sending => {}
    }
    // A stream that has ended keeps nothing alive.
    lost.fetch_add(1, Ordering::Relaxed);
}

/// Overwrites keys, one after the other.
async fn write(channel: Channel, number: usize, load: Arc<Load>) {
    let mut client = KvClient::new(channel);
    while !load.is_over() {
        let began = Instant::now();
        let put = PutRequest {
            key: format!("/bench/{number}/written").into(),
            value: vec![b'-'; 64].into(),
            ..PutRequest::default()
        };
        match client.put(put).await {
            Ok(_) => load.succeeded(began),
            Err(status) => load.failed(&status),
        }
    }
}

struct Ending {
    /// How long after the last one's time the last key was gone.
    late_s: f64,
    /// The writes meanwhile.
    tally: Tally,
}

/// Lets many leases with a key each end at about the same time.
async fn end_at_once(args: &Args, channels: &[Channel]) -> Result<Ending, Error> {
    let mut leases = Vec::new();
    grant_all(channels, ENDING, ENDING_TTL_S, |_, id| leases.push(id)).await?;
    let granted = Instant::now();
    let put = |(at, lease): (usize, &i64)| PutRequest {
        key: format!("/bench-ending/{}/{at}", at % 64).into(),
        value: "1".into(),
        lease: *lease,
        ..PutRequest::default()
    };
    super::put_all(channels, leases.iter().enumerate().map(put)).await?;
    // The last one that was granted ends then.
    let due = granted + Duration::from_secs(ENDING_TTL_S);
    tokio::time::sleep_until((due - Duration::from_secs(2)).into()).await;
    let load = Load::begin(&Args {
        warmup: Duration::ZERO,
        duration: super::AFTERMATH,
        ..args.clone()
    });
    let mut writers = JoinSet::new();
    for (number, channel) in (0..args.writers).zip(channels.iter().cycle()) {
        writers.spawn(write(channel.clone(), number, Arc::clone(&load)));
    }
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let mut looks = JoinSet::new();
    looks.spawn(count(channels[0].clone(), Arc::clone(&left)));
    settled(|| left.load(Ordering::Relaxed) == 0).await;
    let late_s = Instant::now().saturating_duration_since(due).as_secs_f64();
    load.over.store(true, Ordering::Relaxed);
    while writers.join_next().await.is_some() {}
    end(looks).await;
    Ok(Ending {
        late_s,
        tally: load.take(),
    })
}

/// How many of the keys are left, again and again.
async fn count(channel: Channel, left: Arc<AtomicU64>) {
    let mut client = KvClient::new(channel);
    loop {
        let all = RangeRequest {
            key: "/bench-ending/".into(),
            range_end: "/bench-ending0".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        if let Ok(found) = client.range(all).await {
            let count = u64::try_from(found.into_inner().count).unwrap_or(0);
            left.store(count, Ordering::Relaxed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
