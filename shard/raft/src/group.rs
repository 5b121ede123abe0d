//! A running replica, as its node uses it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::impls::ProgressResponder;
use tokio::sync::watch;

use crate::confirm::Confirmer;
use crate::log::Log;
use crate::metrics;
use crate::net::Lines;
use crate::pulse::Heard;
use crate::state::StateView;
use crate::types::{Member, Payload, Raft, Reply, committed};
use crate::{ConfirmError, Confirmed, ProposeError};

/// Who leads a group, as far as one replica knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The latest term seen.
    pub term: u64,
    /// Whether this replica leads in that term.
    pub here: bool,
    /// The node of the leader, if known.
    pub leader: Option<u32>,
}

/// How far a replica has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The last index in the log.
    pub last: u64,
    /// The last index known to be committed.
    pub committed: u64,
    /// The last applied index.
    pub applied: u64,
    /// Why the replica stopped, if it did.
    pub stopped: Option<String>,
}

/// A running replica of a group. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    id: u32,
    replica: u64,
    raft: Raft,
    view: StateView,
    pub(crate) log: Arc<Log>,
    pub(crate) heard: Arc<Heard>,
    confirmer: Arc<Confirmer>,
    leadership: watch::Receiver<Leadership>,
    meters: Arc<metrics::Group>,
}

impl Group {
    pub(crate) fn new(
        id: u32,
        replica: u64,
        raft: Raft,
        view: StateView,
        log: Arc<Log>,
        lines: Arc<Lines>,
    ) -> Group {
        let meters = Arc::new(metrics::Group::new());
        let leadership = follow_leadership(raft.clone(), meters.clone());
        Group {
            id,
            replica,
            confirmer: Arc::new(Confirmer {
                group: id,
                replica,
                raft: raft.clone(),
                log: log.clone(),
                lines,
                leadership: leadership.clone(),
                meters: meters.clone(),
                applied_term: AtomicU64::new(0),
                state: Mutex::default(),
            }),
            raft,
            view,
            log,
            heard: Arc::new(Heard::never()),
            leadership,
            meters,
        }
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The group's id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// This replica's id.
    pub fn replica(&self) -> u64 {
        self.replica
    }

    /// The state as applied so far.
    pub fn view(&self) -> &StateView {
        &self.view
    }

    /// Gives a new group its first members. To be called on one replica; on others, or again, it does
    /// nothing.
    pub async fn initialize(&self, members: BTreeMap<u64, u32>) -> Result<(), ProposeError> {
        let members: BTreeMap<u64, Member> = members
            .into_iter()
            .map(|(replica, node)| (replica, Member { node }))
            .collect();
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(ProposeError::Stopped(error.to_string())),
        }
    }

    /// Queues a command, if this replica leads in `term`; the future is the state machine's reply.
    /// Commands of one caller enter the log in the order of these calls.
    pub async fn propose(
        &self,
        term: u64,
        command: Bytes,
    ) -> Result<impl Future<Output = Result<Reply, ProposeError>> + Send + use<>, ProposeError>
    {
        let (responder, answer) = ProgressResponder::complete_only();
        self.raft
            .write(Payload(command))
            .with_leader(committed(term))
            .responder(responder)
            .await
            .map_err(|fatal| ProposeError::Stopped(fatal.to_string()))?;
        let meters = self.meters.clone();
        Ok(async move {
            // Dropped unanswered: the core ended with the proposal under way.
            let result = match answer.await {
                Ok(Ok(response)) => Ok(response.data),
                Ok(Err(error)) => Err(failure(error)),
                Err(_) => Err(ProposeError::Unknown),
            };
            match &result {
                Ok(_) => meters.proposed.increment(1),
                Err(ProposeError::NotLeader { .. }) => meters.refused.increment(1),
                Err(ProposeError::Unknown | ProposeError::Stopped(_)) => {
                    meters.unknown.increment(1)
                }
            }
            result
        })
    }

