//! How the data groups of this node reach others: by a router in the same process.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use caucus_api::Failure;
use caucus_api::shard::request::Body;
use caucus_api::shard::{Reply, Txn, TxnDone};
use caucus_router::Router;
use caucus_shard::OtherGroups;
use futures::future::BoxFuture;
use tokio::time::Instant;

/// Knows the router as long as the node serves: the router reaches local groups through the shard, and
/// these others through this.
#[derive(Default)]
pub(crate) struct Others {
    router: ArcSwapOption<Router>,
}

impl Others {
    /// From now on the way is open; `None` closes it, so that neither holds the other for ever.
    pub(crate) fn set(&self, router: Option<Router>) {
        self.router.store(router.map(Arc::new));
    }
}

impl OtherGroups for Others {
    fn ask(
        &self,
        group: u32,
        body: Body,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Reply, Failure>> {
        let router = self.router.load_full();
        Box::pin(async move {
            let router = router.ok_or_else(closed)?;
            router.ask_group(group, &body, deadline).await
        })
    }

    fn transact(
        &self,
        txn: Txn,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<TxnDone, Failure>> {
        let router = self.router.load_full();
        Box::pin(async move {
            let router = router.ok_or_else(closed)?;
            router.transact_for_group(txn, deadline).await
        })
    }
}

fn closed() -> Failure {
    Failure::Unavailable {
        reason: "the node is starting or stopping".to_owned(),
        unknown: false,
    }
}
