//! `caucus import etcd`: page after page at one revision of the source, put through etcd's API of the
//! cluster, so that keys and values stay the bytes that they are.
//!
//! ```text
//!   source ── Range at R, from where the state says ──▶ page ── Puts, N at a time ──▶ cluster
//!                              ▲                                    │ all done
//!                              └───────── state, in its file ◀──────┘
//! ```
//!
//! A put that is sent again sets the same value, so a copy that was cut off is taken up at the page that
//! wasn't finished.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
use caucus_etcd::mvccpb::KeyValue;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::state::State;
use crate::endpoints::Cluster;
use crate::fatal::Fatal;
use crate::output::Form;

/// Keys of a page. Larger ones are read in no less time, and what is done again after a cut grows.
const PAGE_KEYS: i64 = 500;
/// As large as etcd's own client takes.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Where nobody sees the bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Options of `caucus import etcd`.
///
/// Leases aren't copied: keys that have one are copied without it and counted, or left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Members of the etcd to copy from.
    #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
    from: Vec<String>,

    /// Only keys that begin so.
    #[arg(long, default_value = "")]
    prefix: String,

    /// File that says how far the copy has got; another start with it goes on there.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,

    /// Puts under way at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,

    /// Give up when a key could not be written for so long, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,

    /// Leave out keys that have a lease.
    #[arg(long)]
    skip_leased: bool,

    /// If the source compacts the revision of the copy, go on at a newer one; the copy is then of no
    /// single moment.
    #[arg(long)]
    follow_compaction: bool,

    /// Only count what there is to copy.
    #[arg(long)]
    dry_run: bool,

    /// No progress on standard error.
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the summary.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Copies; an error if a key could not be.
pub(super) async fn run(args: Args) -> Result<(), Fatal> {
    let source = Store::new(&args.from)?;
    let first = source.range(&count(&args.prefix, 0)).await;
    let first = first.map_err(|status| source.failure(&status))?;
    let header = first.header.unwrap_or_default();
    let new = State::new(header.cluster_id, args.prefix.as_bytes(), header.revision);
    let state = match &args.resume {
        Some(path) => State::resume(path, new)?,
        None => new,
    };
    if args.dry_run {
        return args.output.print(&json!({
            "keys": first.count,
            "revision": header.revision,
        }));
    }
    let target = Store::new(&args.cluster.endpoints)?;
    let total = match state.after {
        None => first.count,
        // What it said at its beginning, if that can still be read.
        Some(_) => {
            let counted = source.range(&count(&args.prefix, state.revision)).await;
            counted.map_or(first.count, |counted| counted.count)
        }
    };
    let mut copy = Copy {
        progress: Progress::new(u64::try_from(total).unwrap_or(0), args.quiet),
        args,
        source,
        target,
        state,
        failed: 0,
    };
    copy.progress.set(copy.state.copied);
    copy.all().await?;
    copy.end().await
}

fn count(prefix: &str, revision: i64) -> RangeRequest {
    RangeRequest {
        count_only: true,
        revision,
        ..range(prefix, prefix.as_bytes().to_vec())
    }
}

fn range(prefix: &str, from: Vec<u8>) -> RangeRequest {
    let end = match caucus_engine::keys::prefix_end(prefix.as_bytes()) {
        end if end.is_empty() => vec![0],
        end => end.to_vec(),
    };
    let from = match from.is_empty() {
        true => vec![0],
        false => from,
    };
    RangeRequest {
        key: from.into(),
        range_end: end.into(),
        ..RangeRequest::default()
    }
}

struct Copy {
    args: Args,
    source: Store,
    target: Store,
    state: State,
    failed: u64,
    progress: Progress,
}

