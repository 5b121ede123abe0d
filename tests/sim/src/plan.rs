//! What a seed stands for: how big the cluster is, how fast its parts are, and what goes wrong.

use crate::wire::Weather;

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
}

impl Kind {
    pub(crate) const ALL: [Kind; 16] = [
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
        let nodes = random.usize(3..=5);
        let step = *random.choice(&[1, 2, 2, 4, 4, 8]).expect("some");
        let delay_max = step + random.u64(0..=2 * step);
        let mut kinds: Vec<Kind> = Kind::ALL.to_vec();
        random.shuffle(&mut kinds);
        let count = random.usize(2..=7);
        kinds.truncate(count);
        kinds.sort_unstable();
        let is_small = random.bool();
        Plan {
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
            kinds,
            fault_max: random.u64(1_000..20_000),
            gap_max: random.u64(500..15_000),
            length,
        }
    }
}

/// Most clocks are good.
fn rate(random: &mut fastrand::Rng) -> u64 {
    match random.u8(0..4) {
        0 => random.u64(950..=1050),
        _ => 1000,
    }
}
