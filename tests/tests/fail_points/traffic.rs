//! Clients of all that has a place to fail at, who remember what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use caucus_tests::http::Client;
use caucus_tests::kv::{self, encoded};
use caucus_tests::load::Load;
use caucus_tests::wait::{Stopwatch, pause, wait_for, wait_until};
use caucus_tests::watch::watch;
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

use crate::transfers::{self, Told};

const LIMIT: Duration = Duration::from_secs(60);
const WRITERS: usize = 3;
/// Of a value that makes a log long.
const LARGE_BYTES: usize = 128 << 10;
/// So many of them, and a log has been cut behind whoever wasn't there.
const CUT_VALUES: u64 = 48;
/// A node looks at the length of its logs every second, and cuts one at the second look if no more than what is kept has
/// come between.
const CUT_TAKES: Duration = Duration::from_secs(4);
/// A cluster without a majority writes none.
const CUT_LIMIT: Duration = Duration::from_secs(30);
/// Longer than any leader is away.
const KEPT_TTL_S: u64 = 30;
/// A stream that says nothing for so long is opened anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cluster whose logs are soon so long that they are cut.
pub(crate) fn options() -> Options {
    Options::nodes(3)
        .set("raft.log_bytes_max=1048576")
        .set("raft.log_bytes_kept=524288")
}

/// The clients of all nodes: who finds nobody at one goes to the next.
struct Clients {
    addresses: Vec<String>,
    at: usize,
    client: Client,
}

impl Clients {
    fn new(addresses: &[String]) -> Clients {
        Clients {
            client: Client::new(&addresses[0]),
            addresses: addresses.to_vec(),
            at: 0,
        }
    }

    fn next(&mut self) {
        pause();
        self.at = (self.at + 1) % self.addresses.len();
        self.client = Client::new(&self.addresses[self.at]);
    }

    /// An answer that isn't a refusal.
    fn post(&mut self, target: &str, body: &Value) -> Option<Value> {
        let body = body.to_string();
        let sent = self.client.request("POST", target, &[], body.as_bytes());
        match sent {
            Ok(answer) if answer.status < 300 => Some(answer.json()),
            Ok(_) | Err(_) => {
                self.next();
                None
            }
        }
    }
}

/// All clients at work.
pub(crate) struct Traffic {
    load: Load,
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Told>>,
    watchers: Vec<Watcher>,
    others: Vec<JoinHandle<()>>,
    kept: Arc<Kept>,
    filling: Arc<Filling>,
}

/// How fast logs fill.
#[derive(Default)]
struct Filling {
    in_haste: AtomicBool,
    values: AtomicU64,
}

impl Traffic {
    pub(crate) fn start(cluster: &Cluster) -> Traffic {
        let addresses: Vec<String> = cluster.nodes().map(|node| cluster.address(node)).collect();
        let mut client = cluster.client(1);
        let old = kv::put(&mut client, "/old/a/key", &json!(1));
        let old = old["revision"].as_u64().expect("a number");
        let from = kv::put(&mut client, "/old/a/key", &json!(2));
        let from = from["revision"].as_u64().expect("a number");
        let body = json!({ "revision": from }).to_string();
        let compacted = client.request("POST", "/v1/compact", &[], body.as_bytes());
        assert_eq!(compacted.expect("an answer").status, 200);

        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::<Mutex<Told>>::default();
        let kept = Arc::<Kept>::default();
        let filling = Arc::<Filling>::default();
        let work = |mut turn: Box<dyn FnMut() + Send>| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    turn();
                }
            })
        };
        let others = vec![
            work(transfer(&addresses, &told)),
            work(fill_logs(&addresses, &filling)),
            work(let_leases_end(&addresses)),
            work(keep_alive(&addresses, &kept)),
            work(read_what_is_compacted(&addresses, old)),
        ];
        let watchers = addresses
            .iter()
            .map(|address| Watcher::start(address, from + 1, &stop));
        Traffic {
            watchers: watchers.collect(),
            load: Load::start(cluster, WRITERS),
            stop,
            told,
            others,
            kept,
            filling,
        }
    }

    /// Waits until the cluster has served each writer for a while.
    pub(crate) fn await_progress(&self) {
        self.load.await_progress(20, LIMIT);
    }

    /// Gives a log time to be cut behind a node that is away, so that it is sent a state when it comes back.
    pub(crate) fn cut_logs(&self) {
        let begun = Stopwatch::start();
        let values = || self.filling.values.load(Ordering::Relaxed);
        let goal = values() + CUT_VALUES;
        self.filling.in_haste.store(true, Ordering::Relaxed);
        while values() < goal && begun.elapsed() < CUT_LIMIT {
            pause();
        }
        self.filling.in_haste.store(false, Ordering::Relaxed);
        let begun = Stopwatch::start();
        while begun.elapsed() < CUT_TAKES {
            pause();
        }
    }

    /// All nodes are up again: waits until the cluster serves, ends the traffic, and holds what there is against what was told.
    pub(crate) fn finish(self, cluster: &Cluster) {
        self.await_progress();
        let mut client = cluster.client(1);
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.others {
            thread.join().expect("a client that ended well");
        }
        let ledgers = self.load.finish();
        let mut told = self.told.lock().expect("nobody has it any more");
        told.await_unlocked(&mut client, LIMIT);
        assert!(told.done.len() > 50, "only {} transfers", told.done.len());
        for node in cluster.nodes() {
            let (who, mut client) = (format!("node {node}"), cluster.client(node));
            ledgers
                .iter()
                .for_each(|ledger| ledger.check(&mut client, &who));
            told.check(&mut client, &who);
        }
        // Who is told of this was told of all before.
        let end = kv::put(&mut client, &transfers::log(u64::MAX), &json!("end"));
        let end = end["revision"].as_u64().expect("a number");
        for watcher in self.watchers {
            watcher.check(&told, end);
        }
        self.kept.check(&mut client);
        wait_until("leases to end that nobody keeps alive", LIMIT, || {
            kv::list(&mut client, "/ending/").is_empty()
        });
    }
}

