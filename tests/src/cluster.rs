//! A cluster of real processes, made by `caucus dev`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caucus_power::random::Random;
use caucus_power::{Loss, Lost, Power};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::disk::Disks;
use crate::http::Client;
use crate::ports;
use crate::process::{self, Process, command_of, is_alive, send};
use crate::wait::{wait_for, wait_until};

/// Generous: two cores may be busy with everything else.
pub const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// One cluster at a time in a test binary: elections are timed, and two clusters would make each
/// other's late.
static TURN: Mutex<()> = Mutex::new(());

/// The right to have a cluster.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Turn {
    /// Waits for it.
    pub(crate) fn take() -> Turn {
        Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a cluster is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nodes.
    pub nodes: u32,
    /// Further options of `caucus dev`.
    pub args: Vec<String>,
    /// Environment of `caucus dev` and the nodes that it starts.
    pub env: Vec<(String, String)>,
    /// Whether the nodes can lose power.
    pub has_power: bool,
    /// The places at which its nodes fail; none: they are what is shipped.
    armed: Option<String>,
}

impl Options {
    /// So many nodes, all else as it is by default.
    pub fn nodes(nodes: u32) -> Options {
        Options {
            nodes,
            args: Vec::new(),
            env: Vec::new(),
            has_power: false,
            armed: None,
        }
    }

    /// With nodes that can lose power.
    pub fn power(mut self) -> Options {
        self.has_power = true;
        self
    }

    /// Of nodes that die, stall or fail at these places (`caucus_planted::POINTS_VARIABLE`); not those that
    /// are revived.
    pub fn armed(mut self, places: &str) -> Options {
        self.armed = Some(places.to_owned());
        self
    }

    /// With a variable of the environment, for `caucus dev` and the nodes that it starts; not for those
    /// that are revived.
    pub fn env(mut self, name: &str, value: &str) -> Options {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a field of the configuration.
    pub fn set(mut self, assignment: &str) -> Options {
        self.args
            .extend(["--set".to_owned(), assignment.to_owned()]);
        self
    }
}

/// A running cluster, or one that is down and has data.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    port: u16,
    dev: Option<Process>,
    revived: Vec<Option<Process>>,
    data: PathBuf,
    /// Where the data directories are, if not on the file system of the test.
    disks: Option<Disks>,
    /// What the nodes have synced, if they can lose power.
    power: Option<Power>,
    /// Once it has served its addresses are known to it, and stay.
    has_served: bool,
    // Dropped after the processes.
    dir: TempDir,
    _turn: Turn,
}

