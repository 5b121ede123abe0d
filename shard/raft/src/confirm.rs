//! Confirming leadership: one round for all that wait.
//!
//! A confirmation is a quorum round (ReadIndex) that began after it was asked for, and the state
//! machine having applied all that was committed then. While one round runs, those who come gather
//! for the next: a round that had begun already would say nothing about them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ConfirmError;
use crate::metrics;
use crate::types::{Raft, TypeConfig};

/// Applying what is committed takes no longer than this, or the replica is in trouble.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Proof that this replica led when it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// The term it leads in.
    pub term: u64,
    /// All up to this index was committed and is applied here.
    pub index: u64,
}

type Waiting = Vec<oneshot::Sender<Result<Confirmed, ConfirmError>>>;

pub(crate) struct Confirmer {
    raft: Raft,
    meters: Arc<metrics::Group>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    waiting: Waiting,
}

impl Confirmer {
    pub(crate) fn new(raft: Raft, meters: Arc<metrics::Group>) -> Arc<Confirmer> {
        Arc::new(Confirmer {
            raft,
            meters,
            state: Mutex::new(State::default()),
        })
    }

    pub(crate) async fn confirm(self: &Arc<Self>) -> Result<Confirmed, ConfirmError> {
        let (sender, confirmed) = oneshot::channel();
        {
            let mut state = self.lock();
            state.waiting.push(sender);
            if !state.running {
                state.running = true;
                tokio::spawn(self.clone().run());
            }
        }
        let stopped = || Err(ConfirmError::Stopped("shut down".to_owned()));
        confirmed.await.unwrap_or_else(|_| stopped())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    async fn run(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut state = self.lock();
                if state.waiting.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let started = Instant::now();
            let result = self.round().await;
            self.meters.confirms.increment(1);
            self.meters
                .confirm_seconds
                .record(started.elapsed().as_secs_f64());
            for sender in waiting {
                // Whoever gave up meanwhile needs no answer.
                let _ = sender.send(result.clone());
            }
        }
    }

    async fn round(&self) -> Result<Confirmed, ConfirmError> {
        let linearizer = self
            .raft
            .get_read_linearizer(ReadPolicy::ReadIndex)
            .await
            .map_err(failure)?;
        let state = linearizer
            .try_await_ready(&self.raft, Some(APPLY_TIMEOUT))
            .await
            .map_err(|fatal| ConfirmError::Stopped(fatal.to_string()))?
            .map_err(|_| ConfirmError::NoQuorum)?;
        let read = state.read_log_id();
        Ok(Confirmed {
            // At or after this term's blank entry, so it names the term that was confirmed.
            term: read.committed_leader_id().term,
            index: read.index(),
        })
    }
}

fn failure(error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> ConfirmError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            ConfirmError::NotLeader {
                leader: forward.leader_node.map(|member| member.node),
            }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ConfirmError::NoQuorum,
        RaftError::Fatal(fatal) => ConfirmError::Stopped(fatal.to_string()),
    }
}
