//! The sending side of one replica towards another.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use caucus_peer::{CallError, Lane, Peer, Peers, Service};
use caucus_planted as planted;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream};
use openraft::RaftNetworkFactory;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message;
use tokio::sync::watch;

use super::{Directory, snapshot_out};
use crate::state::StateSnapshot;
use crate::types::{Member, TypeConfig, Vote};
use crate::wire;

/// Appends that one stream has under way.
pub(super) const APPENDS_UNDER_WAY_MAX: usize = 64;
/// An append that isn't answered for so long is lost, and its stream with it. Longer than openraft's
/// own limit (a heartbeat interval): a follower may be busy with its disk, and a lost link is noticed
/// as such.
const APPEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Votes wait for the disk of the other side.
const VOTE_TIMEOUT: Duration = Duration::from_millis(1500);

/// After an append the next request is taken when there are entries for it, or so much later. Without
/// new entries it says only that those of the last one are committed; with them it says so too, and
/// is saved. A follower has no hurry to hear it: nobody reads there.
const COMMIT_DELAY: Duration = Duration::from_millis(10);

/// Makes the [`Dialer`]s of one group.
#[derive(Clone)]
pub(crate) struct DialerFactory {
    pub(crate) group: u32,
    pub(crate) peers: Arc<Peers>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) snapshot_chunk_bytes: usize,
    /// The last index of the log of this side.
    pub(crate) appended: watch::Sender<u64>,
}

/// One replica, seen from another.
pub(crate) struct Dialer {
    pub(super) to: wire::To,
    node: u32,
    factory: DialerFactory,
    service: Service,
}

impl RaftNetworkFactory<TypeConfig> for DialerFactory {
    type Network = Dialer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Dialer {
        self.dialer(target, node, Service::RaftAppend)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Dialer {
        self.dialer(target, node, Service::RaftHeartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Dialer {
        self.dialer(target, node, Service::RaftSnapshot)
    }
}

impl DialerFactory {
    fn dialer(&self, replica: u64, node: &Member, service: Service) -> Dialer {
        Dialer {
            to: wire::To {
                group: self.group,
                replica,
            },
            node: node.node,
            factory: self.clone(),
            service,
        }
    }
}

impl Dialer {
    pub(super) fn peer(&self) -> Result<Arc<Peer>, Unreachable<TypeConfig>> {
        match self.factory.directory.peer_addr(self.node) {
            Some(addr) => Ok(self.factory.peers.peer(&addr)),
            None => Err(Unreachable::from_string(format!(
                "the address of node {} is unknown",
                self.node
            ))),
        }
    }

    async fn lane(&self) -> Result<(Arc<Peer>, Lane), RPCError<TypeConfig>> {
        let peer = self.peer().map_err(RPCError::Unreachable)?;
        let lane = peer.lane().await.map_err(rpc_error)?;
        Ok((peer, lane))
    }

    async fn call(
        &self,
        service: Service,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, RPCError<TypeConfig>> {
        let peer = self.peer().map_err(RPCError::Unreachable)?;
        let answer = peer.call(service, Bytes::from(body), limit).await;
        answer.map_err(rpc_error)
    }

    async fn ask_for_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::VoteRequest {
            to: self.to,
            vote: rpc.vote.into(),
            last: rpc.last_log_id.map(Into::into),
            transfer: rpc.leadership_transfer,
            pre_vote,
        };
        let body = self
            .call(Service::RaftVote, request.encode_to_vec(), VOTE_TIMEOUT)
            .await?;
        let response = wire::VoteResponse::decode(body).map_err(unreadable)?;
        let vote = response.vote.ok_or_else(unavailable)?;
        Ok(VoteResponse::new(
            Vote::from(vote),
            response.last.map(Into::into),
            response.granted,
        ))
    }
}

pub(super) fn rpc_error(error: CallError) -> RPCError<TypeConfig> {
    match error {
        CallError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
        CallError::Broken { .. } | CallError::Timeout { .. } | CallError::Malformed { .. } => {
            RPCError::Network(NetworkError::new(&error))
        }
    }
}

fn unreadable(error: prost::DecodeError) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

fn unavailable() -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string("the replica is not running there"))
}

fn encode_append(
    to: wire::To,
    stream: u64,
    rpc: AppendEntriesRequest<TypeConfig>,
) -> wire::AppendRequest {
    wire::AppendRequest {
        to,
        stream,
        vote: rpc.vote.into(),
        prev: rpc.prev_log_id.map(Into::into),
        entries: rpc.entries.iter().map(wire::Entry::from).collect(),
        commit: rpc.leader_commit.map(Into::into),
    }
}

fn append_result(body: Bytes) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
    let response = wire::AppendResponse::decode(body).map_err(unreadable)?;
    match (response.result(), response.log_id, response.higher) {
        (wire::AppendResult::Matched, log_id, _) => Ok(Ok(log_id.map(Into::into))),
        (wire::AppendResult::Conflict, Some(log_id), _) => {
            Ok(Err(StreamAppendError::Conflict(log_id.into())))
        }
        (wire::AppendResult::HigherVote, _, Some(vote)) => {
            Ok(Err(StreamAppendError::HigherVote(vote.into())))
        }
        (wire::AppendResult::Conflict, None, _)
        | (wire::AppendResult::HigherVote, _, None)
        | (wire::AppendResult::Unavailable, _, _) => Err(unavailable()),
    }
}

