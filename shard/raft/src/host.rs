//! The replicas of a node: what they share, and their life.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use caucus_engine::Engine;
use caucus_peer::Peers;
use openraft::{Config, SnapshotPolicy};
use tokio_util::sync::CancellationToken;

use crate::log::{Log, LogHandle, LogPlace, Marks, OpenError, Writer};
use crate::net::{DialerFactory, Directory, Inbox, Lines, Seat, nothing_committed};
use crate::state::{Adapter, Places, StateMachine, StateView};
use crate::types::Raft;
use crate::{Group, HostError, Options, metrics, pulse};

/// Logs are trimmed, marks written and gauges set this often.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

/// What a [`Host`] is made of.
pub struct HostParts {
    /// The node's engine.
    pub engine: Arc<dyn Engine>,
    /// Links to other nodes.
    pub peers: Arc<Peers>,
    /// Where nodes are.
    pub directory: Arc<dyn Directory>,
    /// Settings.
    pub options: Options,
    /// The file of the synced marks; `None` if the engine keeps nothing.
    pub marks: Option<PathBuf>,
}

/// The replicas of a node.
pub struct Host {
    engine: Arc<dyn Engine>,
    peers: Arc<Peers>,
    directory: Arc<dyn Directory>,
    options: Options,
    config: Arc<Config>,
    places: Arc<Places>,
    marks: Arc<Marks>,
    writer: Writer,
    lines: Arc<Lines>,
    inbox: Arc<Inbox>,
    groups: Mutex<BTreeMap<(u32, u64), Group>>,
    shutdown: CancellationToken,
}

impl Host {
    /// Reads what the node has; starts no replica yet.
    pub fn open(parts: HostParts) -> Result<Arc<Host>, HostError> {
        let places = Arc::new(Places::open(parts.engine.clone())?);
        let marks = Marks::open(parts.marks).map_err(|error| HostError::InDoubt {
            group: 0,
            replica: 0,
            reason: error.to_string(),
        })?;
        let (writer, _task) = Writer::start(parts.engine.clone());
        let host = Arc::new(Host {
            inbox: Arc::new(Inbox::new(parts.engine.clone(), places.clone())),
            lines: Lines::new(
                parts.peers.clone(),
                parts.directory.clone(),
                Duration::from_millis(parts.options.election_timeout_ms_max),
            ),
            config: Arc::new(config(&parts.options)?),
            engine: parts.engine,
            peers: parts.peers,
            directory: parts.directory,
            options: parts.options,
            places,
            marks: Arc::new(marks),
            writer,
            groups: Mutex::new(BTreeMap::new()),
            shutdown: CancellationToken::new(),
        });
        tokio::spawn(host.clone().keep_house());
        let beating = host.clone();
        let groups = move || beating.lock().values().cloned().collect();
        let options = host.options.clone();
        tokio::spawn(pulse::beat(options, groups, host.shutdown.clone()));
        Ok(host)
    }

    /// Takes the frames of the Raft services.
    pub fn inbox(&self) -> Arc<Inbox> {
        self.inbox.clone()
    }

    /// The replicas that have data here, running or not.
    pub fn stored(&self) -> Vec<(u32, u64)> {
        self.places.replicas()
    }

    /// A running replica.
    pub fn group(&self, group: u32, replica: u64) -> Option<Group> {
        self.lock().get(&(group, replica)).cloned()
    }

    /// Whether one of a group's first members may begin with an empty log: the others say that nothing was committed
    /// yet, so it can't have lost anything. `others`: their replicas and peer addresses. False also if too many of them
    /// don't answer within `limit`; then it is to be asked again.
    pub async fn is_first_start(
        &self,
        group: u32,
        others: &[(u64, String)],
        limit: Duration,
    ) -> bool {
        nothing_committed(&self.peers, group, others, limit).await
    }

    /// Starts a replica, with the data it has or with none.
    pub async fn start(
        &self,
        group: u32,
        replica: u64,
        machine: Box<dyn StateMachine>,
    ) -> Result<Group, HostError> {
        let place = self.places.of(group, replica)?;
        let log_place = LogPlace {
            group,
            replica,
            storage: place.log,
            tail_bytes_max: self.options.tail_bytes_max,
            read_bytes_max: self.options.append_bytes_max,
        };
        let log = Log::open(
            log_place,
            self.engine.clone(),
            self.writer.clone(),
            self.marks.clone(),
        )
        .map_err(|error| match error {
            OpenError::Engine(error) => HostError::Engine(error),
            OpenError::InDoubt(reason) => HostError::InDoubt {
                group,
                replica,
                reason,
            },
        })?;
        let view = StateView::new(self.engine.clone(), place.state);
        let adapter = Adapter::open(machine, view.clone(), log.clone(), self.places.clone())?;
        let dialers = DialerFactory {
            group,
            peers: self.peers.clone(),
            directory: self.directory.clone(),
            snapshot_chunk_bytes: self.options.snapshot_chunk_bytes,
            appended: log.appended.clone(),
        };
        let raft = Raft::new(
            replica,
            self.config.clone(),
            dialers,
            LogHandle(log.clone()),
            adapter,
        )
        .await
        .map_err(|error| HostError::Fatal {
            group,
            replica,
            reason: error.to_string(),
        })?;
        let running = Group::new(
            group,
            replica,
            raft.clone(),
            view,
            log.clone(),
            self.lines.clone(),
        );
        let seat = Seat::new(raft, log, running.heard.clone());
        self.inbox.seat(group, replica, seat);
        self.lock().insert((group, replica), running.clone());
        Ok(running)
    }

