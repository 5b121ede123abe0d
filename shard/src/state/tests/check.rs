//! What a replica says of its state, compared with what the model has.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::{Event, Record};
use caucus_engine::keys::state_kind;
use caucus_ring::VnodeSet;
use prost::Message;

use super::super::changes::Past;
use super::super::versions::{self, RangeScan, When};
use super::super::{leases, record};
use super::history::{History, KEYS, owned};
use super::model::{Changed, reads_wait};
use super::rig::Rig;
use super::wishes::LEASES;
use crate::watch::Since;

/// Two things that must be equal: else they are the error.
macro_rules! same {
    ($found:expr, $wanted:expr $(, $why:literal)?) => {{
        let (found, wanted) = (&$found, &$wanted);
        if found != wanted {
            let why = String::new() $(+ &format!($why))?;
            return Err(format!("{why}: {found:?} is not {wanted:?}"));
        }
    }};
}
pub(super) use same;

/// What readers see and the engine has is what the model has.
pub(super) fn check(rig: &Rig, history: &History) -> Result<(), String> {
    let model = &history.model;
    same!(rig.published.highest(), model.highest);
    same!(rig.published.compacted(), model.compacted);
    let mut wanted = BTreeMap::new();
    let mut sum = 0_u128;
    let mut occupied = VnodeSet::new();
    for (key, record) in &model.keys {
        let vnode = model.vnode(key);
        let bytes = record.encode_to_vec();
        sum = sum.wrapping_add(record::hash(key, &bytes));
        occupied.insert(vnode);
        wanted.insert((vnode.0, key.to_vec()), bytes);
    }
    for (id, lease) in &model.leases {
        let vnode = model.ring.lease_vnode(*id).0;
        let at = [
            &[state_kind::LEASE],
            &vnode.to_be_bytes()[..],
            &id.to_be_bytes(),
        ]
        .concat();
        sum = sum.wrapping_add(record::hash(&at, &lease.encode_to_vec()));
    }
    same!(rig.records(), wanted);
    same!(rig.published.hash().hash, sum, "the hash");
    same!(rig.published.scope().owned, owned());
    let published = rig.published.occupied();
    same!(occupied.difference(&published), VnodeSet::new(), "occupied");
    for (vnode, held) in rig.essence().1 {
        let here = model
            .keys
            .keys()
            .filter(|key| u32::from(model.vnode(key).0) == vnode);
        same!(held.keys, here.count() as u64, "keys of vnode {vnode}");
    }
    let leases: BTreeMap<_, _> = rig.published.leases().all().into_iter().collect();
    same!(leases, model.leases, "leases");
    same!(rig.opened(), model.open, "open leases");
    same!(rig.published.names().count, model.ids.names(), "names");
    for id in LEASES {
        let view = rig.view();
        let found = leases::attached(&**view.engine(), view.storage(), id, b"", usize::MAX);
        let (found, more) = found.map_err(|error| error.to_string())?;
        let attached = model.keys.iter().filter(|(_, record)| record.lease == id);
        let attached: Vec<Bytes> = attached.map(|(key, _)| key.clone()).collect();
        same!((found, more), (attached, false), "what is attached");
    }
    check_standing(rig, history)
}

/// Prepared transactions, and what waits for them.
fn check_standing(rig: &Rig, history: &History) -> Result<(), String> {
    let model = &history.model;
    let standing = rig.published.standing();
    let all: BTreeMap<_, _> = standing
        .all()
        .into_iter()
        .map(|attempt| (attempt.attempt, (*attempt).clone()))
        .collect();
    same!(all, model.attempts, "attempts");
    for key in KEYS {
        for at in [None, Some(model.highest), Some(model.highest / 2)] {
            let waits = standing.stops_key(key, at);
            same!(waits, reads_wait(model, key, at), "{key:?} as of {at:?}");
        }
    }
    Ok(())
}

/// Reads of the past at every revision, and what watchers are told.
pub(super) fn check_past(rig: &Rig, history: &History) -> Result<(), String> {
    let model = &history.model;
    let view = rig.view();
    let (reader, storage) = (&**view.engine(), view.storage());
    let occupied = rig.published.occupied();
    for revision in 0..=model.highest + 1 {
        let when = When::At(revision);
        let mut wanted = BTreeMap::new();
        for key in model.past.keys() {
            let found = versions::get(reader, storage, model.vnode(key), key, when).unwrap();
            same!(found, model.at(key, revision), "{key:?} at {revision}");
            wanted.extend(found.map(|found| (key.clone(), found)));
        }
        let all = (&b""[..], &b""[..]);
        let mut scan = RangeScan::open(reader, storage, &occupied, all, when, 3).unwrap();
        let mut found = BTreeMap::new();
        while let Some((key, record)) = scan.next().unwrap() {
            found.insert(key, record);
        }
        same!(found, wanted, "all keys at {revision}");
    }
    let mut changes: Vec<&Changed> = model.changes.iter().collect();
    changes.sort_by_key(|change| change.revision);
    let told = |through: u64| {
        let events = changes
            .iter()
            .filter(move |change| change.revision <= through);
        events.map(|change| Event {
            revision: change.revision,
            key: change.key.clone(),
            record: encoded(&change.record),
            previous: encoded(&change.previous),
        })
    };
    let feed = rig.published.feed();
    same!(feed.position(), model.frontier, "the frontier");
    if let Since::Changes(found, position) = feed.since(0) {
        let found = found.iter().map(|change| Event {
            revision: change.revision,
            key: change.key.clone(),
            record: change.record.clone().unwrap_or_default(),
            previous: change.previous.clone().unwrap_or_default(),
        });
        same!(
            found.collect::<Vec<_>>(),
            told(position).collect::<Vec<_>>()
        );
    }
    if history.overlaps {
        return Ok(());
    }
    let scope = rig.published.scope();
    let past = Past {
        reader,
        storage,
        routing: scope.routing.as_ref().unwrap(),
        wants: &|_| Some(true),
        between: 0..model.highest,
        bytes_max: usize::MAX,
        looked_max: usize::MAX,
    };
    let (events, through) = past.read().unwrap();
    same!(through, model.highest);
    same!(
        events,
        told(u64::MAX).collect::<Vec<_>>(),
        "the index of changes"
    );
    Ok(())
}

fn encoded(record: &Option<Record>) -> Bytes {
    let bytes = record.as_ref().map(|record| record.encode_to_vec().into());
    bytes.unwrap_or_default()
}
