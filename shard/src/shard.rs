//! The data groups of a node: started as the cluster map says, reached by requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::reply::Body;
use caucus_api::shard::request::Body as Asked;
use caucus_api::shard::{Bootstrap, Command, Hashed, Reply, Request, SessionProgress};
use caucus_api::{Failure, Groups, ReplyTo};
use caucus_engine::Engine;
use caucus_raft::{Group, Host};
use caucus_ring::{ClusterMap, GroupId, NodeId, wire};
use futures::future::BoxFuture;
use prost::Message;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compaction::{self, Compaction};
use crate::driver::{Driver, OtherGroups};
use crate::inflight::InFlight;
use crate::lessor::{LeaseJob, Lessor};
use crate::metrics::{self, Meters};
use crate::names::{Clock, NamesTime};
use crate::patience::Patience;
use crate::reads::{ReadJob, Reads};
use crate::requests::{check_write, read_job};
use crate::revisions::Revisions;
use crate::sequencer::{Sequencer, Sessions, WriteJob};
use crate::state::{GroupState, Published};
use crate::watch::{FollowJob, Hub};
use crate::{Options, RevisionSource};

/// A request that names no deadline gets this one.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
/// After a replica could not be started, or a report could not be delivered.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where a group that has begun is reported.
pub trait Activations: Send + Sync + 'static {
    /// Tells the placement group that `group` has applied its first command; `false`: not delivered.
    fn activate(&self, group: u32) -> BoxFuture<'static, bool>;
}

/// What a [`Shard`] is made of.
pub struct ShardParts {
    /// This node.
    pub node: NodeId,
    /// The node's replicas.
    pub host: Arc<Host>,
    /// The node's engine.
    pub engine: Arc<dyn Engine>,
    /// Where revisions come from.
    pub revisions: Arc<dyn RevisionSource>,
    /// The way to other groups, for transactions over several.
    pub others: Arc<dyn OtherGroups>,
    /// Where new groups are reported.
    pub activations: Arc<dyn Activations>,
    /// By which names of requests are forgotten.
    pub clock: Clock,
    /// The cluster map as it changes.
    pub maps: watch::Receiver<Option<Arc<ClusterMap>>>,
    /// Settings.
    pub options: Options,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

/// The data groups of a node. Cheap to clone.
#[derive(Clone)]
pub struct Shard {
    inner: Arc<Inner>,
}

struct Inner {
    parts: ShardParts,
    revisions: Revisions,
    sessions: Arc<Sessions>,
    meters: Arc<Meters>,
    long_reads: Arc<Semaphore>,
    seats: ArcSwap<HashMap<u32, Arc<Seat>>>,
    /// Serializes changes of `seats`.
    changing: Mutex<()>,
    tasks: TaskTracker,
}

/// One group as requests reach it.
struct Seat {
    group: Group,
    driver: Driver,
    published: Arc<Published>,
    writes: mpsc::Sender<WriteJob>,
    reads: mpsc::Sender<ReadJob>,
    follows: mpsc::Sender<FollowJob>,
    lessor: Lessor,
    time: Arc<Mutex<NamesTime>>,
}

impl Seat {
    /// Also if there will be: an entry forgets what is too old before it is executed. What isn't led here is refused
    /// elsewhere.
    fn has_room_for_a_name(&self, names_max: usize) -> bool {
        let (names, leadership) = (self.published.names(), self.group.leadership());
        if names.count < names_max || !leadership.here {
            return true;
        }
        let mut time = self.time.lock().expect("no panic under this lock");
        let (_, forget_before) = time.now(leadership.term, names);
        names_max > 0 && names.oldest < forget_before
    }
}

/// One led group, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// The group.
    pub group: u32,
    /// The term.
    pub term: u64,
    /// The leading replica, which is here.
    pub replica: u64,
}

impl Shard {
    /// Follows the map and starts what it assigns to this node.
    pub fn start(parts: ShardParts) -> Shard {
        let inner = Arc::new(Inner {
            revisions: Revisions::start(parts.revisions.clone(), parts.shutdown.clone()),
            sessions: Arc::new(Sessions::default()),
            meters: Arc::new(Meters::new()),
            long_reads: Arc::new(Semaphore::new(parts.options.long_reads_max)),
            seats: ArcSwap::default(),
            changing: Mutex::new(()),
            tasks: TaskTracker::new(),
            parts,
        });
        let shard = Shard { inner };
        let following = shard.clone();
        let shutdown = shard.inner.parts.shutdown.clone();
        shard.inner.tasks.spawn(async move {
            shutdown.run_until_cancelled(following.follow()).await;
        });
        shard
    }

