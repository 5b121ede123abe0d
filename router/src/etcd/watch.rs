//! The Watch service: many watches on one stream.
//!
//! Answers are made only as the client takes them, so a client that takes none holds back its own watches
//! and nothing else. A watch at a revision that isn't granted yet waits for it. Marks of progress are told
//! when every event up to them has been.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use bytes::Bytes;
use caucus_api::shard::Record;
use caucus_etcd::etcdserverpb::watch_create_request::FilterType;
use caucus_etcd::etcdserverpb::watch_request::RequestUnion;
use caucus_etcd::etcdserverpb::watch_server::Watch;
use caucus_etcd::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use caucus_etcd::mvccpb::event::EventType;
use caucus_etcd::mvccpb::{Event as EtcdEvent, KeyValue};
use caucus_etcd::{CancelReason, NO_WATCH, check};
use caucus_ring::Revision;
use futures::Stream;
use futures::stream::unfold;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status, Streaming};

use super::Etcd;
use super::reply::{self, refused};
use crate::watch::{End, Event, Parcel, Told, WatchSpec, Watches};

/// Watches of one stream.
const WATCHES_MAX: usize = 1 << 20;
/// Answers are divided, for clients that ask for it, when they are larger than this.
const FRAGMENT_BYTES: usize = check::MAX_REQUEST_BYTES;

