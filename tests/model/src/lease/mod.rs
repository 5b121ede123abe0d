//! Model E: a lease with its home group and two groups that hold its keys; keepalive, checkpoint, expiry, revoke,
//! attach, leader changes, and the move of a leased key from group 1 to group 2. Time is a tick common to all.

use crate::checker::Model;

mod apply;
mod cases;
mod groups;
mod home;

pub(crate) use cases::cases;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) ttl: u8,
    /// Last tick.
    pub(crate) end: u8,
    /// Keepalives.
    pub(crate) kas: u8,
    /// Checkpoints.
    pub(crate) ckpts: u8,
    pub(crate) revoke: bool,
    /// Per group.
    pub(crate) attaches: u8,
    pub(crate) home_changes: u8,
    pub(crate) group_changes: u8,
    pub(crate) mv: bool,
    /// The id is granted again after its end.
    pub(crate) regrant: bool,
    // protocol
    pub(crate) attach: Attach,
    /// Keepalives wait while a begin is in flight.
    pub(crate) ka_hold: bool,
    /// A keepalive replicates the end of a checkpoint before its answer.
    pub(crate) ka_clears: bool,
    /// ... also of one that is in flight.
    pub(crate) ka_inflight: bool,
    /// No checkpoint is proposed while a renewal is in flight.
    pub(crate) serial: bool,
    /// TTL is promised from the keepalive's arrival (else from its answer).
    pub(crate) from_arrival: bool,
    /// A new leader starts with the full TTL if there is no checkpoint (else with the old deadline's rest: 1).
    pub(crate) new_full: bool,
    /// Drops name the incarnation.
    pub(crate) drop_inc: bool,
    /// 0 nothing said; 1 target registers before it owns; 2 after it owns, before the source forgets.
    pub(crate) mv_rule: u8,
    /// End only after all attached groups dropped.
    pub(crate) end_waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attach {
    /// Registers once at home, then attaches; a drop removes the record.
    Late,
    /// A drop leaves a tombstone in the group.
    Tombstone,
    /// The group writes an open record first; the drop removes it; the attach needs that very record.
    Open,
    /// Wrong: attaches and registers afterwards.
    NoHome,
}

pub(crate) const DESIGN: Lease = Lease {
    ttl: 2,
    end: 5,
    kas: 2,
    ckpts: 1,
    revoke: true,
    attaches: 1,
    home_changes: 1,
    group_changes: 1,
    mv: false,
    regrant: false,
    attach: Attach::Late,
    ka_hold: false,
    ka_clears: false,
    ka_inflight: false,
    serial: false,
    from_arrival: true,
    new_full: true,
    drop_inc: true,
    mv_rule: 0,
    end_waits: true,
};

pub(crate) const REPAIRED: Lease = Lease {
    attach: Attach::Open,
    ka_hold: true,
    ka_clears: true,
    ka_inflight: true,
    serial: true,
    mv_rule: 2,
    ..DESIGN
};

const BEGIN: u8 = 1; // arg: 0 expiry, 1 revoke
const ENDE: u8 = 2;
const REG: u8 = 3; // arg: group | turn << 4
const CKPT: u8 = 4;
const RENEW: u8 = 5;
const MREG: u8 = 6;
const OPEN: u8 = 7;
const ATT: u8 = 8; // arg: turn
const DROP: u8 = 9; // arg: incarnation

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub(crate) struct E {
    /// One of the kinds above; 0 is no entry.
    kind: u8,
    /// See there.
    arg: u8,
}

fn entry(kind: u8, arg: u8) -> E {
    E { kind, arg }
}

#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Gr {
    /// Proposals in flight.
    q: [E; 2],
    /// How many they are.
    qn: u8,
    /// 0 none 1 open 2 registered 3 tombstone.
    rec: u8,
    /// Open records written so far.
    turn: u8,
    /// Whether the leased key is there.
    key: u8,
    /// Leader: register sent for this open record + 1.
    wait: u8,
    /// Register messages, by open record.
    sent: u8,
    /// Answers, by open record.
    ok: u8,
    /// Changes of leader.
    lc: u8,
    /// Attaches to come.
    left: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct St {
    /// What is violated, 0 for nothing.
    bad: u8,
    /// The tick.
    now: u8,
    /// 1 live 2 begun 3 ended.
    st: u8,
    /// The incarnation.
    inc: u8,
    /// Groups registered at home.
    mask: u8,
    /// Groups whose drop is confirmed.
    acked: u8,
    /// What a checkpoint left of the TTL, 0 for none.
    ckpt: u8,
    /// Proposals in flight at home.
    q: [E; 2],
    /// How many they are.
    qn: u8,
    /// When the home leader lets it expire.
    deadline: u8,
    /// A begin is in flight.
    begin_fl: u8,
    /// A checkpoint is in flight.
    ck_fl: u8,
    /// Changes of the home leader.
    lc: u8,
    /// 0 none 1 arrived 2 leadership confirmed 3 waits for its entry.
    ka: u8,
    /// When the keepalive arrived.
    ka_t: u8,
    /// Its leader is deposed.
    ka_old: u8,
    /// Keepalives to come.
    kas: u8,
    /// Checkpoints to come.
    ckpts: u8,
    /// Whether it was revoked.
    revoked: u8,
    /// Until when clients were promised the lease.
    promise: u8,
    /// The groups with keys.
    g: [Gr; 2],
    /// 0 none 1 frozen 2 owned by the target 3 registered 4 forgotten.
    mv: u8,
    /// The key in the content that moves.
    content: u8,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Act {
    Tick(u8),
    HomeLeaderChange { deadline: u8 },
    GroupLeaderChange(u8),
    HomeCommit(E),
    GroupCommit(u8, E),
    Propose(&'static str),
    KeepaliveArrives,
    KeepaliveConfirmed,
    KeepaliveAnswered { promised_until: u8 },
    KeepaliveRefused,
    SendRegister(u8),
    ProposeDrop(u8),
    Move(&'static str),
    Regrant,
}

const BAD: [&str; 5] = [
    "",
    "a key of an ended lease is visible",
    "expired before the TTL after an acknowledged keepalive",
    "a drop of an earlier incarnation removes a key of the new one",
    "lease ended while a group had not dropped",
];
impl Model for Lease {
    type State = St;
    type Action = Act;
    fn init(&self) -> St {
        let g = Gr {
            left: self.attaches,
            ..Gr::default()
        };
        St {
            bad: 0,
            now: 0,
            st: 1,
            inc: 1,
            mask: 0,
            acked: 0,
            ckpt: 0,
            q: [E::default(); 2],
            qn: 0,
            deadline: self.ttl,
            begin_fl: 0,
            ck_fl: 0,
            lc: 0,
            ka: 0,
            ka_t: 0,
            ka_old: 0,
            kas: self.kas,
            ckpts: self.ckpts,
            revoked: !self.revoke as u8,
            promise: self.ttl,
            g: [g; 2],
            mv: 0,
            content: 0,
        }
    }

    fn violation(&self, s: &St) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[s.bad as usize])
    }

    fn terminal(&self, s: &St) -> Option<&'static str> {
        (s.st != 3).then_some("the lease never ends")
    }

    fn next(&self, s: &St, out: &mut Vec<(Act, St)>) {
        if s.bad != 0 {
            return;
        }
        self.time(s, out);
        self.keepalive(s, out);
        self.home(s, out);
        for g in 0..2 {
            self.group(s, g, out);
            self.attaching(s, g, out);
            self.registering(s, g, out);
        }
        if self.mv {
            self.moving(s, out);
        }
    }
}
