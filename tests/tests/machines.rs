//! Nodes as they run on real machines: a process each, started by hand, found by address.

use std::path::PathBuf;
use std::time::Duration;

use caucus_tests::http::Client;
use caucus_tests::process::{Finished, Process, command, run};
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{kv, ports};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// Machines that are all this one, on ports of their own.
struct Machines {
    // Dropped before the directory.
    running: Vec<Option<Process>>,
    base: u16,
    dir: TempDir,
}

impl Machines {
    fn new(count: u32) -> Machines {
        Machines {
            running: (0..count).map(|_| None).collect(),
            base: ports::free_base(count),
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn client_address(&self, machine: usize) -> String {
        let index = u16::try_from(machine).expect("few machines");
        format!("127.0.0.1:{}", self.base + 10 * index)
    }

    fn peer_address(&self, machine: usize) -> String {
        let index = u16::try_from(machine).expect("few machines");
        format!("127.0.0.1:{}", self.base + 10 * index + 1)
    }

    fn data_dir(&self, machine: usize) -> PathBuf {
        self.dir.path().join(format!("data-{machine}"))
    }

    fn client(&self, machine: usize) -> Client {
        Client::new(&self.client_address(machine))
    }

    /// The arguments that say where a machine is.
    fn place(&self, machine: usize) -> Vec<String> {
        let data = self.data_dir(machine);
        let data = data.to_str().expect("a plain path").to_owned();
        [
            "--data-dir",
            &data,
            "--listen-client",
            &self.client_address(machine),
            "--listen-peer",
            &self.peer_address(machine),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn start(&mut self, machine: usize, words: &[&str]) {
        let place = self.place(machine);
        let mut command = command(words);
        command.args(place);
        let name = format!("machine-{machine}");
        let process = Process::start_nodes(command, self.dir.path(), &name);
        self.running[machine] = Some(process);
    }

    /// Starts a node that finds the cluster through another one.
    fn join(&mut self, machine: usize, seed: usize) {
        let seed = self.peer_address(seed);
        self.start(machine, &["join", "--seed", &seed]);
    }

    /// Starts the first machine of a cluster that waits for `nodes`.
    fn found(&mut self, machine: usize, nodes: u32) {
        let placement = format!(
            "cluster.initial_placement=[{{ id = 1, peer = \"{}\" }}]",
            self.peer_address(machine)
        );
        let replication = format!("cluster.replication={}", nodes.min(3));
        let nodes = format!("cluster.initial_nodes={nodes}");
        let words = ["server", "--set", "node.id=1", "--set", &placement];
        let more = ["--set", &nodes, "--set", &replication];
        self.start(machine, &[&words[..], &more[..]].concat());
    }

    fn await_ready(&mut self, machine: usize) {
        let mut client = self.client(machine);
        let process = self.running[machine].as_mut().expect("it was started");
        wait_until("a node to serve", LIMIT, || {
            if let Some(status) = process.ended() {
                panic!("machine {machine}: {status}\n{}", process.stderr());
            }
            let asked = client.request("GET", "/readyz", &[], b"");
            asked.is_ok_and(|answer| answer.status == 200)
        });
    }

    fn stop(&mut self, machine: usize) {
        let mut process = self.running[machine].take().expect("it was started");
        process.signal(Signal::TERM);
        assert_eq!(process.wait(LIMIT), Some(0), "{}", process.stderr());
    }

    /// Runs a node that must end by itself.
    fn refused(&self, machine: usize, words: &[&str]) -> Finished {
        let place = self.place(machine);
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        run(&[words, &place].concat())
    }

    fn cluster(&self, machine: usize) -> Value {
        let answer = self.client(machine).request("GET", "/v1/cluster", &[], b"");
        answer.expect("the node answers").json()
    }
}

fn numbers(cluster: &Value, list: &str, field: &str) -> Vec<u64> {
    let items = cluster[list].as_array().expect("a list").iter();
    items
        .map(|item| item[field].as_u64().unwrap_or(0))
        .collect()
}

#[test]
fn three_servers_that_name_each_other_are_a_cluster() {
    let mut machines = Machines::new(3);
    let members: Vec<String> = (0..3)
        .map(|m| {
            format!(
                "{{ id = {}, peer = {:?} }}",
                m + 1,
                machines.peer_address(m)
            )
        })
        .collect();
    let file = machines.dir.path().join("shared.toml");
    let text = format!(
        "[cluster]\nname = \"shop\"\ninitial_placement = [{}]\n",
        members.join(", ")
    );
    std::fs::write(&file, text).expect("the test's directory can be written");
    let file = file.to_str().expect("a plain path").to_owned();
    for round in 0..2 {
        // The one that founds the cluster isn't the first to be there.
        for machine in [2, 1, 0] {
            let id = format!("node.id={}", machine + 1);
            machines.start(machine, &["server", "--config", &file, "--set", &id]);
        }
        (0..3).for_each(|machine| machines.await_ready(machine));
        if round == 0 {
            kv::put(&mut machines.client(0), "/kept", &json!("by all"));
        }
        for machine in 0..3 {
            let found = kv::get(&mut machines.client(machine), "/kept");
            assert_eq!(found.expect("it was acknowledged")["value"], "by all");
            let cluster = machines.cluster(machine);
            assert_eq!(numbers(&cluster, "nodes", "node"), [1, 2, 3]);
            assert_eq!(numbers(&cluster, "groups", "group").len(), 6);
        }
        (0..3).for_each(|machine| machines.stop(machine));
    }
}

#[test]
fn nodes_join_through_a_seed() {
    let mut machines = Machines::new(5);
    machines.found(0, 3);
    machines.join(1, 0);
    machines.join(2, 0);
    (0..3).for_each(|machine| machines.await_ready(machine));
    kv::put(&mut machines.client(1), "/kept", &json!("by all"));

    // One that comes later is given a number and answers, though it holds no replica yet. Its seed has
    // joined itself.
    machines.join(3, 1);
    machines.await_ready(3);
    let found = kv::get(&mut machines.client(3), "/kept");
    assert_eq!(found.expect("it was acknowledged")["value"], "by all");
    kv::put(&mut machines.client(3), "/late", &json!("too"));

    // It is the same one after a restart, also elsewhere in the order.
    for machine in [3, 1] {
        machines.stop(machine);
    }
    for machine in [3, 1] {
        machines.join(machine, 0);
    }
    for machine in [3, 1] {
        machines.await_ready(machine);
        let cluster = machines.cluster(machine);
        assert_eq!(numbers(&cluster, "nodes", "node"), [1, 2, 3, 4]);
        let found = kv::get(&mut machines.client(machine), "/late");
        assert_eq!(found.expect("it was acknowledged")["value"], "too");
    }
}

#[test]
fn a_node_keeps_to_its_cluster() {
    let mut machines = Machines::new(3);
    for (founder, joiner) in [(0, 2), (1, 2)] {
        machines.found(founder, 1);
        machines.await_ready(founder);
        if founder == 0 {
            machines.join(joiner, founder);
            machines.await_ready(joiner);
            machines.stop(joiner);
            machines.stop(founder);
        }
    }
    // The same name, but not the same cluster.
    let seed = machines.peer_address(1);
    let refused = machines.refused(2, &["join", "--seed", &seed]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let last = refused.stderr.lines().last().expect("a last line");
    assert!(
        last.starts_with("error: ") && last.contains("cluster"),
        "{last}"
    );
    assert_eq!(numbers(&machines.cluster(1), "nodes", "node"), [1]);

    // Another name.
    let other = ["join", "--seed", &seed, "--set", "cluster.name=other"];
    std::fs::remove_dir_all(machines.data_dir(2)).expect("nobody uses it");
    let refused = machines.refused(2, &other);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let last = refused.stderr.lines().last().expect("a last line");
    assert!(
        last.contains("`other`") && last.contains("`caucus`"),
        "{last}"
    );
}

#[test]
fn a_data_directory_among_strangers_stops_nobody_else() {
    let mut machines = Machines::new(3);
    let placement = |machines: &Machines| {
        let member = |m| {
            format!(
                "{{ id = {}, peer = {:?} }}",
                m + 1,
                machines.peer_address(m)
            )
        };
        let members: Vec<String> = (0..3).map(member).collect();
        format!("cluster.initial_placement=[{}]", members.join(", "))
    };
    let placement = placement(&machines);
    let start = |machines: &mut Machines, machine: usize| {
        let id = format!("node.id={}", machine + 1);
        machines.start(machine, &["server", "--set", &id, "--set", &placement]);
    };
    let set_aside = |machines: &Machines, machine: usize, name: &str| {
        let kept = machines.dir.path().join(name);
        std::fs::rename(machines.data_dir(machine), kept).expect("nobody uses it");
    };
    for cluster in ["first", "second"] {
        (0..3).for_each(|machine| start(&mut machines, machine));
        (0..3).for_each(|machine| machines.await_ready(machine));
        kv::put(&mut machines.client(0), "/whose", &json!(cluster));
        (0..3).for_each(|machine| machines.stop(machine));
        (0..3).for_each(|machine| set_aside(&machines, machine, &format!("{cluster}-{machine}")));
    }
    for (machine, cluster) in [(0, "first"), (1, "second"), (2, "first")] {
        let kept = machines.dir.path().join(format!("{cluster}-{machine}"));
        std::fs::rename(kept, machines.data_dir(machine)).expect("it is there");
    }
    (0..3).for_each(|machine| start(&mut machines, machine));
    for machine in [0, 2] {
        // Not `await_ready`: groups with a replica on the stranger's node are ready all the same, but
        // it may take an election.
        machines.await_ready(machine);
        let found = kv::get(&mut machines.client(machine), "/whose");
        assert_eq!(found.expect("it was acknowledged")["value"], "first");
    }
    let stranger = machines.running[1].as_mut().expect("it was started");
    let code = wait_for("the stranger to end", LIMIT, || stranger.ended()).code();
    assert_eq!(code, Some(2), "{}", stranger.stderr());
    let said = stranger.stderr();
    let last = said.lines().last().expect("a last line");
    assert!(
        last.starts_with("error: ") && last.contains("cluster"),
        "{last}"
    );
}