    /// Stops a replica and keeps its data.
    pub async fn stop(&self, group: u32, replica: u64) {
        let stopped = self.lock().remove(&(group, replica));
        self.inbox.unseat(group, replica);
        if let Some(stopped) = stopped
            && let Err(error) = stopped.raft().shutdown().await
        {
            tracing::warn!(group, replica, %error, "a replica did not stop cleanly");
        }
    }

    /// Stops a replica and removes its data.
    pub async fn wipe(&self, group: u32, replica: u64) -> Result<(), HostError> {
        self.stop(group, replica).await;
        // Before the log goes: a mark without its log would put the replica in doubt.
        self.marks.forget(group, replica);
        self.write_marks(Vec::new()).await;
        Ok(self.places.wipe(group, replica)?)
    }

    /// Stops all replicas and makes what they wrote durable.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        let running: Vec<_> = self.lock().keys().copied().collect();
        for (group, replica) in running {
            self.stop(group, replica).await;
        }
        let (sender, synced) = tokio::sync::oneshot::channel();
        self.engine.sync(Box::new(move |result| {
            let _ = sender.send(result);
        }));
        match synced.await {
            Ok(Ok(())) => self.write_marks(Vec::new()).await,
            Ok(Err(error)) => tracing::warn!(%error, "the last sync failed"),
            Err(_) => tracing::warn!("the engine closed before the last sync"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u32, u64), Group>> {
        self.groups.lock().expect("no panic under this lock")
    }

    async fn keep_house(self: Arc<Self>) {
        let mut tick = tokio::time::interval(HOUSEKEEPING_EVERY);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let groups: Vec<Group> = self.lock().values().cloned().collect();
            for group in &groups {
                group
                    .trim_log(self.options.log_bytes_max, self.options.log_bytes_kept)
                    .await;
            }
            gauge(&groups);
            self.write_marks(groups).await;
        }
    }

    async fn write_marks(&self, groups: Vec<Group>) {
        groups.iter().for_each(|group| group.log.mark());
        if let Err(error) = self.marks.clone().flush().await {
            tracing::warn!(%error, "the synced mark cannot be written");
        }
    }
}

fn gauge(groups: &[Group]) {
    let progress: Vec<_> = groups.iter().map(Group::progress).collect();
    let largest =
        |lag: fn(&crate::Progress) -> u64| progress.iter().map(lag).max().unwrap_or(0) as f64;
    let apply = largest(|p| p.committed.saturating_sub(p.applied));
    let commit = largest(|p| p.last.saturating_sub(p.committed));
    let led = groups.iter().filter(|g| g.leadership().here).count();
    let stopped = progress.iter().filter(|p| p.stopped.is_some()).count();
    ::metrics::gauge!(metrics::GROUP_LAG).set(apply);
    ::metrics::gauge!(metrics::COMMIT_LAG).set(commit);
    ::metrics::gauge!(metrics::LED).set(led as f64);
    ::metrics::gauge!(metrics::REPLICAS).set(groups.len() as f64);
    ::metrics::gauge!(metrics::STOPPED).set(stopped as f64);
}

/// openraft's settings. Snapshots and purges are ours to start: see `Group::trim_log`.
fn config(options: &Options) -> Result<Config, HostError> {
    Config {
        cluster_name: "caucus".to_owned(),
        heartbeat_interval: options.heartbeat_interval_ms,
        election_timeout_min: options.election_timeout_ms_min,
        election_timeout_max: options.election_timeout_ms_max,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        max_payload_entries: 512,
        install_snapshot_timeout: 60_000,
        api_channel_size: Some(4096),
        notification_channel_size: Some(4096),
        state_machine_channel_size: Some(512),
        allow_log_reversion: Some(false),
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(2 * options.election_timeout_ms_max),
        ..Config::default()
    }
    .validate()
    .map_err(|error| HostError::Fatal {
        group: 0,
        replica: 0,
        reason: error.to_string(),
    })
}
