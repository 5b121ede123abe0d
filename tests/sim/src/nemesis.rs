//! What goes wrong, and when.

use std::collections::BTreeSet;

use caucus_engine::{Error, Space, SpaceState};
use caucus_history::history::Type;
use caucus_ring::{GroupId, Revision};
use serde_json::json;

use crate::plan::Kind;
use crate::scene::deadline;
use crate::wire::{HostId, Weather};
use crate::world::World;

/// In ms. Names of requests are kept for an hour: it must not matter.
const WALL_JUMP_MAX: i64 = 2 * 3_600_000;

/// So many faults at a time.
const AT_ONCE: usize = 2;

/// In ms: the slowest disk, and the longest time after that votes that it was given are lost.
const SLOW_MAX: u64 = 1500;
const VOTED_MAX: u64 = 2500;
/// In ms: so long somebody leads at most who is aimed at.
const YOUNG_MAX: u64 = 600;

/// From whom nothing gets to whom.
type Cut = (HostId, HostId);

/// A fault that lasts.
struct Active {
    kind: Kind,
    until: u64,
    /// Hosts that are down, paused or slow for it.
    hosts: Vec<HostId>,
    cuts: Vec<Cut>,
    aim: Option<Aim>,
}

/// Whoever leads a group next.
struct Aim {
    group: u32,
    since: u64,
    host: Option<HostId>,
}

pub(crate) struct Nemesis {
    random: fastrand::Rng,
    active: Vec<Active>,
    next: u64,
    /// Of the fault that begins.
    next_aim: Option<Aim>,
}

impl Nemesis {
    pub(crate) fn new(seed: u64) -> Nemesis {
        Nemesis {
            random: fastrand::Rng::with_seed(seed ^ 0x6e65_6d65),
            active: Vec::new(),
            next: 0,
            next_aim: None,
        }
    }

    /// To be called once a step.
    pub(crate) fn act(&mut self, world: &mut World) {
        self.take_aim(world);
        while let Some(at) = self
            .active
            .iter()
            .position(|fault| fault.until <= world.now)
        {
            let fault = self.active.remove(at);
            end(world, &fault, &mut self.random);
        }
        if world.now < self.next || self.active.len() >= AT_ONCE {
            return;
        }
        self.next = world.now + self.random.u64(200..=world.plan.gap_max);
        let Some(kind) = self.random.choice(&world.plan.kinds).copied() else {
            return;
        };
        let lasts = self.random.u64(100..=world.plan.fault_max);
        if let Some((hosts, mut cuts)) = self.begin(kind, world) {
            *world.faults.entry(kind.name()).or_default() += 1;
            say(world, kind, "begin", &hosts);
            let mut until = world.now + lasts;
            if kind == Kind::LostVotes {
                // The two go on without each other for a while after that.
                self.active.push(Active {
                    kind: Kind::CutPair,
                    until: until + VOTED_MAX,
                    hosts: Vec::new(),
                    cuts: std::mem::take(&mut cuts),
                    aim: None,
                });
                until = world.now + self.random.u64(100..=VOTED_MAX);
            }
            let fault = Active {
                kind,
                until,
                hosts,
                cuts,
                aim: self.next_aim.take(),
            };
            match fault.is_over_at_once() {
                true => end(world, &fault, &mut self.random),
                false => self.active.push(fault),
            }
        }
    }

    /// All faults end.
    pub(crate) fn heal(&mut self, world: &mut World) {
        for fault in std::mem::take(&mut self.active) {
            end(world, &fault, &mut self.random);
        }
    }

    /// A host that has no fault yet.
    fn host(&mut self, world: &World, among: std::ops::Range<HostId>) -> Option<HostId> {
        let busy: BTreeSet<HostId> = self.active.iter().flat_map(|f| f.hosts.clone()).collect();
        let free: Vec<HostId> = among
            .filter(|host| !busy.contains(host) && world.hosts[*host].is_up())
            .collect();
        self.random.choice(&free).copied()
    }

