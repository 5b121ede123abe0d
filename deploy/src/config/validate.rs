//! Which values make sense, alone and together.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use caucus_api::limits::TXN_OPERATIONS_MAX;

use super::{Checked, Cluster, Config, Http, Listen, Node, Raft, Role, Storage};

const MIB: usize = 1 << 20;
/// More than any machine that a node is meant for.
const THREADS_MAX: u32 = 1024;

impl Config {
    /// Checks everything that can be checked without touching the machine. The error names the field.
    pub(crate) fn validate(self) -> Result<Checked, String> {
        self.node.validate()?;
        self.listen.validate()?;
        self.cluster.validate()?;
        self.raft.validate()?;
        self.storage.validate()?;
        self.http.validate()?;
        self.past()?;
        if tracing_subscriber::EnvFilter::try_new(&self.log.filter).is_err() {
            return Err(format!("log.filter: cannot read `{}`", self.log.filter));
        }
        let checked = Checked::new(self);
        membership(&checked)?;
        Ok(checked)
    }
}

impl Config {
    /// What is remembered, and how long.
    fn past(&self) -> Result<(), String> {
        const YEARS: u64 = 10 * 365 * 24 * 3600;
        within("history.keep_seconds", self.history.keep_seconds, 0, YEARS)?;
        let idempotency = &self.idempotency;
        within(
            "idempotency.window_seconds",
            idempotency.window_seconds,
            1,
            YEARS,
        )?;
        within("idempotency.keys_max", idempotency.keys_max, 0, 10_000_000)?;
        within(
            "etcd.txn_operations_max",
            self.etcd.txn_operations_max,
            1,
            TXN_OPERATIONS_MAX,
        )
    }
}

/// The node's place in the cluster.
fn membership(config: &Checked) -> Result<(), String> {
    let cluster = &config.cluster;
    let Some(id) = config.node_id() else {
        if cluster.seeds.is_empty() {
            return Err(
                "node.id: give the node's number, or cluster.seeds to have the cluster \
                        assign it"
                    .to_owned(),
            );
        }
        if config.has(Role::Placement) {
            return Err("node.roles: a node that joins can't have the role placement".to_owned());
        }
        return Ok(());
    };
    let mut members = cluster.initial_placement.iter();
    let member = members.find(|member| member.id == id.get());
    match member {
        Some(member) if config.has(Role::Placement) => {
            let advertised = config.advertise_peer();
            if member.peer != advertised {
                return Err(format!(
                    "cluster.initial_placement: node {id} is at {}, but listen.advertise_peer says \
                     {advertised}",
                    member.peer
                ));
            }
        }
        Some(_) => {
            return Err(format!(
                "node.roles: node {id} is in cluster.initial_placement and needs the role placement"
            ));
        }
        None if config.has(Role::Placement) => {
            return Err(format!(
                "node.roles: placement needs node {id} in cluster.initial_placement"
            ));
        }
        None => {}
    }
    match config.placement_addresses().is_empty() {
        true => Err("cluster.initial_placement: empty, and cluster.seeds too".to_owned()),
        false => Ok(()),
    }
}

impl Node {
    fn validate(&self) -> Result<(), String> {
        if self.data_dir.as_os_str().is_empty() {
            return Err("node.data_dir: empty".to_owned());
        }
        let distinct = self
            .roles
            .iter()
            .map(|role| *role as u8)
            .collect::<BTreeSet<_>>();
        if self.roles.is_empty() || distinct.len() != self.roles.len() {
            return Err("node.roles: needs each of its roles once, and at least one".to_owned());
        }
        if self.threads > THREADS_MAX {
            return Err(format!("node.threads: at most {THREADS_MAX}"));
        }
        short_name("node.zone", &self.zone)?;
        short_name("node.name", &self.name)
    }
}

impl Listen {
    fn validate(&self) -> Result<(), String> {
        if self.client == self.peer {
            return Err("listen.peer: the same as listen.client".to_owned());
        }
        advertised("client", self.client, &self.advertise_client)?;
        advertised("peer", self.peer, &self.advertise_peer)
    }
}

fn advertised(which: &str, listen: SocketAddr, advertise: &str) -> Result<(), String> {
    if listen.port() == 0 {
        return Err(format!("listen.{which}: the port can't be 0"));
    }
    match advertise {
        "" if listen.ip().is_unspecified() => Err(format!(
            "listen.advertise_{which}: needed, since listen.{which} is a wildcard address"
        )),
        "" => Ok(()),
        address => host_port(&format!("listen.advertise_{which}"), address),
    }
}

impl Cluster {
    fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("cluster.name: empty".to_owned());
        }
        short_name("cluster.name", &self.name)?;
        let mut seen = BTreeSet::new();
        for member in &self.initial_placement {
            host_port("cluster.initial_placement", &member.peer)?;
            if member.id == 0 || !seen.insert(member.id) {
                return Err("cluster.initial_placement: ids must differ and start at 1".to_owned());
            }
        }
        for seed in &self.seeds {
            host_port("cluster.seeds", seed)?;
        }
        within("cluster.initial_nodes", self.initial_nodes, 1, 1000)?;
        within("cluster.groups", self.groups, 0, 10_000)?;
        within("cluster.vnodes", self.vnodes, 1, 65_536)?;
        if self.groups > self.vnodes {
            return Err("cluster.groups: more than cluster.vnodes".to_owned());
        }
        within("cluster.replication", self.replication, 1, 7)?;
        if self.replication > self.initial_nodes {
            return Err(format!(
                "cluster.replication: {} replicas need as many cluster.initial_nodes, not {}",
                self.replication, self.initial_nodes
            ));
        }
        Ok(())
    }
}

