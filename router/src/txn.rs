//! Transactions: which groups take part, and which of them coordinates.
//!
//! The home of a transaction is the vnode of the smallest key or range start in it; the home's owner
//! executes it if it is the only participant, else coordinates it (protocols.md §3, §6).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::operation::Operation as Kind;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Participant, Prepare, RequestId, Span, Txn, TxnDone, Write};
use caucus_ring::{ClusterMap, GroupId, Revision, VnodeSet};
use prost::Message;
use tokio::time::{Instant, sleep};

use crate::attempt::{Stop, Target};
use crate::retry::{Retry, Step, Stumble};
use crate::route::Table;
use crate::router::{IDS_MAX, nonsense};
use crate::{Error, Outcome, Router};

/// What a transaction did.
#[derive(Debug, Clone, PartialEq)]
pub struct Transacted {
    /// Its path, and the answers of the operations on it.
    pub done: TxnDone,
    /// The store's revision, at or above the transaction's.
    pub revision: Revision,
}

/// Where a transaction goes by one map.
struct Plan {
    home: GroupId,
    write: Write,
}

impl Router {
    /// Executes a transaction at one revision, wholly or not at all. Spans need not name vnodes: they are
    /// named here. The same request id is used for every attempt, so it is executed once.
    pub async fn txn(&self, txn: Txn, deadline: Instant) -> Result<Transacted, Error> {
        let mut ids = 1;
        loop {
            let ticket = self.begin(1);
            match self.txn_under(&txn, ticket.id(0), deadline).await {
                Err(error) if error.is_stale_id() && ids < IDS_MAX && self.newer(&ticket) => {
                    ids += 1;
                }
                result => return result,
            }
        }
    }

    async fn txn_under(
        &self,
        txn: &Txn,
        id: RequestId,
        deadline: Instant,
    ) -> Result<Transacted, Error> {
        let mut retry = Retry::new(true, id.sequence);
        loop {
            let stumble = match self.table() {
                None => Stumble::NoGroup,
                Some(table) => match self.txn_by(&table, txn, id, &retry, deadline).await {
                    Ok(transacted) => return Ok(transacted),
                    Err(Stop::Failed(error)) => return Err(error),
                    // It has waited for the map already; this counts the turn.
                    Err(Stop::Stale) => Stumble::NoGroup,
                },
            };
            match retry.step(stumble, Instant::now(), deadline) {
                Step::GiveUp(error) => return Err(error),
                Step::Refresh(_, pause) | Step::Pause(pause) => sleep(pause).await,
                Step::Redirect(_) => {}
            }
        }
    }

    async fn txn_by(
        &self,
        table: &Arc<Table>,
        txn: &Txn,
        id: RequestId,
        retry: &Retry,
        deadline: Instant,
    ) -> Result<Transacted, Stop> {
        let plan = plan(table.map(), txn.clone(), id);
        let body = Body::Write(plan.write.encode_to_vec().into());
        let target = Target::Group(table, plan.home);
        let sent = self.run_target(target, &body, 0, retry.clone(), deadline, None);
        let reply = sent.await?;
        let revision = Revision(reply.revision);
        match reply.body {
            Some(Answer::Txn(done)) => Ok(Transacted { done, revision }),
            Some(_) | None => Err(Stop::Failed(nonsense(Outcome::Unknown))),
        }
    }
}

/// Names the vnodes of all spans, and the participants.
fn plan(map: &ClusterMap, mut txn: Txn, id: RequestId) -> Plan {
    let mut touched = Touched {
        map,
        vnodes: VnodeSet::new(),
        smallest: None,
    };
    touched.txn(&mut txn);
    let key = touched.smallest.unwrap_or_default();
    let home = map.owner(map.home_vnode(&key));
    let shares: BTreeMap<GroupId, VnodeSet> =
        map.split_by_group(&touched.vnodes).into_iter().collect();
    let alone = shares.keys().all(|group| *group == home);
    let action = match alone {
        true => Action::Txn(txn),
        false => Action::Prepare(Prepare {
            txn: Some(txn),
            coordinator: home.0,
            participants: participants(shares, home),
            ..Prepare::default()
        }),
    };
    let write = Write {
        id: Some(id),
        key,
        rules_version: map.rules().version(),
        action: Some(action),
        ..Write::default()
    };
    Plan { home, write }
}

fn participants(mut shares: BTreeMap<GroupId, VnodeSet>, home: GroupId) -> Vec<Participant> {
    // Also if it holds none of the keys: a range may begin where no vnode of it does.
    shares.entry(home).or_default();
    let shares = shares.into_iter();
    shares
        .map(|(group, vnodes)| Participant {
            group: group.0,
            vnodes: vnodes.to_packed().into(),
        })
        .collect()
}

/// What a transaction touches.
struct Touched<'m> {
    map: &'m ClusterMap,
    vnodes: VnodeSet,
    smallest: Option<Bytes>,
}

impl Touched<'_> {
    fn txn(&mut self, txn: &mut Txn) {
        for compare in &mut txn.compares {
            self.span(compare.span.as_mut());
        }
        for operation in txn.then.iter_mut().chain(&mut txn.otherwise) {
            match &mut operation.operation {
                Some(Kind::Range(range)) => self.span(range.span.as_mut()),
                Some(Kind::Remove(remove)) => self.span(remove.span.as_mut()),
                Some(Kind::Place(place)) => self.key(&place.key),
                Some(Kind::Change(change)) => self.key(&change.key),
                Some(Kind::Txn(inner)) => self.txn(inner),
                None => {}
            }
        }
    }

    fn span(&mut self, span: Option<&mut Span>) {
        let Some(span) = span else { return };
        if !span.range {
            return self.key(&span.start);
        }
        let vnodes = self.map.route_range(&span.start, &span.end);
        span.vnodes = vnodes.to_packed().into();
        self.vnodes.union_with(&vnodes);
        self.smaller(&span.start);
    }

    fn key(&mut self, key: &Bytes) {
        self.vnodes.insert(self.map.vnode(key));
        self.smaller(key);
    }

    fn smaller(&mut self, key: &Bytes) {
        if self.smallest.as_ref().is_none_or(|smallest| key < smallest) {
            self.smallest = Some(key.clone());
        }
    }
}
