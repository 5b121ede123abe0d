//! What always holds of a catalog. Checked after each command in debug builds and
//! tests, and when a stored catalog is read.

use std::collections::BTreeSet;

use caucus_ring::{ClusterMap, Epoch, GroupId, Replica};

use super::Catalog;
use super::init::members;
use super::state::Cluster;

/// An invariant that doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalog is broken: {0}")]
pub struct Violation(String);

impl Catalog {
    /// Whether all invariants hold.
    pub fn check(&self) -> Result<(), Violation> {
        let Some(cluster) = &self.cluster else {
            return must(self.epoch == Epoch(0), || {
                "an epoch without a cluster".to_owned()
            });
        };
        must(self.epoch > Epoch(0), || {
            "a cluster without an epoch".to_owned()
        })?;
        cluster.check_nodes()?;
        cluster.check_groups()?;
        cluster.check_owners()?;
        let map = self.map_content().map(ClusterMap::new);
        must(matches!(map, Some(Ok(_))), || {
            format!("it makes no map: {map:?}")
        })
    }
}

impl Cluster {
    fn check_nodes(&self) -> Result<(), Violation> {
        let mut storages = BTreeSet::new();
        for (id, record) in &self.nodes {
            must(*id == record.node.id, || {
                format!("node {id} is filed under another id")
            })?;
            must(id.0 > 0 && *id < self.next_node, || {
                format!("node id {id} was never given")
            })?;
            must(storages.insert(record.storage), || {
                format!("node {id} shares its storage")
            })?;
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<(), Violation> {
        let mut ids = BTreeSet::new();
        self.check_members(GroupId::PLACEMENT, &self.placement, &mut ids)?;
        for (id, group) in &self.groups {
            must(*id == group.id, || {
                format!("group {id} is filed under another id")
            })?;
            must(id.0 > 0 && *id < self.next_group, || {
                format!("group id {id} was never given")
            })?;
            self.check_members(*id, &group.replicas, &mut ids)?;
            for replica in &group.replicas {
                let shard = self
                    .nodes
                    .get(&replica.node)
                    .is_some_and(|r| r.node.roles.shard);
                must(shard, || {
                    format!("group {id} is on node {}, no shard", replica.node)
                })?;
            }
        }
        Ok(())
    }

    fn check_members(
        &self,
        group: GroupId,
        replicas: &[Replica],
        ids: &mut BTreeSet<u64>,
    ) -> Result<(), Violation> {
        members(replicas).map_err(|fault| Violation(format!("group {group}: {fault}")))?;
        for replica in replicas {
            let given = replica.id.0 > 0 && replica.id < self.next_replica;
            must(given, || {
                format!("replica id {} was never given", replica.id)
            })?;
            must(ids.insert(replica.id.0), || {
                format!("replica id {} is used twice", replica.id)
            })?;
        }
        Ok(())
    }

    fn check_owners(&self) -> Result<(), Violation> {
        let full = self.owners.len() == self.settings.vnodes as usize;
        must(full, || format!("{} owners", self.owners.len()))?;
        for (vnode, owner) in self.owners.iter().enumerate() {
            let right = match self.groups.is_empty() {
                true => *owner == GroupId::PLACEMENT,
                false => self.groups.contains_key(owner),
            };
            must(right, || format!("vnode {vnode} belongs to group {owner}"))?;
        }
        Ok(())
    }
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation(otherwise()))
    }
}
