//! The handle: what every protocol of the front door calls.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Told;
use caucus_api::placement::{Report, Reported};
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{self, Reply, RequestId, Write};
use caucus_client::{Maps, NodeLinks, PlacementClient};
use caucus_planted as planted;
use caucus_ring::{ClusterMap, Epoch, GroupId, NodeId, Revision};
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::attempt::Target;
use crate::granted::Granted;
use crate::leases::{OPENINGS_MAX, Opened, is_not_open};
use crate::metrics::RouterMetrics;
use crate::recipes::config::Turns;
use crate::recipes::queue::Queues;
use crate::retry::Retry;
use crate::route::Table;
use crate::session::Session;
use crate::watch::Hubs;
use crate::{Error, Outcome, Reason, RequestName};

/// Ids under which a write is tried when groups have forgotten the time of its first one.
pub(crate) const IDS_MAX: u32 = 4;

/// Settings of the router.
#[derive(Debug, Clone)]
pub struct RouterOptions {
    /// The deadline of a request that names none.
    pub timeout: Duration,
    /// The longest deadline that a request may name.
    pub timeout_max: Duration,
    /// The clock on the wall, in ms of Unix time, for what people want to know when it was.
    pub unix_ms: fn() -> u64,
    /// A node that hasn't answered an attempt for this long is left for another replica. Longer than
    /// an election, so that a group that is only busy isn't asked twice.
    pub attempt_timeout: Duration,
}

impl Default for RouterOptions {
    fn default() -> Self {
        RouterOptions {
            timeout: Duration::from_secs(5),
            timeout_max: Duration::from_secs(60),
            unix_ms: || 0,
            attempt_timeout: Duration::from_millis(1500),
        }
    }
}

/// Finds groups and their leaders, sends, retries. A cheap clone.
#[derive(Clone)]
pub struct Router {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    pub(crate) options: RouterOptions,
    links: NodeLinks,
    pub(crate) placement: PlacementClient,
    pub(crate) granted: Granted,
    pub(crate) maps: Maps,
    pub(crate) hubs: Hubs,
    pub(crate) opened: Opened,
    pub(crate) queues: Queues,
    pub(crate) turns: Turns,
    table: ArcSwapOption<Table>,
    /// Held while a table is made, so that each map's is made once.
    making: Mutex<()>,
    session: Mutex<Session>,
    /// The highest revision seen in any reply: no later read may show less.
    highest: AtomicU64,
    pub(crate) metrics: RouterMetrics,
    born: Instant,
}

/// A handle that doesn't keep the router.
#[derive(Clone)]
pub(crate) struct WeakRouter(Weak<Shared>);

impl WeakRouter {
    pub(crate) fn upgrade(&self) -> Option<Router> {
        let shared = self.0.upgrade()?;
        Some(Router { shared })
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// What happened to the key.
    pub outcome: shard::Outcome,
    /// The store's revision, at or above the outcome's.
    pub revision: Revision,
}

/// A key's record.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// `None`: there is no such key.
    pub record: Option<shard::Record>,
    /// The store's revision at which this was so.
    pub revision: Revision,
}

/// One operation of a batch. The id of a write is filled in by the router.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "they are short-lived, and nearly all are writes"
)]
pub enum Op {
    /// Writes a key.
    Write(Write),
    /// Reads a key.
    Get {
        /// Which.
        key: Bytes,
    },
}

/// The answer to one operation of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum OpAnswer {
    /// Of [`Op::Write`].
    Written(Written),
    /// Of [`Op::Get`].
    Read(Read),
}

impl Router {
    /// The session of its writes is that of `links`. Needs no map yet: requests wait for one.
    pub fn new(
        options: RouterOptions,
        links: NodeLinks,
        placement: PlacementClient,
        maps: Maps,
    ) -> Router {
        Router {
            shared: Arc::new(Shared {
                options,
                links,
                placement,
                granted: Granted::default(),
                maps,
                hubs: Hubs::default(),
                opened: Opened::default(),
                queues: Queues::default(),
                turns: Turns::default(),
                table: ArcSwapOption::empty(),
                making: Mutex::new(()),
                session: Mutex::new(Session::new()),
                highest: AtomicU64::new(0),
                metrics: RouterMetrics::new(),
                born: Instant::now(),
            }),
        }
    }

    /// Writes a key. The write's id is filled in here, and is the same for every attempt.
    pub async fn write(&self, write: Write, deadline: Instant) -> Result<Written, Error> {
        self.write_named(write, None, deadline).await
    }

