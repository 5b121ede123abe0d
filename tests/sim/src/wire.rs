//! The simulated network: streams that are slow, lose packets, are cut one way or both, and break.
//!
//! It behaves as TCP does: what was sent arrives in order or not at all. A lost packet only comes later; through a cut
//! nothing comes until it heals, and whoever has no patience closes. A process that dies has its streams reset; a
//! machine that loses power says nothing, until it is up again and is asked.
//!
//! Hosts run one after the other, a step of simulated time each (`world.rs`). Nothing arrives sooner than a
//! step after it was sent, so the order within a step doesn't matter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::Bytes;
use caucus_peer::{Listener, Net, Socket};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::socket::SimSocket;
use crate::trace::Trace;

/// A host's number.
pub(crate) type HostId = usize;

/// Bytes that may be under way in one direction of a stream.
pub(crate) const UNDER_WAY_MAX: usize = 1 << 20;
/// A lost packet is sent again after this, in ms.
const RESEND_MS: u64 = 200;
/// An attempt to connect that wasn't answered is repeated after this, in ms.
const SYN_AGAIN_MS: u64 = 1000;

/// How slow and lossy it is between two hosts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// In ms; at least a step.
    pub(crate) delay_min: u64,
    /// In ms.
    pub(crate) delay_max: u64,
    /// Of a thousand packets so many have to be sent again.
    pub(crate) loss: u64,
}

/// What moves on a stream.
pub(crate) enum Cargo {
    Data(Bytes),
    End,
}

type Connected = oneshot::Sender<io::Result<SimSocket>>;

enum Event {
    Cargo(u64, Cargo),
    Reset(u64),
    Syn(HostId, HostId, Connected),
    Accepted(Connected, io::Result<SimSocket>),
}

/// One direction of a stream.
pub(crate) struct Pipe {
    from: HostId,
    to: HostId,
    /// The other direction.
    twin: u64,
    pub(crate) inbox: VecDeque<Bytes>,
    pub(crate) is_ended: bool,
    pub(crate) is_reset: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(crate) under_way: usize,
    /// Waits for a cut to heal, or a machine to be up.
    stalled: VecDeque<Cargo>,
    /// When what was sent last arrives.
    last_due: u64,
    /// Nobody reads any more.
    is_deaf: bool,
    /// The writer's process died: what it drops says nothing.
    is_mute: bool,
}

#[derive(Default)]
struct Machine {
    /// Its process runs.
    is_up: bool,
    /// It has power.
    is_on: bool,
    listener: Option<mpsc::UnboundedSender<SimSocket>>,
}

pub(crate) struct Inner {
    now: u64,
    /// Who runs, and its own clock when its step began.
    running: Option<Instant>,
    random: fastrand::Rng,
    agenda: BTreeMap<(u64, u64), Event>,
    events: u64,
    machines: Vec<Machine>,
    cuts: BTreeSet<(HostId, HostId)>,
    weather: Weather,
    pub(crate) pipes: BTreeMap<u64, Pipe>,
    names: u64,
    trace: Trace,
}

/// The network of a simulation. A cheap clone.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Inner>>);