    /// Nodes begin anew, and two of them don't reach each other; the one that both ask for its vote will lose power.
    fn split_votes(&mut self, world: &mut World) -> Option<(Vec<HostId>, Vec<Cut>)> {
        let mut voters: Vec<HostId> = (0..world.plan.voters).collect();
        if !self.active.is_empty() || voters.iter().any(|host| !world.hosts[*host].is_up()) {
            return None;
        }
        self.random.shuffle(&mut voters);
        let [asked, one, other] = voters[..3] else {
            unreachable!("three at least");
        };
        for host in voters {
            world.hosts[host].crash(false, u64::MAX);
            world.hosts[host].boot();
        }
        world.hosts[asked].sync_max = SLOW_MAX;
        let cuts = vec![(one, other), (other, one)];
        for (from, to) in &cuts {
            world.wire.cut(*from, *to);
        }
        Some((vec![asked], cuts))
    }

    /// All disks are slow, and the leader of some group dies.
    fn unseat(&mut self, world: &mut World) -> Option<(Vec<HostId>, Vec<Cut>)> {
        let nodes: Vec<HostId> = world.nodes().collect();
        if !self.active.is_empty() || nodes.iter().any(|host| !world.hosts[*host].is_up()) {
            return None;
        }
        // Half of the time the one that all others need.
        let group = match self.random.bool() {
            true => GroupId::PLACEMENT.0,
            false => self.random.u32(0..=world.plan.groups),
        };
        let (_, leader) = world.leaders.newest(group)?;
        for host in &nodes {
            world.hosts[*host].sync_max = self.random.u64(50..SLOW_MAX / 2);
        }
        world.hosts[leader].crash(false, u64::MAX);
        world.hosts[leader].boot();
        self.next_aim = Some(Aim {
            group,
            since: world.now,
            host: None,
        });
        Some((nodes, Vec::new()))
    }

    /// Those that are aimed at have been elected: they don't lead for long.
    fn take_aim(&mut self, world: &World) {
        for fault in &mut self.active {
            let Some(aim) = fault.aim.as_mut().filter(|aim| aim.host.is_none()) else {
                continue;
            };
            let newest = world.leaders.newest(aim.group);
            if let Some((_, host)) = newest.filter(|(at, _)| *at > aim.since) {
                aim.host = Some(host);
                fault.until = world.now + self.random.u64(0..YOUNG_MAX);
            }
        }
    }

    /// A node dies and is behind when it comes back; then another one, from which it may have to get what it lacks, has
    /// lost power and rotten.
    fn leave_behind(&mut self, world: &mut World) -> Option<(Vec<HostId>, Vec<Cut>)> {
        let behind = self.host(world, world.nodes())?;
        world.hosts[behind].crash(false, u64::MAX);
        let Some(rotten) = self.host(world, world.nodes()) else {
            world.hosts[behind].boot();
            return None;
        };
        Some((vec![rotten, behind], Vec::new()))
    }