/// openraft's requests of one append stream, taken as [`COMMIT_DELAY`] says.
struct Unhurried<S> {
    input: S,
    appended: watch::Receiver<u64>,
    /// The last entry of the last request, if it had entries.
    sent: Option<u64>,
}

impl<S> Unhurried<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    fn new(input: S, appended: watch::Receiver<u64>) -> Self {
        Unhurried {
            input,
            appended,
            sent: None,
        }
    }

    fn into_stream(self) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send {
        futures::stream::unfold(self, |mut this| async move {
            if let Some(sent) = this.sent {
                let more = this.appended.wait_for(|last| *last > sent);
                // Over time, or the log is gone: openraft knows what comes next.
                let _ = tokio::time::timeout(COMMIT_DELAY, more).await;
            }
            let request = this.input.next().await?;
            this.sent = request.entries.last().map(|entry| entry.log_id.index);
            Some((request, this))
        })
    }
}

type Appended<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

impl NetStreamAppend<TypeConfig> for Dialer {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Appended<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        static STREAMS: AtomicU64 = AtomicU64::new(1);
        Box::pin(async move {
            let (peer, lane) = match self.lane().await {
                Ok(found) => found,
                Err(error) => {
                    // openraft waits out its backoff where a request is taken: without one taken it
                    // would be here again at once, for as long as the peer is down.
                    input.next().await;
                    return Err(error);
                }
            };
            let stream = STREAMS.fetch_add(1, Ordering::Relaxed);
            let (to, service) = (self.to, self.service);
            let limit = match service {
                Service::RaftHeartbeat => option.hard_ttl(),
                _ => APPEND_TIMEOUT,
            };
            // Each request is queued when it is taken from `input`, so they arrive in order;
            // only the answers are waited for side by side.
            let requests = Unhurried::new(input, self.factory.appended.subscribe()).into_stream();
            let answers = requests.map(move |rpc| {
                let last = rpc.entries.last().map(|entry| entry.log_id);
                let body = Bytes::from(encode_append(to, stream, rpc).encode_to_vec());
                let asked = lane.ask(service, body);
                let peer = peer.clone();
                async move {
                    if planted::is(planted::ACKED_BEFORE_QUORUM) && last.is_some() {
                        return Ok(Ok(last));
                    }
                    let answer = tokio::time::timeout(limit, asked.map_err(rpc_error)?).await;
                    let body = answer
                        .unwrap_or_else(|_| Err(peer.timed_out()))
                        .map_err(rpc_error)?;
                    append_result(body)
                }
            });
            Ok(answers.buffered(APPENDS_UNDER_WAY_MAX).boxed())
        })
    }
}

impl NetVote<TypeConfig> for Dialer {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(rpc, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(rpc, true).await
    }
}

impl NetTransferLeader<TypeConfig> for Dialer {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::TransferRequest {
            to: self.to,
            from: (*req.from_leader()).into(),
            target: *req.to_node_id(),
            last: req.last_log_id().copied().map(Into::into),
        };
        let limit = option.hard_ttl().max(Duration::from_millis(500));
        self.call(Service::RaftTransfer, request.encode_to_vec(), limit)
            .await?;
        Ok(Ok(()))
    }
}

impl NetSnapshot<TypeConfig> for Dialer {
    type SnapshotData = StateSnapshot;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: crate::state::OpenraftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let StateSnapshot::View(source) = snapshot.snapshot else {
            return Err(StreamingError::Network(NetworkError::from_string(
                "a staged state is not there to be sent",
            )));
        };
        let chunk_bytes = self.factory.snapshot_chunk_bytes;
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = snapshot_out::send(self, vote, source, chunk_bytes) => sent,
        }
    }
}

impl NetBackoff<TypeConfig> for Dialer {
    fn backoff(&self) -> Option<Backoff> {
        // A peer that can't be reached now is asked again soon: it is most often restarting, and an
        // attempt costs little.
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(100))))
    }
}
