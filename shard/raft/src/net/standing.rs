//! Asks other nodes whether leaders still stand: one exchange a pair of nodes for all groups.
//!
//! ```text
//!   group 1 ─┐                     ┌─ in flight: one frame, questions of many groups
//!   group 2 ─┼─▶ Line to node 2 ───┤
//!   group 7 ─┘                     └─ gathers until the answer is there, or its time is over
//! ```
//!
//! A replica upholds the leader of a term as long as it has promised its vote to nobody else in that
//! term and to nobody in a later one. It answers from the votes that its log has been given to save,
//! which is before any answer with such a vote leaves; openraft isn't asked, and no log is written.
//!
//! Why a majority of those proves leadership (the argument of ReadIndex, Ongaro's thesis §6.4, with
//! votes in place of heartbeats): a later leader was elected by a majority. The two majorities share a
//! replica. It answered after the question was sent; had it voted for the later leader before, it
//! would not have upheld the former. So nobody else was elected before the question was sent, and
//! nothing was committed, let alone acknowledged, that this leader doesn't know of.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use caucus_peer::{Peers, Service};
use prost::Message;
use tokio::sync::oneshot;

use super::Directory;
use crate::ConfirmError;
use crate::wire::{Standing, StandingAnswer, StandingQuestion};

/// The lines to all nodes, shared by the groups of a node.
pub(crate) struct Lines {
    peers: Arc<Peers>,
    directory: Arc<dyn Directory>,
    /// What isn't answered in this time is lost.
    limit: Duration,
    lines: Mutex<HashMap<u32, Arc<Line>>>,
}

/// The line to one node.
#[derive(Default)]
struct Line {
    state: Mutex<Gathering>,
}

/// Groups ask once at a time, so there are never more questions than replicas.
#[derive(Default)]
struct Gathering {
    asking: bool,
    waiting: Vec<Question>,
}

struct Question {
    standing: Standing,
    tally: Arc<Tally>,
}

impl Lines {
    pub(crate) fn new(
        peers: Arc<Peers>,
        directory: Arc<dyn Directory>,
        limit: Duration,
    ) -> Arc<Lines> {
        Arc::new(Lines {
            peers,
            directory,
            limit,
            lines: Mutex::default(),
        })
    }

    /// Asks the voter in `standing.to`, which lives on `node`.
    pub(crate) fn ask(self: &Arc<Self>, node: u32, standing: Standing, tally: Arc<Tally>) {
        let line = {
            let mut lines = self.lines.lock().expect("no panic under this lock");
            lines.entry(node).or_default().clone()
        };
        let mut state = line.state.lock().expect("no panic under this lock");
        state.waiting.push(Question { standing, tally });
        if !state.asking {
            state.asking = true;
            tokio::spawn(self.clone().serve(node, line.clone()));
        }
    }

