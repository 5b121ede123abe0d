//! Questions that wait for their answer on one link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{Frame, Gone, Link, Service};

type Open = HashMap<u64, oneshot::Sender<Bytes>>;

/// The open questions of one link, by id.
#[derive(Debug, Default)]
pub struct Calls {
    next: AtomicU64,
    open: Mutex<Open>,
}

impl Calls {
    /// Queues a question at once, so that questions asked one after the other leave in that order;
    /// the future is its answer, or [`Gone`] if the link ends first. Dropping the future forgets the
    /// question.
    pub fn ask(
        self: &Arc<Calls>,
        link: &Link,
        service: Service,
        body: Bytes,
    ) -> Result<impl Future<Output = Result<Bytes, Gone>> + Send + use<>, Gone> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        self.lock().insert(id, sender);
        let forget = Forget {
            calls: self.clone(),
            id,
        };
        link.send_now(Frame::new(service, id, body))?;
        // `end` may have run between the insertion and now; then nobody would ever answer.
        if link.is_gone() {
            return Err(Gone);
        }
        Ok(async move {
            let _forget = forget;
            answer.await.map_err(|_| Gone)
        })
    }

    /// Hands an answer to its question; gives it back if nobody waits for it.
    pub fn answer(&self, frame: Frame) -> Option<Frame> {
        let waiting = self.lock().remove(&frame.id);
        match waiting {
            Some(sender) => {
                // The asker may have given up in this moment; its answer is then of no use.
                let _ = sender.send(frame.body);
                None
            }
            None => Some(frame),
        }
    }

    /// The link has ended: no question will be answered.
    pub fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no panic under this lock")
    }
}

struct Forget {
    calls: Arc<Calls>,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.id);
    }
}