type Turn = Box<dyn FnMut() + Send>;

fn transfer(addresses: &[String], told: &Arc<Mutex<Told>>) -> Turn {
    let (mut clients, told) = (Clients::new(addresses), told.clone());
    Box::new(move || {
        let mut told = told.lock().expect("no panic under this lock");
        if !told.transfer(&mut clients.client) {
            clients.next();
        }
    })
}

/// Large values in one directory, so in one group: a node that was away for a little finds its log cut.
fn fill_logs(addresses: &[String], filling: &Arc<Filling>) -> Turn {
    let (mut clients, mut turn) = (Clients::new(addresses), 0_u64);
    let filling = filling.clone();
    let value = json!("x".repeat(LARGE_BYTES));
    Box::new(move || {
        turn += 1;
        let key = format!("/large/of/k{}", turn % 8);
        let put = kv::put_once(&mut clients.client, &key, &value, &[]);
        match put {
            Ok(answer) if answer.status < 300 => {
                filling.values.fetch_add(1, Ordering::Relaxed);
                let pauses = if filling.in_haste.load(Ordering::Relaxed) {
                    1
                } else {
                    30
                };
                (0..pauses).for_each(|_| pause());
            }
            Ok(_) | Err(_) => clients.next(),
        }
    })
}

/// Leases with keys in several groups, that nobody keeps alive.
fn let_leases_end(addresses: &[String]) -> Turn {
    let (mut clients, mut turn) = (Clients::new(addresses), 0_u64);
    Box::new(move || {
        turn += 1;
        let Some(lease) = grant(&mut clients, 1) else {
            return;
        };
        for directory in 0..3 {
            let key = format!("/ending/{}/k{turn}", (turn + directory) % 7);
            let target = format!("{}?lease={lease}", kv::path(&key));
            let put = clients.client.request("PUT", &target, &[], b"1");
            if !put.is_ok_and(|answer| answer.status < 300) {
                return clients.next();
            }
        }
        (0..20).for_each(|_| pause());
    })
}

fn grant(clients: &mut Clients, ttl: u64) -> Option<String> {
    let granted = clients.post("/v1/leases", &json!({ "ttl": ttl }))?;
    Some(granted["lease"].as_str().expect("a lease").to_owned())
}

/// A lease that is kept alive.
#[derive(Default)]
struct Kept {
    lease: Mutex<Option<String>>,
    gone: AtomicU64,
}