    /// Waits until all tasks have ended, after the shutdown token was cancelled.
    pub async fn ended(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// The groups that replicas here lead.
    pub fn led(&self) -> Vec<Led> {
        let seats = self.inner.seats.load();
        let led = seats.values().filter_map(|seat| {
            let leadership = seat.group.leadership();
            leadership.here.then(|| Led {
                group: seat.group.id(),
                term: leadership.term,
                replica: seat.group.replica(),
            })
        });
        led.collect()
    }

    /// Sets the gauges of the queues.
    pub fn gauge(&self) {
        let seats = self.inner.seats.load();
        let full = |used: fn(&Seat) -> usize| seats.values().map(|s| used(s)).max().unwrap_or(0);
        let (writes, reads) = metrics::queues();
        writes.set(full(|seat| seat.writes.max_capacity() - seat.writes.capacity()) as f64);
        reads.set(full(|seat| seat.reads.max_capacity() - seat.reads.capacity()) as f64);
    }

    #[cfg(test)]
    pub(crate) fn standing(&self, group: u32) -> Vec<Arc<caucus_api::shard::Attempt>> {
        let seats = self.inner.seats.load();
        seats
            .get(&group)
            .map_or_else(Vec::new, |seat| seat.published.standing().all())
    }

    async fn follow(self) {
        let mut maps = self.inner.parts.maps.clone();
        loop {
            let map = maps.borrow_and_update().clone();
            let complete = match map {
                Some(map) => self.take_up(&map).await,
                None => true,
            };
            let changed = maps.changed();
            let seen = match complete {
                true => changed.await,
                false => tokio::time::timeout(RETRY_AFTER, changed)
                    .await
                    .unwrap_or(Ok(())),
            };
            if seen.is_err() {
                return;
            }
        }
    }

    /// Starts the replicas that the map has here and that don't run yet. `false`: not all could be.
    async fn take_up(&self, map: &ClusterMap) -> bool {
        let mut complete = true;
        for group in map.groups() {
            let Some(replica) = group.replica_on(self.inner.parts.node) else {
                continue;
            };
            if self.inner.seats.load().contains_key(&group.id.0) {
                continue;
            }
            if let Err(error) = self.start_replica(map, group, replica.id.0).await {
                tracing::error!(group = group.id.0, %error, "a replica cannot be started");
                complete = false;
            }
        }
        complete
    }

    async fn start_replica(
        &self,
        map: &ClusterMap,
        record: &caucus_ring::Group,
        replica: u64,
    ) -> Result<(), caucus_raft::HostError> {
        let (state, published) = GroupState::new();
        let host = &self.inner.parts.host;
        let group = host.start(record.id.0, replica, Box::new(state)).await?;
        if !record.state.can_serve() {
            self.spawn(begin(
                self.inner.parts.activations.clone(),
                group.clone(),
                published.clone(),
                bootstrap(map, record.id),
                members(record),
            ));
        }
        self.seat(group, published);
        Ok(())
    }

    fn seat(&self, group: Group, published: Arc<Published>) {
        let options = &self.inner.parts.options;
        let (writes, write_queue) = mpsc::channel(options.queue_writes_max);
        let (reads, read_queue) = mpsc::channel(options.queue_reads_max);
        let inflight = Arc::new(InFlight::default());
        let driver = Driver::new(
            group.clone(),
            published.clone(),
            self.inner.parts.others.clone(),
            writes.clone(),
            reads.clone(),
            self.inner.meters.clone(),
        );
        let time = NamesTime::new(self.inner.parts.clock.clone(), options.idempotency_window);
        let time = Arc::new(Mutex::new(time));
        let sequencer = Sequencer {
            group: group.clone(),
            queue: write_queue,
            driver: driver.clone(),
            published: published.clone(),
            inflight: inflight.clone(),
            revisions: self.inner.revisions.clone(),
            sessions: self.inner.sessions.clone(),
            options: options.clone(),
            patience: Patience::new(options.ask_timeout),
            time: time.clone(),
            meters: self.inner.meters.clone(),
        };
        self.spawn(sequencer.run());
        self.spawn(driver.clone().recover());
        let compaction = Compaction {
            group: group.clone(),
            published: published.clone(),
            meters: self.inner.meters.clone(),
        };
        self.spawn(compaction.run());
        let follows = self.watched(&group, &published, &inflight);
        let lessor = Lessor::new(
            group.clone(),
            published.clone(),
            driver.clone(),
            self.inner.meters.clone(),
        );
        self.spawn(lessor.clone().run());
        let reading = Reads {
            group: group.clone(),
            published: published.clone(),
            inflight,
            long_reads: self.inner.long_reads.clone(),
            meters: self.inner.meters.clone(),
        };
        self.spawn(reading.run(read_queue));
        self.add(Seat {
            group,
            published,
            driver,
            writes,
            reads,
            follows,
            lessor,
            time,
        });
    }

    /// From now on requests reach it.
    fn add(&self, seat: Seat) {
        let _changing = self
            .inner
            .changing
            .lock()
            .expect("no panic under this lock");
        let mut seats = HashMap::clone(&self.inner.seats.load());
        seats.insert(seat.group.id(), Arc::new(seat));
        self.inner.seats.store(Arc::new(seats));
    }

    /// Starts what tells routers of changes; the way to ask it.
    fn watched(
        &self,
        group: &Group,
        published: &Arc<Published>,
        inflight: &Arc<InFlight>,
    ) -> mpsc::Sender<FollowJob> {
        let hub = Hub {
            group: group.clone(),
            published: published.clone(),
            inflight: inflight.clone(),
            long_reads: self.inner.long_reads.clone(),
            meters: self.inner.meters.clone(),
        };
        let (follows, queue) = mpsc::channel(self.inner.parts.options.queue_reads_max);
        self.spawn(hub.run(queue));
        follows
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.inner.parts.shutdown.clone();
        self.inner.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    fn dispatch(&self, request: Request, reply: ReplyTo) -> Result<(), (Failure, ReplyTo)> {
        let seats = self.inner.seats.load();
        let Some(seat) = seats.get(&request.group) else {
            return Err((Failure::NoReplica, reply));
        };
        let leadership = seat.group.leadership();
        let wait = match request.deadline_ms {
            0 => DEADLINE_DEFAULT,
            ms => Duration::from_millis(u64::from(ms)),
        };
        let deadline = Instant::now() + wait;
        let what = match request.body {
            // Any replica may be asked for its hash.
            Some(Asked::Hash(_)) => {
                hash(seat, request.call, reply);
                return Ok(());
            }
            _ if !leadership.here => {
                let leader = leadership
                    .leader
                    .filter(|node| *node != self.inner.parts.node.0);
                return Err((Failure::NotLeader { leader }, reply));
            }
            Some(Asked::Write(encoded)) => {
                let (call, at_least) = (request.call, request.at_least);
                return self.write(seat, encoded, (call, at_least, deadline), reply);
            }
            Some(Asked::Follow(follow)) => {
                let job = FollowJob {
                    call: request.call,
                    at_least: request.at_least,
                    rules_version: request.rules_version,
                    follow,
                    reply,
                };
                let sent = seat.follows.try_send(job);
                return sent.map_err(|full| (busy("watches"), full.into_inner().reply));
            }
            Some(Asked::Lease(call)) => {
                let job = LeaseJob {
                    call: request.call,
                    at_least: request.at_least,
                    rules_version: request.rules_version,
                    deadline,
                    reply,
                };
                return seat.lessor.take(call, job);
            }
            Some(Asked::Compact(ref compact)) => {
                self.compact(seat, leadership.term, &request, compact.revision, reply);
                return Ok(());
            }
            body => match read_job(body) {
                Ok(what) => what,
                Err(failure) => return Err((failure, reply)),
            },
        };
        let job = ReadJob {
            call: request.call,
            at_least: request.at_least,
            rules_version: request.rules_version,
            what,
            deadline,
            reply,
        };
        let sent = seat.reads.try_send(job);
        sent.map_err(|full| (busy("reads"), full.into_inner().reply))
    }

    /// Puts a write into its queue. `of`: number, `at_least` and deadline of its request.
    fn write(
        &self,
        seat: &Seat,
        encoded: Bytes,
        of: (u64, u64, Instant),
        reply: ReplyTo,
    ) -> Result<(), (Failure, ReplyTo)> {
        let checked = match check_write(&encoded, self.inner.parts.engine.space()) {
            Ok(checked) => checked,
            Err(failure) => return Err((failure, reply)),
        };
        let names_max = self.inner.parts.options.idempotency_keys_max;
        if checked.is_named && !seat.has_room_for_a_name(names_max) {
            return Err((busy("idempotency keys"), reply));
        }
        let (call, at_least, deadline) = of;
        let job = WriteJob {
            call,
            at_least,
            touches: checked.touches,
            step: checked.step,
            session: checked.session,
            term: None,
            encoded,
            deadline,
            reply,
        };
        // As of a revision that is known to be granted; without one it goes through the log.
        if checked.reads_only && at_least > 0 {
            seat.driver.read_only(job);
            return Ok(());
        }
        let sent = seat.writes.try_send(job);
        sent.map_err(|full| (busy("writes"), full.into_inner().reply))
    }

    /// Lets the group forget; not a matter for its queues.
    fn compact(&self, seat: &Seat, term: u64, request: &Request, revision: u64, reply: ReplyTo) {
        let (group, published) = (seat.group.clone(), seat.published.clone());
        let (call, at_least) = (request.call, request.at_least);
        self.spawn(async move {
            let done = compaction::compact(&group, &published, term, revision).await;
            reply(Reply {
                call,
                revision: at_least,
                body: Some(match done {
                    Ok(()) => Body::Outcome(Default::default()),
                    Err(failure) => Body::Error(failure.into()),
                }),
            });
        });
    }
}

impl Groups for Shard {
    fn submit(&self, request: Request, reply: ReplyTo) {
        let (call, revision) = (request.call, request.at_least);
        if let Err((failure, reply)) = self.dispatch(request, reply) {
            reply(Reply {
                call,
                revision,
                body: Some(Body::Error(failure.into())),
            });
        }
    }

    fn progress(&self, progress: SessionProgress) {
        self.inner.sessions.note(progress);
    }
}

fn busy(what: &str) -> Failure {
    Failure::Busy(format!("the group's queue of {what}"))
}

fn hash(seat: &Seat, call: u64, reply: ReplyTo) {
    let hashed = seat.published.hash();
    reply(Reply {
        call,
        revision: seat.published.highest(),
        body: Some(Body::Hashed(Hashed {
            index: hashed.index,
            term: hashed.term,
            hash: Bytes::copy_from_slice(&hashed.hash.to_le_bytes()),
        })),
    });
}

fn bootstrap(map: &ClusterMap, group: GroupId) -> Bootstrap {
    let owned: caucus_ring::VnodeSet = map
        .ring()
        .iter()
        .filter(|vnode| map.owner(*vnode) == group)
        .collect();
    Bootstrap {
        cluster_id: Bytes::copy_from_slice(&map.cluster_id().0),
        group: group.0,
        vnodes: map.ring().vnodes(),
        owned: owned.to_packed().into(),
        rules_version: map.rules().version(),
        rules: wire::Rules::from(map.rules()).encode_to_vec().into(),
    }
}

fn members(group: &caucus_ring::Group) -> BTreeMap<u64, u32> {
    let replicas = group.replicas.iter();
    replicas
        .map(|replica| (replica.id.0, replica.node.0))
        .collect()
}

/// Begins a group: its first replica names the members, its leader proposes the first command and
/// reports when that is applied. Each step may be repeated, by this or another replica.
async fn begin(
    activations: Arc<dyn Activations>,
    group: Group,
    published: Arc<Published>,
    bootstrap: Bootstrap,
    members: BTreeMap<u64, u32>,
) {
    // The replica ids of a group are given out in the order of preference, so the smallest is first.
    let first = members.keys().next() == Some(&group.replica());
    if first && let Err(error) = group.initialize(members).await {
        tracing::error!(group = group.id(), %error, "a group cannot be initialized");
        return;
    }
    let command: Bytes = Command {
        command: Some(Kind::Bootstrap(bootstrap)),
    }
    .encode_to_vec()
    .into();
    let mut leadership = group.watch_leadership();
    loop {
        let now = *leadership.borrow_and_update();
        if now.here {
            let begun = published.scope().routing.is_some()
                || match group.propose(now.term, command.clone()).await {
                    Ok(answer) => answer.await.is_ok(),
                    Err(_) => false,
                };
            if begun && activations.activate(group.id()).await {
                return;
            }
        }
        // Again when another leads, or after a while: the report may have been lost.
        match tokio::time::timeout(RETRY_AFTER, leadership.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => return,
        }
    }
}
