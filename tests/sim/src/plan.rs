//! What a seed stands for: how big the cluster is, how fast its parts are, and what goes wrong.

use crate::wire::Weather;

/// For what is drawn apart: see [`Plan::with_more`].
const MORE: u64 = 3_122_047;

/// Kinds of faults; a run has some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A process dies; what it wrote stays.
    Kill,
    /// A machine loses power: what isn't synced is lost, from some batch on.
    PowerLoss,
    /// All nodes lose power at once.
    Blackout,
    /// A process stands still, and its clock jumps when it goes on.
    Pause,
    /// Nothing gets from one node to another; the other way it does.
    CutOneWay,
    /// Two nodes don't reach each other.
    CutPair,
    /// A node reaches nobody.
    Isolate,
    /// The network is slow and loses packets.
    Storm,
    /// Streams between two hosts break.
    Reset,
    /// A disk is slow.
    SlowDisk,
    /// A disk is full.
    FullDisk,
    /// A sync fails: the node has to be started again.
    FailedSync,
    /// A clock on the wall jumps.
    WallJump,
    /// Groups get another leader.
    HandOver,
    /// A router with its clients dies.
    RouterKill,
    /// The past is forgotten.
    Compact,
    /// A machine gets an empty disk.
    Wipe,
    /// Bits on a disk rot.
    Rot,
    /// All begin anew; two don't reach each other, and whom both ask for its vote loses power.
    LostVotes,
    /// Disks are slow and a leader is gone; its successor loses power when it has just been elected.
    YoungLeader,
}

impl Kind {
    /// Those that any run may have.
    pub(crate) const COMMON: [Kind; 16] = [
        Kind::Kill,
        Kind::PowerLoss,
        Kind::Blackout,
        Kind::Pause,
        Kind::CutOneWay,
        Kind::CutPair,
        Kind::Isolate,
        Kind::Storm,
        Kind::Reset,
        Kind::SlowDisk,
        Kind::FullDisk,
        Kind::FailedSync,
        Kind::WallJump,
        Kind::HandOver,
        Kind::RouterKill,
        Kind::Compact,
    ];

    /// Those that most runs don't have.
    pub(crate) const RARE: [Kind; 4] = [Kind::Wipe, Kind::Rot, Kind::LostVotes, Kind::YoungLeader];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::PowerLoss => "power-loss",
            Kind::Blackout => "blackout",
            Kind::Pause => "pause",
            Kind::CutOneWay => "cut-one-way",
            Kind::CutPair => "cut-pair",
            Kind::Isolate => "isolate",
            Kind::Storm => "storm",
            Kind::Reset => "reset",
            Kind::SlowDisk => "slow-disk",
            Kind::FullDisk => "full-disk",
            Kind::FailedSync => "failed-sync",
            Kind::WallJump => "wall-jump",
            Kind::HandOver => "hand-over",
            Kind::RouterKill => "router-kill",
            Kind::Compact => "compact",
            Kind::Wipe => "wipe",
            Kind::Rot => "rot",
            Kind::LostVotes => "lost-votes",
            Kind::YoungLeader => "young-leader",
        }
    }
}

/// Everything that a seed decides beforehand. Times are in ms.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// Of them the first so many hold the placement group.
    pub(crate) voters: usize,
    pub(crate) groups: u32,
    /// Hosts with a router and clients.
    pub(crate) fronts: usize,
    /// Clients of a front.
    pub(crate) clients: u64,
    /// What a host runs at a time; the shortest delay of the network.
    pub(crate) step: u64,
    pub(crate) weather: Weather,
    pub(crate) sync_max: u64,
    /// Of each node's clock, in thousandths.
    pub(crate) rates: Vec<u64>,
    /// A client's longest pause.
    pub(crate) think_max: u64,
    /// Directories of keys.
    pub(crate) directories: u64,
    pub(crate) log_bytes_max: u64,
    pub(crate) snapshot_chunk_bytes: usize,
    pub(crate) tail_bytes_max: usize,
    /// Whether there are those who send plain requests.
    pub(crate) has_plain: bool,
    /// Whether there are those who take a key for a lock, those who renew leases and do nothing else, and watchers who go
    /// away for a while.
    pub(crate) has_odd: bool,
    /// The kinds of faults of this run.
    pub(crate) kinds: Vec<Kind>,
    /// A fault lasts at most so long.
    pub(crate) fault_max: u64,
    /// And begins at most so long after another one.
    pub(crate) gap_max: u64,
    /// Clients work, and faults happen, for so long.
    pub(crate) length: u64,
}

