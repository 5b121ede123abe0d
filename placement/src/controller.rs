//! The controller: carries out what is to be done to the cluster, on the placement leader.
//!
//! Each step confirms leadership, reads the catalog anew, decides one command and proposes it in the
//! confirmed term. So it may stop and go on anywhere, and two controllers do no harm: the catalog
//! refuses what doesn't fit it any more. It sleeps until the catalog or the leadership changes.

use std::sync::Arc;
use std::time::Duration;

use caucus_raft::{Confirmed, Group};
use caucus_ring::{ClusterId, NodeId, Replica, ReplicaId, ReplicaRole};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Command, InitCluster, Settings};
use crate::parts::{Bootstrap, PlacementParts, Voter};
use crate::planner;
use crate::propose::{Unproposed, propose};
use crate::reports::Reports;
use crate::view::CatalogView;

/// The pause after a step that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct Controller {
    group: Group,
    view: Arc<CatalogView>,
    reports: Arc<Reports>,
    beginning: Beginning,
    paused: watch::Receiver<bool>,
}

/// How the cluster begins, as this replica would have it.
pub(crate) struct Beginning {
    pub(crate) cluster_id: ClusterId,
    pub(crate) voters: Vec<Voter>,
    pub(crate) bootstrap: Bootstrap,
}

/// How a step ended.
enum Stepped {
    /// The catalog has changed: look again.
    Done,
    /// There is nothing to do until something changes.
    Idle,
    /// To be tried again after a while.
    Failed,
}

impl Controller {
    pub(crate) fn new(
        parts: &PlacementParts,
        reports: Arc<Reports>,
        paused: watch::Receiver<bool>,
    ) -> Controller {
        Controller {
            group: parts.group.clone(),
            view: parts.view.clone(),
            reports,
            beginning: Beginning {
                cluster_id: ClusterId(parts.random),
                voters: parts.voters.clone(),
                bootstrap: parts.bootstrap.clone(),
            },
            paused,
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            // The replica has ended.
            Err(_) = self.steps() => {}
        }
    }

    async fn steps(&mut self) -> Result<(), watch::error::RecvError> {
        let mut leadership = self.group.watch_leadership();
        let mut map = self.view.watch_map();
        let reports = self.reports.clone();
        loop {
            self.paused.wait_for(|paused| !paused).await?;
            leadership.wait_for(|leadership| leadership.here).await?;
            // What changes from here on is seen after the step.
            map.mark_unchanged();
            let stepped = self.step().await;
            let retry = async {
                match stepped {
                    Stepped::Done => {}
                    Stepped::Idle => std::future::pending().await,
                    Stepped::Failed => sleep(RETRY_AFTER).await,
                }
            };
            tokio::select! {
                () = retry => {}
                () = reports.revived() => {}
                changed = map.changed() => changed?,
                changed = leadership.changed() => changed?,
                changed = self.paused.changed() => changed?,
            }
        }
    }

    async fn step(&self) -> Stepped {
        let Confirmed { term, .. } = match self.group.confirm().await {
            Ok(confirmed) => confirmed,
            Err(error) => {
                tracing::debug!(%error, "the controller waits");
                return Stepped::Failed;
            }
        };
        let catalog = self.view.catalog();
        let usable = self.reports.usable(term, &catalog);
        let Some(command) = decide(&catalog, &usable, &self.beginning) else {
            return Stepped::Idle;
        };
        // Asked after the catalog was read: nothing that happened after a pause leads to a step.
        if *self.paused.borrow() {
            return Stepped::Idle;
        }
        match propose(&self.group, term, &command).await {
            Ok(answer) => {
                tracing::info!(?answer, "the controller made a step");
                Stepped::Done
            }
            Err(Unproposed::Refused(refusal)) => {
                tracing::warn!(%refusal, "the catalog refused a step of the controller");
                Stepped::Failed
            }
            Err(error @ (Unproposed::NotLeader { .. } | Unproposed::Unknown(_))) => {
                tracing::debug!(?error, "a step of the controller is tried again");
                Stepped::Failed
            }
        }
    }
}

/// The next thing to do, if there is one.
pub(crate) fn decide(
    catalog: &Catalog,
    usable: &std::collections::BTreeSet<NodeId>,
    beginning: &Beginning,
) -> Option<Command> {
    if !catalog.is_initialized() {
        return Some(init(beginning));
    }
    let shards = catalog.nodes().filter(|record| record.node.roles.shard);
    let shards = shards.filter(|record| usable.contains(&record.node.id));
    let enough = shards.count() >= beginning.bootstrap.initial_nodes as usize;
    if !enough || catalog.groups().next().is_some() {
        return None;
    }
    // Unplannable means that there is no node: the next one changes the catalog.
    let plan = planner::initial(catalog, usable).ok()?;
    plan.steps.first().map(planner::Step::command)
}

fn init(beginning: &Beginning) -> Command {
    let bootstrap = &beginning.bootstrap;
    let voters = beginning.voters.iter().map(|voter| Replica {
        id: ReplicaId(voter.replica),
        node: NodeId(voter.node),
        role: ReplicaRole::Voter,
    });
    Command::InitCluster(InitCluster {
        settings: Settings {
            cluster_id: beginning.cluster_id,
            vnodes: bootstrap.vnodes,
            groups_wanted: bootstrap.groups,
            replication: bootstrap.replication,
            created_at_ms: bootstrap.created_at_ms,
        },
        placement: voters.collect(),
        rules: Vec::new(),
    })
}
