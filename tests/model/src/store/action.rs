//! What can happen: only printed, in counterexamples.

use super::*;

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Act {
    Ask {
        op: u8,
        group: u8,
    },
    Grant {
        group: u8,
        rev: u8,
    },
    Propose {
        group: u8,
    },
    ProposeSpare {
        group: u8,
        op: u8,
    },
    Commit {
        group: u8,
        entry: Item2,
    },
    LeaderChange {
        group: u8,
    },
    ReadArrives {
        op: u8,
        group: u8,
        waits: u8,
    },
    ReadAnswers {
        op: u8,
        group: u8,
        saw: u8,
        reply_rev: u8,
    },
    SnapshotGetsR {
        op: u8,
        r: u8,
    },
    SnapshotReads {
        op: u8,
        group: u8,
    },
    StartTxn {
        t: u8,
        attempt: u8,
    },
    ResumeTxn {
        attempt: u8,
    },
    ProposePrepare {
        group: u8,
        attempt: u8,
    },
    AskCommitRev,
    GrantCommitRev {
        c: u8,
    },
    ProposeDecide {
        commit: bool,
        attempt: u8,
        c: u8,
    },
    ParticipantAsksCoordinatorProposesAbort {
        attempt: u8,
    },
    ProposeCommit {
        group: u8,
        c: u8,
    },
    ProposeAbortPart {
        group: u8,
        attempt: u8,
    },
    Gc {
        attempt: u8,
    },
    Lose {
        group: u8,
    },
    Vote {
        group: u8,
    },
    Progress {
        stream: u8,
        group: u8,
        r: u8,
    },
    Move(&'static str),
    Resubscribe,
}

#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Item2 {
    Write { op: u8, rev: u8 },
    Prepare { att: u8 },
    DecideCommit { att: u8, c: u8 },
    DecideAbort { att: u8 },
    CommitPart { att: u8, c: u8 },
    AbortPart { att: u8 },
    MoveStep { kind: &'static str, len: u8 },
}

pub(crate) fn pretty(i: Item) -> Item2 {
    match i.kind {
        WR => Item2::Write {
            op: i.op,
            rev: i.rev,
        },
        PREP => Item2::Prepare { att: i.att },
        DECC => Item2::DecideCommit {
            att: i.att,
            c: i.rev,
        },
        DECA => Item2::DecideAbort { att: i.att },
        COMM => Item2::CommitPart {
            att: i.att,
            c: i.rev,
        },
        ABRT => Item2::AbortPart { att: i.att },
        ADOPT => Item2::MoveStep {
            kind: "adopt",
            len: 0,
        },
        CHUNK => Item2::MoveStep {
            kind: "content",
            len: i.rev,
        },
        FREEZE => Item2::MoveStep {
            kind: "freeze",
            len: 0,
        },
        OWN => Item2::MoveStep {
            kind: "own",
            len: i.rev,
        },
        MABORT => Item2::MoveStep {
            kind: "abort at target",
            len: 0,
        },
        UNFRZ => Item2::MoveStep {
            kind: "unfreeze",
            len: 0,
        },
        _ => Item2::MoveStep {
            kind: "forget",
            len: 0,
        },
    }
}