    async fn serve(self: Arc<Self>, node: u32, line: Arc<Line>) {
        loop {
            // Whoever is ready to run now may have a question too.
            tokio::task::yield_now().await;
            let questions = {
                let mut state = line.state.lock().expect("no panic under this lock");
                if state.waiting.is_empty() {
                    state.asking = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let asked = questions.iter().map(|question| question.standing);
            let stands = self.exchange(node, asked.collect()).await;
            for (at, question) in questions.into_iter().enumerate() {
                let answer = match stands.get(at) {
                    Some(true) => Answer::Upheld,
                    Some(false) => Answer::Outvoted,
                    None => Answer::Silent,
                };
                question.tally.count(question.standing.to.replica, answer);
            }
        }
    }

    /// The answers in the order of the questions; none if the node doesn't answer.
    async fn exchange(&self, node: u32, leaders: Vec<Standing>) -> Vec<bool> {
        let Some(addr) = self.directory.peer_addr(node) else {
            return Vec::new();
        };
        let body = Bytes::from(StandingQuestion { leaders }.encode_to_vec());
        let peer = self.peers.peer(&addr);
        let answer = peer.call(Service::RaftStanding, body, self.limit).await;
        let decoded = answer.map(StandingAnswer::decode);
        match decoded {
            Ok(Ok(answer)) => answer.stands,
            // Unreachable, or it can't be read: it says nothing either way.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

/// What a voter says of a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has promised nobody else its vote.
    Upheld,
    /// It has, or isn't there.
    Outvoted,
    /// No answer in time.
    Silent,
}

/// Counts the answers to one question.
pub(crate) struct Tally {
    open: Mutex<Option<Open>>,
}

struct Open {
    /// One set of voters, or two while they change: a majority of each is wanted.
    configs: Vec<BTreeSet<u64>>,
    upheld: BTreeSet<u64>,
    /// Voters that have not been counted.
    left: usize,
    outvoted: bool,
    done: oneshot::Sender<Result<(), ConfirmError>>,
}

impl Tally {
    /// `leader` upholds itself. The receiver has the result once it is clear.
    pub(crate) fn open(
        configs: Vec<BTreeSet<u64>>,
        leader: u64,
    ) -> (Arc<Tally>, oneshot::Receiver<Result<(), ConfirmError>>) {
        let (done, result) = oneshot::channel();
        let voters: BTreeSet<u64> = configs.iter().flatten().copied().collect();
        let open = Open {
            configs,
            upheld: BTreeSet::new(),
            // The leader may be none of them, when it is to be removed.
            left: voters.len() + usize::from(!voters.contains(&leader)),
            outvoted: false,
            done,
        };
        let tally = Tally {
            open: Mutex::new(Some(open)),
        };
        tally.count(leader, Answer::Upheld);
        (Arc::new(tally), result)
    }

    /// Counts what one voter said; each is counted once.
    pub(crate) fn count(&self, voter: u64, answer: Answer) {
        let mut state = self.open.lock().expect("no panic under this lock");
        let Some(open) = state.as_mut() else { return };
        open.left = open.left.saturating_sub(1);
        match answer {
            Answer::Upheld => {
                open.upheld.insert(voter);
            }
            Answer::Outvoted => open.outvoted = true,
            Answer::Silent => {}
        }
        let result = match (open.majorities(), open.left) {
            (true, _) => Ok(()),
            (false, 0) if open.outvoted => Err(ConfirmError::NotLeader { leader: None }),
            (false, 0) => Err(ConfirmError::NoQuorum),
            (false, _) => return,
        };
        if let Some(open) = state.take() {
            // Whoever gave up meanwhile needs no answer.
            let _ = open.done.send(result);
        }
    }
}

impl Open {
    fn majorities(&self) -> bool {
        let majority = |config: &BTreeSet<u64>| {
            let upheld = config.intersection(&self.upheld).count();
            upheld > config.len() / 2
        };
        self.configs.iter().all(majority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Result = std::result::Result<(), ConfirmError>;
    /// Sets of voters, what they say, and what comes of it.
    type Case<'a> = (&'a [&'a [u64]], &'a [(u64, Answer)], Option<Result>);

    /// Counts `answers` in a group with these voters, led by 1; the result after the last, if any.
    fn tallied(configs: &[&[u64]], answers: &[(u64, Answer)]) -> Option<Result> {
        let configs = configs
            .iter()
            .map(|voters| voters.iter().copied().collect());
        let (tally, mut result) = Tally::open(configs.collect(), 1);
        for (voter, answer) in answers {
            tally.count(*voter, *answer);
        }
        result.try_recv().ok()
    }

    #[test]
    fn a_majority_of_each_set_of_voters_is_wanted() {
        use Answer::{Outvoted, Silent, Upheld};
        let outvoted = Err(ConfirmError::NotLeader { leader: None });
        let cases: &[Case] = &[
            (&[&[1]], &[], Some(Ok(()))),
            (&[&[1, 2]], &[], None),
            (&[&[1, 2, 3]], &[], None),
            (&[&[1, 2, 3]], &[(2, Upheld)], Some(Ok(()))),
            (&[&[1, 2, 3]], &[(2, Outvoted)], None),
            (&[&[1, 2, 3]], &[(2, Outvoted), (3, Upheld)], Some(Ok(()))),
            (
                &[&[1, 2, 3]],
                &[(2, Silent), (3, Silent)],
                Some(Err(ConfirmError::NoQuorum)),
            ),
            (
                &[&[1, 2, 3]],
                &[(2, Silent), (3, Outvoted)],
                Some(outvoted.clone()),
            ),
            (&[&[1, 2, 3, 4, 5]], &[(2, Upheld)], None),
            // While the voters change, one set alone isn't enough.
            (&[&[1, 2, 3], &[1, 4, 5]], &[(2, Upheld), (3, Upheld)], None),
            (
                &[&[1, 2, 3], &[1, 4, 5]],
                &[(2, Upheld), (5, Upheld)],
                Some(Ok(())),
            ),
            // A leader that is to be removed doesn't count itself.
            (&[&[2, 3, 4]], &[(2, Upheld)], None),
            (&[&[2, 3, 4]], &[(2, Upheld), (4, Upheld)], Some(Ok(()))),
            (
                &[&[2, 3, 4]],
                &[(2, Upheld), (3, Outvoted), (4, Outvoted)],
                Some(outvoted.clone()),
            ),
        ];
        for (configs, answers, expected) in cases {
            let result = tallied(configs, answers);
            assert_eq!(result, *expected, "{configs:?} {answers:?}");
        }
    }
}
