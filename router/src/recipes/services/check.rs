//! Checks: the nodes ask instances whether they are well, each instance by one node at a time.
//!
//! Every router follows the index of what is to be checked. Where there is anything, the routers elect one among
//! them that does it, and the next one does if that is gone. As long as nobody wants a check, nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Check, Error, Health, Instance, Probe, Status, heartbeat, instance_key};
use crate::Router;
use crate::recipes::elections::{self, Candidacy};
use crate::recipes::{Mirror, directory};

/// Where the index is.
const KIND: &str = "checks";
/// The index, and the election of who works through it.
const NAME: &str = "all";
/// Who checks shows so often that it lives.
const LEASE_S: u64 = 10;
/// Between two attempts at what failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 1024;

/// Names an instance in the index; what stands between the two isn't in names.
pub(super) fn index_key(service: &str, id: &str) -> Bytes {
    let mut key = directory(KIND, NAME).to_vec();
    key.extend_from_slice(service.as_bytes());
    key.push(0);
    key.extend_from_slice(id.as_bytes());
    key.into()
}

fn parse_index_key(key: &[u8]) -> Option<(String, String)> {
    let rest = key.strip_prefix(&directory(KIND, NAME)[..])?;
    let (service, id) = std::str::from_utf8(rest).ok()?.split_once('\0')?;
    Some((service.to_owned(), id.to_owned()))
}

/// Checks what is to be checked, if this router is the one that does, until it is told to stop.
pub async fn run(router: Router, shutdown: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = turn(&router).await {
                tracing::debug!(%error, "checks begin anew");
            }
            sleep(AGAIN_AFTER).await;
        }
    };
    shutdown.run_until_cancelled(work).await;
}

async fn turn(router: &Router) -> Result<(), crate::Error> {
    let deadline = || Instant::now() + router.options().timeout;
    let mut index = Mirror::open(router, &directory(KIND, NAME), deadline()).await?;
    while index.keys().is_empty() {
        index.next().await?;
    }
    let ask = Candidacy {
        ttl_s: LEASE_S,
        wait: None,
        value: Bytes::new(),
        content_type: String::new(),
        lease: None,
    };
    let name = format!("{KIND}-{NAME}");
    let elected = match elections::campaign(router, &name, &ask, None, deadline()).await {
        Ok(elected) => elected,
        Err(elections::Error::Store(error)) => return Err(error),
        Err(_) => return Ok(()),
    };
    let led = lead(router, &mut index, elected.lease).await;
    let candidate = (&elected.key, elected.token);
    // If this fails, its time ends it.
    _ = elections::resign(router, &name, candidate, None, deadline()).await;
    led
}

/// Until nothing is to be checked any more, or the lease is lost.
async fn lead(router: &Router, index: &mut Mirror, lease: u64) -> Result<(), crate::Error> {
    let every = Duration::from_secs(LEASE_S) / 3;
    let mut turns = interval_at(Instant::now() + every, every);
    let mut running: BTreeMap<(String, String), CancellationToken> = BTreeMap::new();
    let mut checks = JoinSet::new();
    loop {
        // Those that have ended will be begun again if they are still to be done.
        while checks.try_join_next().is_some() {}
        running.retain(|_, stop| !stop.is_cancelled());
        let named = index.keys().keys().filter_map(|key| parse_index_key(key));
        let named: Vec<_> = named.collect();
        for (name, stop) in &running {
            if !named.contains(name) {
                stop.cancel();
            }
        }
        for name in named {
            running.entry(name).or_insert_with_key(|(service, id)| {
                let stop = CancellationToken::new();
                let (router, service, id) = (router.clone(), service.clone(), id.clone());
                let (ended, stopped) = (stop.clone().drop_guard(), stop.clone());
                checks.spawn(async move {
                    let _ended = ended;
                    let work = watch_over(&router, &service, &id);
                    stopped.run_until_cancelled(work).await;
                });
                stop
            });
        }
        if running.is_empty() {
            return Ok(());
        }
        tokio::select! {
            changed = index.next() => {
                changed?;
            }
            _ = turns.tick() => {
                let deadline = Instant::now() + every;
                match router.keep_alive(lease, deadline).await {
                    Ok(_) => {}
                    Err(crate::LeaseError::Store(error)) => return Err(error),
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}

/// Checks an instance again and again, as long as it wants that.
async fn watch_over(router: &Router, service: &str, id: &str) {
    loop {
        let deadline = Instant::now() + router.options().timeout;
        let key = instance_key(service, id);
        let found = router.get(key, false, caucus_ring::Revision(0), deadline);
        let Ok(found) = found.await else {
            sleep(AGAIN_AFTER).await;
            continue;
        };
        let instance = found.record.as_ref().and_then(Instance::read);
        let Some((instance, check)) = instance.and_then(|i| i.check.clone().map(|c| (i, c))) else {
            return;
        };
        let health = probe(&instance, &check).await;
        let deadline = Instant::now() + router.options().timeout;
        match heartbeat(router, service, id, &health, deadline).await {
            Ok(_) | Err(Error::Contended | Error::Store(_)) => {}
            Err(Error::NotFound) => return,
        }
        sleep(Duration::from_secs(check.interval)).await;
    }
}

/// How an instance is, as far as it can be found out from here.
async fn probe(instance: &Instance, check: &Check) -> Health {
    let limit = Duration::from_secs(check.timeout);
    let asked = timeout(limit, async {
        match &check.probe {
            Probe::Tcp(port) => {
                let connected = TcpStream::connect((&instance.address[..], *port)).await;
                connected.map(|_| (Status::Passing, "connected".to_owned()))
            }
            Probe::Http(path) => get(&instance.address, instance.port, path).await,
        }
    });
    let (status, note) = match asked.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => (Status::Critical, error.to_string()),
        Err(_) => (Status::Critical, format!("no answer within {limit:?}")),
    };
    Health { status, note }
}

/// The status line of an answer is all that is wanted of it.
async fn get(address: &str, port: u16, path: &str) -> std::io::Result<(Status, String)> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\nUser-Agent: caucus\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default().trim();
    let code: Option<u16> = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let status = match code {
        Some(200..=299) => Status::Passing,
        Some(429) => Status::Warning,
        Some(_) | None => Status::Critical,
    };
    let note = match code {
        Some(code) => format!("HTTP {code}"),
        None => "no HTTP answer".to_owned(),
    };
    Ok((status, note))
}