    /// Begins a fault: the hosts it keeps, and what it cuts; `None`: it can't be now.
    fn begin(&mut self, kind: Kind, world: &mut World) -> Option<(Vec<HostId>, Vec<Cut>)> {
        let (nodes, fronts) = (world.nodes(), world.fronts());
        let all = 0..world.hosts.len();
        let mut cuts = Vec::new();
        match kind {
            Kind::LostVotes => return self.split_votes(world),
            Kind::YoungLeader => return self.unseat(world),
            _ => {}
        }
        let will_rot = self.active.iter().any(|fault| fault.kind == Kind::Rot);
        if matches!(kind, Kind::Wipe | Kind::Rot) && (will_rot || !may_damage(world)) {
            return None;
        }
        if kind == Kind::Rot {
            return self.leave_behind(world);
        }
        let host = match kind {
            Kind::RouterKill | Kind::Compact => self.host(world, fronts)?,
            _ => self.host(world, nodes.clone())?,
        };
        let mut hosts = vec![host];
        let random = &mut self.random;
        match kind {
            Kind::Kill | Kind::RouterKill => world.hosts[host].crash(false, u64::MAX),
            Kind::PowerLoss => lose_power(world, host, random),
            Kind::Blackout => {
                hosts = nodes.filter(|host| world.hosts[*host].is_up()).collect();
                for host in &hosts {
                    lose_power(world, *host, random);
                }
            }
            Kind::Pause => world.hosts[host].is_paused = true,
            Kind::CutOneWay | Kind::CutPair => {
                let other = random.usize(all);
                cuts.push((host, other));
                if kind == Kind::CutPair {
                    cuts.push((other, host));
                }
                cuts.retain(|(from, to)| from != to);
            }
            Kind::Isolate => {
                let others = if random.bool() { all } else { nodes };
                let others = others.filter(|other| *other != host);
                cuts.extend(others.flat_map(|other| [(host, other), (other, host)]));
            }
            Kind::Storm => {
                hosts.clear();
                storm(world, random);
            }
            Kind::Reset => world.wire.reset(host, random.usize(all)),
            Kind::SlowDisk => world.hosts[host].sync_max = random.u64(50..SLOW_MAX),
            Kind::FullDisk => world.hosts[host].engine.set_space(SpaceState::Low),
            Kind::FailedSync => fail_sync(world, host),
            Kind::WallJump => {
                world.hosts[host].wall_ahead = random.i64(-WALL_JUMP_MAX..WALL_JUMP_MAX)
            }
            Kind::HandOver => hand_over(world, host, random.usize(0..3)),
            Kind::Compact => compact(world, host, random.u64(0..300)),
            Kind::Wipe => world.hosts[host].wipe(),
            Kind::Rot | Kind::LostVotes | Kind::YoungLeader => {
                unreachable!("it has begun above")
            }
        }
        for (from, to) in &cuts {
            world.wire.cut(*from, *to);
        }
        Some((hosts, cuts))
    }
}

impl Active {
    fn is_over_at_once(&self) -> bool {
        matches!(self.kind, Kind::Reset | Kind::HandOver | Kind::Compact)
    }
}

fn say(world: &World, kind: Kind, step: &str, hosts: &[HostId]) {
    let what = json!({"step": step, "hosts": hosts});
    world
        .trace
        .say(world.now, format!("{} {what}", kind.name()));
    world.scene.say(Type::Info, "nemesis", kind.name(), what);
}

fn end(world: &mut World, fault: &Active, random: &mut fastrand::Rng) {
    for (from, to) in &fault.cuts {
        world.wire.heal(*from, *to);
    }
    if fault.kind == Kind::Rot {
        // The other one is behind.
        rot(world, fault.hosts[0], random);
    }
    for host in fault.hosts.iter().copied() {
        let is_up = world.hosts[host].is_up();
        match fault.kind {
            Kind::Kill
            | Kind::RouterKill
            | Kind::PowerLoss
            | Kind::Blackout
            | Kind::Wipe
            | Kind::Rot => {
                // It may have been another fault's too.
                if !is_up {
                    world.hosts[host].boot();
                }
            }
            Kind::Pause => world.hosts[host].is_paused = false,
            Kind::SlowDisk => world.hosts[host].sync_max = world.plan.sync_max,
            Kind::FullDisk => world.hosts[host].engine.set_space(SpaceState::Ok),
            Kind::FailedSync => {
                // Nobody knows what the disk has of what the failed sync was for.
                let keep = random.u64(0..=world.hosts[host].engine.unsynced_batches());
                if is_up {
                    world.hosts[host].crash(false, keep);
                    world.hosts[host].boot();
                }
            }
            Kind::WallJump => world.hosts[host].wall_ahead = 0,
            Kind::YoungLeader => {
                world.hosts[host].sync_max = world.plan.sync_max;
                let aimed = fault.aim.as_ref().and_then(|aim| aim.host);
                if is_up && aimed == Some(host) {
                    world.hosts[host].crash(true, 0);
                    world.hosts[host].boot();
                }
            }
            Kind::LostVotes => {
                world.hosts[host].sync_max = world.plan.sync_max;
                if is_up {
                    world.hosts[host].crash(true, 0);
                }
                if !world.hosts[host].is_up() {
                    world.hosts[host].boot();
                }
            }
            Kind::CutOneWay
            | Kind::CutPair
            | Kind::Isolate
            | Kind::Storm
            | Kind::Reset
            | Kind::HandOver
            | Kind::Compact => {}
        }
    }
    if fault.kind == Kind::Storm {
        world.wire.set_weather(world.plan.weather);
    }
    say(world, fault.kind, "end", &fault.hosts);
}