impl Cluster {
    /// Starts a new cluster and waits until it serves.
    pub fn start(options: Options) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        cluster.up();
        cluster
    }

    /// A cluster that isn't started yet.
    pub fn prepare(options: Options) -> Cluster {
        let turn = Turn::take();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let power = options.has_power.then(|| {
            Power::watch(&data, &dir.path().join("power"))
                .expect("the test's directory can be written")
        });
        Cluster {
            port: ports::free_base(options.nodes),
            revived: (0..options.nodes).map(|_| None).collect(),
            data,
            dev: None,
            disks: None,
            power,
            has_served: false,
            options,
            dir,
            _turn: turn,
        }
    }

    /// Gives these nodes file systems of their own; an error if this machine won't let us.
    pub fn mount_disks(&mut self, nodes: &[u32], size: &str) -> Result<(), String> {
        let dirs: Vec<PathBuf> = nodes.iter().map(|node| self.node_dir(*node)).collect();
        self.disks = Some(Disks::mount(&dirs, size)?);
        Ok(())
    }

    /// Starts all nodes on what data there is, and waits until they serve.
    pub fn up(&mut self) {
        assert!(self.dev.is_none(), "it is up");
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let mut dev = self.spawn();
            let outcome = wait_for("the cluster to serve", START_LIMIT, || {
                let ready = dev.stdout().contains("ready ");
                ready.then_some(Ok(())).or_else(|| dev.ended().map(Err))
            });
            match outcome {
                Ok(()) => {
                    if !self.has_served {
                        self.settle_layout();
                    }
                    self.has_served = true;
                    return self.dev = Some(dev);
                }
                // Somebody took a port since we looked.
                Err(_) if attempts > 0 && dev.stderr().contains("in use") && !self.has_served => {
                    drop(dev);
                    self.nodes().for_each(|node| clear(&self.node_dir(node)));
                    self.port = ports::free_base(self.options.nodes);
                }
                Err(status) => panic!("caucus dev: {status}\n{}", dev.stderr()),
            }
        }
    }

    /// What an operator would have made: the directories of the nodes, and their configurations.
    fn settle_layout(&self) {
        let Some(power) = &self.power else { return };
        power.settle(&self.data).expect("it is there");
        for node in self.nodes() {
            let config = self.node_dir(node).join("caucus.toml");
            power.settle(&config).expect("it is there");
        }
    }

    /// Starts all nodes, which may not want to.
    pub fn try_up(&mut self) -> &mut Process {
        assert!(self.dev.is_none(), "it is up");
        let dev = self.spawn();
        self.dev.insert(dev)
    }

    fn spawn(&self) -> Process {
        let (nodes, port) = (self.options.nodes.to_string(), self.port.to_string());
        let data = self.data.to_str().expect("a plain path");
        let args = [
            "dev",
            "--nodes",
            &nodes,
            "--port",
            &port,
            "--data-dir",
            data,
        ];
        let before = self.disks.as_ref().map(Disks::enter).unwrap_or_default();
        let mut command = command(self.options.armed.as_deref(), &before, &args);
        command.args(&self.options.args);
        command.envs(self.options.env.iter().cloned());
        command.envs(self.power.iter().flat_map(Power::env));
        Process::start_nodes(command, self.dir.path(), "dev")
    }

    /// The numbers of the nodes.
    pub fn nodes(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.options.nodes
    }

    /// Where the clients of a node connect to.
    pub fn address(&self, node: u32) -> String {
        let index = u16::try_from(node - 1).expect("few nodes");
        format!("127.0.0.1:{}", self.port + 10 * index)
    }

    /// The URLs of all nodes, separated by commas.
    pub fn endpoints(&self) -> String {
        let urls = self
            .nodes()
            .map(|node| format!("http://{}", self.address(node)));
        urls.collect::<Vec<_>>().join(",")
    }

    /// A client of one node, which goes to no other.
    pub fn client(&self, node: u32) -> Client {
        Client::new(&self.address(node))
    }

    /// Where everything of this test is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A node's data directory.
    pub fn node_dir(&self, node: u32) -> PathBuf {
        let dir = self.data.join(format!("node-{node}"));
        match &self.disks {
            Some(disks) => disks.seen(&dir),
            None => dir,
        }
    }

    /// The process of `caucus dev`.
    pub fn dev(&mut self) -> &mut Process {
        self.dev.as_mut().expect("it is up")
    }

    /// The process of a node.
    pub fn pid(&self, node: u32) -> u32 {
        if let Some(process) = &self.revived[node as usize - 1] {
            return process.pid();
        }
        let said = self.dev.as_ref().expect("it is up").stderr();
        let begin = format!("node {node} pid ");
        let line = said.lines().find_map(|line| line.strip_prefix(&begin));
        let pid = line.and_then(|rest| rest.split(' ').next()?.parse().ok());
        pid.expect("dev names the process of each node")
    }

    /// Whether the process of a node is there.
    pub fn is_up(&self, node: u32) -> bool {
        is_alive(self.pid(node))
    }

    /// Ends a node with SIGKILL.
    pub fn kill(&mut self, node: u32) {
        let pid = self.pid(node);
        send(pid, Signal::KILL);
        if let Some(mut process) = self.revived[node as usize - 1].take() {
            process.wait(STOP_LIMIT);
        }
        wait_until("a killed node to be gone", STOP_LIMIT, || !is_alive(pid));
    }

    /// Starts a node that was killed, beside `caucus dev`, which won't; waits until it serves.
    pub fn revive(&mut self, node: u32) {
        self.try_revive(node);
        self.await_ready(node);
    }

    /// Starts a node that was killed, which may not want to.
    pub fn try_revive(&mut self, node: u32) -> &mut Process {
        self.revive_armed(node, None)
    }

    /// Starts it and doesn't wait; with places at which it fails. What it says of them is in
    /// [`Cluster::said`].
    pub fn revive_armed(&mut self, node: u32, places: Option<&str>) -> &mut Process {
        let config = self.node_dir(node).join("caucus.toml");
        let config = config.to_str().expect("a plain path");
        let name = format!("node-{node}");
        let mut command = command(places, &[], &["server", "--config", config]);
        command.envs(self.power.iter().flat_map(Power::env));
        // The one before writes to the same files.
        self.revived[node as usize - 1] = None;
        let process = Process::start_nodes(command, self.dir(), &name);
        self.revived[node as usize - 1].insert(process)
    }

    /// What a node has written to standard error since it was started last.
    pub fn said(&self, node: u32) -> String {
        match (&self.revived[node as usize - 1], &self.dev) {
            (Some(process), _) => process.stderr(),
            (None, Some(dev)) => {
                let begin = format!("[node {node}] ");
                let said = dev.stderr();
                let lines = said.lines().filter_map(|line| line.strip_prefix(&begin));
                lines.flat_map(|line| [line, "\n"]).collect()
            }
            (None, None) => String::new(),
        }
    }

    /// Waits until a node says that it serves; panics with what it says instead.
    pub fn await_ready(&self, node: u32) {
        let mut client = self.client(node);
        let begun = Instant::now();
        wait_until("a node to serve", 2 * START_LIMIT, || {
            let answer = client.request("GET", "/readyz", &[], b"");
            let is_ready = answer.as_ref().is_ok_and(|answer| answer.status == 200);
            if !is_ready && begun.elapsed() > START_LIMIT {
                let said = answer.map_or_else(|error| error.to_string(), |answer| answer.text());
                let log = self.revived[node as usize - 1]
                    .as_ref()
                    .map(Process::stderr);
                panic!(
                    "node {node} does not serve: {said}\n{}",
                    log.unwrap_or_default()
                );
            }
            is_ready
        });
    }

    /// Ends all nodes with SIGKILL, as nearly at once as can be.
    pub fn kill_all(&mut self) {
        let pids: Vec<u32> = self.nodes().map(|node| self.pid(node)).collect();
        for pid in &pids {
            send(*pid, Signal::KILL);
        }
        self.revived.iter_mut().for_each(|process| *process = None);
        for pid in pids {
            wait_until("a killed node to be gone", STOP_LIMIT, || !is_alive(pid));
        }
        // With no node left `dev` has nothing to do.
        let mut dev = self.dev.take().expect("it is up");
        assert_eq!(dev.wait(STOP_LIMIT), Some(1), "{}", dev.stderr());
    }

    /// All nodes lose power at once; they stay down.
    pub fn lose_power(&mut self, loss: Loss, random: &mut Random) -> Lost {
        self.kill_all();
        self.cut(&self.data, loss, random)
    }

    /// One node loses power; it stays down.
    pub fn lose_power_of(&mut self, node: u32, loss: Loss, random: &mut Random) -> Lost {
        self.kill(node);
        self.cut(&self.node_dir(node), loss, random)
    }

    fn cut(&self, dir: &Path, loss: Loss, random: &mut Random) -> Lost {
        self.power()
            .cut(dir, loss, random)
            .expect("files of the dead can be cut")
    }

    /// What the nodes have synced.
    pub fn power(&self) -> &Power {
        self.power.as_ref().expect("these nodes can lose power")
    }

    /// Ends everything in good order.
    pub fn down(&mut self) {
        for process in self.revived.iter_mut().filter_map(Option::take) {
            let mut process = process;
            process.signal(Signal::TERM);
            assert_eq!(process.wait(STOP_LIMIT), Some(0), "{}", process.stderr());
        }
        let mut dev = self.dev.take().expect("it is up");
        dev.signal(Signal::TERM);
        assert_eq!(dev.wait(STOP_LIMIT), Some(0), "{}", dev.stderr());
    }
}

/// Of what is shipped, or of nodes that fail at these places.
fn command(armed: Option<&str>, before: &[String], args: &[&str]) -> Command {
    let Some(places) = armed else {
        return command_of(&process::caucus(), before, args);
    };
    let mut command = command_of(&process::planted(), before, args);
    command.env(caucus_planted::POINTS_VARIABLE, places);
    command
}

/// Empties a directory and leaves it standing: it may be a mount.
fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for file in ["dev.err", "node-1.err", "node-2.err", "node-3.err"] {
                let text = std::fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(40).collect();
                for line in tail.into_iter().rev() {
                    eprintln!("{file}: {line}");
                }
            }
        }
        // Killing `dev` takes its nodes along: they asked the system for that.
    }
}
