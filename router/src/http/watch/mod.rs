//! `GET /v1/watch`: changes as they happen, as server-sent events or as lines of JSON.
//!
//! ```text
//!  [state …, synced] ─▶ changes, changes, … ─▶ end
//! ```
//!
//! One message holds all changes of one revision, and that is the message's id: a client that comes back
//! with `Last-Event-ID` gets every later one, or is told that they are compacted. With `initial` the keys
//! as they are come first, all of one revision, and the changes after it follow without a gap.
//!
//! A client that doesn't take what it is sent holds back only itself: nothing is read for it until it
//! does; after a while it is told where to begin again.

mod filter;
mod request;
mod write;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_ring::Revision;
use http::request::Parts;
use http::{Method, Response};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::filter::Filter;
use self::request::Asked;
use self::write::Writer;
use super::frames::{self, ALIVE, Speaker};
use super::problem::Problem;
use crate::watch::{End, Parcel, Told, WatchSpec, Watches};
use crate::{Error, Listing, Router};

/// The stream's only watch.
const WATCH: u64 = 0;
/// What is ready is sent together, up to about so much.
const CHUNK_BYTES: usize = 64 << 10;

/// Begins a watch; what is wrong with the request is told before it.
pub(super) async fn begin(
    router: &Router,
    parts: &Parts,
    shutdown: &CancellationToken,
) -> Result<Response<Body>, Problem> {
    if parts.method != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    let asked = request::parse(parts, router.options())?;
    let deadline = Instant::now() + asked.timeout;
    let form = asked.form;
    let mut stream = Stream::new(router, asked, shutdown.child_token());
    let revision = stream.open(deadline).await?;
    Ok(frames::respond(form, Some(revision), stream))
}

impl Speaker for Stream {
    async fn next(&mut self) -> (Bytes, bool) {
        let told = match self.initial.take() {
            Some(initial) => self.state(initial).await,
            None => Ok(self.changes().await),
        };
        let ends = told.unwrap_or_else(|error| {
            self.writer.failed(error);
            true
        });
        self.next_alive = Instant::now() + ALIVE;
        (self.writer.take(), ends)
    }
}

/// A watch that is being answered.
struct Stream {
    router: Router,
    watches: Watches,
    spec: WatchSpec,
    filter: Filter,
    writer: Writer,
    /// The keys as they are, as far as they are still to be sent.
    initial: Option<Initial>,
    /// How often the client wants to hear how far the watch has got.
    progress: Option<Duration>,
    next_progress: Instant,
    next_alive: Instant,
    timeout: Duration,
    /// A token of its own: all streams waking at one lock would wait for each other.
    shutdown: CancellationToken,
}

struct Initial {
    listing: Listing,
    sent: usize,
}

impl Stream {
    fn new(router: &Router, asked: Asked, shutdown: CancellationToken) -> Stream {
        let now = Instant::now();
        Stream {
            router: router.clone(),
            watches: router.watches(),
            writer: Writer::new(asked.form, &asked.spec),
            spec: asked.spec,
            filter: asked.filter,
            initial: asked.initial.map(|listing| Initial { listing, sent: 0 }),
            progress: asked.progress,
            next_progress: asked.progress.map_or(now, |every| now + every),
            next_alive: now + ALIVE,
            timeout: asked.timeout,
            shutdown,
        }
    }

    /// Opens the watch, or fixes the revision of the initial state; the revision after which changes are told.
    async fn open(&mut self, deadline: Instant) -> Result<Revision, Error> {
        if let Some(initial) = &mut self.initial {
            let revision = self.router.granted(deadline).await?;
            initial.listing.revision = Some(revision);
            self.spec.from = Some(Revision(revision.0 + 1));
            return Ok(revision);
        }
        if let Some(from) = self.spec.from {
            let before = Revision(from.0.saturating_sub(1));
            self.router.check_granted(before, deadline).await?;
        }
        let from = self.watches.open(WATCH, &self.spec, deadline).await?;
        Ok(Revision(from.0 - 1))
    }

    /// A page of the initial state; the watch begins after the last.
    async fn state(&mut self, mut initial: Initial) -> Result<bool, Error> {
        let deadline = Instant::now() + self.timeout;
        initial.listing.limit = PAGE_KEYS_MAX;
        let page = self.router.list(&initial.listing, Revision(0), deadline);
        let page = page.await?;
        let items = page.items.iter();
        let items = items.filter(|item| self.filter.passes_key(&item.key));
        initial.sent += self.writer.state(items, self.filter.show.keys_only);
        match page.next {
            Some(start) => {
                initial.listing.start = start;
                self.initial = Some(initial);
            }
            None => {
                self.watches.open(WATCH, &self.spec, deadline).await?;
                self.writer.synced(page.revision.0, initial.sent);
            }
        }
        Ok(false)
    }

    /// Waits for something to say; whether it is the last.
    async fn changes(&mut self) -> bool {
        loop {
            tokio::select! {
                parcel = self.watches.next() => {
                    if self.take(parcel) {
                        return true;
                    }
                    while self.writer.len() < CHUNK_BYTES
                        && let Some(parcel) = self.watches.try_next()
                    {
                        if self.take(parcel) {
                            return true;
                        }
                    }
                }
                () = sleep_until(self.next_progress), if self.progress.is_some() => {
                    self.ask_progress().await;
                }
                () = self.shutdown.cancelled() => {
                    self.writer.shut_down();
                    return true;
                }
                () = sleep_until(self.next_alive) => self.writer.alive(),
            }
            if self.writer.len() > 0 {
                return false;
            }
        }
    }

    fn take(&mut self, parcel: Parcel) -> bool {
        match parcel.told {
            Told::Events { events, through } => {
                let asked = events.is_empty();
                for together in events.chunk_by(|a, b| a.revision == b.revision) {
                    let wanted = together.iter().filter(|event| self.filter.passes(event));
                    let group = self.spec.by_group.then_some(parcel.group);
                    self.writer
                        .changes(together[0].revision, group, self.filter.show, wanted);
                }
                if asked && self.progress.is_some() && !self.spec.by_group {
                    self.writer.progress(through);
                }
                false
            }
            Told::Ended(end) => {
                match end {
                    End::Compacted { revision } => self.writer.compacted(revision),
                    End::Lagging { resume } => self.writer.lagging(resume),
                    End::Refused(why) => self.writer.refused(&why),
                }
                true
            }
        }
    }

    /// Lets the watch say how far it has got, once it is past all that is granted now.
    async fn ask_progress(&mut self) {
        let every = self.progress.unwrap_or(ALIVE);
        self.next_progress = Instant::now() + every;
        // Without an oracle there is nothing to say; what the watch waits for it goes on waiting for.
        if let Ok(granted) = self.router.granted(Instant::now() + every).await {
            self.watches.reach(WATCH, granted);
        }
    }
}
