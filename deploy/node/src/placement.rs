//! This node's replica of the placement group, and how the node asks the group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Activate, Ask as AskRevisions, Request};
use caucus_client::PlacementClient;
use caucus_placement::{Placement, PlacementParts};
use caucus_raft::Host;
use caucus_ring::GroupId;
use caucus_shard::{Activations, RevisionSource};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::running::ask_placement;
use crate::{Error, Settings, Surroundings};

/// How long an ask for revisions is worth waiting for: its batch asks anew much sooner.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
const ACTIVATE_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts this node's replica. The replica ids of the first members are their node ids.
pub(crate) async fn start(
    settings: &Settings,
    surroundings: &Surroundings,
    node: u32,
    host: &Arc<Host>,
    shutdown: &CancellationToken,
) -> Result<Arc<Placement>, Error> {
    let (machine, view) = caucus_placement::machine();
    let replica = u64::from(node);
    let group = host
        .start(GroupId::PLACEMENT.0, replica, Box::new(machine))
        .await?;
    let voters = settings.voters.clone();
    // One of them begins; where the group has a log already, this does nothing.
    if voters.first().is_some_and(|first| first.node == node) {
        let replicas: BTreeMap<u64, u32> = voters.iter().map(|v| (v.replica, v.node)).collect();
        let begun = group.initialize(replicas).await;
        begun.map_err(|error| Error::System(error.to_string()))?;
    }
    let mut random = [0; 16];
    (surroundings.random)(&mut random).map_err(Error::System)?;
    Ok(Placement::start(PlacementParts {
        group,
        view,
        voters,
        bootstrap: settings.bootstrap.clone(),
        random,
        liveness: caucus_placement::liveness::Options::default(),
        clock: monotonic(),
        shutdown: shutdown.clone(),
    }))
}

/// Time from now on.
pub(crate) fn monotonic() -> Arc<dyn Fn() -> Duration + Send + Sync> {
    let origin = Instant::now();
    Arc::new(move || origin.elapsed())
}

/// Asks this node's own replica; `None` if there is none, or it can't answer.
pub(crate) async fn ask_own(own: Option<&Placement>, question: &Ask) -> Option<Answer> {
    let request = Request {
        body: Some(question.clone()),
    };
    match own?.handle(request).await.body {
        Some(Answer::Error(_)) | None => None,
        Some(answer) => Some(answer),
    }
}

/// The placement group as the data groups need it.
pub(crate) struct Oracle {
    pub(crate) own: Option<Arc<Placement>>,
    pub(crate) client: PlacementClient,
}

impl RevisionSource for Oracle {
    fn ask(&self, count: u32) -> BoxFuture<'static, Option<u64>> {
        let (own, client) = (self.own.clone(), self.client.clone());
        Box::pin(async move {
            let question = Ask::Ask(AskRevisions {
                count,
                ..AskRevisions::default()
            });
            match ask_placement(own.as_deref(), &client, question, ASK_TIMEOUT).await {
                Ok(Answer::Granted(granted)) if granted.count == count => Some(granted.first),
                Ok(_) => None,
                Err(error) => {
                    tracing::debug!(%error, "no revisions");
                    None
                }
            }
        })
    }
}

impl Activations for Oracle {
    fn activate(&self, group: u32) -> BoxFuture<'static, bool> {
        let (own, client) = (self.own.clone(), self.client.clone());
        Box::pin(async move {
            let question = Ask::Activate(Activate { group });
            let answer = ask_placement(own.as_deref(), &client, question, ACTIVATE_TIMEOUT).await;
            matches!(answer, Ok(Answer::Activated(_)))
        })
    }
}
