//! The cases of groups, transactions, watches and moves.

use super::Op::*;
use super::*;
use crate::case::Expected::*;
use crate::case::{Case, cases};

fn with<const K: usize>(base: Cfg, ops: [Op; K]) -> Cfg {
    let mut all = [Op::None; NO];
    all[..K].copy_from_slice(&ops);
    Cfg { ops: all, ..base }
}

/// The first wording of the design.
fn nat<const K: usize>(ops: [Op; K]) -> Cfg {
    with(NATURAL, ops)
}

/// The rules as they are.
fn rep<const K: usize>(ops: [Op; K]) -> Cfg {
    with(REPAIRED, ops)
}

/// Parallel prepares: votes bound to the question, records and tombstones forgotten.
fn par<const K: usize>(ops: [Op; K]) -> Cfg {
    let mut cfg = with(REPAIRED, ops);
    (cfg.coord_first, cfg.fresh_votes, cfg.gc, cfg.tomb) = (false, true, true, false);
    cfg
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let families = [
        reads(),
        transactions(),
        drivers(),
        mixed(),
        watches(),
        moves(),
    ];
    families.into_iter().flatten().collect()
}

/// Writes, reads and snapshots without transactions.
fn reads() -> Vec<Case> {
    cases! {
        "B1 natural, two routers": Fails("a completed read should have seen this write (or reply revision too high)"), nat([W(0), W(1), R(0, 0), S(3, 1)]);
        "B1 natural, one router": Holds, nat([W(0), W(1), R(0, 0), S(3, 1)]), routers = 1;
        "B1 repaired (wait by key), two routers": Holds, rep([W(0), W(1), R(0, 0), S(3, 1)]);
        "B1 wrong: at_least ignores asked-for": Fails("a completed read should have seen this write (or reply revision too high)"), nat([W(0), W(1), R(0, 0)]), routers = 1, asked_counts = false;
        "B1 wrong: wait by key ignores asked-for": Fails("a completed read should have seen this write (or reply revision too high)"), rep([W(0), W(1), R(0, 0)]), asked_counts = false;
        "B1 wrong: reads don't wait": Fails("a completed read should have seen this write (or reply revision too high)"), rep([W(0), W(1), R(0, 0), S(3, 1)]), wait = Wait::None;
        "B1 wrong: snapshot ignores grants": Fails("a completed read should have seen this write (or reply revision too high)"), rep([W(0), W(1), R(0, 0), S(3, 1)]), snap_grants = false;
        "B1 wrong: snapshot ignores asked-for": Fails("a completed read should have seen this write (or reply revision too high)"), rep([W(0), W(1), R(0, 0), S(3, 1)]), asked_counts = false;
        "B1 wrong: snapshot without leadership check": Fails("a completed read should have seen this write (or reply revision too high)"), rep([W(0), W(1), R(0, 0), S(3, 1)]), snap_index = false;
        "B1 wrong: step-down taken for dead": Fails("snapshot: not the state at R"), rep([W(0), W(1), R(0, 0), S(3, 1)]), deposed_dead = true;
        "B1 wrong: grant kept over re-election, no guard": Fails("a write's revision is not above what was completed before it began"), rep([W(1), W(1), W(1)]), keep_grant = true, guard = false, tries = 3;
        "B1 wrong: grant kept over re-election, guard on": Fails("a write's revision is not above what was completed before it began"), rep([W(1), W(1), W(0)]), keep_grant = true, tries = 3;
        "B1 wrong: block used for later operations": Fails("a write's revision is not above what was completed before it began"), rep([W(1), W(1), W(0), R(0, 0)]), prefetch = true;
    }
}

