//! The newest cluster map, followed by a long poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{FollowMap, Map};
use caucus_ring::{ClusterMap, Epoch};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::PlacementClient;

/// The newest cluster map that this process knows. A cheap clone.
///
/// Invariant: the epoch never falls.
#[derive(Clone)]
pub struct Maps {
    shared: Arc<Shared>,
}

struct Shared {
    map: watch::Sender<Option<Arc<ClusterMap>>>,
    /// The epoch in `map`, 0 for none: what the hot path looks at.
    epoch: AtomicU64,
    /// Somebody met an epoch that is newer than ours.
    wanted: AtomicU64,
    wake: Notify,
}

impl Default for Maps {
    fn default() -> Self {
        Maps {
            shared: Arc::new(Shared {
                map: watch::Sender::new(None),
                epoch: AtomicU64::new(0),
                wanted: AtomicU64::new(0),
                wake: Notify::new(),
            }),
        }
    }
}

impl Maps {
    /// The newest map, if there is one yet.
    pub fn current(&self) -> Option<Arc<ClusterMap>> {
        self.shared.map.borrow().clone()
    }

    /// The epoch of the newest map; 0 if there is none.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.shared.epoch.load(Ordering::Acquire))
    }

    /// Sees every change, or the last of several.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<ClusterMap>>> {
        self.shared.map.subscribe()
    }

    /// Asks for a map of at least this epoch, because somebody has acted on it. Returns at once.
    pub fn refresh(&self, at_least: Epoch) {
        if self.epoch() < at_least {
            self.shared.wanted.fetch_max(at_least.0, Ordering::Relaxed);
            self.shared.wake.notify_one();
        }
    }

    /// Waits for a map of at least this epoch.
    pub async fn reach(&self, at_least: Epoch) {
        let mut maps = self.subscribe();
        let reached =
            |map: &Option<Arc<ClusterMap>>| map.as_ref().is_some_and(|map| map.epoch() >= at_least);
        // Fails only when the sender is gone, and `self` holds it.
        let _ = maps.wait_for(reached).await;
    }

    /// Makes a map known; ignored unless it is newer.
    pub fn publish(&self, map: Arc<ClusterMap>) {
        self.shared.map.send_if_modified(|current| {
            let newer = current
                .as_ref()
                .is_none_or(|current| current.epoch() < map.epoch());
            if newer {
                self.shared.epoch.store(map.epoch().0, Ordering::Release);
                *current = Some(map);
            }
            newer
        });
    }

    fn is_behind(&self) -> bool {
        self.epoch().0 < self.shared.wanted.load(Ordering::Relaxed)
    }
}

/// Settings of the map follower.
#[derive(Debug, Clone)]
pub struct MapFollowerOptions {
    /// How long a replica may hold a question while there is nothing new.
    pub poll: Duration,
    /// The same while a newer map is known to exist: a replica that lags is left soon.
    pub poll_when_behind: Duration,
    /// Between two questions that brought nothing.
    pub pause: Duration,
}

impl Default for MapFollowerOptions {
    fn default() -> Self {
        MapFollowerOptions {
            poll: Duration::from_secs(10),
            poll_when_behind: Duration::from_millis(200),
            pause: Duration::from_millis(50),
        }
    }
}

/// Keeps [`Maps`] current.
pub struct MapFollower {
    placement: PlacementClient,
    options: MapFollowerOptions,
    maps: Maps,
}

impl MapFollower {
    /// Publishes to `maps`.
    pub fn new(placement: PlacementClient, options: MapFollowerOptions, maps: Maps) -> MapFollower {
        MapFollower {
            placement,
            options,
            maps,
        }
    }

    /// Follows until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        let mut turn = 0;
        loop {
            let addrs = self.placement.addrs();
            let news = match addrs.get(turn % addrs.len().max(1)) {
                Some(addr) => self.ask(addr).await,
                None => false,
            };
            if news {
                continue;
            }
            // Also after a map that wasn't new: the next replica may be ahead of this one.
            turn = turn.wrapping_add(1);
            sleep(self.options.pause).await;
        }
    }

    /// One question to one replica; whether it brought a newer map.
    async fn ask(&self, addr: &str) -> bool {
        let poll = if self.maps.is_behind() {
            self.options.poll_when_behind
        } else {
            self.options.poll
        };
        let question = Ask::FollowMap(FollowMap {
            known_epoch: self.maps.epoch().0,
            wait_ms: poll.as_millis() as u32,
        });
        // The replica's own clock ends the wait; this much later it is taken for lost.
        let limit = poll + Duration::from_secs(2);
        let answer = tokio::select! {
            answer = self.placement.ask_replica(addr, question, limit) => answer,
            () = self.shared().wake.notified() => return false,
        };
        match answer {
            Ok(Answer::Map(map)) => self.take(addr, &map),
            Ok(_) => {
                tracing::warn!(addr, "answered another question than for the cluster map");
                false
            }
            Err(error) => {
                tracing::debug!(addr, %error, "no cluster map");
                false
            }
        }
    }

    fn take(&self, addr: &str, map: &Map) -> bool {
        if map.map.is_empty() || map.epoch <= self.maps.epoch().0 {
            return false;
        }
        let decoded = match self.maps.current() {
            Some(current) => ClusterMap::decode_onto(&map.map, current.ring()),
            None => ClusterMap::decode(&map.map),
        };
        let map = match decoded {
            Ok(map) => Arc::new(map),
            Err(error) => {
                tracing::error!(addr, %error, "a cluster map that cannot be used");
                return false;
            }
        };
        let replicas = map.placement().replicas.iter();
        let nodes = replicas.filter_map(|replica| map.node(replica.node));
        self.placement
            .learn(nodes.map(|node| node.peer_address.as_str()));
        tracing::info!(epoch = map.epoch().0, "a new cluster map");
        self.maps.publish(map);
        true
    }

    fn shared(&self) -> &Shared {
        &self.maps.shared
    }
}
