//! Debian's etcd: three members on loopback that are killed, stopped and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use caucus_tests::http::Client;
use caucus_tests::wait::wait_for;
use caucus_tests::wires::Wires;
use caucus_tests::{ports, process::Process, say_skipped};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gateway::Gateway;

const ETCD: &str = "/usr/bin/etcd";
const LIMIT: Duration = Duration::from_secs(60);
pub(super) const COUNT: usize = 3;

/// The client port of a member; its peer port is the next one.
fn port(base: u16, member: usize) -> u16 {
    base + 10 * u16::try_from(member).expect("few members")
}

/// What the wires call a member.
pub(super) fn number(member: usize) -> u32 {
    u32::try_from(member).expect("few members") + 1
}

/// The members.
pub(super) struct Members {
    processes: Vec<Option<Process>>,
    base: u16,
    options: Vec<String>,
    /// Each has as many outputs as it was started times.
    starts: usize,
    /// What they call themselves.
    ids: Vec<Value>,
    /// Between their peer ports. They don't say who calls: all that is sent to a member's port goes from 0 to its
    /// number, which is one more than here, and what it answers there the other way.
    pub(super) wires: Wires,
    dir: TempDir,
}

impl Members {
    /// Starts them, and waits until all serve; none, and a word about it, where there is no etcd.
    pub(super) fn start(options: &[&str]) -> Option<Members> {
        if !Path::new(ETCD).exists() {
            say_skipped("there is no etcd to drive");
            return None;
        }
        let base = ports::free_base(COUNT as u32);
        let inside: Vec<SocketAddr> = (0..COUNT)
            .map(|member| (Ipv4Addr::LOCALHOST, port(base, member) + 1).into())
            .collect();
        let mut members = Members {
            processes: (0..COUNT).map(|_| None).collect(),
            wires: Wires::new(&inside),
            base,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            starts: 0,
            ids: Vec::new(),
            dir: tempfile::tempdir().expect("a temporary directory"),
        };
        for member in 0..COUNT {
            members.spawn(member);
        }
        let ids = (0..COUNT).map(|member| members.serves(member));
        members.ids = ids.collect();
        Some(members)
    }

    /// Where clients of a member connect to.
    pub(super) fn address(&self, member: usize) -> String {
        format!("127.0.0.1:{}", port(self.base, member))
    }

    /// Of all.
    pub(super) fn addresses(&self) -> Vec<String> {
        (0..COUNT).map(|member| self.address(member)).collect()
    }

    fn spawn(&mut self, member: usize) {
        let peer = |member| format!("http://{}", self.wires.door(number(member)));
        let inside = format!("http://127.0.0.1:{}", port(self.base, member) + 1);
        let all: Vec<String> = (0..COUNT)
            .map(|member| format!("n{member}={}", peer(member)))
            .collect();
        let client = format!("http://{}", self.address(member));
        let name = format!("n{member}");
        // Dies with the thread that started it, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", ETCD, "--name", &name, "--data-dir"])
            .arg(self.dir.path().join(&name))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &inside])
            .args(["--initial-advertise-peer-urls", &peer(member)])
            .args(["--initial-cluster", &all.join(",")])
            // What a process that is killed has written is not lost: the machine stays up.
            .arg("--unsafe-no-fsync")
            .args(&self.options)
            .stdin(Stdio::null());
        self.starts += 1;
        let output = format!("{name}-{}", self.starts);
        self.processes[member] = Some(Process::start(command, self.dir.path(), &output));
    }

    /// Waits until a member serves, and asks for its name.
    fn serves(&self, member: usize) -> Value {
        let mut gateway = Gateway::new(&self.address(member));
        let mut answer = wait_for("a member of etcd that serves", LIMIT, || {
            gateway.call("kv/range", &json!({"key": "YQ=="})).ok()
        });
        answer["header"]["member_id"].take()
    }

    /// Kills a member with -9.
    pub(super) fn kill(&mut self, member: usize) {
        self.processes[member] = None;
    }

    /// Starts a member that was killed, and waits until it serves.
    pub(super) fn revive(&mut self, member: usize) {
        self.spawn(member);
        _ = self.serves(member);
    }

    /// Stops a member where it is.
    pub(super) fn pause(&self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    /// Lets it go on.
    pub(super) fn go_on(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        let process = self.processes[member].as_ref();
        process.expect("it was started").signal(signal);
    }

    /// Whether a member is sending a snapshot to another.
    pub(super) fn sends_snapshot(&self, member: usize) -> bool {
        let mut client = Client::new(&self.address(member));
        let metrics = client.request("GET", "/metrics", &[], b"");
        let metrics = metrics.expect("a member has metrics").text();
        let mut sending = metrics
            .lines()
            .filter(|line| line.starts_with("etcd_network_snapshot_send_inflights_total{"));
        sending.any(|line| !line.ends_with(" 0"))
    }

    /// Whom a member takes for the leader.
    pub(super) fn leader(&self, asked: usize) -> Option<usize> {
        let mut gateway = Gateway::new(&self.address(asked));
        let status = gateway.call("maintenance/status", &json!({})).ok()?;
        self.ids.iter().position(|id| status["leader"] == *id)
    }
}
