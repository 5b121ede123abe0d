//! The receiving side: frames of the Raft services, for all replicas of this node.
//!
//! Appends of one stream go to openraft in order and are answered as their writes become durable;
//! all else is answered by a task of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use caucus_engine::Engine;
use caucus_peer::{Frame, Handler, Link, Service};
use futures::StreamExt;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest,
};
use prost::Message;
use tokio::sync::mpsc;

use super::send::APPENDS_UNDER_WAY_MAX;
use super::snapshot_in::Staging;
use crate::log::Log;
use crate::pulse::Heard;
use crate::state::Places;
use crate::types::{Raft, TypeConfig};
use crate::wire;

/// A replica as the inbox knows it.
pub(crate) struct Seat {
    raft: Raft,
    log: Arc<Log>,
    heard: Arc<Heard>,
    appends: Mutex<HashMap<u64, Stream>>,
    snapshots: Mutex<HashMap<u64, mpsc::Sender<(Frame, wire::SnapshotChunk)>>>,
}

/// An append stream of one link.
struct Stream {
    id: u64,
    requests: mpsc::Sender<(Frame, AppendEntriesRequest<TypeConfig>)>,
}

impl Seat {
    pub(crate) fn new(raft: Raft, log: Arc<Log>, heard: Arc<Heard>) -> Seat {
        Seat {
            raft,
            log,
            heard,
            appends: Mutex::new(HashMap::new()),
            snapshots: Mutex::new(HashMap::new()),
        }
    }

    fn answer(&self, result: StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            self.heard.now();
        }
        append_response(result)
    }
}

/// Takes the frames of the Raft services.
pub struct Inbox {
    engine: Arc<dyn Engine>,
    places: Arc<Places>,
    seats: RwLock<HashMap<(u32, u64), Arc<Seat>>>,
}

impl Inbox {
    pub(crate) fn new(engine: Arc<dyn Engine>, places: Arc<Places>) -> Inbox {
        Inbox {
            engine,
            places,
            seats: RwLock::new(HashMap::new()),
        }
    }

    pub(crate) fn seat(&self, group: u32, replica: u64, seat: Seat) {
        let mut seats = self.seats.write().expect("no panic under this lock");
        seats.insert((group, replica), Arc::new(seat));
    }

    pub(crate) fn unseat(&self, group: u32, replica: u64) {
        let mut seats = self.seats.write().expect("no panic under this lock");
        seats.remove(&(group, replica));
    }

    fn find(&self, to: wire::To) -> Option<Arc<Seat>> {
        let seats = self.seats.read().expect("no panic under this lock");
        seats.get(&(to.group, to.replica)).cloned()
    }

    fn append(&self, link: &Arc<Link>, frame: Frame) -> Result<(), prost::DecodeError> {
        let request = wire::AppendRequest::decode(frame.body.clone())?;
        let Some(seat) = self.find(request.to) else {
            reply(link, &frame, &wire::AppendResponse::default());
            return Ok(());
        };
        let stream = request.stream;
        let request = (frame, append_request(request));
        let mut appends = seat.appends.lock().expect("no panic under this lock");
        let rejected = match appends.get(&link.id()) {
            // After a failed append the stream's task is gone, and the rest of it isn't wanted.
            Some(open) if open.id == stream => open.requests.try_send(request).err(),
            _ => {
                let (requests, queue) = mpsc::channel(4 * APPENDS_UNDER_WAY_MAX);
                let first = requests.try_send(request).err();
                appends.insert(
                    link.id(),
                    Stream {
                        id: stream,
                        requests,
                    },
                );
                let serving = serve_appends(seat.clone(), link.clone(), stream, queue);
                tokio::spawn(serving);
                first
            }
        };
        if let Some(mpsc::error::TrySendError::Full((frame, _))) = rejected {
            // A sender has no more than the window under way; this one doesn't count.
            reply(link, &frame, &wire::AppendResponse::default());
        }
        Ok(())
    }

