//! Nodes of one process over loopback sockets, each with one replica of one group.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caucus_engine::Engine;
use caucus_engine::memory::MemoryEngine;
use caucus_peer::{Hello, PROTOCOL_VERSION, Peers, PeersOptions, ServerOptions, TcpNet, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::support::{Tape, Taped, until, within};
use crate::{Directory, Group, Host, HostError, HostParts, Options};

pub(super) const GROUP: u32 = 1;
const NAME: &str = "raft-tests";

/// Where the nodes are now; a node that starts again gets another port.
#[derive(Default)]
struct Addrs(Mutex<HashMap<u32, String>>);

impl Directory for Addrs {
    fn peer_addr(&self, node: u32) -> Option<String> {
        self.0.lock().unwrap().get(&node).cloned()
    }
}

pub(super) struct Node {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) host: Arc<Host>,
    pub(super) group: Group,
    pub(super) taped: watch::Receiver<Taped>,
    peers: Arc<Peers>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

pub(super) struct Cluster {
    addrs: Arc<Addrs>,
    pub(super) nodes: BTreeMap<u32, Node>,
    pub(super) options: Options,
}

pub(super) fn replica(node: u32) -> u64 {
    u64::from(node) + 100
}

fn options() -> Options {
    Options {
        heartbeat_interval_ms: 100,
        // A disk that many tests use may stand still for longer than a node's defaults allow.
        election_timeout_ms_min: 2000,
        election_timeout_ms_max: 2400,
        ..Options::default()
    }
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        Cluster {
            addrs: Arc::default(),
            nodes: BTreeMap::new(),
            options: options(),
        }
    }

    /// Three nodes in memory that have a leader.
    pub(super) async fn three() -> (Cluster, u32) {
        let mut cluster = Cluster::new();
        for node in 1..=3 {
            let engine = Arc::new(MemoryEngine::new());
            cluster.start(node, engine).await.unwrap();
        }
        cluster.initialize().await;
        let leader = cluster.leader().await;
        (cluster, leader)
    }

    /// Names nodes 1 to 3 the members of the group.
    pub(super) async fn initialize(&self) {
        let members = (1..=3).map(|node| (replica(node), node)).collect();
        let first = &self.nodes[&1].group;
        first.initialize(members).await.unwrap();
    }

    pub(super) async fn start(
        &mut self,
        node: u32,
        engine: Arc<dyn Engine>,
    ) -> Result<(), HostError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            cluster_name: NAME.to_owned(),
            node,
            ..Hello::default()
        };
        let net = Arc::new(TcpNet::default());
        let peers = Peers::new(net, hello, PeersOptions::default());
        let host = Host::open(HostParts {
            engine: engine.clone(),
            peers: peers.clone(),
            directory: self.addrs.clone(),
            options: self.options.clone(),
            marks: None,
        })?;
        let (tape, taped) = Tape::new();
        let group = host.start(GROUP, replica(node), Box::new(tape)).await?;
        let shutdown = CancellationToken::new();
        let options = ServerOptions {
            cluster_name: NAME.to_owned(),
            links_max: 100,
        };
        let serving = serve(listener, options, host.inbox(), shutdown.clone());
        self.addrs.0.lock().unwrap().insert(node, addr);
        let started = Node {
            engine,
            host,
            group,
            taped,
            peers,
            shutdown,
            serving: tokio::spawn(serving),
        };
        self.nodes.insert(node, started);
        Ok(())
    }

    /// Stops a node; gives back its engine.
    /// Asks the leader to let another node lead.
    pub(super) async fn transfer(&self, leader: u32, to: u32) {
        let asked = self.nodes[&leader].group.hand_over(replica(to)).await;
        asked.unwrap();
    }

    pub(super) async fn stop(&mut self, node: u32) -> Arc<dyn Engine> {
        self.addrs.0.lock().unwrap().remove(&node);
        let stopped = self.nodes.remove(&node).unwrap();
        within("a host's end", stopped.host.shutdown()).await;
        stopped.shutdown.cancel();
        stopped.peers.close().await;
        within("a server's end", stopped.serving).await.unwrap();
        stopped.engine
    }

    pub(super) async fn end(mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.stop(node).await;
        }
    }

    /// Waits until the running nodes agree on who of them leads.
    pub(super) async fn leader(&self) -> u32 {
        let agreed = || {
            let all = self
                .nodes
                .iter()
                .map(|(id, node)| (*id, node.group.leadership()));
            let all: Vec<_> = all.collect();
            let (leader, led) = all.iter().find(|(_, led)| led.here).copied()?;
            let same =
                |seen: &crate::Leadership| (seen.term, seen.leader) == (led.term, Some(leader));
            all.iter().all(|(_, seen)| same(seen)).then_some(leader)
        };
        until("an election", || agreed().is_some()).await;
        let leader = agreed().unwrap_or_else(|| panic!("leadership changed at once"));
        // A new leader takes no command until a majority has answered it.
        let group = &self.nodes[&leader].group;
        let confirmed = async { while group.confirm().await.is_err() {} };
        within("the leader's first majority", confirmed).await;
        leader
    }

    /// Proposes commands, all under way at the same time; the replies' numbers.
    pub(super) async fn propose(&self, leader: u32, commands: Vec<Vec<u8>>) -> Vec<u64> {
        let group = &self.nodes[&leader].group;
        let term = group.leadership().term;
        let mut answers = Vec::new();
        for command in commands {
            let queued = group.propose(term, Bytes::from(command)).await;
            answers.push(queued.unwrap());
        }
        let mut numbers = Vec::new();
        for answer in answers {
            let reply = within("a reply", answer).await.unwrap();
            numbers.push(reply.take::<u64>().unwrap());
        }
        numbers
    }

    /// Waits until all running nodes have applied `count` commands, and checks that they are the
    /// same.
    pub(super) async fn agree(&self, count: u64) -> Taped {
        let all = || -> Vec<Taped> {
            let all = self.nodes.values().map(|node| *node.taped.borrow());
            all.collect()
        };
        until("applied everywhere", || {
            let all = all();
            all.iter()
                .all(|taped| taped.count >= count && taped.index == all[0].index)
        })
        .await;
        let all = all();
        assert!(all.iter().all(|taped| *taped == all[0]), "{all:?}");
        assert_eq!(all[0].count, count);
        all[0]
    }
}

/// `count` different commands of some length.
pub(super) fn commands(tag: &str, count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let command = |number| format!("{tag} {number} {}", "x".repeat(bytes)).into_bytes();
    (0..count).map(command).collect()
}