fn storm(world: &World, random: &mut fastrand::Rng) {
    let calm = world.plan.weather;
    world.wire.set_weather(Weather {
        delay_min: calm.delay_min,
        delay_max: calm.delay_max * random.u64(5..20),
        loss: random.u64(5..120),
    });
}

fn fail_sync(world: &World, host: HostId) {
    let context = "simulated".to_owned();
    let engine = &world.hosts[host].engine;
    engine.fail_next_sync(Error::Io { context });
}

fn lose_power(world: &mut World, host: HostId, random: &mut fastrand::Rng) {
    let unsynced = world.hosts[host].engine.unsynced_batches();
    // The disk may have kept some of it all the same.
    let keep = match random.bool() {
        true => 0,
        false => random.u64(0..=unsynced),
    };
    world.hosts[host].crash(true, keep);
}

/// One disk of a cluster may be damaged, and not before half of the time is over: its node may be gone for good, and the
/// others shall have something to do.
fn may_damage(world: &World) -> bool {
    let is_damaged = world.hosts.iter().any(|host| host.damage().is_some());
    !is_damaged && 2 * world.now > world.plan.length
}

/// A machine loses power, and some of what its disk has rots.
fn rot(world: &mut World, host: HostId, random: &mut fastrand::Rng) {
    if world.hosts[host].is_up() {
        lose_power(world, host, random);
    }
    if random.bool() {
        return world.hosts[host].rot_ends(random);
    }
    for _ in 0..random.u32(1..4) {
        let space = *random.choice(&Space::ALL).expect("two");
        world.hosts[host].rot(space, random.u64(..));
    }
}

/// The groups that a node leads go to another replica each.
fn hand_over(world: &World, host: HostId, to: usize) {
    let Some(alive) = world.hosts[host].alive() else {
        return;
    };
    world.hosts[host].spawn(async move {
        let Some(map) = alive.router.map() else {
            return;
        };
        for (group, replica) in alive.replicas.stored() {
            let Some(here) = alive.replicas.group(group, replica) else {
                continue;
            };
            let record = match GroupId(group) {
                GroupId::PLACEMENT => Some(map.placement()),
                id => map.group(id),
            };
            let others = record.map_or(&[][..], |record| &record.replicas);
            let other = others.get(to % others.len().max(1));
            let other = other.filter(|other| other.id.0 != replica);
            if let Some(other) = other.filter(|_| here.leadership().here) {
                // It may come to nothing; that is its own matter.
                drop(here.hand_over(other.id.0).await);
            }
        }
    });
}

/// The past is forgotten up to a little before the newest revision.
fn compact(world: &World, host: HostId, kept: u64) {
    let Some(alive) = world.hosts[host].alive() else {
        return;
    };
    world.hosts[host].spawn(async move {
        let upto = alive.router.highest().0.saturating_sub(kept);
        if upto > 0 {
            // Refused, where another one went further.
            drop(alive.router.compact(Revision(upto), deadline()).await);
        }
    });
}
