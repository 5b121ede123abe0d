//! Each fault: it begins, work goes on meanwhile, it ends. What is returned says how much of it was felt; a fault of
//! which nothing was felt has proved nothing, and fails the run.

use std::time::Duration;

use caucus_tests::servers::Clock;
use caucus_tests::strace::{Strace, Sync};
use caucus_tests::wait::{Stopwatch, pause, wait_for, wait_until};
use rustix::process::Signal;

use crate::LIMIT;
use crate::nemesis::{BESIDE, Nemesis, WITHOUT};

/// Longer than it takes to elect somebody.
const CUT: Duration = Duration::from_secs(3);
const DELAYS: Duration = Duration::from_secs(4);
const DELAY: Duration = Duration::from_millis(60);
const SLOW_SYNC: Duration = Duration::from_millis(250);
/// At a tenth too fast or too slow, half a second off.
const OTHER_CLOCK: Duration = Duration::from_secs(5);
/// A clock that is as much off as this isn't right.
const OFF_MS_MIN: u64 = 200;

type Ways = Vec<(u32, u32)>;

impl Nemesis<'_> {
    pub(super) fn kill(&mut self, node: u32) -> u64 {
        self.servers.kill(node);
        self.go_on("work without a node", WITHOUT);
        self.servers.revive(node, Clock::Right);
        1
    }

    pub(super) fn kill_all(&mut self) -> u64 {
        self.servers.kill_all();
        let nodes = self.servers.nodes();
        nodes
            .clone()
            .for_each(|node| self.servers.spawn(node, Clock::Right));
        nodes.for_each(|node| self.servers.await_ready(node));
        self.go_on("work of those who came back", 1);
        1
    }

    pub(super) fn pause(&mut self, node: u32, time: Duration) -> u64 {
        self.servers.signal(node, Signal::STOP);
        let stat = format!("/proc/{}/stat", self.servers.pid(node));
        wait_until("a node to be stopped", LIMIT, || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        });
        self.go_on_for("work beside a node that is stopped", WITHOUT, time);
        self.servers.signal(node, Signal::CONT);
        1
    }

    fn others(&self, node: u32) -> Vec<u32> {
        self.servers
            .nodes()
            .filter(|other| *other != node)
            .collect()
    }

    pub(super) fn from(&self, node: u32) -> Ways {
        self.others(node)
            .into_iter()
            .map(|other| (node, other))
            .collect()
    }

    pub(super) fn to(&self, node: u32) -> Ways {
        self.others(node)
            .into_iter()
            .map(|other| (other, node))
            .collect()
    }

    pub(super) fn cut_pair(&mut self, node: u32) -> u64 {
        let others = self.others(node);
        let other = others[self.random.below(others.len() as u64) as usize];
        self.cut(&[(node, other), (other, node)])
    }

    pub(super) fn cut_node(&mut self, node: u32) -> u64 {
        self.cut(&[self.from(node), self.to(node)].concat())
    }

    /// What was held arrives late, or never.
    pub(super) fn cut(&mut self, ways: &[(u32, u32)]) -> u64 {
        let (held, passed) = self.count(ways);
        self.servers.wires().cut(ways);
        self.go_on_for("work beside a cut", BESIDE, CUT);
        let (held_after, passed_after) = self.count(ways);
        // What was on its way when it was cut.
        let slack = 2 * ways.len() as u64;
        assert!(passed_after <= passed + slack, "a cut wire lets through");
        if self.random.below(2) == 0 {
            self.servers.wires().reset(ways);
        }
        self.servers.wires().mend();
        held_after - held
    }

    fn count(&self, ways: &[(u32, u32)]) -> (u64, u64) {
        let wires = self.servers.wires();
        (wires.held(ways), wires.passed(ways))
    }

    fn all(&self) -> Ways {
        self.servers
            .nodes()
            .flat_map(|node| self.from(node))
            .collect()
    }

    pub(super) fn delay(&mut self) -> u64 {
        let all = self.all();
        let before = self.servers.wires().passed(&all);
        self.servers.wires().delay(&all, DELAY);
        self.go_on_for("work over a slow network", WITHOUT, DELAYS);
        let passed = self.servers.wires().passed(&all) - before;
        self.servers.wires().mend();
        passed
    }

    pub(super) fn resets(&mut self) -> u64 {
        let all = self.all();
        let begun = Stopwatch::start();
        let mut broken = 0;
        while begun.elapsed() < CUT {
            broken += self.servers.wires().reset(&all);
            self.go_on("work between resets", 1);
            (0..20).for_each(|_| pause());
        }
        self.go_on("work after resets", WITHOUT);
        broken
    }

    pub(super) fn slow_sync(&mut self, node: u32) -> u64 {
        let pid = self.servers.pid(node);
        let strace = Strace::syncs(pid, Sync::Slow(SLOW_SYNC), self.servers.dir());
        self.go_on_for("work beside a slow disk", WITHOUT, CUT);
        strace.hits()
    }

    /// After a sync that failed nobody knows what is on the disk, and the next one may well succeed: all replicas of
    /// the node have to stop, or the node has to.
    pub(super) fn fail_sync(&mut self, node: u32) -> u64 {
        let pid = self.servers.pid(node);
        let strace = Strace::syncs(pid, Sync::FailsOnce, self.servers.dir());
        wait_until("a node whose sync failed to stop", LIMIT, || {
            let stopped = self.servers.stopped_replicas(node);
            self.servers.ended(node).is_some() || stopped.is_some_and(|stopped| stopped > 0)
        });
        let hits = strace.hits();
        drop(strace);
        self.go_on("work beside a node that has stopped", WITHOUT);
        match self.servers.ended(node) {
            Some(_) => _ = self.servers.await_end(node),
            None => self.servers.kill(node),
        }
        self.servers.revive(node, Clock::Right);
        hits
    }

    /// The node may stop if there isn't a single block left; it may not be wrong.
    pub(super) fn full_disk(&mut self, node: u32) -> u64 {
        self.servers.fill(node);
        wait_until("a node to know that its disk is full", LIMIT, || {
            self.servers.ended(node).is_some() || self.is_full(node)
        });
        self.go_on_for("work beside a full disk", BESIDE, CUT);
        self.servers.relieve(node);
        // Where not one block was left a sync has failed: the node or its replicas have stopped, and are to be started
        // again.
        match self.servers.ended(node) {
            Some(_) => {
                self.servers.await_end(node);
                self.servers.revive(node, Clock::Right);
            }
            None if self.servers.stopped_replicas(node) != Some(0) => {
                self.servers.kill(node);
                self.servers.revive(node, Clock::Right);
            }
            None => {}
        }
        wait_until("a node to know that it has room", LIMIT, || {
            !self.is_full(node)
        });
        1
    }

    fn is_full(&self, node: u32) -> bool {
        let status = self.servers.status(node);
        let errors = status.map(|status| status["errors"].to_string());
        errors.is_some_and(|errors| errors.contains("NOSPACE"))
    }

    pub(super) fn another_clock(&mut self, node: u32, clock: Clock) -> u64 {
        self.servers.stop(node);
        self.servers.revive(node, clock);
        self.go_on_for("work beside another clock", WITHOUT, OTHER_CLOCK);
        let off = self.servers.clock_off_ms(node);
        self.servers.stop(node);
        self.servers.revive(node, Clock::Right);
        off.saturating_sub(OFF_MS_MIN)
    }

    /// Its data are put aside; in the end it has them again.
    pub(super) fn wipe(&mut self, node: u32) -> u64 {
        self.servers.kill(node);
        self.servers.lose_data(node);
        self.servers.spawn(node, Clock::Right);
        let ended = wait_for("a node without its data to be refused", LIMIT, || {
            self.servers.ended(node)
        });
        let said = self.servers.said(node);
        assert_eq!(ended.code(), Some(2), "{said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains("the cluster refuses this node"), "{last}");
        self.servers.await_end(node);
        self.go_on("work without a node", WITHOUT);
        self.servers.find_data(node);
        self.servers.revive(node, Clock::Right);
        1
    }
}