impl Wire {
    pub(crate) fn new(hosts: usize, weather: Weather, seed: u64, trace: Trace) -> Wire {
        Wire(Arc::new(Mutex::new(Inner {
            now: 0,
            running: None,
            random: fastrand::Rng::with_seed(seed),
            agenda: BTreeMap::new(),
            events: 0,
            machines: (0..hosts).map(|_| Machine::default()).collect(),
            cuts: BTreeSet::new(),
            weather,
            pipes: BTreeMap::new(),
            names: 0,
            trace,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic under this lock")
    }

    /// The world's time in ms, also in the middle of a host's step.
    pub(crate) fn now(&self) -> u64 {
        self.lock().local_now()
    }

    /// The world's time from now on; what is due arrives.
    pub(crate) fn advance(&self, now: u64) {
        self.lock().now = now;
        loop {
            let mut inner = self.lock();
            let due = inner.agenda.first_key_value().map(|(at, _)| *at);
            let Some((_, event)) = due
                .filter(|(at, _)| *at <= now)
                .and_then(|_| inner.agenda.pop_first())
            else {
                return;
            };
            let after = inner.happen(event, self);
            drop(inner);
            after.into_iter().for_each(After::run);
        }
    }

    /// A host begins its step; called by that host.
    pub(crate) fn enter(&self) {
        self.lock().running = Some(Instant::now());
    }

    /// ... and ends it.
    pub(crate) fn leave(&self) {
        self.lock().running = None;
    }

    /// From now on nothing gets from one host to the other.
    pub(crate) fn cut(&self, from: HostId, to: HostId) {
        self.lock().cuts.insert((from, to));
    }

    /// What waited arrives.
    pub(crate) fn heal(&self, from: HostId, to: HostId) {
        let mut inner = self.lock();
        if inner.cuts.remove(&(from, to)) {
            inner.resend(|pipe| pipe.from == from && pipe.to == to);
        }
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// A host's process runs from now on.
    pub(crate) fn boot(&self, host: HostId) {
        let mut inner = self.lock();
        let machine = &mut inner.machines[host];
        (machine.is_up, machine.is_on) = (true, true);
        // Who still sends to the process that was there is told so.
        inner.resend(|pipe| pipe.to == host);
    }

    /// A host's process is gone; with its machine, nobody is told.
    pub(crate) fn crash(&self, host: HostId, with_machine: bool) {
        let mut inner = self.lock();
        inner.machines[host] = Machine {
            is_on: !with_machine,
            ..Machine::default()
        };
        let mut broken = Vec::new();
        for (name, pipe) in &mut inner.pipes {
            if pipe.to == host {
                pipe.is_deaf = true;
                pipe.inbox.clear();
            }
            if pipe.from == host && !pipe.is_mute {
                pipe.is_mute = true;
                broken.push(*name);
            }
        }
        if !with_machine {
            for name in broken {
                let due = inner.due(name);
                inner.plan(due, Event::Reset(name));
            }
        }
    }

    /// Breaks every stream between two hosts.
    pub(crate) fn reset(&self, one: HostId, other: HostId) {
        let mut inner = self.lock();
        let between = |pipe: &Pipe| {
            (pipe.from, pipe.to) == (one, other) || (pipe.from, pipe.to) == (other, one)
        };
        let names: Vec<u64> = inner
            .pipes
            .iter()
            .filter(|(_, pipe)| between(pipe))
            .map(|(name, _)| *name)
            .collect();
        for name in names {
            let due = inner.due(name);
            inner.plan(due, Event::Reset(name));
        }
    }

    /// A host's side of the network.
    pub(crate) fn net(&self, host: HostId) -> HostNet {
        HostNet {
            wire: self.clone(),
            host,
        }
    }
}

impl Inner {
    fn local_now(&self) -> u64 {
        let begun = self.running;
        self.now + begun.map_or(0, |begun| begun.elapsed().as_millis() as u64)
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.agenda.insert((at, self.events), event);
    }

    fn delay(&mut self) -> u64 {
        let Weather {
            delay_min,
            delay_max,
            loss,
        } = self.weather;
        let mut delay = self.random.u64(delay_min..=delay_max);
        if self.random.u64(0..1000) < loss {
            delay += RESEND_MS + self.random.u64(0..RESEND_MS);
        }
        delay
    }

    /// When something that is sent now on a pipe arrives: not before what was sent earlier.
    fn due(&mut self, name: u64) -> u64 {
        let at = self.local_now() + self.delay();
        let pipe = self.pipes.get_mut(&name).expect("it is there");
        pipe.last_due = pipe.last_due.max(at);
        pipe.last_due
    }

    pub(crate) fn send(&mut self, name: u64, cargo: Cargo) {
        let Some(pipe) = self.pipes.get_mut(&name) else {
            return;
        };
        if let Cargo::Data(data) = &cargo {
            pipe.under_way += data.len();
        }
        if pipe.stalled.is_empty() {
            let due = self.due(name);
            self.plan(due, Event::Cargo(name, cargo));
        } else {
            pipe.stalled.push_back(cargo);
        }
    }

    /// What waited on some pipes is sent again.
    fn resend(&mut self, whose: impl Fn(&Pipe) -> bool) {
        let mut again = Vec::new();
        for (name, pipe) in &mut self.pipes {
            if whose(pipe) {
                again.extend(pipe.stalled.drain(..).map(|cargo| (*name, cargo)));
            }
        }
        for (name, cargo) in again {
            let due = self.due(name);
            self.plan(due, Event::Cargo(name, cargo));
        }
    }

    /// Something happens; what is to be done about it outside of the lock.
    fn happen(&mut self, event: Event, wire: &Wire) -> Vec<After> {
        match event {
            Event::Cargo(name, cargo) => self.arrive(name, cargo),
            Event::Reset(name) => self.break_off(name),
            Event::Syn(from, to, connected) => self.connect(from, to, connected, wire),
            Event::Accepted(connected, socket) => vec![After::Answer(connected, socket)],
        }
    }

    fn arrive(&mut self, name: u64, cargo: Cargo) -> Vec<After> {
        let now = self.now;
        let Some(pipe) = self.pipes.get_mut(&name) else {
            return Vec::new();
        };
        let is_cut = self.cuts.contains(&(pipe.from, pipe.to));
        if is_cut || !self.machines[pipe.to].is_on || !pipe.stalled.is_empty() {
            pipe.stalled.push_back(cargo);
            return Vec::new();
        }
        if pipe.is_deaf {
            let twin = pipe.twin;
            if matches!(cargo, Cargo::End) || !self.pipes.contains_key(&twin) {
                self.pipes.remove(&name);
                return Vec::new();
            }
            let due = self.due(twin);
            self.plan(due, Event::Reset(twin));
            return Vec::new();
        }
        match cargo {
            Cargo::Data(data) => {
                self.trace.packet(now, pipe.from, pipe.to, &data);
                pipe.under_way -= data.len();
                pipe.inbox.push_back(data);
            }
            Cargo::End => pipe.is_ended = true,
        }
        let woken = [pipe.reader.take(), pipe.writer.take()];
        woken.into_iter().flatten().map(After::Wake).collect()
    }

    /// A stream is broken for who reads this pipe, and so for who writes its twin.
    fn break_off(&mut self, name: u64) -> Vec<After> {
        let Some(pipe) = self.pipes.get_mut(&name) else {
            return Vec::new();
        };
        if self.cuts.contains(&(pipe.from, pipe.to)) || !self.machines[pipe.to].is_on {
            // It shows when they next talk.
            return Vec::new();
        }
        pipe.is_reset = true;
        let mut woken: Vec<Waker> = pipe.reader.take().into_iter().collect();
        let twin = pipe.twin;
        woken.extend(
            self.pipes
                .get_mut(&twin)
                .and_then(|twin| twin.writer.take()),
        );
        woken.into_iter().map(After::Wake).collect()
    }

    fn connect(
        &mut self,
        from: HostId,
        to: HostId,
        connected: Connected,
        wire: &Wire,
    ) -> Vec<After> {
        if connected.is_closed() {
            return Vec::new();
        }
        let is_cut = self.cuts.contains(&(from, to)) || self.cuts.contains(&(to, from));
        if is_cut || !self.machines[to].is_on {
            let again = self.now + SYN_AGAIN_MS;
            self.plan(again, Event::Syn(from, to, connected));
            return Vec::new();
        }
        let at = self.now + self.delay();
        let listener = self.machines[to].listener.clone();
        let Some(listener) = listener.filter(|_| self.machines[to].is_up) else {
            let refused = Err(io::ErrorKind::ConnectionRefused.into());
            self.plan(at, Event::Accepted(connected, refused));
            return Vec::new();
        };
        let (there, back) = (self.names, self.names + 1);
        self.names += 2;
        self.pipes.insert(there, Pipe::new(from, to, back));
        self.pipes.insert(back, Pipe::new(to, from, there));
        let ours = SimSocket::new(wire.clone(), back, there);
        self.plan(at, Event::Accepted(connected, Ok(ours)));
        let theirs = SimSocket::new(wire.clone(), there, back);
        vec![After::Take(listener, theirs)]
    }

    /// One end of a stream is dropped.
    pub(crate) fn hang_up(&mut self, reads: u64, writes: u64, is_shut: bool) {
        if let Some(pipe) = self.pipes.get_mut(&reads) {
            pipe.is_deaf = true;
            if pipe.is_ended || pipe.is_reset {
                self.pipes.remove(&reads);
            }
        }
        let is_mute = self.pipes.get(&writes).is_none_or(|pipe| pipe.is_mute);
        if !is_mute && !is_shut {
            self.send(writes, Cargo::End);
        }
    }
}

/// What happens outside of the lock: others take it when they are dropped.
enum After {
    Wake(Waker),
    Answer(Connected, io::Result<SimSocket>),
    Take(mpsc::UnboundedSender<SimSocket>, SimSocket),
}

impl After {
    fn run(self) {
        match self {
            After::Wake(waker) => waker.wake(),
            // Who asked may have given up, who listened may be gone: then the socket is closed.
            After::Answer(connected, socket) => drop(connected.send(socket)),
            After::Take(listener, socket) => drop(listener.send(socket)),
        }
    }
}

impl Pipe {
    fn new(from: HostId, to: HostId, twin: u64) -> Pipe {
        Pipe {
            from,
            to,
            twin,
            inbox: VecDeque::new(),
            is_ended: false,
            is_reset: false,
            reader: None,
            writer: None,
            under_way: 0,
            stalled: VecDeque::new(),
            last_due: 0,
            is_deaf: false,
            is_mute: false,
        }
    }
}

/// A host's side of the network.
#[derive(Clone)]
pub(crate) struct HostNet {
    wire: Wire,
    host: HostId,
}

/// The peer address of a host.
pub(crate) fn address(host: HostId) -> String {
    format!("host-{host}:1")
}

fn host(address: &str) -> Option<HostId> {
    address
        .strip_prefix("host-")?
        .strip_suffix(":1")?
        .parse()
        .ok()
}

impl Net for HostNet {
    fn connect(&self, addr: String) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        let (connected, answer) = oneshot::channel();
        let mut inner = self.wire.lock();
        let to = host(&addr).filter(|host| *host < inner.machines.len());
        if let Some(to) = to {
            let due = inner.local_now() + inner.delay();
            inner.plan(due, Event::Syn(self.host, to, connected));
        }
        Box::pin(async move {
            let answer = answer.await.map_err(|_| io::ErrorKind::NotFound)?;
            Ok(Box::new(answer?) as Box<dyn Socket>)
        })
    }
}

impl HostNet {
    /// Opens the peer port.
    pub(crate) fn listen(&self) -> Box<dyn Listener> {
        let (sender, arrived) = mpsc::unbounded_channel();
        self.wire.lock().machines[self.host].listener = Some(sender);
        Box::new(SimListener { arrived })
    }
}

struct SimListener {
    arrived: mpsc::UnboundedReceiver<SimSocket>,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, String)>> {
        Box::pin(async move {
            let socket = self.arrived.recv().await;
            let socket = socket.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(socket) as Box<dyn Socket>, "a host".to_owned()))
        })
    }
}