/// A transaction beside other operations.
fn transactions() -> Vec<Case> {
    cases! {
        "B2 natural: T, two writes": Fails("order by key: a write of the key is applied below an earlier one"), nat([T, W(1), W(0)]);
        "B2 guard only: T, two writes": Holds, nat([T, W(1), W(0)]), guard = true;
        "B2 guard by key, reply = key's: T, 2 writes": Holds, rep([T, W(1), W(0)]), guard_key = true;
        "B2 guard by key: T, single-group T, write": Holds, rep([T, RW(1, 2), W(1)]), guard_key = true;
        "B2 guard by key, reply = max applied": Fails("a completed read should have seen this write (or reply revision too high)"), rep([T, W(2), R(2, 0)]), guard_key = true, reply_max_applied = true;
        "B2 repaired: T, two writes": Holds, rep([T, W(1), W(0)]);
        "B2 repaired: T, single-group T, write": Holds, rep([T, RW(1, 2), W(1)]);
        "B2 no guard: T, single-group T, write": Fails("single-group transaction read from the future"), rep([T, RW(1, 2), W(1)]), guard = false;
        "B2 repaired: T, write, snapshot": Holds, rep([T, W(1), S(3, 0)]);
        "B2 repaired: T, write, 2 reads": Holds, rep([T, W(1), R(1, 0), R(0, 1)]);
        "B2 guard, reply = max applied: T, write, read": Holds, rep([T, W(2), R(2, 0)]), reply_max_applied = true;
        "B2 no guard, reply = max applied: T, write, read": Fails("a completed read should have seen this write (or reply revision too high)"), rep([T, W(2), R(2, 0)]), reply_max_applied = true, guard = false;
        "B2 wrong: reads ignore locks": Fails("a completed read should have seen this write (or reply revision too high)"), rep([T, W(1), R(1, 0), R(0, 1)]), locks_read = false;
        "B2 wrong: parked writes keep their revision": Fails("order by key: a write of the key is applied below an earlier one"), rep([T, W(1), W(0)]), parked = true;
        "B2 wrong: commit revision asked early": Fails("order by key: a write of the key is applied below an earlier one"), rep([T, W(1), W(0)]), early_c = true;
        "B2 repaired: T, 2 writes, directory read": HoldsSlow, rep([T, W(1), W(2), D(6, 0)]), reply_max_applied = true;
        "B2 repaired: 3 writes, 2 directory reads": HoldsSlow, rep([W(1), W(2), W(0), D(6, 0), D(6, 1)]), reply_max_applied = true;
        "B2 guard by key: T, write, directory read": Fails("a completed read should have seen this write (or reply revision too high)"), rep([T, W(2), D(6, 0), D(6, 1)]), guard_key = true;
    }
}

/// Who drives a transaction, and what is forgotten.
fn drivers() -> Vec<Case> {
    cases! {
        "B2 repaired, T answered after Decide": Holds, rep([T, W(1), R(1, 0), S(3, 0)]), answer_early = true;
        "B2 repaired: T with 2 attempts, write": Holds, rep([T, W(1)]), attempts = 2;
        "B2 repaired: T with 2 attempts, snapshot, forget": Holds, rep([T, S(3, 0)]), attempts = 2, gc = true, tomb = false;
        "B2 parallel prepares, decision kept": Holds, rep([T, S(3, 0)]), attempts = 2, coord_first = false;
        "B2 parallel prepares, decision forgotten, no tombstones": Fails("transaction half applied: committed without a prepared participant"), rep([T, W(1)]), attempts = 1, coord_first = false, gc = true, tomb = false;
        "B2 wrong: abort without a record": Fails("transaction half applied: a participant aborts what is committed"), rep([T]), abort_free = true;
        "B2 wrong: parallel prepares, participant doesn't ask": Fails("a transaction stays prepared for ever"), nat([T]), no_recovery = true, lossy = true;
        "B2 coordinator first, participant needn't ask": Holds, rep([T, S(3, 0)]), no_recovery = true, lossy = true;
        "B2 repaired, messages lost": HoldsSlow, rep([T, W(1)]), attempts = 2, lossy = true;
        "B2 parallel prepares, messages lost": Holds, nat([T]), lossy = true;
        "B2 parallel prepares, forgotten, tombstones kept": Fails("transaction half applied: committed without a prepared participant"), rep([T, W(1)]), coord_first = false, gc = true;
        "B2 votes bound to the question: parallel, forgotten, no tombstones": Holds, rep([T, W(1)]), attempts = 2, coord_first = false, fresh_votes = true, gc = true, tomb = false;
        "B2 votes bound: same, messages lost, 2 coordinator changes": HoldsSlow, rep([T, S(3, 0)]), attempts = 2, changes = [2, 1], lossy = true, coord_first = false, fresh_votes = true, gc = true, tomb = false;
        "B2 coordinator first, forgotten, messages lost, 2 changes": Holds, rep([T, S(3, 0)]), attempts = 2, changes = [2, 1], lossy = true, gc = true, tomb = false;
    }
}