    fn heartbeat(&self, link: &Arc<Link>, frame: Frame) -> Result<(), prost::DecodeError> {
        let request = wire::AppendRequest::decode(frame.body.clone())?;
        let Some(seat) = self.find(request.to) else {
            reply(link, &frame, &wire::AppendResponse::default());
            return Ok(());
        };
        let link = link.clone();
        tokio::spawn(async move {
            let rpc = append_request(request);
            let (prev, last) = (rpc.prev_log_id, rpc.prev_log_id);
            let response = match seat.raft.append_entries(rpc).await {
                Ok(response) => seat.answer(response.into_stream_result(prev, last)),
                Err(_) => wire::AppendResponse::default(),
            };
            reply(&link, &frame, &response);
        });
        Ok(())
    }

    /// Answered at once: it takes a look at each log's vote and no more.
    fn standing(&self, link: &Arc<Link>, frame: Frame) -> Result<(), prost::DecodeError> {
        let question = wire::StandingQuestion::decode(frame.body.clone())?;
        let upheld = |asked: &wire::Standing| {
            let seat = self.find(asked.to);
            seat.is_some_and(|seat| seat.log.upholds(asked.term, asked.leader))
        };
        let stands = question.leaders.iter().map(upheld).collect();
        reply(link, &frame, &wire::StandingAnswer { stands });
        Ok(())
    }

    /// A replica that is stored and doesn't run yet is asked again.
    fn blank(&self, link: &Arc<Link>, frame: Frame) -> Result<(), prost::DecodeError> {
        let to = wire::To::decode(frame.body.clone())?;
        let is_blank = match self.find(to) {
            Some(seat) => seat.log.is_blank(),
            None => !self.places.replicas().contains(&(to.group, to.replica)),
        };
        reply(link, &frame, &wire::BlankAnswer { is_blank });
        Ok(())
    }

    fn vote(&self, link: &Arc<Link>, frame: Frame) -> Result<(), prost::DecodeError> {
        let request = wire::VoteRequest::decode(frame.body.clone())?;
        let Some(seat) = self.find(request.to) else {
            reply(link, &frame, &wire::VoteResponse::default());
            return Ok(());
        };
        let link = link.clone();
        tokio::spawn(async move {
            let mut rpc = VoteRequest::new(request.vote.into(), request.last.map(Into::into));
            rpc.leadership_transfer = request.transfer;
            let response = match request.pre_vote {
                true => seat.raft.pre_vote(rpc).await,
                false => seat.raft.vote(rpc).await,
            };
            let response = match response {
                Ok(response) => wire::VoteResponse {
                    vote: Some(response.vote.into()),
                    granted: response.vote_granted,
                    last: response.last_log_id.map(Into::into),
                },
                Err(_) => wire::VoteResponse::default(),
            };
            reply(&link, &frame, &response);
        });
        Ok(())
    }

    fn transfer(&self, link: &Arc<Link>, frame: Frame) -> Result<(), prost::DecodeError> {
        let request = wire::TransferRequest::decode(frame.body.clone())?;
        let link = link.clone();
        let seat = self.find(request.to);
        tokio::spawn(async move {
            if let Some(seat) = seat {
                let request = TransferLeaderRequest::new(
                    request.from.into(),
                    request.target,
                    request.last.map(Into::into),
                );
                if let Err(error) = seat.raft.handle_transfer_leader(request).await {
                    tracing::warn!(%error, "a leadership transfer cannot be taken");
                }
            }
            // Fire and forget, as openraft has it; a lost transfer ends in an election.
            let _ = link.send(frame.reply(Bytes::new())).await;
        });
        Ok(())
    }

    fn snapshot(&self, link: &Arc<Link>, frame: Frame) -> Result<(), prost::DecodeError> {
        let chunk = wire::SnapshotChunk::decode(frame.body.clone())?;
        let refuse = |reason: &str| wire::SnapshotResponse {
            reason: reason.to_owned(),
            ..wire::SnapshotResponse::default()
        };
        let Some(seat) = self.find(chunk.to) else {
            reply(link, &frame, &refuse("the replica is not running here"));
            return Ok(());
        };
        let mut snapshots = seat.snapshots.lock().expect("no panic under this lock");
        if chunk.sequence == 0 {
            let (chunks, queue) = mpsc::channel(APPENDS_UNDER_WAY_MAX);
            snapshots.insert(link.id(), chunks);
            match Staging::new(self.engine.clone(), &self.places) {
                Ok(staging) => {
                    tokio::spawn(serve_snapshot(seat.clone(), link.clone(), staging, queue));
                }
                Err(error) => {
                    reply(link, &frame, &refuse(&error.to_string()));
                    return Ok(());
                }
            }
        }
        let sent = match snapshots.get(&link.id()) {
            Some(chunks) => chunks.try_send((frame, chunk)).map_err(|e| e.into_inner()),
            None => Err((frame, chunk)),
        };
        if let Err((frame, _)) = sent {
            reply(link, &frame, &refuse("this transfer has ended"));
        }
        Ok(())
    }
}