impl Raft {
    fn validate(&self) -> Result<(), String> {
        within(
            "raft.heartbeat_interval_ms",
            self.heartbeat_interval_ms,
            10,
            60_000,
        )?;
        // A follower must survive one lost heartbeat.
        if self.election_timeout_ms_min < 2 * self.heartbeat_interval_ms {
            return Err("raft.election_timeout_ms_min: less than two heartbeats".to_owned());
        }
        if self.election_timeout_ms_max <= self.election_timeout_ms_min {
            return Err(
                "raft.election_timeout_ms_max: must be above election_timeout_ms_min".to_owned(),
            );
        }
        let bytes = self.append_bytes_max;
        within("raft.append_bytes_max", bytes, 1 << 10, 64 * MIB)?;
        within("raft.tail_bytes_max", self.tail_bytes_max, 0, 1 << 30)?;
        within("raft.log_bytes_max", self.log_bytes_max, 1 << 20, 1 << 40)?;
        if self.log_bytes_kept >= self.log_bytes_max {
            return Err("raft.log_bytes_kept: must be below log_bytes_max".to_owned());
        }
        within(
            "raft.snapshot_chunk_bytes",
            self.snapshot_chunk_bytes,
            1 << 10,
            16 * MIB,
        )
    }
}

impl Storage {
    fn validate(&self) -> Result<(), String> {
        within(
            "storage.block_cache_bytes",
            self.block_cache_bytes,
            MIB,
            usize::MAX,
        )?;
        within(
            "storage.write_buffer_bytes",
            self.write_buffer_bytes,
            MIB,
            usize::MAX,
        )?;
        within(
            "storage.write_buffers_bytes",
            self.write_buffers_bytes,
            self.write_buffer_bytes,
            usize::MAX,
        )
    }
}

impl Http {
    fn validate(&self) -> Result<(), String> {
        within("http.connections_max", self.connections_max, 1, 1 << 20)?;
        within(
            "http.request_timeout_ms",
            self.request_timeout_ms,
            100,
            600_000,
        )?;
        within(
            "http.header_timeout_ms",
            self.header_timeout_ms,
            100,
            600_000,
        )?;
        within(
            "http.shutdown_timeout_ms",
            self.shutdown_timeout_ms,
            0,
            600_000,
        )
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: T,
    min: T,
    max: T,
) -> Result<(), String> {
    if value < min {
        Err(format!("{field}: {value} is below {min}"))
    } else if value > max {
        Err(format!("{field}: {value} is above {max}"))
    } else {
        Ok(())
    }
}

fn host_port(field: &str, address: &str) -> Result<(), String> {
    let parts = address.rsplit_once(':');
    let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
    match parts {
        Some((host, _)) if !host.is_empty() && port.is_some_and(|port| port > 0) => Ok(()),
        _ => Err(format!("{field}: `{address}` is not host:port")),
    }
}

fn short_name(field: &str, name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match name.len() <= 64 && name.chars().all(allowed) {
        true => Ok(()),
        false => Err(format!(
            "{field}: at most 64 of a-z, A-Z, 0-9, '-', '_' and '.'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Layers;

    fn check(assignments: &[&str]) -> Result<(), String> {
        let mut layers = Layers::reference();
        for assignment in assignments {
            layers = layers
                .assignment(assignment)
                .map_err(|error| error.to_string())?;
        }
        layers.check().map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn the_reference_needs_only_an_id() {
        assert!(check(&[]).unwrap_err().contains("node.id"));
        assert_eq!(check(&["node.id=1"]), Ok(()));
        let joining = ["cluster.seeds=h:1", "node.roles=router,shard"];
        assert_eq!(check(&joining), Ok(()));
    }

    #[test]
    fn errors_name_their_field() {
        for (assignment, field) in [
            ("node.roles=[]", "node.roles"),
            ("node.roles=router,shard", "node.roles"),
            ("node.id=2", "node.roles"),
            ("node.zone=a b", "node.zone"),
            ("listen.client=127.0.0.1:0", "listen.client"),
            ("listen.peer=127.0.0.1:7400", "listen.peer"),
            ("listen.peer=127.0.0.1:7402", "cluster.initial_placement"),
            ("listen.client=0.0.0.0:7400", "listen.advertise_client"),
            ("listen.advertise_client=nowhere", "listen.advertise_client"),
            ("cluster.name=", "cluster.name"),
            ("cluster.seeds=here", "cluster.seeds"),
            ("cluster.initial_nodes=2", "cluster.replication"),
            ("cluster.groups=5000", "cluster.groups"),
            ("cluster.vnodes=0", "cluster.vnodes"),
            (
                "raft.election_timeout_ms_min=300",
                "raft.election_timeout_ms_min",
            ),
            (
                "raft.election_timeout_ms_max=600",
                "raft.election_timeout_ms_max",
            ),
            ("raft.append_bytes_max=0", "raft.append_bytes_max"),
            ("raft.log_bytes_kept=67108864", "raft.log_bytes_kept"),
            (
                "storage.write_buffers_bytes=1",
                "storage.write_buffers_bytes",
            ),
            ("http.connections_max=0", "http.connections_max"),
            ("log.filter=a=b=c", "log.filter"),
        ] {
            let error = check(&["node.id=1", assignment]).unwrap_err();
            assert!(
                error.starts_with(&format!("configuration: {field}: ")),
                "{assignment}: {error}"
            );
        }
    }
}