/// Several transactions, and parallel prepares.
fn mixed() -> Vec<Case> {
    cases! {
        "B3 repaired: two T": Holds, rep([T, T]);
        "B3 repaired: two T, two attempts": HoldsSlow, rep([T, T]), attempts = 2;
        "B3 repaired: two T, snapshot, read": Holds, rep([T, T, S(3, 0), R(1, 1)]);
        "B3 repaired: two T, write": Holds, rep([T, T, W(1)]);
        "B3 parallel prepares: two T": Holds, rep([T, T]), coord_first = false;
        "B4 repaired: T, 2 writes, 2 reads": HoldsSlow, rep([T, W(0), W(1), R(0, 0), R(1, 1)]);
        "B4 repaired: T, 2 writes, snapshot, read": HoldsSlow, rep([T, W(0), W(1), R(0, 0), S(3, 1)]), tries = 1;
        "B4 repaired: T, 2 writes, 2 leader changes each": HoldsSlow, rep([T, W(0), W(1)]), changes = [2, 2], qcap = 3;
        "B4 guard, one router, at_least only: T, writes, reads": HoldsSlow, nat([T, W(0), W(1), R(0, 0), R(1, 0)]), routers = 1, guard = true;
        "B5 repaired: two T, 2 writes, read, snapshot": HoldsSlow, rep([T, T, W(0), W(1), R(1, 1), S(3, 0)]), tries = 1;
        "B5 repaired: T, single-group T, 2 writes, directory, snapshot": HoldsSlow, rep([T, RW(1, 2), W(0), W(2), D(6, 1), S(7, 0)]), tries = 1;
        "B5 repaired: T, 2 writes, 2 reads, snapshot, answered early": HoldsSlow, rep([T, W(0), W(1), R(0, 0), R(1, 1), S(3, 0)]), tries = 1, answer_early = true;
        "P1 parallel: two T, two attempts": HoldsSlow, par([T, T]), attempts = 2, changes = [1, 0];
        "P1 parallel: T, 2 writes": Holds, par([T, W(1), W(0)]);
        "P1 parallel: T, write, 2 reads": Holds, par([T, W(1), R(1, 0), R(0, 1)]);
        "P1 parallel: two T, snapshot, answered early": Holds, par([T, T, S(3, 0)]), answer_early = true;
        "P1 parallel: T, 2 writes, watch": HoldsSlow, par([T, W(1), W(0)]), watch = true;
        "P1 parallel: T, write x, move": HoldsSlow, par([T, W(0)]), mv = true;
        "B4 repaired: 3 writes, 2 reads, snapshot": Holds, rep([W(0), W(1), W(2), R(0, 0), R(1, 1), S(7, 0)]), tries = 1;
    }
}

/// Watches.
fn watches() -> Vec<Case> {
    cases! {
        "C1 natural: T, 2 writes": Fails("order by key: a write of the key is applied below an earlier one"), nat([T, W(1), W(0)]), watch = true;
        "C1 natural, on-demand marks only: T, 2 writes": Fails("order by key: a write of the key is applied below an earlier one"), nat([T, W(1), W(0)]), watch = true, f_passive = false;
        "C1 natural: T, write of a third key": Fails("watch: an event at or below a progress mark already given"), nat([T, W(2)]), watch = true;
        "C1 repaired: T, 2 writes": HoldsSlow, rep([T, W(1), W(0)]), watch = true;
        "C1 repaired: T, single-group T, write": HoldsSlow, rep([T, RW(1, 2), W(1)]), watch = true;
        "C1 repaired: two T, write": HoldsSlow, rep([T, T, W(1)]), watch = true;
        "C1 repaired: 3 writes, 2 leader changes": HoldsSlow, rep([W(0), W(1), W(2)]), changes = [2, 2], watch = true;
        "C1 guard by key: passive marks": Fails("watch: an event at or below a progress mark already given"), rep([T, W(2)]), guard_key = true, watch = true;
        "C1 guard by key: on-demand marks only": HoldsSlow, rep([T, W(2), W(1)]), guard_key = true, watch = true, f_passive = false;
        "C1 wrong: router doesn't wait for other streams": Fails("watch: an event at or below a progress mark already given"), rep([W(0), W(1)]), watch = true, eager_merge = true;
        "C1 wrong: frontier ignores prepared": Fails("watch: an event at or below a progress mark already given"), rep([T, W(1), W(0)]), watch = true, f_prepared = false;
        "C1 wrong: mark ignores asked-for": Fails("watch: an event at or below a progress mark already given"), rep([W(0), W(1)]), watch = true, f_asked = false, asked_counts = false;
        "C1 wrong: mark without leadership check": Fails("watch: an event at or below a progress mark already given"), rep([W(0), W(1)]), watch = true, f_index = false;
        "C1 wrong: guard off, on-demand only, no T": Holds, rep([W(0), W(1), W(2)]), watch = true, guard = false;
    }
}