    /// As [`write`](Self::write); a write with a name is executed once for all that have that name.
    pub async fn write_named(
        &self,
        mut write: Write,
        name: Option<RequestName>,
        deadline: Instant,
    ) -> Result<Written, Error> {
        let key = write.key.clone();
        let mut openings = 0;
        loop {
            let mut leases = BTreeSet::new();
            if let Some(Action::Put(put)) = &mut write.action
                && put.lease != 0
            {
                self.open_for_put(&key, put, deadline).await?;
                leases.insert(put.lease);
            }
            let reply = self.write_once(&mut write, name, deadline).await?;
            match &reply.body {
                Some(Answer::Txn(done)) if is_not_open(done) && openings < OPENINGS_MAX => {
                    openings += 1;
                    self.forget_opened(&leases);
                }
                Some(Answer::Txn(done)) if done.problem.is_some() => {
                    return Err(Error::lease_not_found());
                }
                _ => return written(reply),
            }
        }
    }

    async fn write_once(
        &self,
        write: &mut Write,
        name: Option<RequestName>,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let key = write.key.clone();
        if let Some(name) = name {
            let id = name.id(self.highest());
            write.id = Some(id);
            write.fingerprint = name.fingerprint();
            let body = Body::Write(write.encode_to_vec().into());
            let retry = Retry::new(true, id.sequence);
            return self.run(Target::Key(&key), &body, 0, retry, deadline).await;
        }
        let mut ids = 1;
        loop {
            let ticket = self.begin(1);
            write.id = Some(ticket.id(0));
            let body = Body::Write(write.encode_to_vec().into());
            let retry = Retry::new(true, ticket.first);
            let target = Target::Key(&key);
            match self.run(target, &body, 0, retry, deadline).await {
                // The stamp of a router that has seen nothing for long. The refusal brought a newer one,
                // and under its old id the write is never applied any more.
                Err(error) if error.is_stale_id() && ids < IDS_MAX && self.newer(&ticket) => {
                    ids += 1
                }
                result => return result,
            }
        }
    }

    /// The newest routing table, as soon as there is one.
    pub(crate) async fn serving_table(&self, deadline: Instant) -> Result<Arc<Table>, Error> {
        loop {
            if let Some(table) = self.table().filter(|table| table.map().has_owners()) {
                return Ok(table);
            }
            let next = Epoch(self.shared.maps.epoch().0 + 1);
            let reached = self.shared.maps.reach(next);
            if timeout_at(deadline, reached).await.is_err() {
                return Err(Error::no_map(Outcome::NotApplied));
            }
        }
    }

    /// Whether a later ticket would have a higher stamp.
    pub(crate) fn newer(&self, ticket: &Ticket<'_>) -> bool {
        self.highest().0 > ticket.stamp
    }

    /// Reads a key, linearizably. `head`: the record without its value.
    pub async fn get(
        &self,
        key: Bytes,
        head: bool,
        at_least: Revision,
        deadline: Instant,
    ) -> Result<Read, Error> {
        self.get_at(key, head, None, at_least, deadline).await
    }

    /// Reads a key as it was at a revision, or as it is. Errors with [`Reason::FutureRevision`] if the
    /// revision was never granted, with [`Reason::Compacted`] if it isn't kept any more.
    pub async fn get_at(
        &self,
        key: Bytes,
        head: bool,
        at: Option<Revision>,
        at_least: Revision,
        deadline: Instant,
    ) -> Result<Read, Error> {
        if let Some(at) = at {
            self.check_granted(at, deadline).await?;
        }
        let body = Body::Get(shard::Get {
            key: key.clone(),
            head,
            revision: at.map_or(0, |at| at.0),
        });
        let retry = Retry::new(false, key.len() as u64);
        let reply = self
            .run(Target::Key(&key), &body, at_least.0, retry, deadline)
            .await?;
        read(reply)
    }

