//! The world of a seed: its hosts, their network, and time, which moves for all of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use caucus_node::{Roles, Settings};
use caucus_placement::{Bootstrap, Voter};
use caucus_router::{Retention, Router, RouterOptions};

use crate::clients::Client;
use crate::host::{Host, Program, unix_ms};
use crate::leaders::Leaders;
use crate::plan::Plan;
use crate::scene::Scene;
use crate::trace::Trace;
use crate::watchers::{self, Watch};
use crate::wire::{HostId, Wire, address};
use crate::{lessees, lockers, plain, takers};

/// Who send plain requests, of a front.
const PLAIN: u64 = 3;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) wire: Wire,
    /// The nodes, then the fronts.
    pub(crate) hosts: Vec<Host>,
    pub(crate) scene: Arc<Scene>,
    pub(crate) trace: Trace,
    pub(crate) now: u64,
    /// How many watches there are.
    pub(crate) watches: u64,
    pub(crate) leaders: Leaders,
    /// What can't be.
    pub(crate) wrong: Vec<String>,
    /// How often each fault happened.
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) fn new(plan: Plan, trace: Trace) -> World {
        let count = plan.nodes + plan.fronts;
        let wire = Wire::new(count, plan.weather, plan.seed ^ 0x7769_7265, trace.clone());
        let scene = Scene::new(plan.clone(), wire.clone());
        let mut watches = 0;
        let mut hosts: Vec<Host> = Vec::new();
        for id in 0..count {
            let program: Program = match id < plan.nodes {
                true => Arc::new(|_| ()),
                false => {
                    let own = [Watch::new(watches, "/p/"), Watch::new(watches + 1, "/p/0/")];
                    watches += 2;
                    front(&scene, id, own)
                }
            };
            let rate = plan.rates.get(id).copied().unwrap_or(1000);
            let numbers = (plan.sync_max, rate, plan.seed ^ (id as u64) << 40);
            let settings = settings(&plan, id);
            hosts.push(Host::new(id, wire.clone(), settings, program, numbers));
        }
        World {
            plan,
            wire,
            hosts,
            scene,
            trace,
            now: 0,
            watches,
            leaders: Leaders::default(),
            wrong: Vec::new(),
            faults: BTreeMap::new(),
        }
    }

    /// Everybody runs for a step.
    pub(crate) fn step(&mut self) {
        self.now += self.plan.step;
        self.wire.advance(self.now);
        for host in &mut self.hosts {
            host.step(self.now, self.plan.step);
        }
        if self.wrong.is_empty() {
            let mut leaders = std::mem::take(&mut self.leaders);
            leaders
                .look(self)
                .into_iter()
                .for_each(|why| self.fail(why));
            self.leaders = leaders;
        }
    }

    /// Goes on until something holds, or for so many ms; whether it holds.
    pub(crate) fn wait(&mut self, limit: u64, holds: impl Fn(&World) -> bool) -> bool {
        let end = self.now + limit;
        while !holds(self) {
            if self.now >= end {
                return false;
            }
            self.step();
        }
        true
    }

    /// The hosts with the nodes.
    pub(crate) fn nodes(&self) -> std::ops::Range<HostId> {
        0..self.plan.nodes
    }

    /// The hosts with routers and clients.
    pub(crate) fn fronts(&self) -> std::ops::Range<HostId> {
        self.plan.nodes..self.hosts.len()
    }

    pub(crate) fn fail(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.trace.say(self.now, format!("wrong: {why}"));
        self.wrong.push(why);
    }
}

/// What runs in a host of clients.
fn front(scene: &Arc<Scene>, id: HostId, watches: [Watch; 2]) -> Program {
    let scene = scene.clone();
    let watches = watches.map(|watch| Arc::new(Mutex::new(watch)));
    Arc::new(move |router: &Router| {
        for watch in &watches {
            let playing = watchers::play(scene.clone(), router.clone(), watch.clone());
            tokio::spawn(playing);
        }
        if scene.is_over() {
            return;
        }
        for _ in 0..scene.plan.clients {
            tokio::spawn(Client::new(&scene, router).play());
        }
        tokio::spawn(lessees::play(scene.clone(), router.clone(), id as u64));
        tokio::spawn(lockers::play(scene.clone(), router.clone(), id as u64));
        let plain = if scene.plan.has_plain { PLAIN } else { 0 };
        for number in 0..plain {
            let number = number + PLAIN * id as u64;
            tokio::spawn(plain::play(scene.clone(), router.clone(), number));
        }
        if scene.plan.has_odd {
            tokio::spawn(takers::play(scene.clone(), router.clone(), id as u64));
        }
    })
}

fn settings(plan: &Plan, id: HostId) -> Settings {
    let is_node = id < plan.nodes;
    let voter = |host: HostId| Voter {
        replica: host as u64 + 1,
        node: host as u32 + 1,
        peer_addr: address(host),
    };
    let number = NonZeroU32::new(id as u32 + 1).filter(|_| id < plan.voters);
    Settings {
        cluster_name: "sim".to_owned(),
        node: number,
        roles: Roles {
            shard: is_node,
            router: !is_node,
            placement: id < plan.voters,
        },
        peer_addr: address(id),
        client_addr: format!("host-{id}:2"),
        zone: String::new(),
        voters: (0..plan.voters).map(voter).collect(),
        seeds: (0..plan.voters).map(address).collect(),
        bootstrap: Bootstrap {
            vnodes: 64,
            groups: plan.groups,
            replication: 3,
            initial_nodes: plan.nodes as u32,
            created_at_ms: 0,
        },
        raft: caucus_raft::Options {
            log_bytes_max: plan.log_bytes_max,
            log_bytes_kept: plan.log_bytes_max / 2,
            snapshot_chunk_bytes: plan.snapshot_chunk_bytes,
            tail_bytes_max: plan.tail_bytes_max,
            ..caucus_raft::Options::default()
        },
        shard: caucus_shard::Options::default(),
        router: RouterOptions {
            timeout: Duration::from_secs(3),
            unix_ms,
            ..RouterOptions::default()
        },
        keeps: Retention::default(),
    }
}
