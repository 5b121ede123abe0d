//! Requests that arrive on links: taken frame by frame, answered as the groups answer, gathered again
//! into frames.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caucus_api::Groups;
use caucus_api::shard::{Replies, Reply, Requests};
use caucus_peer::{Frame, Handler, Link, Service};
use prost::Message;
use tokio::sync::mpsc;

/// Answers that may wait for the writer of one link.
const QUEUE_REPLIES_MAX: usize = 65_536;
/// Answers of one frame.
const FRAME_REPLIES_MAX: usize = 512;
/// Bytes of answers of one frame; the first goes in any case.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// Takes the frames of [`Service::Shard`].
pub struct Server {
    groups: Arc<dyn Groups>,
    answers: Mutex<HashMap<u64, mpsc::Sender<Reply>>>,
}

impl Server {
    /// Serves the groups of a node.
    pub fn new(groups: Arc<dyn Groups>) -> Arc<Server> {
        Arc::new(Server {
            groups,
            answers: Mutex::new(HashMap::new()),
        })
    }

    fn answers_of(&self, link: &Arc<Link>) -> mpsc::Sender<Reply> {
        let mut all = self.answers.lock().expect("no panic under this lock");
        if let Some(answers) = all.get(&link.id()) {
            return answers.clone();
        }
        all.retain(|_, answers| !answers.is_closed());
        let (answers, queue) = mpsc::channel(QUEUE_REPLIES_MAX);
        all.insert(link.id(), answers.clone());
        tokio::spawn(send_answers(link.clone(), queue));
        answers
    }
}

impl Handler for Server {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        let requests = match Requests::decode(frame.body) {
            Ok(requests) => requests,
            Err(error) => {
                tracing::warn!(%error, "a peer sent requests that cannot be read");
                link.close();
                return;
            }
        };
        if let Some(progress) = requests.progress {
            self.groups.progress(progress);
        }
        let answers = self.answers_of(link);
        for request in requests.requests {
            let (answers, link) = (answers.clone(), link.clone());
            self.groups.submit(
                request,
                Box::new(move |reply| {
                    if answers.try_send(reply).is_err() {
                        // The peer doesn't take its answers. It will ask again on another link.
                        link.close();
                    }
                }),
            );
        }
    }
}

async fn send_answers(link: Arc<Link>, mut queue: mpsc::Receiver<Reply>) {
    let mut ready = Vec::with_capacity(FRAME_REPLIES_MAX);
    loop {
        tokio::select! {
            biased;
            () = link.gone() => return,
            count = queue.recv_many(&mut ready, FRAME_REPLIES_MAX) => if count == 0 { return },
        }
        while !ready.is_empty() {
            let replies = Replies {
                replies: take_frame(&mut ready),
            };
            let body = Bytes::from(replies.encode_to_vec());
            if link
                .send(Frame::new(Service::Shard, 0, body))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// As many as fit into one frame.
fn take_frame(ready: &mut Vec<Reply>) -> Vec<Reply> {
    let mut bytes = 0;
    let fits = ready.iter().take_while(|reply| {
        bytes += reply.encoded_len();
        bytes <= FRAME_BYTES_MAX
    });
    let count = fits.count().max(1);
    let rest = ready.split_off(count);
    std::mem::replace(ready, rest)
}