/// A move of a vnode.
fn moves() -> Vec<Case> {
    cases! {
        "D1 repaired: 2 writes of x, read": HoldsSlow, rep([W(0), W(0), R(0, 0)]), mv = true;
        "D1 repaired: write x, write y, snapshot": HoldsSlow, rep([W(0), W(1), S(3, 1)]), mv = true;
        "D1 repaired: write x, write y, watch": HoldsSlow, rep([W(0), W(1)]), mv = true, watch = true;
        "D1 T's request id kept by the coordinator only": Holds, rep([T, W(0)]), mv = true, dedupe_parts = false;
        "D2 repaired: T, 2 writes, read, snapshot": HoldsSlow, rep([T, W(0), W(1), R(0, 0), S(3, 1)]), tries = 1, mv = true;
        "D2 repaired: T, 2 writes, watch": HoldsSlow, rep([T, W(0), W(1)]), tries = 1, mv = true, watch = true;
        "D2 repaired: 2 writes of x, 2 reads": Holds, rep([W(0), W(0), R(0, 0), R(0, 1)]), tries = 1, mv = true;
        "D2 repaired: write x, write y, read x, snapshot": HoldsSlow, rep([W(0), W(1), R(0, 0), S(3, 1)]), tries = 1, mv = true;
        "D1 repaired: T, write x": Holds, rep([T, W(0)]), mv = true;
        "D1 repaired: T, write x, snapshot": HoldsSlow, rep([T, W(0), S(3, 0)]), mv = true;
        "D2 repaired: 2 writes x, write y, watch": HoldsSlow, rep([W(0), W(0), W(1)]), tries = 1, mv = true, watch = true;
        "D1 repaired: T, write x, watch": HoldsSlow, rep([T, W(0)]), mv = true, watch = true;
        "D1 natural (no floor): 2 writes of x": Fails("order by key: a write of the key is applied below an earlier one"), rep([W(0), W(0)]), mv = true, own_floor = 0;
        "D1 floor = last of x: write x, snapshot of x": Fails("a completed read should have seen this write (or reply revision too high)"), rep([W(0), S(1, 0)]), mv = true, own_floor = 1;
        "D1 floor = last of x: watch": Fails("watch: an event at or below a progress mark already given"), rep([W(0), W(1)]), mv = true, watch = true, own_floor = 1;
        "D1 wrong: owns with content missing": Fails("moved content incomplete: writes lost"), rep([W(0), W(0)]), mv = true, own_complete = false;
        "D1 wrong: prepared don't drain": Fails("moved content incomplete: writes lost"), rep([T]), mv = true, own_drain = false;
        "D1 wrong: de-duplication doesn't move": Fails("applied twice"), rep([W(0)]), mv = true, mv_dedupe = false;
        "D1 wrong: frozen source answers reads": Fails("read is stale"), rep([W(0), R(0, 0), R(0, 1)]), mv = true, freeze_reads = false;
        "D1 wrong: abort starts at the source": Fails("two owners"), rep([W(0)]), mv = true, mv_abort = 2;
        "D1 wrong: watch goes on at the target's position": Fails("watch: an event at or below a progress mark already given"), rep([W(0), W(1)]), mv = true, watch = true, mv_resub_target = true;
        "D1 wrong: source's marks go on for x": Fails("watch: an event at or below a progress mark already given"), rep([W(0), W(1)]), mv = true, watch = true, mv_watch_sub = false;
    }
}
