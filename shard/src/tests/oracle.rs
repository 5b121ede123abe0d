//! A source of revisions in the hands of a test.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::RevisionSource;

/// What an ask gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answering {
    /// The next block, at once.
    Grant,
    /// What the test says, when it says it.
    Hold,
    /// Nothing, at once.
    Refuse,
}

/// One for all nodes of a test.
#[derive(Clone)]
pub(super) struct Oracle {
    state: Arc<Mutex<State>>,
    held: mpsc::UnboundedSender<Held>,
}

struct State {
    answering: Answering,
    next: u64,
    refused: u64,
}

/// An ask that waits for the test.
pub(super) struct Held {
    pub(super) count: u32,
    oracle: Oracle,
    answer: oneshot::Sender<Option<u64>>,
}

impl Oracle {
    pub(super) fn new() -> (Oracle, mpsc::UnboundedReceiver<Held>) {
        let (held, asks) = mpsc::unbounded_channel();
        let state = State {
            answering: Answering::Grant,
            next: 1,
            refused: 0,
        };
        let state = Arc::new(Mutex::new(state));
        (Oracle { state, held }, asks)
    }

    /// What asks get from now on.
    pub(super) fn set(&self, answering: Answering) {
        self.state.lock().unwrap().answering = answering;
    }

    /// Asks that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.state.lock().unwrap().refused
    }

    /// The last revision that was granted.
    pub(super) fn last(&self) -> u64 {
        self.state.lock().unwrap().next - 1
    }

    fn grant(&self, count: u32) -> u64 {
        let mut state = self.state.lock().unwrap();
        let first = state.next;
        state.next += u64::from(count);
        first
    }
}

impl Held {
    /// Grants the block; its first revision. Whether anyone still waits is not for the oracle to know.
    pub(super) fn grant(self) -> u64 {
        let first = self.oracle.grant(self.count);
        let _ = self.answer.send(Some(first));
        first
    }
}

impl RevisionSource for Oracle {
    fn ask(&self, count: u32) -> BoxFuture<'static, Option<u64>> {
        let this = self.clone();
        Box::pin(async move {
            let answering = this.state.lock().unwrap().answering;
            match answering {
                Answering::Grant => Some(this.grant(count)),
                Answering::Refuse => {
                    this.state.lock().unwrap().refused += 1;
                    None
                }
                Answering::Hold => {
                    let (answer, told) = oneshot::channel();
                    let held = Held {
                        count,
                        oracle: this.clone(),
                        answer,
                    };
                    this.held.send(held).ok()?;
                    told.await.ok()?
                }
            }
        })
    }
}
