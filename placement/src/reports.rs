//! What nodes reported to this replica while it led. Memory only: a new leader begins anew.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use caucus_api::placement::{Leads, Report, Reported};
use caucus_ring::{GroupId, NodeId};
use tokio::sync::Notify;

use crate::catalog::Catalog;
use crate::liveness::{self, Leader, Liveness, NodeState};
use crate::parts::Clock;
use crate::view::CatalogView;

pub(crate) struct Reports {
    view: Arc<CatalogView>,
    clock: Clock,
    options: liveness::Options,
    /// Of the term in which this replica led last.
    current: Mutex<Option<(u64, Liveness)>>,
    revived: Notify,
}

impl Reports {
    pub(crate) fn new(view: Arc<CatalogView>, clock: Clock, options: liveness::Options) -> Reports {
        Reports {
            view,
            clock,
            options,
            current: Mutex::new(None),
            revived: Notify::new(),
        }
    }

    /// Takes a report, as the leader of `term`. What the catalog doesn't know is left out, so the
    /// memory is bounded by the catalog.
    pub(crate) fn take(&self, term: u64, report: &Report) -> Reported {
        let catalog = self.view.catalog();
        let node = NodeId(report.node);
        let leader = |leads: &Leads| {
            let known = catalog.group(GroupId(leads.group))?.replica_on(node)?;
            let leader = Leader {
                node,
                term: leads.term,
            };
            (known.id.0 == leads.replica).then_some((GroupId(leads.group), leader))
        };
        let heard = liveness::Report {
            node,
            leaders: report.leads.iter().filter_map(leader).collect(),
        };
        let now = (self.clock)();
        let mut current = self.lock();
        let liveness = self.of(&mut current, term, now);
        if catalog.node(node).is_some() {
            if !liveness.state(node, now).can_take_replicas() {
                self.revived.notify_one();
            }
            liveness.report(&heard, now);
        }
        let suspects = catalog.nodes().map(|record| record.node.id);
        let suspects = suspects.filter(|id| liveness.state(*id, now) != NodeState::Alive);
        Reported {
            epoch: catalog.epoch().0,
            suspects: suspects.map(|id| id.0).collect(),
            leads: leads(&catalog, liveness),
        }
    }

    /// A node has registered, which is as good as a report.
    pub(crate) fn registered(&self, term: u64, node: NodeId) {
        let now = (self.clock)();
        let mut current = self.lock();
        self.of(&mut current, term, now).expect(node, now);
        drop(current);
        self.revived.notify_one();
    }

    /// The nodes that replicas may be put on, as the leader of `term` sees it.
    pub(crate) fn usable(&self, term: u64, catalog: &Catalog) -> BTreeSet<NodeId> {
        let now = (self.clock)();
        let mut current = self.lock();
        let liveness = self.of(&mut current, term, now);
        let nodes = catalog.nodes().map(|record| record.node.id);
        nodes
            .filter(|id| liveness.state(*id, now).can_take_replicas())
            .collect()
    }

    /// Completes when a node was heard again that had been silent.
    pub(crate) async fn revived(&self) {
        self.revived.notified().await;
    }

    fn of<'a>(
        &self,
        current: &'a mut Option<(u64, Liveness)>,
        term: u64,
        now: Duration,
    ) -> &'a mut Liveness {
        // An older term is that of a request that was overtaken; what it says is true nevertheless.
        if current.as_ref().is_none_or(|(known, _)| *known < term) {
            *current = None;
        }
        let (_, liveness) = current.get_or_insert_with(|| (term, Liveness::new(self.options, now)));
        liveness
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, Liveness)>> {
        self.current.lock().expect("no panic under this lock")
    }
}

fn leads(catalog: &Catalog, liveness: &Liveness) -> Vec<Leads> {
    let leads = liveness.leaders().filter_map(|(id, leader)| {
        let replica = catalog.group(id)?.replica_on(leader.node)?;
        Some(Leads {
            group: id.0,
            term: leader.term,
            replica: replica.id.0,
        })
    });
    leads.collect()
}
