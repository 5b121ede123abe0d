//! Many watchers, each of one key: of as many keys, or all of the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::watch_client::WatchClient;
use caucus_etcd::etcdserverpb::watch_request::RequestUnion;
use caucus_etcd::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use futures::channel::mpsc;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{Load, connect, end, put_all, resident, settled, unprepared};
use crate::bench::args::Args;
use crate::bench::driver::Outcome;
use crate::bench::error::Error;
use crate::bench::keyspace::Random;

/// Events that may be under way for each writer and watcher of a key: what isn't delivered holds the writers up.
const UNDER_WAY: u64 = 2;

/// Where the events are.
#[derive(Default)]
struct Events {
    expected: AtomicU64,
    seen: AtomicU64,
}

impl Events {
    fn under_way(&self) -> u64 {
        let seen = self.seen.load(Ordering::Relaxed);
        self.expected.load(Ordering::Relaxed).saturating_sub(seen)
    }
}

pub(super) async fn drive(args: &Args) -> Result<Outcome, Error> {
    let channels = connect(args).await?;
    let keys: Arc<Vec<String>> = Arc::new(
        (0..args.keys)
            .map(|n| format!("{}/{}/{n}", args.key_prefix, n % args.directories))
            .collect(),
    );
    let put = |key: &String| PutRequest {
        key: key.clone().into(),
        value: vec![b'-'; args.value_size].into(),
        ..PutRequest::default()
    };
    put_all(&channels, keys.iter().map(put)).await?;
    let before = resident(args)?;
    let mut streams = Vec::new();
    for (number, channel) in channels.iter().enumerate() {
        let watchers = (number..args.clients).step_by(channels.len());
        let watched = watchers.map(|watcher| &keys[watcher % keys.len()]);
        streams.push(open(channel, watched).await?);
    }
    let memory = (resident(args)? - before) / args.clients as f64;

    let base = Instant::now();
    let load = Load::begin(args);
    let events = Arc::new(Events::default());
    let mut readers = JoinSet::new();
    for (requests, stream) in streams {
        readers.spawn(read(
            stream,
            requests,
            base,
            Arc::clone(&load),
            Arc::clone(&events),
        ));
    }
    let mut writers = JoinSet::new();
    for (number, channel) in (0..args.writers).zip(channels.iter().cycle()) {
        let writer = Writer {
            client: KvClient::new(channel.clone()),
            random: Random::new(1 + number as u64),
            keys: Arc::clone(&keys),
            watchers_of_a_key: (args.clients / args.keys).max(1) as u64,
            base,
            load: Arc::clone(&load),
            events: Arc::clone(&events),
        };
        writers.spawn(writer.run(args.writers as u64, args.value_size));
    }
    let used = load.measure(args).await?;
    while writers.join_next().await.is_some() {}
    settled(|| events.under_way() == 0).await;
    let lost = events.under_way();
    end(readers).await;
    Ok(Outcome {
        tally: load.take(),
        used,
        figures: vec![
            ("rss_bytes_a_watcher", memory),
            ("events_lost", lost as f64),
        ],
    })
}

/// Opens watches on one stream, and waits until they are.
async fn open<'k>(
    channel: &Channel,
    keys: impl Iterator<Item = &'k String>,
) -> Result<
    (
        mpsc::UnboundedSender<WatchRequest>,
        Streaming<WatchResponse>,
    ),
    Error,
> {
    let (requests, outgoing) = mpsc::unbounded();
    let mut count = 0;
    for key in keys {
        let create = WatchCreateRequest {
            key: key.clone().into(),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The other end is held by the call.
        _ = requests.unbounded_send(request);
        count += 1;
    }
    let opened = WatchClient::new(channel.clone()).watch(outgoing).await;
    let mut stream = opened.map_err(|status| unprepared(&status))?.into_inner();
    while count > 0 {
        let message = stream.message().await;
        match message.map_err(|status| unprepared(&status))? {
            Some(message) if message.created && !message.canceled => count -= 1,
            Some(_) => {}
            None => {
                return Err(unprepared(&tonic::Status::cancelled(
                    "the stream has ended",
                )));
            }
        }
    }
    Ok((requests, stream))
}

/// Takes what a stream tells.
async fn read(
    mut stream: Streaming<WatchResponse>,
    _open: mpsc::UnboundedSender<WatchRequest>,
    base: Instant,
    load: Arc<Load>,
    events: Arc<Events>,
) {
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(status) => return load.failed(&status),
        };
        if message.canceled {
            load.failed(&tonic::Status::cancelled(message.cancel_reason.clone()));
        }
        for event in &message.events {
            let value = event
                .kv
                .as_ref()
                .map(|kv| &kv.value[..])
                .unwrap_or_default();
            let sent = std::str::from_utf8(value).ok().and_then(|value| {
                let digits = value.split('-').next()?;
                digits.parse::<u64>().ok()
            });
            if let Some(micros) = sent {
                events.seen.fetch_add(1, Ordering::Relaxed);
                load.succeeded(base + std::time::Duration::from_micros(micros));
            }
        }
    }
}

struct Writer {
    client: KvClient<Channel>,
    random: Random,
    keys: Arc<Vec<String>>,
    watchers_of_a_key: u64,
    base: Instant,
    load: Arc<Load>,
    events: Arc<Events>,
}

impl Writer {
    /// Writes when it is, until the load is over.
    async fn run(mut self, writers: u64, value_size: usize) {
        let most = UNDER_WAY * writers * self.watchers_of_a_key;
        while !self.load.is_over() {
            if self.events.under_way() > most {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                continue;
            }
            let key = self.random.below(self.keys.len());
            let mut value = self.base.elapsed().as_micros().to_string();
            // Never empty, and never shorter than its time.
            value.push_str(&"-".repeat(value_size.saturating_sub(value.len()).max(1)));
            let put = PutRequest {
                key: self.keys[key].clone().into(),
                value: value.into(),
                ..PutRequest::default()
            };
            self.events
                .expected
                .fetch_add(self.watchers_of_a_key, Ordering::Relaxed);
            if let Err(status) = self.client.put(put).await {
                self.events
                    .expected
                    .fetch_sub(self.watchers_of_a_key, Ordering::Relaxed);
                self.load.failed(&status);
            }
        }
    }
}
