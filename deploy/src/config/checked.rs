//! A configuration that has been checked.

use std::num::NonZeroU32;
use std::ops::Deref;
use std::time::Duration;

use super::{Config, Role};

/// A configuration whose values make sense together. Only [`Config::validate`] makes one; reads like a
/// [`Config`], and answers what follows from its fields.
#[derive(Debug, Clone)]
pub(crate) struct Checked(Config);

impl Checked {
    pub(super) fn new(config: Config) -> Self {
        Checked(config)
    }

    /// The configured number of the node; none if the cluster assigns it.
    pub(crate) fn node_id(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.node.id)
    }

    /// Whether the process has the role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.node.roles.contains(&role)
    }

    /// How clients reach the node, `host:port`.
    pub(crate) fn advertise_client(&self) -> String {
        or_else(&self.listen.advertise_client, || {
            self.listen.client.to_string()
        })
    }

    /// How other nodes reach the node, `host:port`.
    pub(crate) fn advertise_peer(&self) -> String {
        or_else(&self.listen.advertise_peer, || self.listen.peer.to_string())
    }

    /// Data groups of a new cluster.
    pub(crate) fn groups(&self) -> u32 {
        match self.cluster.groups {
            0 => 2 * self.cluster.initial_nodes,
            groups => groups,
        }
    }

    /// Peer addresses at which the placement group can be found.
    pub(crate) fn placement_addresses(&self) -> Vec<String> {
        let members = self
            .cluster
            .initial_placement
            .iter()
            .map(|member| &member.peer);
        match self.node_id() {
            // A node that joins has a file without the list; what it has is the reference's.
            None => self.cluster.seeds.clone(),
            Some(_) => members.chain(&self.cluster.seeds).cloned().collect(),
        }
    }

    /// Deadline of a client's request.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.http.request_timeout_ms)
    }

    /// What a stopping node gives to requests under way.
    pub(crate) fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.http.shutdown_timeout_ms)
    }
}

impl Deref for Checked {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

fn or_else(text: &str, other: impl FnOnce() -> String) -> String {
    match text {
        "" => other(),
        text => text.to_owned(),
    }
}
