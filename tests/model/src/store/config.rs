//! A case: its operations, its bounds, and the choices of the protocol.

/// Keys.
pub(crate) const NK: usize = 3;
/// Operations.
pub(crate) const NO: usize = 6;
/// Revisions kept of a key.
pub(crate) const H: usize = 6;
/// Proposals in flight.
pub(crate) const Q: usize = 3;
/// Transactions.
pub(crate) const NT: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    None,
    /// Write one key.
    W(u8),
    /// Transaction in one group: reads the first, writes the second (both in group 1).
    RW(u8, u8),
    /// Linearizable read of a key through a router.
    R(u8, u8),
    /// Linearizable read of a directory: a mask of keys of one group, in one step.
    D(u8, u8),
    /// Snapshot read of a mask of keys through a router.
    S(u8, u8),
    /// Cross-group: reads and writes x and y.
    T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Reads look only at what is applied.
    None,
    /// Grants up to at_least (the design's sentence).
    AtLeast,
    /// All outstanding writes of the key when the read arrived.
    Key,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cfg {
    /// What clients do.
    pub(crate) ops: [Op; NO],
    /// 1: all seen values are shared.
    pub(crate) routers: u8,
    /// Changes of leader, by group.
    pub(crate) changes: [u8; 2],
    /// How often a write is sent.
    pub(crate) tries: u8,
    /// Attempts of a transaction.
    pub(crate) attempts: u8,
    /// Proposals in flight, of a group.
    pub(crate) qcap: u8,
    // choices of the protocol
    pub(crate) wait: Wait,
    /// Reply revision = max(at_least, group's last applied); else max(at_least, key's).
    pub(crate) reply_max_applied: bool,
    /// The guard looks only at the keys touched.
    pub(crate) guard_key: bool,
    /// Apply refuses a write whose revision is not above all applied in the group.
    pub(crate) guard: bool,
    /// Waits include grants asked for and not yet received.
    pub(crate) asked_counts: bool,
    /// Snapshot waits for grants <= R.
    pub(crate) snap_grants: bool,
    /// Snapshot confirms leadership.
    pub(crate) snap_index: bool,
    /// Reads wait for prepared locks.
    pub(crate) locks_read: bool,
    /// A write that hits a lock is parked and executed with its old revision.
    pub(crate) parked: bool,
    /// Commit revision asked for before all are prepared.
    pub(crate) early_c: bool,
    /// Recovery: abort with no record in the coordinator's log.
    pub(crate) abort_free: bool,
    /// A leader that steps down takes its proposals for dead and answers waiting reads.
    pub(crate) deposed_dead: bool,
    /// A grant is kept over a change of leader (same node leads again).
    pub(crate) keep_grant: bool,
    /// A block may be used by operations that came after it was asked for.
    pub(crate) prefetch: bool,
    /// Transaction answered after Decide.
    pub(crate) answer_early: bool,
    /// Decision forgotten once all confirmed.
    pub(crate) gc: bool,
    /// Participants remember aborted attempts.
    pub(crate) tomb: bool,
    /// The coordinator's own Prepare first; Decide(commit) needs it still prepared.
    pub(crate) coord_first: bool,
    /// A yes counts only as the answer to this very driver's own question.
    pub(crate) fresh_votes: bool,
    /// A new coordinator leader may go on with a prepared transaction.
    pub(crate) resume: bool,
    /// A Prepare message may be lost.
    pub(crate) lossy: bool,
    /// Participants don't ask.
    pub(crate) no_recovery: bool,
    // watch
    pub(crate) watch: bool,
    /// Frontier held back by prepared transactions.
    pub(crate) f_prepared: bool,
    /// Frontier held back by grants outstanding.
    pub(crate) f_asked: bool,
    /// Progress on demand confirms leadership.
    pub(crate) f_index: bool,
    /// Wrong: the router delivers what has come, without waiting for the other stream.
    pub(crate) eager_merge: bool,
    /// Also marks the last applied revision with no look at outstanding grants.
    pub(crate) f_passive: bool,
    // move of x
    pub(crate) mv: bool,
    /// 0 none, 1 target's log first, 2 source unfreezes first.
    pub(crate) mv_abort: u8,
    /// Target owns only if the content is complete.
    pub(crate) own_complete: bool,
    /// Prepared transactions drain before the last content.
    pub(crate) own_drain: bool,
    /// Target's last revision is raised by `owns` to: 0 nothing, 1 x's last, 2 a revision granted after the freeze.
    pub(crate) own_floor: u8,
    /// De-duplication entries move.
    pub(crate) mv_dedupe: bool,
    /// Transaction's request id remembered by each participant (else by the coordinator only).
    pub(crate) dedupe_parts: bool,
    /// Frozen source refuses reads.
    pub(crate) freeze_reads: bool,
    /// Wrong: the watch goes on at the target's stream position.
    pub(crate) mv_resub_target: bool,
    /// Progress of a vnode counts only from its owner.
    pub(crate) mv_watch_sub: bool,
}

/// The first wording of the design.
pub(crate) const NATURAL: Cfg = Cfg {
    ops: [Op::None; NO],
    routers: 2,
    changes: [1, 1],
    tries: 2,
    attempts: 1,
    qcap: 2,
    wait: Wait::AtLeast,
    reply_max_applied: true,
    guard_key: false,
    guard: false,
    asked_counts: true,
    snap_grants: true,
    snap_index: true,
    locks_read: true,
    parked: false,
    early_c: false,
    abort_free: false,
    deposed_dead: false,
    keep_grant: false,
    prefetch: false,
    answer_early: false,
    gc: false,
    tomb: true,
    coord_first: false,
    fresh_votes: false,
    resume: true,
    lossy: false,
    no_recovery: false,
    watch: false,
    f_prepared: true,
    f_asked: true,
    f_index: true,
    eager_merge: false,
    f_passive: true,
    mv: false,
    mv_abort: 0,
    own_complete: true,
    own_drain: true,
    own_floor: 0,
    mv_dedupe: true,
    dedupe_parts: false,
    freeze_reads: true,
    mv_resub_target: false,
    mv_watch_sub: true,
};

/// The rules as they are.
pub(crate) const REPAIRED: Cfg = Cfg {
    wait: Wait::Key,
    reply_max_applied: false,
    guard: true,
    coord_first: true,
    own_floor: 2,
    dedupe_parts: true,
    mv_abort: 1,
    ..NATURAL
};
