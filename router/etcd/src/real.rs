//! A real etcd to compare with, where Debian's etcd-server is.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

use crate::etcdserverpb::RangeRequest;
use crate::etcdserverpb::kv_client::KvClient;

const ETCD: &str = "/usr/bin/etcd";
const START: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 5;

/// A process of etcd that ends with this.
pub struct Etcd {
    process: Child,
    address: String,
    _directory: TempDir,
}

impl Etcd {
    /// Starts it, and waits until it serves; none if it isn't installed.
    pub async fn start() -> Option<Self> {
        if !Path::new(ETCD).exists() {
            println!("skipped: no {ETCD}");
            return None;
        }
        for _ in 0..ATTEMPTS {
            let mut etcd = Self::spawn();
            if etcd.is_up().await {
                return Some(etcd);
            }
        }
        panic!("etcd doesn't start");
    }

    fn spawn() -> Self {
        // Both held until both are known, so that they differ. Others may take them before etcd does:
        // then it ends, and the next attempt has others.
        let client = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = client.local_addr().expect("an address").to_string();
        let peer = peer.local_addr().expect("an address").to_string();
        let directory = TempDir::new().expect("a directory");
        let process = Command::new(ETCD)
            .args(["--name", "one", "--data-dir"])
            .arg(directory.path().join("data"))
            .args(["--listen-client-urls", &format!("http://{client}")])
            .args(["--advertise-client-urls", &format!("http://{client}")])
            .args(["--listen-peer-urls", &format!("http://{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
            .args(["--initial-cluster", &format!("one=http://{peer}")])
            .arg("--unsafe-no-fsync")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd");
        Self {
            process,
            address: client,
            _directory: directory,
        }
    }

    async fn is_up(&mut self) -> bool {
        let mut client = KvClient::new(self.channel());
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if self.process.try_wait().expect("a status").is_some() {
                return false;
            }
            let request = RangeRequest {
                key: "k".into(),
                ..RangeRequest::default()
            };
            if client.range(request).await.is_ok() {
                return true;
            }
            // Nothing tells when a port is open.
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Where its clients connect to, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A channel to it, which connects when it has to.
    pub fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        endpoint.expect("an address").connect_lazy()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
