//! One request at one group, attempt after attempt, until an answer or the end of its patience.

use std::sync::Arc;

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::{Reply, Request, Write};
use caucus_client::{CallError, Pending};
use caucus_planted as planted;
use caucus_ring::{Epoch, GroupId, NodeId};
use prost::Message;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};

use crate::retry::{Retry, Step, Stumble};
use crate::route::Table;
use crate::{Error, Router};

/// Where a request belongs.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// To the owner of the key, by the newest map at each attempt.
    Key(&'a Bytes),
    /// To this group by this table: the request names vnodes of that map.
    Group(&'a Arc<Table>, GroupId),
}

/// Why a request at one group ended without an answer.
pub(crate) enum Stop {
    /// For good.
    Failed(Error),
    /// A request for a fixed map needs a newer one; it has waited for that already.
    Stale,
}

/// An attempt under way.
pub(crate) struct Sent {
    pub(crate) table: Arc<Table>,
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
}

impl Router {
    /// As [`run_target`](Self::run_target) for a target that follows the map.
    pub(crate) async fn run(
        &self,
        target: Target<'_>,
        body: &Body,
        at_least: u64,
        retry: Retry,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        self.shared.metrics.open.increment(1.0);
        let _open = Open(self);
        let done = self.run_target(target, body, at_least, retry, deadline, None);
        match done.await {
            Ok(reply) => Ok(reply),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Stale) => unreachable!("only for a fixed map"),
        }
    }

    /// Sends until there is an answer. `failed` is an attempt that has already failed.
    pub(crate) async fn run_target(
        &self,
        target: Target<'_>,
        body: &Body,
        at_least: u64,
        mut retry: Retry,
        deadline: Instant,
        failed: Option<(Option<Sent>, Stumble)>,
    ) -> Result<Reply, Stop> {
        let mut body = std::borrow::Cow::Borrowed(body);
        let mut wanted = None;
        if let Some((sent, stumble)) = failed {
            wanted = self
                .stumbled(target, sent, stumble, &mut retry, deadline)
                .await?;
        }
        loop {
            let now = Instant::now();
            let (sent, stumble) = match self.send(target, &body, at_least, wanted, now, deadline) {
                Err(failed) => failed,
                Ok((sent, pending)) => {
                    let ends = deadline.min(now + self.shared.options.attempt_timeout);
                    let answer = timeout_at(ends, pending).await;
                    match self.judge(&sent, answer, now) {
                        Ok(reply) => return Ok(reply),
                        Err(stumble) => (Some(sent), stumble),
                    }
                }
            };
            wanted = self
                .stumbled(target, sent, stumble, &mut retry, deadline)
                .await?;
            if planted::is(planted::RETRIED_UNDER_NEW_ID) {
                body = std::borrow::Cow::Owned(self.renamed(&body));
            }
        }
    }

    /// For a planted bug: the same write under another id.
    fn renamed(&self, body: &Body) -> Body {
        let write = match body {
            Body::Write(encoded) => Write::decode(encoded.clone()).ok(),
            _ => None,
        };
        // One that a client named has that name.
        let Some(write) = write.filter(|write| write.fingerprint == 0) else {
            return body.clone();
        };
        let ticket = self.begin(1);
        let id = Some(ticket.id(0));
        // Never finished, or the group might refuse it for that.
        std::mem::forget(ticket);
        Body::Write(Write { id, ..write }.encode_to_vec().into())
    }

    /// Chooses group and node and queues the request there.
    pub(crate) fn send(
        &self,
        target: Target<'_>,
        body: &Body,
        at_least: u64,
        wanted: Option<NodeId>,
        now: Instant,
        deadline: Instant,
    ) -> Result<(Sent, Pending), (Option<Sent>, Stumble)> {
        let table = match target {
            Target::Key(_) => self.table().ok_or((None, Stumble::NoGroup))?,
            Target::Group(table, _) => table.clone(),
        };
        let group = match target {
            Target::Key(key) => table.route(key),
            Target::Group(_, group) => table.group(group).filter(|group| group.can_serve()),
        };
        let Some(group) = group else {
            return Err((None, Stumble::NoGroup));
        };
        let Some((node, handle)) = table.pick(group, wanted) else {
            return Err((None, Stumble::NoGroup));
        };
        let request = self.request(&table, group.id(), body, at_least, now, deadline);
        let submitted = handle.submit(request);
        let group = group.id();
        let sent = Sent { table, group, node };
        match submitted {
            Ok(pending) => Ok((sent, pending)),
            Err(error) => Err((Some(sent), Stumble::Call(error))),
        }
    }

    /// The request as it is sent; the link fills in its number.
    pub(crate) fn request(
        &self,
        table: &Table,
        group: GroupId,
        body: &Body,
        at_least: u64,
        now: Instant,
        deadline: Instant,
    ) -> Request {
        let left = deadline.saturating_duration_since(now);
        Request {
            call: 0,
            group: group.0,
            epoch: table.epoch().0,
            at_least: at_least.max(self.highest().0),
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            principal: Bytes::new(),
            auth_version: 0,
            rules_version: table.map().rules().version(),
            body: Some(body.clone()),
        }
    }

    /// Whether what came back is an answer.
    pub(crate) fn judge(
        &self,
        sent: &Sent,
        answer: Result<Result<Reply, CallError>, Elapsed>,
        now: Instant,
    ) -> Result<Reply, Stumble> {
        let mut reply = match answer {
            Ok(Ok(_)) if planted::fails(planted::ROUTER_ANSWERED) => return Err(Stumble::NoAnswer),
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(Stumble::Call(error)),
            Err(Elapsed { .. }) => return Err(Stumble::NoAnswer),
        };
        self.saw(reply.revision);
        if let Some(Answer::Error(error)) = &mut reply.body {
            return Err(Stumble::Failure(Failure::from(std::mem::take(error))));
        }
        if let Some(group) = sent.table.group(sent.group) {
            group.answered(sent.node, self.age_ms(now));
        }
        Ok(reply)
    }

    /// Learns from a failed attempt, waits if it must, and says where to send next.
    async fn stumbled(
        &self,
        target: Target<'_>,
        sent: Option<Sent>,
        stumble: Stumble,
        retry: &mut Retry,
        deadline: Instant,
    ) -> Result<Option<NodeId>, Stop> {
        self.shared.metrics.retry(stumble.label());
        planted::at(planted::ROUTER_RETRYING);
        let next = sent.as_ref().and_then(|sent| learn(sent, &stumble));
        match retry.step(stumble, Instant::now(), deadline) {
            Step::GiveUp(error) => Err(Stop::Failed(error)),
            Step::Redirect(leader) => Ok(leader.or(next)),
            Step::Pause(pause) => {
                sleep(pause).await;
                Ok(next)
            }
            Step::Refresh(epoch, pause) => {
                self.refresh(epoch, pause).await;
                match target {
                    Target::Key(_) => Ok(None),
                    Target::Group(..) => Err(Stop::Stale),
                }
            }
        }
    }

    /// Waits for a map of `epoch`; if there is one already, the group has only not got so far yet.
    async fn refresh(&self, epoch: Epoch, pause: std::time::Duration) {
        let maps = &self.shared.maps;
        if maps.epoch() >= epoch {
            sleep(pause).await;
            return;
        }
        maps.refresh(epoch);
        tokio::select! {
            () = maps.reach(epoch) => {}
            () = sleep(pause) => {}
        }
    }
}

