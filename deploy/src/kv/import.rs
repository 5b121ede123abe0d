//! Many lines to many batches.
//!
//! ```text
//!   lines ── parse ──▶ chunk ── full, or key repeated ──▶ at most N chunks under way ──▶ tally
//!                                                          each: batch, retry what can be
//! ```
//!
//! Invariant: of two lines with one key the later one wins. So no chunk holds a key twice, and a chunk
//! waits while its key is under way.
//!
//! A put whose outcome is unknown is sent again: it sets the same value.

mod sender;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::task::JoinSet;

use super::lines::{self, Line, Shape};
use crate::endpoints::Cluster;
use crate::fatal::Fatal;
use sender::{Outcome, Sender};

/// Operations of one chunk carry at most this, far below what one request may.
const CHUNK_BYTES: usize = 512 << 10;

/// Options of `caucus kv import`.
///
/// Every line is a JSON object `{"key": "...", "value": ...}`. A string is kept as `text/plain`, any other
/// value as `application/json`, unless the line has a `content_type`; `value64` holds bytes in base64.
/// That is what `caucus kv export` writes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File of lines; `-` is standard input.
    file: PathBuf,

    /// Take each line as a value, and this field of it as the key.
    #[arg(long, value_name = "FIELD")]
    key_field: Option<String>,

    /// Put this in front of every key.
    #[arg(long, default_value = "")]
    prefix: String,

    /// Keys of one request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,

    /// Requests under way at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,

    /// Give up when nothing could be written for so long, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,

    #[command(flatten)]
    cluster: Cluster,
}

/// Writes all lines; an error if one of them failed.
pub(super) async fn run(args: Args) -> Result<(), Fatal> {
    let patience = Duration::from_secs(args.patience);
    let sender = Arc::new(Sender::new(args.cluster.connect()?, patience));
    let shape = Shape {
        key_field: args.key_field.clone(),
        prefix: args.prefix.clone(),
    };
    let limits = Limits {
        keys: args.batch.into(),
        parallel: args.parallel.into(),
    };
    let begun = Instant::now();
    let import = if args.file.as_os_str() == "-" {
        let import = Import::new(sender, shape, limits, bar(None));
        import.read(tokio::io::stdin()).await?
    } else {
        let cannot = |error| Fatal::setup(format!("{}: {error}", args.file.display()));
        let file = File::open(&args.file).await.map_err(cannot)?;
        let length = file.metadata().await.map_err(cannot)?.len();
        let import = Import::new(sender, shape, limits, bar(Some(length)));
        import.read(file).await?
    };
    import.report(begun.elapsed())
}

/// Shown only if standard error is a terminal.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:40} {bytes}/{total_bytes} {msg} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("a fixed template");
    bar.with_style(style)
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    keys: usize,
    parallel: usize,
}

/// An import under way.
struct Import {
    sender: Arc<Sender>,
    shape: Shape,
    limits: Limits,
    bar: ProgressBar,
    chunk: Vec<Line>,
    chunk_keys: HashSet<String>,
    chunk_bytes: usize,
    under_way: HashSet<String>,
    tasks: JoinSet<Outcome>,
    written: u64,
    failed: u64,
    retries: u64,
    gave_up: Option<String>,
}

impl Import {
    fn new(sender: Arc<Sender>, shape: Shape, limits: Limits, bar: ProgressBar) -> Import {
        Import {
            sender,
            shape,
            limits,
            bar,
            chunk: Vec::new(),
            chunk_keys: HashSet::new(),
            chunk_bytes: 0,
            under_way: HashSet::new(),
            tasks: JoinSet::new(),
            written: 0,
            failed: 0,
            retries: 0,
            gave_up: None,
        }
    }

    async fn read(mut self, source: impl AsyncRead + Unpin) -> Result<Import, Fatal> {
        let mut source = BufReader::new(source);
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            let read = source.read_until(b'\n', &mut text).await;
            let read = read.map_err(|error| Fatal::failed(format!("line {number}: {error}")))?;
            if read == 0 || self.gave_up.is_some() {
                break;
            }
            self.bar.inc(read as u64);
            self.take(number, &text).await;
        }
        self.dispatch().await;
        while self.absorb().await {}
        self.bar.finish_and_clear();
        Ok(self)
    }

    async fn take(&mut self, number: u64, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if text.trim().is_empty() {
            return;
        }
        let line = match lines::parse(number, text.trim(), &self.shape) {
            Ok(line) => line,
            Err(reason) => return self.fail(number, &reason),
        };
        let full = self.chunk.len() >= self.limits.keys
            || self.chunk_bytes + line.operation.len() > CHUNK_BYTES
            || self.chunk_keys.contains(&line.key);
        if full {
            self.dispatch().await;
        }
        while self.under_way.contains(&line.key) && self.absorb().await {}
        self.chunk_bytes += line.operation.len();
        self.chunk_keys.insert(line.key.clone());
        self.chunk.push(line);
    }

    /// Sends the chunk on its way, once there is room.
    async fn dispatch(&mut self) {
        while self.tasks.len() >= self.limits.parallel && self.absorb().await {}
        let chunk = std::mem::take(&mut self.chunk);
        self.under_way.extend(self.chunk_keys.drain());
        self.chunk_bytes = 0;
        if !chunk.is_empty() && self.gave_up.is_none() {
            let sender = Arc::clone(&self.sender);
            self.tasks.spawn(async move { sender.send(chunk).await });
        }
    }

    /// Waits for one chunk; false if none is under way.
    async fn absorb(&mut self) -> bool {
        let Some(outcome) = self.tasks.join_next().await else {
            return false;
        };
        let outcome = outcome.expect("a chunk doesn't panic");
        for key in &outcome.keys {
            self.under_way.remove(key);
        }
        self.written += outcome.written;
        self.retries += outcome.retries;
        for (number, reason) in &outcome.failed {
            self.fail(*number, reason);
        }
        if self.gave_up.is_none() {
            self.gave_up = outcome.gave_up;
        }
        self.bar.set_message(format!("{} keys", self.written));
        true
    }

    fn fail(&mut self, number: u64, reason: &str) {
        self.failed += 1;
        self.bar.suspend(|| eprintln!("line {number}: {reason}"));
    }

    fn report(self, elapsed: Duration) -> Result<(), Fatal> {
        let Import {
            written,
            failed,
            retries,
            gave_up,
            ..
        } = self;
        let seconds = elapsed.as_secs_f64();
        eprintln!("imported {written} keys in {seconds:.1} s, {retries} requests sent again");
        match gave_up {
            Some(reason) => Err(Fatal::failed(format!(
                "gave up, the lines after the last one named weren't tried: {reason}"
            ))),
            None if failed > 0 => Err(Fatal::failed(format!("{failed} lines failed"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "import/tests.rs"]
mod tests;
