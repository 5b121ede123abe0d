//! What goes wrong, when, and how it is known that it did.

use std::time::Duration;

use caucus_history::history::Type;
use caucus_tests::random::Random;
use caucus_tests::servers::{Clock, Servers};
use caucus_tests::strace::Strace;
use caucus_tests::wait::{Stopwatch, wait_until};
use serde_json::json;
use std::sync::atomic::Ordering;

use crate::LIMIT;
use crate::scene::Scene;

/// Answers between two faults: the cluster is whole then.
const WHOLE: usize = 150;
/// Answers while a node is away.
pub(super) const WITHOUT: usize = 100;
/// Answers while some groups may be out of reach, and clients wait for them.
pub(super) const BESIDE: usize = 10;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// One node is killed with -9, and comes back.
    Kill,
    /// All are killed at the same time, and come back.
    KillAll,
    /// One node is stopped, and goes on.
    Pause,
    /// The node that leads most is stopped for longer than leases live.
    PauseLong,
    /// Two nodes don't hear each other.
    CutPair,
    /// A node and all others don't hear each other.
    CutNode,
    /// A node isn't heard by the others.
    Dumb,
    /// A node doesn't hear the others.
    Deaf,
    /// Everything takes long.
    Delay,
    /// Connections are reset, again and again.
    Resets,
    /// A node's disk takes long to sync.
    SlowSync,
    /// A node's syncs fail once: it has to stop.
    FailSync,
    /// A node's disk is full.
    FullDisk,
    /// A node's clock on the wall is an hour ahead, or behind.
    ClockOff,
    /// A node's clocks go too fast, or too slowly.
    ClockRate,
    /// A node comes back with nothing: it has to be refused.
    Wipe,
}

impl Fault {
    /// Every one.
    pub(super) const ALL: [Fault; 16] = [
        Fault::Kill,
        Fault::KillAll,
        Fault::Pause,
        Fault::PauseLong,
        Fault::CutPair,
        Fault::CutNode,
        Fault::Dumb,
        Fault::Deaf,
        Fault::Delay,
        Fault::Resets,
        Fault::SlowSync,
        Fault::FailSync,
        Fault::FullDisk,
        Fault::ClockOff,
        Fault::ClockRate,
        Fault::Wipe,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::KillAll => "kill-all",
            Fault::Pause => "pause",
            Fault::PauseLong => "pause-long",
            Fault::CutPair => "cut-pair",
            Fault::CutNode => "cut-node",
            Fault::Dumb => "dumb",
            Fault::Deaf => "deaf",
            Fault::Delay => "delay",
            Fault::Resets => "resets",
            Fault::SlowSync => "slow-sync",
            Fault::FailSync => "fail-sync",
            Fault::FullDisk => "full-disk",
            Fault::ClockOff => "clock-off",
            Fault::ClockRate => "clock-rate",
            Fault::Wipe => "wipe",
        }
    }

    /// Whether this machine lets it happen; what is missing if not.
    pub(super) fn is_possible(self, servers: &Servers) -> Result<(), &'static str> {
        match self {
            Fault::SlowSync | Fault::FailSync if !Strace::is_here() => Err("no strace"),
            Fault::ClockOff | Fault::ClockRate
                if caucus_tests::servers::libfaketime().is_none() =>
            {
                Err("no libfaketime")
            }
            Fault::FullDisk if !servers.have_disks() => Err("no small disks"),
            _ => Ok(()),
        }
    }
}

/// Who does it.
pub(super) struct Nemesis<'r> {
    pub(super) servers: &'r mut Servers,
    pub(super) scene: &'r Scene,
    pub(super) random: Random,
}

impl Nemesis<'_> {
    /// Does each fault, and goes on with any of them until the time is over. Returns which.
    pub(super) fn play(&mut self, faults: &[Fault], time: Duration) -> Vec<Fault> {
        let begun = Stopwatch::start();
        let mut done = Vec::new();
        let mut ahead = faults.to_vec();
        while !ahead.is_empty() || begun.elapsed() < time {
            let fault = match ahead.len() {
                0 => faults[self.random.below(faults.len() as u64) as usize],
                len => ahead.swap_remove(self.random.below(len as u64) as usize),
            };
            self.go_on("work before a fault", WHOLE);
            self.strike(fault);
            done.push(fault);
        }
        self.go_on("work after the last fault", WHOLE);
        done
    }

    /// Waits for so many more answers.
    pub(super) fn go_on(&self, what: &str, more: usize) {
        let answered = || self.scene.answered.load(Ordering::Relaxed);
        let goal = answered() + more;
        wait_until(what, LIMIT, || answered() >= goal);
    }

    /// The same, and for so long at least: some faults need time to be felt.
    pub(super) fn go_on_for(&self, what: &str, more: usize, time: Duration) {
        let begun = Stopwatch::start();
        self.go_on(what, more);
        wait_until(what, LIMIT, || begun.elapsed() >= time);
    }

    /// Any node, the one that leads most groups, or the one that leads the placement group.
    pub(super) fn victim(&mut self) -> u32 {
        match self.random.below(3) {
            0 => 1 + self.random.below(self.servers.nodes().count() as u64) as u32,
            1 => self.servers.busiest(),
            _ => self.servers.oracle(),
        }
    }

    fn strike(&mut self, fault: Fault) {
        let node = match fault {
            Fault::PauseLong => self.servers.busiest(),
            _ => self.victim(),
        };
        self.say(fault, json!({"step": "begin", "node": node}));
        let effect = match fault {
            Fault::Kill => self.kill(node),
            Fault::KillAll => self.kill_all(),
            Fault::Pause => self.pause(node, Duration::ZERO),
            Fault::PauseLong => self.pause(node, crate::leases::TTL_MAX + Duration::from_secs(2)),
            Fault::CutPair => self.cut_pair(node),
            Fault::CutNode => self.cut_node(node),
            Fault::Dumb => self.cut(&self.from(node)),
            Fault::Deaf => self.cut(&self.to(node)),
            Fault::Delay => self.delay(),
            Fault::Resets => self.resets(),
            Fault::SlowSync => self.slow_sync(node),
            Fault::FailSync => self.fail_sync(node),
            Fault::FullDisk => self.full_disk(node),
            Fault::ClockOff => {
                let off = ["+3600s", "-3600s"][self.random.below(2) as usize];
                self.another_clock(node, Clock::Off(off))
            }
            Fault::ClockRate => {
                let rate = ["x1.1", "x0.9"][self.random.below(2) as usize];
                self.another_clock(node, Clock::Rate(rate))
            }
            Fault::Wipe => self.wipe(node),
        };
        self.say(
            fault,
            json!({"step": "end", "node": node, "effect": effect}),
        );
    }

    fn say(&self, fault: Fault, value: serde_json::Value) {
        self.scene.say(Type::Info, "nemesis", fault.name(), value);
    }
}
