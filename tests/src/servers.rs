//! Nodes that are started one by one, as on machines of their own, and to which anything can happen: their network
//! is [`Wires`], their disks are small, and each has a clock of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{START_LIMIT, Turn};
use crate::disk::Disks;
use crate::http::Client;
use crate::ports;
use crate::process::{Process, command_behind, is_alive};
use crate::wait::{wait_for, wait_until};
use crate::wires::{Wires, peer_ip};

const STOP_LIMIT: Duration = Duration::from_secs(30);
const DISK: &str = "160m";
/// Where Debian has it.
const LIBFAKETIME: &str = "/usr/lib/*/faketime/libfaketime.so.1";
const BLOCK_BYTES: usize = 64 << 10;

/// How a node's clock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// As everybody's.
    Right,
    /// The clock on the wall is so far off; the one that counts from the start isn't.
    Off(&'static str),
    /// All clocks go at another rate.
    Rate(&'static str),
}

/// A cluster of nodes that are each a process of their own.
#[derive(Debug)]
pub struct Servers {
    running: Vec<Option<Process>>,
    /// How often each was started.
    starts: Vec<u32>,
    base: u16,
    wires: Wires,
    /// None if this machine lets nobody have any.
    disks: Option<Disks>,
    // Dropped after the processes.
    dir: TempDir,
    _turn: Turn,
}

impl Servers {
    /// Starts so many nodes, with further fields of the configuration; waits until they serve.
    pub fn start(count: u32, settings: &str) -> Servers {
        let turn = Turn::take();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let base = ports::free_base(count);
        let peers: Vec<SocketAddr> = (1..=count).map(|node| inside(base, node)).collect();
        let mut servers = Servers {
            running: (0..count).map(|_| None).collect(),
            starts: vec![0; count as usize],
            base,
            wires: Wires::new(&peers),
            disks: None,
            dir,
            _turn: turn,
        };
        let mounts: Vec<PathBuf> = servers.nodes().map(|node| servers.mount(node)).collect();
        servers.disks = Disks::mount(&mounts, DISK).ok();
        for node in servers.nodes() {
            let config = servers.config(node, settings);
            std::fs::write(servers.config_file(node), config).expect("it can be written");
        }
        servers
            .nodes()
            .for_each(|node| servers.spawn(node, Clock::Right));
        servers.nodes().for_each(|node| servers.await_ready(node));
        servers
    }

    fn config(&self, node: u32, settings: &str) -> String {
        let member = |node| format!("{{ id = {node}, peer = \"{}\" }}", self.wires.door(node));
        let members: Vec<String> = self.nodes().map(member).collect();
        format!(
            "{settings}\n[node]\nid = {node}\nthreads = 1\ndata_dir = {:?}\n\
             [listen]\nclient = \"{}\"\npeer = \"{}\"\nadvertise_peer = \"{}\"\n\
             [cluster]\nname = \"proof\"\ninitial_placement = [{}]\n",
            self.mount(node).join("data"),
            self.address(node),
            inside(self.base, node),
            self.wires.door(node),
            members.join(", "),
        )
    }

    /// The numbers of the nodes.
    pub fn nodes(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.running.len() as u32
    }

    /// Where the clients of a node connect to.
    pub fn address(&self, node: u32) -> String {
        let index = u16::try_from(node - 1).expect("few nodes");
        format!("127.0.0.1:{}", self.base + 10 * index)
    }

    /// Where a node itself listens for others, behind the wires.
    pub fn peer_address(&self, node: u32) -> SocketAddr {
        inside(self.base, node)
    }

    /// A client of one node, which goes to no other.
    pub fn client(&self, node: u32) -> Client {
        Client::new(&self.address(node))
    }

    /// The network between them.
    pub fn wires(&self) -> &Wires {
        &self.wires
    }

    /// Where everything of this test is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether each node has a disk of its own, which can be filled.
    pub fn have_disks(&self) -> bool {
        self.disks.is_some()
    }

    fn config_file(&self, node: u32) -> PathBuf {
        self.dir.path().join(format!("node-{node}.toml"))
    }

    fn mount(&self, node: u32) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    /// A node's disk, as the test sees it; its data are in `data`.
    pub fn disk(&self, node: u32) -> PathBuf {
        let mount = self.mount(node);
        self.disks
            .as_ref()
            .map_or(mount.clone(), |d| d.seen(&mount))
    }

    fn process(&self, node: u32) -> &Process {
        let process = self.running[node as usize - 1].as_ref();
        process.unwrap_or_else(|| panic!("node {node} is running"))
    }

    /// The process of a node that is up.
    pub fn pid(&self, node: u32) -> u32 {
        self.process(node).pid()
    }

    /// Where a node logs, since it was started last.
    pub fn log(&self, node: u32) -> PathBuf {
        let starts = self.starts[node as usize - 1];
        self.dir.path().join(format!("node-{node}-{starts}.err"))
    }

    /// What a node has said since it was started last.
    pub fn said(&self, node: u32) -> String {
        std::fs::read_to_string(self.log(node)).unwrap_or_default()
    }

    /// Starts a node, and doesn't wait.
    pub fn spawn(&mut self, node: u32, clock: Clock) {
        let before = self.disks.as_ref().map(Disks::enter).unwrap_or_default();
        let config = self.config_file(node);
        let config = config.to_str().expect("a plain path").to_owned();
        let mut command = command_behind(&before, &["server", "--config", &config]);
        command.envs(environment(clock));
        let starts = &mut self.starts[node as usize - 1];
        *starts += 1;
        let name = format!("node-{node}-{starts}");
        let process = Process::start_nodes(command, self.dir.path(), &name);
        self.running[node as usize - 1] = Some(process);
    }

    /// Waits until a node says that it serves; panics with what it says instead.
    pub fn await_ready(&mut self, node: u32) {
        let mut client = self.client(node);
        client.set_patience(Duration::from_secs(5));
        let mut said = String::new();
        for _ in 0..2 {
            let begun = crate::wait::Stopwatch::start();
            while begun.elapsed() < START_LIMIT {
                match client.request("GET", "/readyz", &[], b"") {
                    Ok(answer) if answer.status == 200 => return,
                    Ok(answer) => said = answer.text(),
                    Err(error) => said = error.to_string(),
                }
                if let Some(status) = self.ended(node) {
                    panic!("node {node} ended, {status}: {}", self.said(node));
                }
                crate::wait::pause();
            }
        }
        panic!("node {node} does not serve: {said}\n{}", self.said(node));
    }

    /// Starts a node that is down, and waits until it serves.
    pub fn revive(&mut self, node: u32, clock: Clock) {
        self.spawn(node, clock);
        self.await_ready(node);
    }

    /// How a node's process ended by itself, if it has.
    pub fn ended(&mut self, node: u32) -> Option<std::process::ExitStatus> {
        self.running[node as usize - 1].as_mut()?.ended()
    }

    /// Waits for the end of a node's process; its exit code, none if a signal ended it.
    pub fn await_end(&mut self, node: u32) -> Option<i32> {
        let mut process = self.running[node as usize - 1].take().expect("it is up");
        process.wait(STOP_LIMIT)
    }

    /// Ends a node with SIGKILL.
    pub fn kill(&mut self, node: u32) {
        let pid = self.pid(node);
        self.process(node).signal(Signal::KILL);
        self.await_end(node);
        wait_until("a killed node to be gone", STOP_LIMIT, || !is_alive(pid));
    }

    /// Ends all nodes with SIGKILL, as nearly at once as can be.
    pub fn kill_all(&mut self) {
        self.nodes()
            .for_each(|node| self.signal(node, Signal::KILL));
        self.nodes().for_each(|node| _ = self.await_end(node));
    }

    /// Ends a node in good order.
    pub fn stop(&mut self, node: u32) {
        self.signal(node, Signal::TERM);
        assert_eq!(self.await_end(node), Some(0), "{}", self.said(node));
    }

    /// Sends a node a signal.
    pub fn signal(&self, node: u32, signal: Signal) {
        self.process(node).signal(signal);
    }

    /// Puts aside what a node that is down has stored, all of it.
    pub fn lose_data(&self, node: u32) {
        let (data, aside) = (self.disk(node).join("data"), self.disk(node).join("aside"));
        std::fs::rename(data, aside).expect("nobody uses it");
    }

    /// Gives back what [`Servers::lose_data`] put aside, in place of what is there.
    pub fn find_data(&self, node: u32) {
        let (data, aside) = (self.disk(node).join("data"), self.disk(node).join("aside"));
        std::fs::remove_dir_all(&data).expect("nobody uses it");
        std::fs::rename(aside, data).expect("it is there");
    }

    /// Fills a node's disk to the last block; what does it is called ballast.
    pub fn fill(&self, node: u32) {
        let file = std::fs::File::create(self.disk(node).join("ballast"));
        let mut file = file.expect("it was mounted for this");
        while file.write_all(&[1; BLOCK_BYTES]).is_ok() {}
    }

    /// Takes the ballast away again.
    pub fn relieve(&self, node: u32) {
        std::fs::remove_file(self.disk(node).join("ballast")).expect("it was filled");
    }

    /// Which node leads each group, as far as `asked` knows; the placement group isn't among them.
    pub fn leaders(&self, asked: u32) -> Vec<u32> {
        let found = self.client(asked).request("GET", "/v1/cluster", &[], b"");
        let cluster = found.map_or(Value::Null, |answer| answer.json());
        let groups = cluster["groups"].as_array().into_iter().flatten();
        let leaders = groups.filter_map(|group| group["leader"].as_u64());
        leaders
            .filter_map(|node| u32::try_from(node).ok())
            .collect()
    }

    /// The node that leads most groups.
    pub fn busiest(&self) -> u32 {
        let leaders = wait_for("leaders", START_LIMIT, || {
            let found = self.nodes().map(|node| self.leaders(node));
            found.into_iter().find(|leaders| !leaders.is_empty())
        });
        let count = |node: &u32| leaders.iter().filter(|leader| *leader == node).count();
        self.nodes().max_by_key(count).expect("there are nodes")
    }

    /// The node that leads the placement group.
    pub fn oracle(&self) -> u32 {
        wait_for("a leader of the placement group", START_LIMIT, || {
            let leader = self.nodes().find_map(|node| {
                let status = self.status(node)?;
                status["leader"].as_str()?.parse::<u32>().ok()
            });
            leader.filter(|leader| *leader > 0)
        })
    }

    /// How far a node's clock on the wall is from everybody's, by what it says of a message that it publishes.
    pub fn clock_off_ms(&self, node: u32) -> u64 {
        let mut client = self.client(node);
        let (between, offset) = wait_for("a message", START_LIMIT, || {
            let before = wall_ms();
            let target = "/v1/topics/clock/message?key=k";
            let sent = client.request("POST", target, &[("content-type", "text/plain")], b"x");
            let sent = sent.ok().filter(|answer| answer.status < 300)?;
            Some((before..=wall_ms(), sent.json()["first"].as_u64()?))
        });
        let said = wait_for("the message's time", START_LIMIT, || {
            let target = format!("/v1/topics/clock/messages?limit=1&from={offset}");
            let read = client.request("GET", &target, &[], b"").ok()?;
            read.json()["messages"][0]["time_ms"].as_u64()
        });
        let (begin, end) = between.into_inner();
        begin.saturating_sub(said).max(said.saturating_sub(end))
    }

    /// Replicas that have stopped by themselves, as a node says.
    pub fn stopped_replicas(&self, node: u32) -> Option<u64> {
        let mut client = self.client(node);
        client.set_patience(Duration::from_secs(5));
        let metrics = client.request("GET", "/metrics", &[], b"").ok()?.text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("caucus_raft_stopped_replicas "));
        line?.parse().ok()
    }

    /// What a node says of itself over etcd's API.
    pub fn status(&self, node: u32) -> Option<Value> {
        let mut client = self.client(node);
        client.set_patience(Duration::from_secs(5));
        let answer = client.request("POST", "/v3/maintenance/status", &[], b"{}");
        answer
            .ok()
            .filter(|answer| answer.status == 200)
            .map(|answer| answer.json())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in self.nodes() {
                let said = self.said(node);
                let tail: Vec<&str> = said.lines().rev().take(30).collect();
                for line in tail.into_iter().rev() {
                    eprintln!("node {node}: {line}");
                }
            }
        }
    }
}

fn inside(base: u16, node: u32) -> SocketAddr {
    let index = u16::try_from(node - 1).expect("few nodes");
    SocketAddr::new(peer_ip(node), base + 10 * index + 1)
}

fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

/// The library that tells a process another time, if it is installed.
pub fn libfaketime() -> Option<PathBuf> {
    let (before, after) = LIBFAKETIME.split_once('*').expect("it has a star");
    let dirs = std::fs::read_dir(before).ok()?.flatten();
    let files = dirs.map(|dir| dir.path().join(after.trim_start_matches('/')));
    files.into_iter().find(|file| file.exists())
}

fn environment(clock: Clock) -> Vec<(&'static str, String)> {
    let library = || {
        let library = libfaketime().expect("it was looked for before");
        library.to_str().expect("a plain path").to_owned()
    };
    match clock {
        Clock::Right => Vec::new(),
        Clock::Off(by) => vec![
            ("LD_PRELOAD", library()),
            ("FAKETIME", by.to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ],
        Clock::Rate(rate) => vec![
            ("LD_PRELOAD", library()),
            ("FAKETIME", format!("+0 {rate}")),
        ],
    }
}