    /// Confirms that this replica leads, by a quorum round that begins after this call, and that its
    /// state has all that was acknowledged before. Shared by all who wait.
    pub async fn confirm(&self) -> Result<Confirmed, ConfirmError> {
        self.confirmer.confirm().await
    }

    /// Who leads, as far as this replica knows now. A hint: only [`Group::confirm`] is proof.
    pub fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// Follows who leads.
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// How far this replica has got.
    pub fn progress(&self) -> Progress {
        let metrics = self.raft.metrics().borrow_watched().clone();
        Progress {
            last: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            stopped: metrics.running_state.err().map(|fatal| fatal.to_string()),
        }
    }

    /// Begins to hand the lead to another replica. Nothing may come of it if that one lags, or if this
    /// replica doesn't lead.
    pub async fn hand_over(&self, to: u64) -> Result<(), ProposeError> {
        let begun = self.raft.trigger().transfer_leader(to).await;
        begun.map_err(|fatal| ProposeError::Stopped(fatal.to_string()))
    }

    /// Cuts the log if it is longer than `log_bytes_max`, leaving about `log_bytes_kept`.
    pub(crate) async fn trim_log(&self, log_bytes_max: u64, log_bytes_kept: u64) {
        let (bytes, cut) = self.log.purgeable(log_bytes_kept);
        let Some(cut) = cut.filter(|_| bytes > log_bytes_max) else {
            return;
        };
        // openraft purges what a snapshot covers. The snapshot names the state as it is, so it costs
        // nothing; the purge of what is new in it follows in a later round, when it is noted. A group that
        // writes more between two rounds than it may keep is never covered up to its cut.
        let trigger = self.raft.trigger();
        let covered = self.raft.metrics().borrow_watched().snapshot;
        let covered = covered.map_or(0, |covered| covered.index);
        let mut done = Ok(());
        if covered > 0 {
            done = trigger.purge_log(cut.min(covered)).await;
        }
        if covered < cut {
            done = done.and(trigger.snapshot().await);
        }
        if let Err(error) = done {
            tracing::debug!(group = self.id, %error, "the log cannot be trimmed");
        }
    }
}

fn failure(error: ClientWriteError<crate::types::TypeConfig>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => {
            tracing::debug!(reason = ?forward.reason, "a command is refused");
            ProposeError::NotLeader {
                leader: forward.leader_node.map(|member| member.node),
            }
        }
        ClientWriteError::LogEntryDiscarded(_) => ProposeError::Unknown,
        ClientWriteError::ChangeMembershipError(error) => ProposeError::Stopped(error.to_string()),
        ClientWriteError::PreconditionFailed(error) => ProposeError::Stopped(error.to_string()),
    }
}

/// Translates openraft's metrics into a [`Leadership`]; ends with the replica.
fn follow_leadership(raft: Raft, meters: Arc<metrics::Group>) -> watch::Receiver<Leadership> {
    let mut server = raft.server_metrics();
    let (sender, receiver) = watch::channel(Leadership::default());
    tokio::spawn(async move {
        loop {
            let now = {
                let server = server.borrow_watched();
                let leader = server.current_leader;
                let node = leader.and_then(|id| server.membership_config.get_node(&id).copied());
                Leadership {
                    term: server.vote.leader_id.term,
                    here: server.state == ServerState::Leader,
                    leader: node.map(|member| member.node),
                }
            };
            sender.send_if_modified(|old| {
                if now.leader.is_some() && (now.leader, now.term) != (old.leader, old.term) {
                    meters.leader_changes.increment(1);
                }
                std::mem::replace(old, now) != now
            });
            if server.changed().await.is_err() {
                // A replica that has stopped leads no more, whatever it said last.
                sender.send_modify(|last| {
                    last.here = false;
                    last.leader = None;
                });
                return;
            }
        }
    });
    receiver
}
