//! Revisions for all groups of a node: one ask at a time.
//!
//! What waits when an ask is sent shares the granted block, in order; what comes later waits for the
//! next ask; nothing of a block is kept. So a revision is always granted after the batch that gets it
//! existed, which is what makes revisions follow real time (protocols.md §1, §2).

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Asks that may wait on a node: one a group, and a few for those whose asker gave up.
const QUEUE_ASKS_MAX: usize = 4096;

/// Where revisions come from.
pub trait RevisionSource: Send + Sync + 'static {
    /// Asks the oracle for `count` consecutive revisions; the first of them, or `None` if there is no
    /// answer. A block is granted only after a quorum round that began after this call.
    fn ask(&self, count: u32) -> BoxFuture<'static, Option<u64>>;
}

struct Ask {
    count: u32,
    granted: oneshot::Sender<u64>,
}

/// Asks for the groups of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Revisions {
    queue: mpsc::Sender<Ask>,
}

impl Revisions {
    /// Starts the asking task; it ends on `shutdown`.
    pub(crate) fn start(source: Arc<dyn RevisionSource>, shutdown: CancellationToken) -> Revisions {
        let (queue, asks) = mpsc::channel(QUEUE_ASKS_MAX);
        tokio::spawn(async move {
            shutdown.run_until_cancelled(run(source, asks)).await;
        });
        Revisions { queue }
    }

    /// The first of `count` consecutive revisions; `None` if there was no answer. Dropping the future
    /// makes the ask void.
    pub(crate) async fn ask(&self, count: u32) -> Option<u64> {
        let (granted, first) = oneshot::channel();
        self.queue.send(Ask { count, granted }).await.ok()?;
        first.await.ok()
    }
}

async fn run(source: Arc<dyn RevisionSource>, mut queue: mpsc::Receiver<Ask>) {
    let mut asks = Vec::new();
    while queue.recv_many(&mut asks, QUEUE_ASKS_MAX).await > 0 {
        asks.retain(|ask: &Ask| !ask.granted.is_closed());
        let count: u32 = asks.iter().map(|ask| ask.count).sum();
        if count == 0 {
            continue;
        }
        let Some(mut next) = source.ask(count).await else {
            metrics::ask_failed();
            // The askers see their sender go and ask again.
            asks.clear();
            continue;
        };
        for ask in asks.drain(..) {
            let first = next;
            next += u64::from(ask.count);
            // Void meanwhile: its part of the block is thrown away.
            let _ = ask.granted.send(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Grants from a counter, each ask when told to.
    struct Counter {
        next: Mutex<u64>,
        asked: mpsc::UnboundedSender<(u32, oneshot::Sender<()>)>,
    }

    impl RevisionSource for Arc<Counter> {
        fn ask(&self, count: u32) -> BoxFuture<'static, Option<u64>> {
            let this = self.clone();
            Box::pin(async move {
                let (go, gone) = oneshot::channel();
                this.asked.send((count, go)).ok()?;
                gone.await.ok()?;
                let mut next = this.next.lock().unwrap();
                let first = *next;
                *next += u64::from(count);
                Some(first)
            })
        }
    }

    #[tokio::test]
    async fn later_asks_wait_for_the_next_block() {
        let (asked, mut asks) = mpsc::unbounded_channel();
        let source = Arc::new(Counter {
            next: Mutex::new(1),
            asked,
        });
        let revisions = Revisions::start(Arc::new(source), CancellationToken::new());
        let first = tokio::spawn({
            let revisions = revisions.clone();
            async move { revisions.ask(2).await }
        });
        let (count, go) = asks.recv().await.unwrap();
        assert_eq!(count, 2);
        // These come while the first ask is open.
        let mut second = tokio_test_task(revisions.ask(3));
        let mut third = tokio_test_task(revisions.ask(4));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(futures::poll!(&mut third).is_pending());
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Some(1));
        let (count, go) = asks.recv().await.unwrap();
        assert_eq!(count, 7, "both that waited, and nothing that was left");
        go.send(()).unwrap();
        assert_eq!((second.await, third.await), (Some(3), Some(6)));
    }

    fn tokio_test_task<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
        Box::pin(future)
    }

    #[tokio::test]
    async fn a_failed_ask_is_seen_by_the_askers() {
        let (asked, mut asks) = mpsc::unbounded_channel();
        let source = Arc::new(Counter {
            next: Mutex::new(1),
            asked,
        });
        let revisions = Revisions::start(Arc::new(source), CancellationToken::new());
        let waiting = tokio::spawn(async move { revisions.ask(1).await });
        let (_, go) = asks.recv().await.unwrap();
        drop(go);
        assert_eq!(waiting.await.unwrap(), None);
    }
}