    /// The changes of a key below a revision (0: all), newest first, as far as they are kept; and the
    /// revision up to which nothing is missing.
    pub async fn history(
        &self,
        key: Bytes,
        below: u64,
        limit: usize,
        deadline: Instant,
    ) -> Result<(shard::Changes, Revision), Error> {
        let body = Body::History(shard::History {
            key: key.clone(),
            below,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        });
        let retry = Retry::new(false, key.len() as u64);
        let reply = self
            .run(Target::Key(&key), &body, 0, retry, deadline)
            .await?;
        match reply.body {
            Some(Answer::Changes(changes)) => Ok((changes, Revision(reply.revision))),
            Some(_) | None => Err(nonsense(Outcome::Read)),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakRouter {
        WeakRouter(Arc::downgrade(&self.shared))
    }

    /// A number that no other router has.
    pub(crate) fn session_number(&self) -> u64 {
        self.shared.links.progress().session()
    }

    /// The highest revision seen in any reply.
    pub fn highest(&self) -> Revision {
        Revision(self.shared.highest.load(Ordering::Relaxed))
    }

    /// Refuses a revision that was never granted. What was seen in a reply needs no question.
    pub(crate) async fn check_granted(&self, at: Revision, deadline: Instant) -> Result<(), Error> {
        if at <= self.highest() || at <= self.granted(deadline).await? {
            return Ok(());
        }
        Err(Error {
            reason: Reason::FutureRevision,
            outcome: Outcome::Read,
        })
    }

    /// The newest cluster map, if there is one yet.
    pub fn map(&self) -> Option<Arc<ClusterMap>> {
        self.shared.maps.current()
    }

    /// The node that led a group last, as far as this router knows.
    pub fn leader(&self, group: GroupId) -> Option<NodeId> {
        self.table()?.group(group)?.leader()
    }

    /// The settings.
    pub fn options(&self) -> &RouterOptions {
        &self.shared.options
    }

    /// What the placement leader knows of nodes and leaders; `None` if it doesn't say in time.
    pub(crate) async fn placement_report(&self, deadline: Instant) -> Option<Reported> {
        // Node 0 is no node: it reports nothing and only hears the answer.
        let question = Ask::Report(Report {
            node: 0,
            leads: Vec::new(),
        });
        match self.shared.placement.ask(question, deadline).await {
            Ok(Told::Reported(reported)) => Some(reported),
            Ok(_) | Err(_) => None,
        }
    }

    /// The routing table of the newest map.
    pub(crate) fn table(&self) -> Option<Arc<Table>> {
        let shared = &*self.shared;
        let table = shared.table.load_full();
        let newest = shared.maps.epoch();
        if table.as_ref().map(|table| table.epoch()) == Some(newest) {
            return table;
        }
        self.make_table()
    }

    #[cold]
    fn make_table(&self) -> Option<Arc<Table>> {
        let shared = &*self.shared;
        let _making = shared.making.lock().expect("no panic under this lock");
        let before = shared.table.load_full();
        let map = shared.maps.current()?;
        if before.as_ref().map(|before| before.epoch()) == Some(map.epoch()) {
            return before;
        }
        planted::at(planted::ROUTER_MAP);
        shared.metrics.epoch.set(map.epoch().0 as f64);
        let table = Arc::new(Table::new(map, &shared.links, before.as_deref()));
        shared.table.store(Some(table.clone()));
        Some(table)
    }

    /// Milliseconds since the router was made, never 0.
    pub(crate) fn age_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.shared.born).as_millis() as u64 + 1
    }

    pub(crate) fn saw(&self, revision: u64) {
        let highest = &self.shared.highest;
        if highest.load(Ordering::Relaxed) < revision {
            highest.fetch_max(revision, Ordering::Relaxed);
        }
    }

    /// Takes `count` sequence numbers, which are finished when the ticket is dropped.
    pub(crate) fn begin(&self, count: u64) -> Ticket<'_> {
        let first = self.session().begin(count);
        Ticket {
            router: self,
            first,
            count,
            stamp: self.highest().0,
        }
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.shared
            .session
            .lock()
            .expect("no panic under this lock")
    }
}

/// Sequence numbers in use. While it lives, no group is told that it may forget them.
pub(crate) struct Ticket<'a> {
    router: &'a Router,
    pub(crate) first: u64,
    count: u64,
    stamp: u64,
}

impl Ticket<'_> {
    pub(crate) fn id(&self, offset: u64) -> RequestId {
        RequestId {
            session: self.router.shared.links.progress().session(),
            sequence: self.first + offset,
            stamp: self.stamp,
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let finished_below = {
            let mut session = self.router.session();
            session.finish(self.first, self.count);
            session.finished_below()
        };
        let progress = self.router.shared.links.progress();
        progress.raise(finished_below, self.router.highest().0);
    }
}

/// A reply to a write.
pub(crate) fn written(reply: Reply) -> Result<Written, Error> {
    let revision = Revision(reply.revision);
    match reply.body {
        Some(Answer::Outcome(outcome)) => Ok(Written { outcome, revision }),
        Some(_) | None => Err(nonsense(Outcome::Unknown)),
    }
}

/// A reply to a get.
pub(crate) fn read(reply: Reply) -> Result<Read, Error> {
    let revision = Revision(reply.revision);
    match reply.body {
        Some(Answer::Found(found)) => Ok(Read {
            record: found.record,
            revision,
        }),
        Some(_) | None => Err(nonsense(Outcome::Read)),
    }
}

pub(crate) fn nonsense(outcome: Outcome) -> Error {
    Error {
        reason: Reason::Unavailable("a node answered another question".to_owned()),
        outcome,
    }
}
