//! A real etcd to compare with, where Debian's etcd-server is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::http::Client;
use crate::ports;
use crate::process::Process;
use crate::wait::wait_for;

const ETCD: &str = "/usr/bin/etcd";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A cluster of one etcd; it ends with this.
pub struct Etcd {
    address: String,
    _process: Process,
    // Dropped after the process.
    _dir: TempDir,
}

impl Etcd {
    /// Starts it, and waits until it serves; none if it isn't installed.
    pub fn start() -> Option<Etcd> {
        if !Path::new(ETCD).exists() {
            crate::say_skipped("there is no etcd to compare with");
            return None;
        }
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Etcd::attempt() {
                Ok(etcd) => return Some(etcd),
                // Somebody took a port since we looked.
                Err(said) if attempts > 0 && said.contains("in use") => {}
                Err(said) => panic!("etcd doesn't start: {said}"),
            }
        }
    }

    fn attempt() -> Result<Etcd, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let base = ports::free_base(1);
        let (address, peer) = (
            format!("127.0.0.1:{base}"),
            format!("http://127.0.0.1:{}", base + 1),
        );
        let client = format!("http://{address}");
        let mut command = Command::new(ETCD);
        command
            .stdin(Stdio::null())
            .args(["--name", "one", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .arg("--unsafe-no-fsync");
        let mut process = Process::start(command, dir.path(), "etcd");
        let mut http = Client::new(&address);
        let outcome = wait_for("etcd to serve", START_LIMIT, || {
            let health = http.request("GET", "/health", &[], b"");
            let healthy = health.is_ok_and(|answer| answer.text().contains(r#""health":"true""#));
            healthy
                .then_some(Ok(()))
                .or_else(|| process.ended().map(Err))
        });
        match outcome {
            Ok(()) => Ok(Etcd {
                address,
                _process: process,
                _dir: dir,
            }),
            Err(_) => Err(process.stderr()),
        }
    }

    /// Where its clients connect to.
    pub fn address(&self) -> &str {
        &self.address
    }
}
