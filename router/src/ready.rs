//! Whether this router can serve: it has a map, and every group has answered lately or answers now.

use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::List;
use caucus_api::shard::request::Body;
use caucus_ring::{GroupId, VnodeSet};
use futures::future::join_all;
use tokio::time::Instant;

use crate::Router;
use crate::attempt::Target;
use crate::retry::Retry;

/// An answer this young needs no other.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(2);

/// Whether requests can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// By all groups.
    Ready,
    /// There is no cluster map yet.
    NoMap,
    /// The map has no data groups yet.
    NoGroups,
    /// These groups are not active or do not answer.
    Silent(Vec<GroupId>),
}

impl Router {
    /// Asks the groups that have not answered anybody lately.
    pub async fn readiness(&self, deadline: Instant) -> Readiness {
        let Some(table) = self.table() else {
            return Readiness::NoMap;
        };
        if table.groups().is_empty() {
            return Readiness::NoGroups;
        }
        let now_ms = self.age_ms(Instant::now());
        let age_ms_max = ANSWER_AGE_MAX.as_millis() as u64;
        let asked = table.groups().iter().map(|group| async {
            let answered = group.answered_ms();
            if answered != 0 && now_ms.saturating_sub(answered) <= age_ms_max {
                return None;
            }
            let vnodes = owned_vnode(&table, group.id());
            let body = Body::List(List {
                // The empty range's smallest relative: at most one key is looked at.
                start: Bytes::new(),
                end: Bytes::from_static(b"\0"),
                vnodes: vnodes.to_packed().into(),
                limit: 1,
                keys_only: true,
                ..List::default()
            });
            let target = Target::Group(&table, group.id());
            let retry = Retry::new(false, u64::from(group.id().0));
            let answer = self.run_target(target, &body, 0, retry, deadline, None);
            answer.await.err().map(|_| group.id())
        });
        let silent: Vec<GroupId> = join_all(asked).await.into_iter().flatten().collect();
        if silent.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Silent(silent)
        }
    }
}

/// Some vnode of a group; none if it owns none.
fn owned_vnode(table: &crate::route::Table, group: GroupId) -> VnodeSet {
    let mut owned = table.map().ring().iter();
    let first = owned.find(|vnode| table.map().owner(*vnode) == group);
    first.map_or_else(VnodeSet::new, VnodeSet::single)
}
