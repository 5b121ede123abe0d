//! One replica's part of placement: what the node holds of it, and its way in from the links.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use caucus_api::placement::{Request, Response};
use caucus_peer::{Frame, Handler, Link, Service};
use caucus_raft::Group;
use prost::Message;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::controller::Controller;
use crate::oracle::Oracle;
use crate::parts::PlacementParts;
use crate::reports::Reports;
use crate::requests::{self, Question};
use crate::view::CatalogView;

/// Requests from links under way, those that wait for a map included; the oracle's have their own
/// queue.
const REQUESTS_MAX: usize = 8192;

/// A running part of placement, on a leader or a follower alike.
pub struct Placement {
    /// Itself, for the tasks that it starts.
    me: Weak<Placement>,
    pub(crate) group: Group,
    pub(crate) view: Arc<CatalogView>,
    pub(crate) oracle: Oracle,
    pub(crate) reports: Arc<Reports>,
    /// Peer addresses of the first members, until they have registered.
    pub(crate) seeds: BTreeMap<u32, String>,
    permits: Arc<Semaphore>,
    paused: watch::Sender<bool>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Placement {
    /// Starts the oracle and the controller; they do nothing until this replica leads.
    pub fn start(parts: PlacementParts) -> Arc<Placement> {
        let tasks = TaskTracker::new();
        let (paused, is_paused) = watch::channel(false);
        let reports = Arc::new(Reports::new(
            parts.view.clone(),
            parts.clock.clone(),
            parts.liveness,
        ));
        let oracle = Oracle::start(&parts, &tasks);
        let controller = Controller::new(&parts, reports.clone(), is_paused);
        tasks.spawn(controller.run(parts.shutdown.clone()));
        let seeds = parts.voters.into_iter();
        Arc::new_cyclic(|me| Placement {
            me: me.clone(),
            group: parts.group,
            view: parts.view,
            oracle,
            reports,
            seeds: seeds.map(|voter| (voter.node, voter.peer_addr)).collect(),
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            paused,
            tasks,
            shutdown: parts.shutdown,
        })
    }

    /// Answers a request of this process: the same as through a link, without the socket.
    pub async fn handle(&self, request: Request) -> Response {
        match requests::sort(request) {
            Ok(Question::Oracle(wanted)) => {
                let (sender, answer) = oneshot::channel();
                self.ask_oracle(wanted, move |response| {
                    // Whoever gave up meanwhile needs no answer.
                    let _ = sender.send(response);
                });
                answer
                    .await
                    .unwrap_or_else(|_| requests::unavailable("it is shut down"))
            }
            Ok(Question::Other(asked)) => self.answer(asked).await,
            Err(invalid) => invalid,
        }
    }

    /// What is applied here.
    pub fn view(&self) -> &Arc<CatalogView> {
        &self.view
    }

    /// Holds the controller before its next step, or lets it go on.
    pub fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Completes after the shutdown, when the last task has ended.
    pub async fn stopped(&self) {
        self.shutdown.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Itself; `None` only while the last handle is being dropped.
    pub(crate) fn me(&self) -> Option<Arc<Placement>> {
        self.me.upgrade()
    }

    fn take(&self, link: &Arc<Link>, frame: Frame, request: Request) {
        let to = link.clone();
        let asked = match requests::sort(request) {
            Ok(Question::Oracle(wanted)) => {
                return self.ask_oracle(wanted, move |response| reply(&to, &frame, &response));
            }
            Ok(Question::Other(asked)) => asked,
            Err(invalid) => return reply(link, &frame, &invalid),
        };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let busy = requests::unavailable("too many requests are under way");
            return reply(link, &frame, &busy);
        };
        let (Some(this), shutdown) = (self.me(), self.shutdown.clone()) else {
            return;
        };
        self.tasks.spawn(async move {
            tokio::select! {
                response = this.answer(asked) => reply(&to, &frame, &response),
                () = to.gone() => {}
                () = shutdown.cancelled() => {}
            }
            drop(permit);
        });
    }
}

impl Handler for Placement {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        let ours = Service::from_number(frame.service) == Some(Service::Placement);
        if !ours || frame.is_reply() {
            return;
        }
        match Request::decode(frame.body.clone()) {
            Ok(request) => self.take(link, frame, request),
            Err(error) => {
                let invalid = requests::invalid(format!("it cannot be read: {error}"));
                reply(link, &frame, &invalid);
            }
        }
    }
}

fn reply(link: &Link, frame: &Frame, response: &Response) {
    // A link that doesn't keep up is closed by `send_now`; whoever asked asks again on a new one.
    let _ = link.send_now(frame.reply(Bytes::from(response.encode_to_vec())));
}
