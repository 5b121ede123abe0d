//! What goes wrong, and when.

use caucus_history::history::Type;
use caucus_tests::Cluster;
use caucus_tests::random::Random;
use caucus_tests::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{LIMIT, Scene};

/// Answers between two faults: the cluster is whole then.
const WHOLE: usize = 150;
/// Answers while a node is away.
const WITHOUT: usize = 100;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// One node is killed with -9, and comes back.
    Kill,
    /// One node is stopped, and goes on.
    Pause,
    /// All are killed at the same time, and come back.
    KillAll,
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Pause => "pause",
            Fault::KillAll => "kill-all",
        }
    }
}

/// Does one fault after the other, as work goes on: `answered` counts it.
pub(super) fn play(
    cluster: &mut Cluster,
    scene: &Scene,
    seed: u64,
    faults: &[Fault],
    answered: &dyn Fn() -> usize,
) {
    let mut random = Random::nth(seed, 1000);
    let go_on = |what: &str, more: usize| {
        let goal = answered() + more;
        wait_until(what, LIMIT, || answered() >= goal);
    };
    for fault in faults {
        go_on("work before a fault", WHOLE);
        let node = 1 + random.below(3) as u32;
        let say = |step: &str| {
            let value = json!({"step": step, "node": node});
            scene.say(Type::Info, "nemesis", fault.name(), value);
        };
        say("begin");
        match fault {
            Fault::Kill => {
                cluster.kill(node);
                go_on("work without a node", WITHOUT);
                cluster.revive(node);
            }
            Fault::Pause => {
                signal(cluster, node, Signal::STOP);
                go_on("work beside a node that is stopped", WITHOUT);
                signal(cluster, node, Signal::CONT);
            }
            Fault::KillAll => {
                cluster.kill_all();
                cluster.up();
                go_on("work of those who came back", 1);
            }
        }
        say("end");
    }
    go_on("work after the last fault", WHOLE);
}

fn signal(cluster: &Cluster, node: u32, signal: Signal) {
    let pid = i32::try_from(cluster.pid(node)).expect("a process id");
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, signal).expect("a node can be signalled");
}
