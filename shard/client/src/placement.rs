//! Questions to the placement group: finds its leader and stays with it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use caucus_api::placement::error::Code;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Request, Response};
use caucus_peer::{Peers, Service};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use crate::PlacementError;

/// Settings of the placement client.
#[derive(Debug, Clone)]
pub struct PlacementOptions {
    /// A replica that hasn't answered for this long is left for the next.
    pub attempt_timeout: Duration,
    /// The pause after all replicas were asked in vain.
    pub pause: Duration,
}

impl Default for PlacementOptions {
    fn default() -> Self {
        PlacementOptions {
            attempt_timeout: Duration::from_millis(1000),
            pause: Duration::from_millis(50),
        }
    }
}

/// Asks the placement group. A cheap clone; all clones know the same leader.
#[derive(Clone)]
pub struct PlacementClient {
    shared: Arc<Shared>,
}

struct Shared {
    peers: Arc<Peers>,
    options: PlacementOptions,
    /// Configured: asked also when the map names others, which may all be gone.
    seeds: Vec<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Replicas of the placement group by the cluster map, then the seeds; no address twice.
    addrs: Arc<Vec<String>>,
    leader: Option<String>,
    /// Who is asked first where no leader is known, counted round `addrs`.
    first: usize,
}

/// How far the search for an answer has got.
struct Search {
    /// Who hasn't answered yet.
    asking: Option<String>,
    /// What the last attempt ended with.
    last: String,
}

/// What one replica said to one question.
enum Said {
    Answer(Box<Answer>),
    Final(PlacementError),
    NotLeader {
        leader: Option<String>,
    },
    Again(String),
    /// It belongs to another cluster.
    Stranger(String),
}

/// A node without a replica names one, which names the leader.
const DETOURS_MIN: usize = 2;

impl PlacementClient {
    /// `seeds` are addresses of peer ports of nodes with the placement role; one that is right will do.
    pub fn new(
        peers: Arc<Peers>,
        options: PlacementOptions,
        seeds: Vec<String>,
    ) -> PlacementClient {
        let client = PlacementClient {
            shared: Arc::new(Shared {
                peers,
                options,
                seeds,
                known: Mutex::default(),
            }),
        };
        client.learn(std::iter::empty());
        client
    }

    /// Asks the leader, wherever it is, until `deadline`.
    pub async fn ask(&self, body: Ask, deadline: Instant) -> Result<Answer, PlacementError> {
        let question = Bytes::from(Request { body: Some(body) }.encode_to_vec());
        let mut search = Search {
            asking: None,
            last: "it has no known address".to_owned(),
        };
        let searching = self.search(question, &mut search);
        let searched = timeout_at(deadline, searching).await;
        searched.unwrap_or_else(|_| {
            // Who was being asked is silent. Had it kept the lead in our mind, the next question, if that has as
            // little time, would wait for it too, and so would all that follow.
            let mut known = self.known();
            known.leader = None;
            known.first = known.first.wrapping_add(1);
            let asking = search.asking.map(|addr| format!("{addr} did not answer"));
            let last = asking.unwrap_or(search.last);
            Err(PlacementError::Unavailable { last })
        })
    }

    /// Asks one replica, once. For what every replica answers; a node without one may name another.
    pub async fn ask_replica(
        &self,
        addr: &str,
        body: Ask,
        limit: Duration,
    ) -> Result<Answer, PlacementError> {
        let question = Bytes::from(Request { body: Some(body) }.encode_to_vec());
        let mut said = self.ask_once(addr, question.clone(), limit).await;
        // A seed that has no replica itself names one.
        if let Said::NotLeader {
            leader: Some(named),
        } = &said
        {
            said = self.ask_once(named, question, limit).await;
        }
        match said {
            Said::Answer(answer) => Ok(*answer),
            Said::Final(error) => Err(error),
            Said::NotLeader { .. } => Err(PlacementError::Unavailable {
                last: format!("{addr} has no replica of the group"),
            }),
            Said::Again(last) | Said::Stranger(last) => Err(PlacementError::Unavailable { last }),
        }
    }

    /// The replicas' addresses, as far as known.
    pub fn addrs(&self) -> Arc<Vec<String>> {
        self.known().addrs.clone()
    }

    /// Learns where the replicas are from a cluster map.
    pub fn learn<'a>(&self, replicas: impl Iterator<Item = &'a str>) {
        let mut addrs: Vec<String> = replicas.map(str::to_owned).collect();
        for seed in &self.shared.seeds {
            if !addrs.contains(seed) {
                addrs.push(seed.clone());
            }
        }
        self.known().addrs = Arc::new(addrs);
    }

    /// Goes round the replicas, first to the known leader and wherever one is named.
    async fn search(&self, question: Bytes, search: &mut Search) -> Result<Answer, PlacementError> {
        let options = &self.shared.options;
        loop {
            let (addrs, mut named, first) = {
                let known = self.known();
                (known.addrs.clone(), known.leader.clone(), known.first)
            };
            // Two replicas that name each other must not keep us from the third.
            let mut detours = addrs.len().max(DETOURS_MIN);
            let mut strangers = BTreeSet::new();
            let first = first % addrs.len().max(1);
            let mut round = addrs.iter().cycle().skip(first).take(addrs.len());
            while let Some(addr) = named.take().or_else(|| round.next().cloned()) {
                let limit = options.attempt_timeout;
                let addr = &*search.asking.insert(addr);
                match self.ask_once(addr, question.clone(), limit).await {
                    Said::Answer(answer) => {
                        self.known().leader = search.asking.take();
                        return Ok(*answer);
                    }
                    Said::Final(error) => return Err(error),
                    Said::NotLeader { leader } => {
                        search.last = format!("{addr} does not lead the group");
                        if detours > 0 {
                            named = leader.filter(|leader| leader != addr);
                            detours -= 1;
                        }
                    }
                    Said::Again(reason) => search.last = reason,
                    Said::Stranger(reason) => {
                        strangers.insert(addr.clone());
                        search.last = reason;
                    }
                }
                search.asking = None;
                self.known().leader = None;
            }
            // One of them may be lost among strangers. If most seem so, it is us.
            if 2 * strangers.len() > addrs.len() {
                return Err(PlacementError::Refused(std::mem::take(&mut search.last)));
            }
            sleep(options.pause).await;
        }
    }

    async fn ask_once(&self, addr: &str, question: Bytes, limit: Duration) -> Said {
        let peer = self.shared.peers.peer(addr);
        let answer = match peer.call(Service::Placement, question, limit).await {
            Ok(answer) => answer,
            Err(error) => {
                return match peer.refusal().await {
                    Some(reason) => Said::Stranger(format!("{addr}: {reason}")),
                    None => Said::Again(error.to_string()),
                };
            }
        };
        let error = match Response::decode(answer) {
            Ok(Response {
                body: Some(Answer::Error(error)),
            }) => error,
            Ok(Response { body: Some(answer) }) => return Said::Answer(Box::new(answer)),
            Ok(Response { body: None }) => return Said::Again(format!("{addr} answered nothing")),
            Err(error) => {
                return Said::Again(format!("{addr} answered what cannot be read: {error}"));
            }
        };
        match error.code() {
            Code::NotLeader => Said::NotLeader {
                leader: Some(error.leader_addr).filter(|leader| !leader.is_empty()),
            },
            Code::Refused => Said::Final(PlacementError::Refused(error.message)),
            Code::Invalid => Said::Final(PlacementError::Invalid(error.message)),
            Code::Unavailable | Code::Unspecified => {
                Said::Again(format!("{addr}: {}", error.message))
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().expect("no panic under this lock")
    }
}