impl Plan {
    /// Of a seed; `length` in ms.
    pub(crate) fn new(seed: u64, length: u64) -> Plan {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut more = fastrand::Rng::with_seed(seed ^ MORE);
        let nodes = random.usize(3..=5);
        let step = *random.choice(&[1, 2, 2, 4, 4, 8]).expect("some");
        let delay_max = step + random.u64(0..=2 * step);
        let mut kinds: Vec<Kind> = Kind::COMMON.to_vec();
        random.shuffle(&mut kinds);
        let count = random.usize(2..=7);
        kinds.truncate(count);
        kinds.sort_unstable();
        let is_small = random.bool();
        let plan = Plan {
            seed,
            nodes,
            voters: if nodes == 5 && random.bool() { 5 } else { 3 },
            groups: random.u32(2..=6),
            fronts: 2,
            clients: random.u64(2..=4),
            step,
            weather: Weather {
                delay_min: step,
                delay_max,
                loss: random.u64(0..4),
            },
            sync_max: random.u64(1..=12),
            rates: (0..nodes).map(|_| rate(&mut random)).collect(),
            think_max: random.u64(50..1500),
            directories: random.u64(2..=8),
            log_bytes_max: if is_small { 24 << 10 } else { 64 << 20 },
            snapshot_chunk_bytes: if is_small { 2 << 10 } else { 256 << 10 },
            tail_bytes_max: if is_small { 4 << 10 } else { 1 << 20 },
            has_plain: false,
            has_odd: false,
            kinds,
            fault_max: random.u64(1_000..20_000),
            gap_max: random.u64(500..15_000),
            length,
        };
        plan.with_more(&mut more)
    }

    /// What was added after the first seeds had failed: drawn apart, so that those are what they were.
    fn with_more(mut self, random: &mut fastrand::Rng) -> Plan {
        if random.u8(0..3) == 0 {
            let kind = random.choice(&Kind::RARE);
            self.kinds.push(*kind.expect("some"));
        }
        if self.nodes == 5 && random.u8(0..3) == 0 {
            self.nodes = random.usize(6..=7);
            self.rates.resize(self.nodes, 1000);
        }
        let others = random.u8(0..4);
        self.has_plain = matches!(others, 1 | 3);
        self.has_odd = matches!(others, 2 | 3);
        self
    }
}

/// Most clocks are good.
fn rate(random: &mut fastrand::Rng) -> u64 {
    match random.u8(0..4) {
        0 => random.u64(950..=1050),
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that `tests/tests/simulation.rs` runs again each time, as far as they are older than what is drawn apart.
    #[test]
    fn seeds_that_failed_are_what_they_were() {
        let failed = [2, 10, 22, 37, 1795835108542, 1795835108631, 1795835108636];
        for seed in failed {
            let plan = Plan::new(seed, 1000);
            let is_rare = |kind: &Kind| Kind::RARE.contains(kind);
            let is_new = plan.has_plain || plan.has_odd;
            assert!(
                plan.nodes <= 5 && !plan.kinds.iter().any(is_rare) && !is_new,
                "{seed}"
            );
        }
    }

    /// The least that is promised of what is simulated.
    #[test]
    fn plans_have_all_sizes_and_faults() {
        let plans: Vec<Plan> = (0..400).map(|seed| Plan::new(seed, 1000)).collect();
        for nodes in 3..=7 {
            assert!(plans.iter().any(|p| p.nodes == nodes), "{nodes} nodes");
        }
        for groups in 2..=6 {
            assert!(plans.iter().any(|p| p.groups == groups), "{groups} groups");
        }
        for kind in Kind::COMMON.into_iter().chain(Kind::RARE) {
            let with = plans.iter().filter(|p| p.kinds.contains(&kind)).count();
            assert!(with >= 20, "{} in {with} of 400", kind.name());
        }
    }
}
