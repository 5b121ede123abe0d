//! The task that answers those who watch a group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use caucus_api::shard::{Event, Follow, Followed};
use caucus_api::{Failure, ReplyTo};
use caucus_planted as planted;
use caucus_raft::{Group, aside};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::mark::mark;
use super::past::past;
use super::session::{Session, Waiting, interests, wants};
use crate::inflight::InFlight;
use crate::metrics::Meters;
use crate::state::Published;

/// Routers that a group knows.
const SESSIONS_MAX: usize = 1024;
/// Keys and ranges that a router may watch in a group.
const INTERESTS_MAX: usize = 1 << 20;
/// A router that hasn't asked for so long has gone, or asks elsewhere.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// The longest that a question is kept open.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A router's question.
pub(crate) struct FollowJob {
    pub(crate) call: u64,
    pub(crate) at_least: u64,
    pub(crate) rules_version: u64,
    pub(crate) follow: Follow,
    pub(crate) reply: ReplyTo,
}

/// What it works with.
pub(crate) struct Hub {
    pub(crate) group: Group,
    pub(crate) published: Arc<Published>,
    pub(crate) inflight: Arc<InFlight>,
    /// Of all groups of the node.
    pub(crate) long_reads: Arc<Semaphore>,
    pub(crate) meters: Arc<Meters>,
}

/// What came of work beside the task.
enum Done {
    Marked(Result<(), Failure>),
    Read(Reading, Result<(Vec<Event>, u64), Failure>),
}

/// For which session it was done, and the number of that work.
#[derive(Clone, Copy)]
struct Reading {
    watcher: u64,
    number: u64,
}

/// What it knows.
#[derive(Default)]
struct State {
    sessions: HashMap<u64, Session>,
    work: JoinSet<Done>,
    marking: bool,
    /// Counts the work for sessions.
    numbers: u64,
}

