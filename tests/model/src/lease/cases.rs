//! The cases of leases.

use super::*;
use crate::case::Expected::*;
use crate::case::{Case, cases};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let (d, r) = (DESIGN, REPAIRED);
    let time = Lease {
        attaches: 0,
        group_changes: 0,
        kas: 3,
        ckpts: 2,
        home_changes: 2,
        end: 7,
        ttl: 3,
        ..d
    };
    let rtime = Lease {
        attach: r.attach,
        ka_hold: true,
        ka_clears: true,
        ka_inflight: true,
        serial: true,
        ..time
    };
    let keys = Lease {
        kas: 0,
        ckpts: 0,
        end: 2,
        ..d
    };
    let rkeys = Lease {
        attach: r.attach,
        attaches: 2,
        ..keys
    };
    cases! {
        "E1 natural: keepalives, checkpoints, expiry": Fails("expired before the TTL after an acknowledged keepalive"), time;
        "E1 hold only": Fails("expired before the TTL after an acknowledged keepalive"), time, ka_hold = true;
        "E1 hold, clears applied checkpoints only": Fails("expired before the TTL after an acknowledged keepalive"), rtime, ka_inflight = false;
        "E1 hold, clears, checkpoints overtake renewals": Fails("expired before the TTL after an acknowledged keepalive"), rtime, serial = false;
        "E1 repaired: keepalives, checkpoints, expiry": Holds, rtime;
        "E1 wrong: no hold": Fails("expired before the TTL after an acknowledged keepalive"), rtime, ka_hold = false;
        "E1 wrong: TTL promised from the answer": Fails("expired before the TTL after an acknowledged keepalive"), rtime, from_arrival = false;
        "E1 wrong: new leader keeps the old rest": Fails("expired before the TTL after an acknowledged keepalive"), rtime, new_full = false;
        "E2 natural: attach and revoke/expiry": Fails("a key of an ended lease is visible"), keys;
        "E2 tombstone: attach and revoke/expiry": Holds, keys, attach = Attach::Tombstone;
        "E2 open record: attach and revoke/expiry": Holds, rkeys;
        "E2 wrong: attaches first, registers later": Fails("a key of an ended lease is visible"), keys, attach = Attach::NoHome;
        "E2 wrong: end doesn't wait for drops": Fails("a key of an ended lease is visible"), rkeys, end_waits = false;
        "E2 repaired: all together": HoldsSlow, r, kas = 1, ckpts = 1, end = 4;
        "E3 natural: leased key moves": Fails("a key of an ended lease is visible"), keys, mv = true, attach = Attach::Tombstone;
        "E3 target registers before it owns": Fails("a key of an ended lease is visible"), rkeys, mv = true, mv_rule = 1, attaches = 1;
        "E3 repaired: leased key moves": Holds, rkeys, mv = true, mv_rule = 2, attaches = 1;
        "E4 repaired: id granted again": Holds, rkeys, regrant = true, attaches = 1, group_changes = 0;
        "E4 wrong: drop doesn't name the incarnation": Fails("a drop of an earlier incarnation removes a key of the new one"), rkeys, regrant = true, attaches = 1, group_changes = 0, drop_inc = false;
    }
}
