//! The watches of one group: follows its leader and passes on what it tells.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use caucus_api::shard::Follow;
use caucus_ring::{GroupId, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::catch_up::CatchUp;
use super::event::End;
use super::follow::{Asked, Heard, Trouble};
use super::lanes::{LaneId, LaneSpec, Lanes};
use crate::Router;
use crate::router::WeakRouter;

/// Spans that one question tells the leader of.
const TOLD_MAX: usize = 10_000;
/// Between attempts to find the leader.
const PAUSE: Duration = Duration::from_millis(50);

/// What the hub of a group is asked. Each lane has at most a few of these under way, so their queue
/// is bounded by the number of lanes.
pub(super) enum Command {
    Add(LaneSpec, oneshot::Sender<LaneId>),
    /// A lane has caught up to a revision: it goes live, or is told how far the hub is.
    Promote(LaneId, u64, oneshot::Sender<Result<(), u64>>),
    /// A lane is to be told when nothing at or below a revision follows, which was granted.
    Reach(LaneId, u64),
    Remove(LaneId),
}

/// The hubs of all groups, as far as they were needed.
#[derive(Default)]
pub(crate) struct Hubs {
    hubs: Mutex<HashMap<GroupId, mpsc::UnboundedSender<Command>>>,
}

impl Hubs {
    /// The way to the hub of a group.
    pub(super) fn of(&self, router: &Router, group: GroupId) -> mpsc::UnboundedSender<Command> {
        let mut hubs = self.hubs.lock().expect("no panic under this lock");
        if let Some(hub) = hubs.get(&group).filter(|hub| !hub.is_closed()) {
            return hub.clone();
        }
        let (sender, commands) = mpsc::unbounded_channel();
        let hub = Hub {
            router: router.downgrade(),
            group,
            watcher: router.session_number(),
            to_self: sender.downgrade(),
            lanes: Lanes::default(),
            turn: 0,
            answered: 0,
            position: None,
            asked: VecDeque::new(),
            asked_reach: 0,
            in_session: false,
            telling_all: false,
            wanted: None,
            not_before: Instant::now(),
            promoting: Vec::new(),
            reaching: Vec::new(),
        };
        tokio::spawn(hub.run(commands));
        hubs.insert(group, sender.clone());
        sender
    }
}

/// The task of one group.
struct Hub {
    router: WeakRouter,
    group: GroupId,
    watcher: u64,
    to_self: mpsc::WeakUnboundedSender<Command>,
    lanes: Lanes,
    /// The number of the last question, and of the last that was answered.
    turn: u64,
    answered: u64,
    /// All up to here has been passed on to the live lanes; `None`: not known yet.
    position: Option<u64>,
    /// With their numbers; at most two: a second one makes the leader answer the first at once.
    asked: VecDeque<(u64, Asked)>,
    /// What the last question asked to be reached.
    asked_reach: u64,
    /// Whether the leader knows what is watched, or is being told all of it.
    in_session: bool,
    telling_all: bool,
    /// Who is to be asked next, if that isn't the leader known.
    wanted: Option<NodeId>,
    /// After a failure.
    not_before: Instant,
    promoting: Vec<Promoting>,
    reaching: Vec<(LaneId, u64)>,
}

/// A lane that has caught up to a revision.
struct Promoting {
    lane: LaneId,
    at: u64,
    told: oneshot::Sender<Result<(), u64>>,
}

impl Hub {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let Some(router) = self.router.upgrade() else {
                return;
            };
            self.ask(&router);
            // Held only while there is an answer to wait for: a router that nobody uses any more goes.
            let router = (!self.asked.is_empty()).then_some(router);
            let pauses = !self.lanes.is_empty() && router.is_none();
            let not_before = self.not_before;
            tokio::select! {
                command = commands.recv() => {
                    let Some(command) = command else { return };
                    self.take(command);
                    while let Ok(command) = commands.try_recv() {
                        self.take(command);
                    }
                }
                heard = next(router.as_ref(), self.asked.front_mut()) => {
                    let turn = self.asked.pop_front().map_or(0, |(turn, _)| turn);
                    self.hear(router.as_ref(), turn, heard);
                }
                () = sleep_until(not_before), if pauses => {}
            }
            self.promote();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Add(spec, added) => {
                let id = self.lanes.add(spec);
                if added.send(id).is_err() {
                    self.lanes.remove(id);
                }
            }
            Command::Promote(lane, at, told) => {
                self.promoting.push(Promoting { lane, at, told });
            }
            Command::Reach(lane, revision) => self.reaching.push((lane, revision)),
            Command::Remove(lane) => {
                self.lanes.remove(lane);
                self.reaching.retain(|(other, _)| *other != lane);
                self.promoting.retain(|other| other.lane != lane);
            }
        }
    }

    /// Asks the next question, if there is reason to.
    fn ask(&mut self, router: &Router) {
        if self.lanes.is_empty() {
            // The leader forgets this router. What happens until somebody watches is nobody's.
            self.asked.clear();
            self.in_session = false;
            self.position = None;
            return;
        }
        if Instant::now() < self.not_before {
            return;
        }
        if !self.in_session {
            return self.begin(router);
        }
        let reach = self.reaching.iter().map(|(_, revision)| *revision).max();
        let reach = reach.filter(|reach| Some(*reach) > self.position);
        let reach = reach.unwrap_or(0);
        let has_news = self.lanes.has_untold() || reach > self.asked_reach;
        match self.asked.len() {
            0 => {}
            1 if has_news && self.position.is_some() => {}
            _ => return,
        }
        let turn = if self.telling_all { 0 } else { self.turn + 1 };
        let mut follow = self.question(turn);
        follow.partial = self.telling_all && self.lanes.has_untold();
        follow.reach = reach;
        self.telling_all = follow.partial;
        self.send(router, follow);
    }

    /// Begins a session with the leader, which is told all that is watched, from the position on. Without one
    /// the first question only asks where the group is, and the next ones tell.
    fn begin(&mut self, router: &Router) {
        self.in_session = true;
        // Also what an earlier session was told: this one knows nothing.
        self.lanes.tell_all();
        let mut follow = match self.position {
            None => {
                self.turn += 1;
                self.bare()
            }
            Some(_) => self.question(0),
        };
        follow.anew = true;
        follow.now = self.position.is_none();
        follow.after = self.position.unwrap_or(0);
        follow.partial = follow.now || self.lanes.has_untold();
        self.telling_all = follow.partial && !follow.now;
        self.send(router, follow);
    }

    /// A question that tells of what the leader doesn't know; `of`: by which question the lanes count as
    /// told of.
    fn question(&mut self, of: u64) -> Follow {
        let changes = self.lanes.take_untold(TOLD_MAX, of);
        self.turn += 1;
        Follow {
            add: changes.add,
            remove: changes.remove,
            ..self.bare()
        }
    }

    fn bare(&self) -> Follow {
        Follow {
            watcher: self.watcher,
            turn: self.turn,
            ..Follow::default()
        }
    }

    fn send(&mut self, router: &Router, follow: Follow) {
        self.asked_reach = follow.reach;
        match router.follow(self.group, follow, self.wanted.take()) {
            Ok(asked) => self.asked.push_back((self.turn, asked)),
            Err(trouble) => self.failed(trouble),
        }
    }

    fn hear(&mut self, router: Option<&Router>, turn: u64, heard: Result<Heard, Trouble>) {
        match heard {
            Ok(heard) => {
                self.answered = turn;
                let Some(before) = self.position else {
                    self.position = Some(heard.position);
                    return;
                };
                let through = heard.position.max(before);
                let (full, gone) = self.lanes.deliver(&heard.events, through);
                self.position = Some(through);
                for lane in gone {
                    self.lanes.remove(lane);
                }
                self.catch_up(router, &full, before);
                self.tell_reached(router);
            }
            Err(trouble) => self.failed(trouble),
        }
    }

    /// Tells those who wait for it that nothing up to the position follows.
    fn tell_reached(&mut self, router: Option<&Router>) {
        let Some(position) = self.position else {
            return;
        };
        let mut reached = Vec::new();
        let lanes = &self.lanes;
        self.reaching.retain(|(lane, revision)| {
            // One that isn't live has not got so far itself.
            let told = *revision <= position && lanes.is_live(*lane);
            if told {
                reached.push(*lane);
            }
            !told
        });
        let full = self.lanes.deliver_position(&reached, position);
        self.catch_up(router, &full, position);
    }

    /// Lets lanes that were too slow read on from a revision by themselves.
    fn catch_up(&self, router: Option<&Router>, lanes: &[LaneId], from: u64) {
        let (Some(router), Some(hub)) = (router, self.to_self.upgrade()) else {
            return;
        };
        for lane in lanes {
            if let Some(spec) = self.lanes.spec(*lane) {
                router.shared.metrics.watch_demoted.increment(1);
                let (group, at) = (self.group, from.max(spec.after));
                CatchUp::new(router.clone(), group, hub.clone(), *lane, spec.clone()).spawn(at);
            }
        }
    }

    /// Lets lanes that have caught up go live, and tells the others how far they have to go.
    fn promote(&mut self) {
        let Some(position) = self.position else {
            return;
        };
        let mut live = false;
        for promoting in std::mem::take(&mut self.promoting) {
            if !self.lanes.is_told_of(promoting.lane, self.answered) {
                self.promoting.push(promoting);
                continue;
            }
            let up_to_date = promoting.at >= position;
            if up_to_date {
                self.lanes.go_live(promoting.lane, promoting.at);
                live = true;
            }
            let told = match up_to_date {
                true => Ok(()),
                false => Err(position),
            };
            if promoting.told.send(told).is_err() {
                self.lanes.remove(promoting.lane);
            }
        }
        if live && !self.reaching.is_empty() {
            let router = self.router.upgrade();
            self.tell_reached(router.as_ref());
        }
    }

    fn failed(&mut self, trouble: Trouble) {
        self.asked.clear();
        self.in_session = false;
        self.not_before = Instant::now() + PAUSE;
        match trouble {
            Trouble::Compacted(revision) => {
                self.lanes.end_live(&End::Compacted { revision });
                self.position = None;
            }
            Trouble::Other { stumble, next } => {
                tracing::debug!(
                    group = self.group.0,
                    stumble,
                    "a watch looks for its leader"
                );
                self.wanted = next;
            }
        }
    }
}

/// The answer to the question that was asked first.
async fn next(router: Option<&Router>, asked: Option<&mut (u64, Asked)>) -> Result<Heard, Trouble> {
    match (router, asked) {
        (Some(router), Some((_, asked))) => router.heard(asked).await,
        _ => std::future::pending().await,
    }
}