impl Kept {
    fn check(&self, client: &mut Client) {
        let gone = self.gone.load(Ordering::Relaxed);
        assert_eq!(gone, 0, "keepalives were answered that the lease is gone");
        let lease = self.lease.lock().expect("nobody has it any more");
        let lease = lease.as_ref().expect("one was granted");
        let shown = wait_for("an answer about the lease", LIMIT, || {
            let shown = client.request("GET", &format!("/v1/leases/{lease}"), &[], b"");
            shown.ok().filter(|answer| !answer.is_retryable())
        });
        assert_eq!(shown.status, 200, "{}", shown.text());
    }
}

fn keep_alive(addresses: &[String], kept: &Arc<Kept>) -> Turn {
    let (mut clients, kept) = (Clients::new(addresses), kept.clone());
    Box::new(move || {
        let mut lease = kept.lease.lock().expect("no panic under this lock");
        let Some(lease) = &*lease else {
            *lease = grant(&mut clients, KEPT_TTL_S);
            return;
        };
        let asked = json!({ "leases": [lease] });
        if let Some(answer) = clients.post("/v1/leases/keepalive", &asked)
            && answer["leases"][0]["ttl"] != json!(KEPT_TTL_S)
        {
            kept.gone.fetch_add(1, Ordering::Relaxed);
        }
        pause();
    })
}

/// Asks for what isn't kept any more; whoever answers must say so.
fn read_what_is_compacted(addresses: &[String], old: u64) -> Turn {
    let (addresses, mut turn) = (addresses.to_vec(), 0);
    Box::new(move || {
        turn += 1;
        let query = format!("prefix={}&from={old}", encoded("/old/"));
        // Told at once, or as the end of the stream.
        if let Ok(Ok(mut watching)) = watch(&addresses[turn % addresses.len()], &query, None) {
            watching.set_patience(PATIENCE);
            let message = watching.message().ok().flatten();
            let changes = message.is_some_and(|message| message["event"] == "changes");
            assert!(!changes, "it was told of what is compacted");
        }
        (0..20).for_each(|_| pause());
    })
}

/// A watcher of all transfers at one node.
struct Watcher {
    who: String,
    end: Arc<AtomicU64>,
    thread: JoinHandle<BTreeMap<String, u64>>,
}

impl Watcher {
    fn start(address: &str, from: u64, stop: &Arc<AtomicBool>) -> Watcher {
        let end = Arc::new(AtomicU64::new(u64::MAX));
        let mut follower = Follower {
            address: address.to_owned(),
            at: from - 1,
            seen: BTreeMap::new(),
        };
        let (until, stop) = (end.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while follower.at < until.load(Ordering::Relaxed) {
                follower.follow(&until, &stop);
            }
            follower.seen
        });
        Watcher {
            who: address.to_owned(),
            end,
            thread,
        }
    }

    fn check(self, told: &Told, end: u64) {
        self.end.store(end, Ordering::Relaxed);
        let who = &self.who;
        wait_until("a watcher to be told all", LIMIT, || {
            self.thread.is_finished()
        });
        let seen = self
            .thread
            .join()
            .unwrap_or_else(|_| panic!("{who}: a watcher"));
        for number in &told.done {
            let key = transfers::log(*number);
            assert!(seen.contains_key(&key), "{who}: not told of {key}");
        }
    }
}

struct Follower {
    address: String,
    /// All up to here has been told.
    at: u64,
    /// By key, when; each is written once.
    seen: BTreeMap<String, u64>,
}

impl Follower {
    /// One stream, until it ends.
    fn follow(&mut self, until: &AtomicU64, stop: &AtomicBool) {
        let query = format!("prefix={}", encoded("/log/"));
        let Ok(Ok(mut watching)) = watch(&self.address, &query, Some(self.at)) else {
            return pause();
        };
        watching.set_patience(PATIENCE);
        while let Ok(Some(message)) = watching.message() {
            self.take(&message);
            let ended = stop.load(Ordering::Relaxed) && self.at >= until.load(Ordering::Relaxed);
            if ended || message["event"] == "end" {
                return;
            }
        }
    }

    fn take(&mut self, message: &Value) {
        if message["event"] != "changes" {
            return;
        }
        let revision = message["revision"].as_u64().expect("a number");
        assert!(revision > self.at, "{message} after {}", self.at);
        self.at = revision;
        for change in message["changes"].as_array().expect("changes") {
            let key = change["key"].as_str().expect("a key").to_owned();
            let before = self.seen.insert(key, revision);
            assert_eq!(before, None, "told twice: {change}");
        }
    }
}