impl Hub {
    /// Runs until the queue is closed.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<FollowJob>) {
        let mut state = State::default();
        let mut position = self.published.feed().watch();
        let mut leadership = self.group.watch_leadership();
        loop {
            let next = state.next_answer();
            tokio::select! {
                job = queue.recv() => match job {
                    Some(job) => self.take(&mut state, job),
                    None => return,
                },
                Ok(()) = position.changed() => self.serve_all(&mut state),
                Ok(()) = leadership.changed() => {
                    if !leadership.borrow_and_update().here {
                        let leader = self.group.leadership().leader;
                        state.fail_all(&Failure::NotLeader { leader });
                    }
                }
                Some(done) = state.work.join_next() => self.finished(&mut state, done.ok()),
                () = tokio::time::sleep_until(next) => self.serve_all(&mut state),
            }
        }
    }

    fn take(&self, state: &mut State, job: FollowJob) {
        let follow = &job.follow;
        let now = Instant::now();
        let waiting = Waiting {
            call: job.call,
            at_least: job.at_least,
            reply: job.reply,
            until: now + WAIT_MAX.min(Duration::from_millis(u64::from(follow.wait_ms))),
            reach: follow.reach,
        };
        let scope = self.published.scope();
        if let Err(failure) = interests(&scope, &follow.add, job.rules_version) {
            return waiting.fail(failure);
        }
        let known = state.sessions.get(&follow.watcher).map(|known| known.turn);
        let in_step = match (follow.anew, known) {
            // One that was long under way must not take back what came after it.
            (true, Some(turn)) => turn < follow.turn,
            (true, None) => true,
            (false, Some(turn)) => turn.wrapping_add(1) == follow.turn,
            (false, None) => false,
        };
        if !in_step {
            return waiting.answer(Followed {
                out_of_step: true,
                ..Followed::default()
            });
        }
        if follow.anew {
            if let Err(failure) = state.make_room(follow.watcher, now) {
                return waiting.fail(failure);
            }
            planted::at(planted::WATCH_RESUMING);
            let position = self.published.feed().position();
            let session = Session::new(follow, position, now);
            state.sessions.insert(follow.watcher, session);
        }
        let Some(session) = state.sessions.get_mut(&follow.watcher) else {
            return;
        };
        // The question before: what it is to be told comes with this one.
        session.tell(Vec::new());
        session.turn = follow.turn;
        session.heard = now;
        session.adjust(follow);
        if session.interests.len() > INTERESTS_MAX {
            state.sessions.remove(&follow.watcher);
            let what = format!("the watches of a router (at most {INTERESTS_MAX} a group)");
            return waiting.fail(Failure::Busy(what));
        }
        session.waiting = Some(waiting);
        if follow.partial {
            // Not a step further before all that is watched is known.
            return session.tell(Vec::new());
        }
        self.serve(state, follow.watcher, now);
        self.mark_if_wanted(state);
    }

    fn serve_all(&self, state: &mut State) {
        let now = Instant::now();
        let waiting = state.sessions.iter().filter(|(_, s)| s.waiting.is_some());
        let watchers: Vec<u64> = waiting.map(|(watcher, _)| *watcher).collect();
        for watcher in watchers {
            self.serve(state, watcher, now);
        }
    }

    fn serve(&self, state: &mut State, watcher: u64, now: Instant) {
        let Some(session) = state.sessions.get_mut(&watcher) else {
            return;
        };
        if session.serve(self.published.feed(), now).is_ok() {
            return;
        }
        // Not in memory any more.
        let compacted = self.published.compacted();
        if planted::is(planted::COMPACTION_NOT_TOLD) {
            session.at = session.at.max(compacted);
        }
        if session.at < compacted {
            planted::at(planted::WATCH_COMPACTED);
            return session.fail(Failure::Compacted {
                revision: compacted,
            });
        }
        state.numbers += 1;
        let number = state.numbers;
        session.reading = Some(number);
        self.read_past(state, Reading { watcher, number });
    }

    /// Reads for a session what memory hasn't.
    fn read_past(&self, state: &mut State, reading: Reading) {
        let Some(session) = state.sessions.get(&reading.watcher) else {
            return;
        };
        let after = session.at;
        let interests = session.interests.clone();
        let (group, published) = (self.group.clone(), self.published.clone());
        let permits = self.long_reads.clone();
        self.meters.watch_past.increment(1);
        state.work.spawn(async move {
            let Ok(permit) = permits.acquire_owned().await else {
                return Done::Read(reading, Err(Failure::Busy("long reads".to_owned())));
            };
            let engine = group.view().engine().clone();
            let read = aside(engine.as_ref(), move || {
                let _permit = permit;
                let through = published.feed().position();
                let wants = |key: &[u8]| wants(&interests, key);
                past(&group, &published, &wants, (after, through))
            });
            let stopped = |_| Err(Failure::Internal("a read was stopped".to_owned()));
            Done::Read(reading, read.await.unwrap_or_else(stopped))
        });
    }

    /// Begins to show that nothing follows, for those who wait for that.
    fn mark_if_wanted(&self, state: &mut State) {
        let waiting = state.sessions.values().filter_map(|s| s.waiting.as_ref());
        let wanted = waiting.map(|waiting| waiting.reach).max().unwrap_or(0);
        if state.marking || wanted <= self.published.feed().position() {
            return;
        }
        state.marking = true;
        let (group, inflight) = (self.group.clone(), self.inflight.clone());
        let published = self.published.clone();
        self.meters.watch_marks.increment(1);
        state.work.spawn(async move {
            let marking = mark(&group, &inflight, &published, wanted);
            Done::Marked(match tokio::time::timeout(WAIT_MAX, marking).await {
                Ok(marked) => marked,
                Err(_) => Ok(()),
            })
        });
    }

    fn finished(&self, state: &mut State, done: Option<Done>) {
        match done {
            Some(Done::Marked(marked)) => {
                state.marking = false;
                match marked {
                    Ok(()) => self.mark_if_wanted(state),
                    Err(failure) => state.fail_reaching(&failure),
                }
            }
            Some(Done::Read(reading, read)) => {
                let watcher = reading.watcher;
                let Some(session) = state.sessions.get_mut(&watcher) else {
                    return;
                };
                // It may have begun anew meanwhile, or watch more than was read for.
                if session
                    .reading
                    .take_if(|number| *number == reading.number)
                    .is_none()
                {
                    return;
                }
                match read {
                    Ok((events, position)) => {
                        session.at = position;
                        match events.is_empty() {
                            true => self.serve(state, watcher, Instant::now()),
                            false => session.tell(events),
                        }
                    }
                    Err(failure) => session.fail(failure),
                }
            }
            None => {}
        }
    }
}

impl State {
    /// When a question must be answered whatever happens.
    fn next_answer(&self) -> Instant {
        let waiting = self
            .sessions
            .values()
            .filter(|session| session.reading.is_none());
        let untils = waiting.filter_map(|s| s.waiting.as_ref()).map(|w| w.until);
        let far = Instant::now() + WAIT_MAX;
        untils.min().unwrap_or(far)
    }

    fn make_room(&mut self, watcher: u64, now: Instant) -> Result<(), Failure> {
        self.sessions
            .retain(|_, s| s.waiting.is_some() || now < s.heard + FORGET_AFTER);
        match self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&watcher) {
            true => Err(Failure::Busy("routers that watch the group".to_owned())),
            false => Ok(()),
        }
    }

    fn fail_all(&mut self, failure: &Failure) {
        for (_, mut session) in self.sessions.drain() {
            session.fail(failure.clone());
        }
    }

    fn fail_reaching(&mut self, failure: &Failure) {
        for session in self.sessions.values_mut() {
            if session
                .waiting
                .as_ref()
                .is_some_and(|w| w.reach > session.at)
            {
                session.fail(failure.clone());
            }
        }
    }
}