impl Handler for Inbox {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        let taken = match Service::from_number(frame.service) {
            Some(Service::RaftAppend) => self.append(link, frame),
            Some(Service::RaftHeartbeat) => self.heartbeat(link, frame),
            Some(Service::RaftStanding) => self.standing(link, frame),
            Some(Service::RaftBlank) => self.blank(link, frame),
            Some(Service::RaftVote) => self.vote(link, frame),
            Some(Service::RaftTransfer) => self.transfer(link, frame),
            Some(Service::RaftSnapshot) => self.snapshot(link, frame),
            Some(Service::Hello | Service::Shard | Service::Placement) | None => Ok(()),
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "a peer sent a Raft message that cannot be read");
            link.close();
        }
    }
}

async fn serve_appends(
    seat: Arc<Seat>,
    link: Arc<Link>,
    id: u64,
    queue: mpsc::Receiver<(Frame, AppendEntriesRequest<TypeConfig>)>,
) {
    let asked: Arc<Mutex<VecDeque<Frame>>> = Arc::default();
    let asking = asked.clone();
    let requests = futures::stream::unfold(queue, |mut queue| async move {
        Some((queue.recv().await?, queue))
    })
    .map(move |(frame, request)| {
        asking
            .lock()
            .expect("no panic under this lock")
            .push_back(frame);
        request
    });
    let answer = async {
        let mut results = std::pin::pin!(seat.raft.stream_append(requests));
        while let Some(result) = results.next().await {
            let frame = asked.lock().expect("no panic under this lock").pop_front();
            let Some(frame) = frame else { return };
            let failed = !matches!(result, Ok(Ok(_)));
            let response = match result {
                Ok(result) => seat.answer(result),
                Err(_) => wire::AppendResponse::default(),
            };
            reply(&link, &frame, &response);
            if failed {
                return;
            }
        }
    };
    tokio::select! {
        () = answer => {}
        () = link.gone() => {}
    }
    let mut appends = seat.appends.lock().expect("no panic under this lock");
    // A failed stream stays noted, so that what is left of it is not taken for a new one.
    if link.is_gone() && appends.get(&link.id()).is_some_and(|open| open.id == id) {
        appends.remove(&link.id());
    }
}

async fn serve_snapshot(
    seat: Arc<Seat>,
    link: Arc<Link>,
    mut staging: Staging,
    mut queue: mpsc::Receiver<(Frame, wire::SnapshotChunk)>,
) {
    let take = async {
        while let Some((frame, chunk)) = queue.recv().await {
            let response = staging.take(&seat.raft, chunk).await;
            let refused = !response.accepted;
            reply(&link, &frame, &response);
            if refused {
                return;
            }
        }
    };
    tokio::select! {
        () = take => {}
        () = link.gone() => {}
    }
    let mut snapshots = seat.snapshots.lock().expect("no panic under this lock");
    snapshots.remove(&link.id());
}

fn reply(link: &Link, frame: &Frame, message: &impl Message) {
    // A link that doesn't keep up is closed by `send_now`; the sender asks again on a new one.
    let _ = link.send_now(frame.reply(Bytes::from(message.encode_to_vec())));
}

fn append_request(request: wire::AppendRequest) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: request.vote.into(),
        prev_log_id: request.prev.map(Into::into),
        entries: request.entries.into_iter().map(Into::into).collect(),
        leader_commit: request.commit.map(Into::into),
    }
}

fn append_response(result: StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
    let mut response = wire::AppendResponse::default();
    match result {
        Ok(matched) => {
            response.set_result(wire::AppendResult::Matched);
            response.log_id = matched.map(Into::into);
        }
        Err(StreamAppendError::Conflict(log_id)) => {
            response.set_result(wire::AppendResult::Conflict);
            response.log_id = Some(log_id.into());
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            response.set_result(wire::AppendResult::HigherVote);
            response.higher = Some(vote.into());
        }
    }
    response
}
