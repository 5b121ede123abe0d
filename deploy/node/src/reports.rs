//! What a node says of itself every second: to the placement leader, and in its gauges.

use std::sync::Arc;
use std::time::Duration;

use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::{Leads, Report};
use caucus_client::PlacementClient;
use caucus_engine::{Engine, Stats};
use caucus_placement::Placement;
use caucus_ring::NodeId;
use caucus_shard::Shard;
use tokio_util::sync::CancellationToken;

use crate::running::ask_placement;

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Reports until the shutdown.
pub(crate) struct Reporter {
    pub(crate) node: NodeId,
    pub(crate) client: PlacementClient,
    pub(crate) own: Option<Arc<Placement>>,
    pub(crate) shard: Option<Shard>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) on_stats: Arc<dyn Fn(&Stats) + Send + Sync>,
}

impl Reporter {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(REPORT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            (self.on_stats)(&self.engine.stats());
            if let Some(shard) = &self.shard {
                shard.gauge();
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.report() => {}
            }
        }
    }

    async fn report(&self) {
        let led = self.shard.as_ref().map(Shard::led).unwrap_or_default();
        let lead = |led: &caucus_shard::Led| Leads {
            group: led.group,
            term: led.term,
            replica: led.replica,
        };
        let report = Report {
            node: self.node.0,
            leads: led.iter().map(lead).collect(),
        };
        let question = Ask::Report(report);
        let own = self.own.as_deref();
        if let Err(error) = ask_placement(own, &self.client, question, REPORT_EVERY).await {
            tracing::debug!(%error, "a report was not delivered");
        }
    }
}