/// Notes in the table what a failed attempt says of the group's leader; the node to try instead.
pub(crate) fn learn(sent: &Sent, stumble: &Stumble) -> Option<NodeId> {
    let group = sent.table.group(sent.group)?;
    match stumble {
        Stumble::Failure(Failure::NotLeader {
            leader: Some(leader),
        }) => {
            group.named(NodeId(*leader));
            None
        }
        Stumble::Failure(
            Failure::NotLeader { leader: None } | Failure::NoReplica | Failure::Internal(_),
        )
        | Stumble::Call(CallError::Unreachable { .. } | CallError::Broken { .. })
        | Stumble::NoAnswer => {
            group.failed(sent.node);
            group.after(sent.node)
        }
        // It may be a leader that lost its majority and doesn't know of the next one. Or the oracle
        // is gone for all: then the other replica names this one again at once.
        Stumble::Failure(Failure::Unavailable { .. }) => group.after(sent.node),
        Stumble::Failure(
            Failure::Moved { .. }
            | Failure::Busy(_)
            | Failure::NoSpace
            | Failure::Expired
            | Failure::FutureRevision
            | Failure::Compacted { .. }
            | Failure::Conflict
            | Failure::NameTaken
            | Failure::Invalid(_)
            | Failure::Deadline { .. }
            | Failure::Rules,
        )
        | Stumble::Call(CallError::Busy { .. })
        | Stumble::NoGroup => None,
    }
}

/// Counts an open operation out again.
struct Open<'a>(&'a Router);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.shared.metrics.open.decrement(1.0);
    }
}