type Answers = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Watch for Etcd {
    type WatchStream = Answers;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let session = Session {
            watches: self.router.watches(),
            etcd: self.clone(),
            asked: Some(request.into_inner()),
            open: HashMap::new(),
            next_id: 0,
            answers: VecDeque::new(),
            wanted: Vec::new(),
            next_progress: Instant::now() + self.options.watch_progress_interval,
        };
        let answers = unfold(Some(session), |session| async {
            let mut session = session?;
            match session.next().await {
                Ok(answer) => Some((Ok(answer), Some(session))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// One stream.
struct Session {
    etcd: Etcd,
    watches: Watches,
    /// `None`: the client will ask for nothing more.
    asked: Option<Streaming<WatchRequest>>,
    open: HashMap<i64, Open>,
    /// The next number of those that the client leaves to be chosen.
    next_id: i64,
    answers: VecDeque<WatchResponse>,
    /// Progress that the client asked for, and the watches that haven't got so far.
    wanted: Vec<(Revision, Vec<i64>)>,
    next_progress: Instant,
}

/// What a client said of a watch.
struct Open {
    no_put: bool,
    no_delete: bool,
    previous: bool,
    fragment: bool,
    /// It wants to hear how far it has got when nothing happens.
    progress_notify: bool,
    /// Whether something was told since the last mark.
    told: bool,
}

impl Session {
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(answer);
            }
            tokio::select! {
                asked = asked(&mut self.asked) => match asked? {
                    Some(request) => self.ask(request).await?,
                    // What is open goes on until the client goes.
                    None => self.asked = None,
                },
                parcel = self.watches.next() => self.take(parcel),
                () = sleep_until(self.next_progress) => self.notify_progress().await,
                () = self.etcd.shutdown.cancelled() => {
                    return Err(Status::unavailable("etcdserver: server stopped"));
                }
            }
        }
    }

    async fn ask(&mut self, request: WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })) => {
                if self.open.remove(&watch_id).is_some() {
                    self.watches.close(watch_id as u64);
                    let revision = self.etcd.router.highest();
                    self.answers.push_back(WatchResponse {
                        canceled: true,
                        ..self.answer(watch_id, revision)
                    });
                    self.reached(watch_id, u64::MAX);
                }
                Ok(())
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                let revision = self.etcd.router.granted(self.deadline()).await;
                let revision = revision.map_err(refused)?;
                let all: Vec<i64> = self.open.keys().copied().collect();
                for watch in &all {
                    self.watches.reach(*watch as u64, revision);
                }
                self.wanted.push((revision, all));
                self.reached(NO_WATCH, 0);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, create: WatchCreateRequest) -> Result<(), Status> {
        let deadline = self.deadline();
        let current = self.etcd.router.granted(deadline).await.map_err(refused)?;
        let refusal = match &create {
            create if is_empty(create) => Some(CancelReason::EmptyRange.to_string()),
            create if self.open.contains_key(&create.watch_id) && create.watch_id != 0 => {
                Some(CancelReason::DuplicateId.to_string())
            }
            _ if self.open.len() >= WATCHES_MAX => Some(format!(
                "caucus: a stream has at most {WATCHES_MAX} watches"
            )),
            _ => None,
        };
        if let Some(reason) = refusal {
            self.answers.push_back(WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: reason,
                ..self.answer(NO_WATCH, current)
            });
            return Ok(());
        }
        let id = match create.watch_id {
            0 => self.choose_id(),
            id => id,
        };
        let spec = spec(&create, current);
        let opened = self.watches.open(id as u64, &spec, deadline).await;
        opened.map_err(refused)?;
        let filters = |filter| create.filters().any(|other| other == filter);
        let open = Open {
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            previous: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            told: false,
        };
        self.open.insert(id, open);
        self.answers.push_back(WatchResponse {
            created: true,
            ..self.answer(id, current)
        });
        Ok(())
    }

    fn choose_id(&mut self) -> i64 {
        while self.open.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn take(&mut self, parcel: Parcel) {
        let id = parcel.watch as i64;
        let (events, through) = match parcel.told {
            Told::Events { events, through } => (events, through),
            Told::Ended(end) => return self.ended(id, end),
        };
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let fragment = open.fragment;
        let wanted = events.iter().filter(|event| match event.record {
            Some(_) => !open.no_put,
            None => !open.no_delete,
        });
        let events: Vec<EtcdEvent> = wanted.map(|event| told(event, open.previous)).collect();
        if !events.is_empty() {
            open.told = true;
            let answer = self.answer(id, Revision(through));
            self.send(answer, events, fragment);
        } else if open.progress_notify && !open.told && self.wanted.is_empty() {
            open.told = true;
            let mark = self.answer(id, Revision(through));
            self.answers.push_back(mark);
        }
        self.reached(id, through);
    }

    /// Sends events, divided if the client can put them together again.
    fn send(&mut self, answer: WatchResponse, events: Vec<EtcdEvent>, fragment: bool) {
        let size = |event: &EtcdEvent| prost::Message::encoded_len(event);
        if !fragment {
            return self.answers.push_back(WatchResponse { events, ..answer });
        }
        let mut bytes = 0;
        let mut part = WatchResponse {
            fragment: true,
            ..answer.clone()
        };
        for event in events {
            let more = size(&event);
            if bytes > 0 && bytes + more > FRAGMENT_BYTES {
                let next = WatchResponse {
                    fragment: true,
                    ..answer.clone()
                };
                self.answers.push_back(std::mem::replace(&mut part, next));
                bytes = 0;
            }
            bytes += more;
            part.events.push(event);
        }
        part.fragment = false;
        self.answers.push_back(part);
    }

    fn ended(&mut self, id: i64, end: End) {
        self.open.remove(&id);
        let answer = self.answer(id, self.etcd.router.highest());
        let answer = WatchResponse {
            canceled: true,
            ..answer
        };
        self.answers.push_back(match end {
            // The lowest revision that a watch may have: what was replaced at this one is gone.
            End::Compacted { revision } => WatchResponse {
                compact_revision: revision as i64 + 1,
                ..answer
            },
            End::Lagging { resume } => WatchResponse {
                cancel_reason: format!("caucus: too slow; a watch from {resume} on misses nothing"),
                ..answer
            },
            End::Refused(why) => WatchResponse {
                cancel_reason: format!("caucus: {why}"),
                ..answer
            },
        });
        self.reached(id, u64::MAX);
    }

    /// A watch has got to a revision: tells the progress that all have got to.
    fn reached(&mut self, id: i64, through: u64) {
        for (revision, missing) in &mut self.wanted {
            if through >= revision.0 {
                missing.retain(|other| *other != id);
            }
        }
        let (over, wanted) = std::mem::take(&mut self.wanted)
            .into_iter()
            .partition(|(_, missing)| missing.is_empty());
        self.wanted = wanted;
        let over: Vec<(Revision, Vec<i64>)> = over;
        for (revision, _) in over {
            let mark = self.answer(NO_WATCH, revision);
            self.answers.push_back(mark);
        }
    }

    /// Lets the watches that want to hear of it, and have heard nothing lately, say how far they have got.
    async fn notify_progress(&mut self) {
        self.next_progress = Instant::now() + self.etcd.options.watch_progress_interval;
        let mut quiet = Vec::new();
        for (id, open) in self
            .open
            .iter_mut()
            .filter(|(_, open)| open.progress_notify)
        {
            if !std::mem::take(&mut open.told) {
                quiet.push(*id);
            }
        }
        if quiet.is_empty() {
            return;
        }
        // Without an oracle there is nothing to say.
        if let Ok(revision) = self.etcd.router.granted(self.deadline()).await {
            for id in quiet {
                self.watches.reach(id as u64, revision);
            }
        }
    }

    fn answer(&self, watch_id: i64, revision: Revision) -> WatchResponse {
        WatchResponse {
            header: Some(self.etcd.header(revision)),
            watch_id,
            ..WatchResponse::default()
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.etcd.router.options().timeout
    }
}

async fn asked(
    stream: &mut Option<Streaming<WatchRequest>>,
) -> Result<Option<WatchRequest>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// A range that ends where it starts, or before.
fn is_empty(create: &WatchCreateRequest) -> bool {
    let end = &create.range_end;
    !end.is_empty() && end[..] != [0] && first(create) >= *end
}

/// Without a key: the smallest.
fn first(create: &WatchCreateRequest) -> Bytes {
    match create.key.is_empty() {
        true => Bytes::from_static(&[0]),
        false => create.key.clone(),
    }
}

fn spec(create: &WatchCreateRequest, current: Revision) -> WatchSpec {
    let end = match &create.range_end[..] {
        [] => None,
        // From the key on.
        [0] => Some(Bytes::new()),
        _ => Some(create.range_end.clone()),
    };
    let from = match u64::try_from(create.start_revision) {
        Ok(0) | Err(_) => Revision(current.0 + 1),
        Ok(from) => Revision(from),
    };
    WatchSpec {
        start: first(create),
        end,
        from: Some(from),
        previous: create.prev_kv,
        by_group: false,
    }
}

fn told(event: &Event, with_previous: bool) -> EtcdEvent {
    let previous = event.previous.as_ref().filter(|_| with_previous);
    let (kind, kv) = match &event.record {
        Some(record) => (EventType::Put, key_value(&event.key, record)),
        None => {
            let deleted = KeyValue {
                key: event.key.clone(),
                mod_revision: event.revision as i64,
                ..KeyValue::default()
            };
            (EventType::Delete, deleted)
        }
    };
    EtcdEvent {
        r#type: kind as i32,
        kv: Some(kv),
        prev_kv: previous.map(|record| key_value(&event.key, record)),
    }
}

fn key_value(key: &Bytes, record: &Record) -> KeyValue {
    // What isn't shown isn't copied.
    let shown = Record {
        value: record.value.clone(),
        content_type: String::new(),
        ..*record
    };
    reply::key_value(key.clone(), shown)
}