impl Copy {
    async fn all(&mut self) -> Result<(), Fatal> {
        loop {
            let page = RangeRequest {
                limit: PAGE_KEYS,
                revision: self.state.revision,
                ..range(
                    &self.args.prefix,
                    self.state.next_key(self.args.prefix.as_bytes()),
                )
            };
            let page = match self.source.range(&page).await {
                Ok(page) => page,
                Err(status) if status.code() == Code::OutOfRange => {
                    self.follow().await?;
                    continue;
                }
                Err(status) => return Err(self.source.failure(&status)),
            };
            let more = page.more;
            self.page(page.kvs).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// The revision of the copy is gone from the source.
    async fn follow(&mut self) -> Result<(), Fatal> {
        let gone = self.state.revision;
        if !self.args.follow_compaction {
            return Err(Fatal::failed(format!(
                "the source has compacted revision {gone}, of which {} keys are copied: begin anew, or \
                 go on at a newer one with --follow-compaction",
                self.state.copied
            )));
        }
        let now = self.source.range(&count(&self.args.prefix, 0)).await;
        let now = now.map_err(|status| self.source.failure(&status))?;
        self.state.revision = now.header.unwrap_or_default().revision;
        let newer = self.state.revision;
        self.progress.say(&format!(
            "revision {gone} is compacted, going on at {newer}"
        ));
        Ok(())
    }

    async fn page(&mut self, keys: Vec<KeyValue>) -> Result<(), Fatal> {
        let Some(last) = keys.last().map(|pair| pair.key.clone()) else {
            return Ok(());
        };
        let leased = keys.iter().filter(|pair| pair.lease != 0).count() as u64;
        let skips = self.args.skip_leased;
        let wanted: Vec<KeyValue> = keys
            .into_iter()
            .filter(|pair| !skips || pair.lease == 0)
            .collect();
        let patience = Duration::from_secs(self.args.patience);
        let (target, parallel) = (&self.target, usize::from(self.args.parallel));
        let puts = futures::stream::iter(wanted).map(|pair| target.put(pair, patience));
        let done: Vec<Result<(), Refused>> = puts.buffer_unordered(parallel).collect().await;
        let mut copied = 0;
        for put in done {
            match put {
                Ok(()) => copied += 1,
                Err(Refused {
                    key,
                    status,
                    is_final: true,
                }) => {
                    self.failed += 1;
                    let said = status.message();
                    self.progress
                        .say(&format!("{}: {said}", key.escape_ascii()));
                }
                Err(refused) => return Err(self.target.failure(&refused.status)),
            }
        }
        self.state.advance(&last, copied, leased);
        if let Some(path) = &self.args.resume {
            self.state.save(path)?;
        }
        self.progress.set(self.state.copied);
        Ok(())
    }

    async fn end(self) -> Result<(), Fatal> {
        self.progress.end();
        let there = self.target.range(&count(&self.args.prefix, 0)).await;
        let there = there.map_err(|status| self.target.failure(&status))?.count;
        self.args.output.print(&json!({
            "copied": self.state.copied,
            "failed": self.failed,
            "with_lease": self.state.leased,
            "revision": self.state.revision,
            "keys_in_cluster": there,
        }))?;
        if self.state.leased > 0 && !self.args.quiet {
            let done = match self.args.skip_leased {
                true => "were left out",
                false => "were copied without it",
            };
            eprintln!("{} keys with a lease {done}", self.state.leased);
        }
        if self.failed > 0 {
            return Err(Fatal::failed(format!(
                "{} keys could not be copied",
                self.failed
            )));
        }
        if u64::try_from(there).unwrap_or(0) < self.state.copied {
            return Err(Fatal::failed(format!(
                "{} keys were copied, and {there} are there: somebody deletes them",
                self.state.copied
            )));
        }
        Ok(())
    }
}

/// A key that was not written.
struct Refused {
    key: Vec<u8>,
    status: Status,
    /// It never will be.
    is_final: bool,
}

/// One store, by all the addresses that are known of it.
struct Store {
    urls: Vec<String>,
    clients: Vec<KvClient<Channel>>,
    /// The one in use.
    at: AtomicUsize,
}

impl Store {
    fn new(urls: &[String]) -> Result<Store, Fatal> {
        let client = |url: &String| {
            let whole = match url.contains("://") {
                true => url.clone(),
                false => format!("http://{url}"),
            };
            let endpoint = Endpoint::from_shared(whole);
            let endpoint = endpoint.map_err(|error| Fatal::setup(format!("{url}: {error}")))?;
            let client = KvClient::new(endpoint.connect_lazy());
            Ok(client.max_decoding_message_size(ANSWER_BYTES_MAX))
        };
        Ok(Store {
            clients: urls.iter().map(client).collect::<Result<_, Fatal>>()?,
            urls: urls.to_vec(),
            at: AtomicUsize::new(0),
        })
    }

    /// Asks each address until one answers.
    async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        let mut last = Status::unavailable("there is no address");
        for _ in 0..self.clients.len() {
            let at = self.at.load(Ordering::Relaxed);
            let mut client = self.clients[at % self.clients.len()].clone();
            match client.range(request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if may_pass(&status) => last = status,
                Err(status) => return Err(status),
            }
            self.leave(at);
        }
        Err(last)
    }

    async fn put(&self, pair: KeyValue, patience: Duration) -> Result<(), Refused> {
        let (begun, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let at = self.at.load(Ordering::Relaxed);
            let mut client = self.clients[at % self.clients.len()].clone();
            let put = PutRequest {
                key: pair.key.clone(),
                value: pair.value.clone(),
                ..PutRequest::default()
            };
            let status = match client.put(put).await {
                Ok(_) => return Ok(()),
                Err(status) => status,
            };
            let passes = may_pass(&status);
            if !passes || begun.elapsed() >= patience {
                return Err(Refused {
                    key: pair.key.to_vec(),
                    status,
                    is_final: !passes,
                });
            }
            self.leave(at);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The next one is tried, unless somebody has gone on already.
    fn leave(&self, at: usize) {
        let _ = self
            .at
            .compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn failure(&self, status: &Status) -> Fatal {
        let urls = self.urls.join(", ");
        Fatal::failed(format!("{urls}: {:?}: {}", status.code(), status.message()))
    }
}

/// Whether the same request may succeed later, or elsewhere.
fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Unknown
    )
}

/// What is told on the way: a bar on a terminal, else a line now and then.
struct Progress {
    bar: ProgressBar,
    total: u64,
    quiet: bool,
    lines: bool,
    said: std::cell::Cell<Instant>,
}

impl Progress {
    fn new(total: u64, quiet: bool) -> Progress {
        let is_seen = std::io::stderr().is_terminal();
        let bar = match quiet || !is_seen {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(total),
        };
        let template = "{bar:40} {pos}/{len} keys {per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("a fixed template");
        Progress {
            bar: bar.with_style(style),
            total,
            quiet,
            lines: !quiet && !is_seen,
            said: std::cell::Cell::new(Instant::now()),
        }
    }

    fn set(&self, copied: u64) {
        self.bar.set_position(copied);
        if self.lines && self.said.get().elapsed() >= LINE_EVERY {
            self.said.set(Instant::now());
            eprintln!("{copied} of {} keys", self.total);
        }
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{what}"));
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
