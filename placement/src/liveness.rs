//! Who is alive and who leads, as far as the nodes' reports tell.
//!
//! Kept in the memory of the placement leader only: a report writes nothing to the
//! log. A new leader begins with everyone alive as of its own beginning, so a
//! change of leader never looks like the death of a node.
//!
//! Pure: time comes in as the duration since some origin that the caller chose once
//! (its monotonic clock).

use std::collections::BTreeMap;
use std::time::Duration;

use caucus_ring::{GroupId, NodeId};

/// When silence means what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Silent for this long: suspect.
    pub suspect_after: Duration,
    /// Silent for this long: dead, its replicas are to be rebuilt elsewhere.
    pub dead_after: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            suspect_after: Duration::from_secs(30),
            dead_after: Duration::from_secs(600),
        }
    }
}

/// Thresholds that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node must be suspect before it is dead: suspect after {suspect:?}, dead after {dead:?}")]
pub struct InvalidOptions {
    /// What was wanted for suspect.
    pub suspect: Duration,
    /// What was wanted for dead.
    pub dead: Duration,
}

impl Options {
    /// Itself, if it makes sense.
    pub fn validate(self) -> Result<Options, InvalidOptions> {
        if self.suspect_after.is_zero() || self.suspect_after > self.dead_after {
            return Err(InvalidOptions {
                suspect: self.suspect_after,
                dead: self.dead_after,
            });
        }
        Ok(self)
    }
}

/// What is thought of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// It reported lately.
    Alive,
    /// It has been silent for a while.
    Suspect,
    /// It has been silent for too long.
    Dead,
}

impl NodeState {
    /// Whether new replicas may be put on it.
    pub fn can_take_replicas(self) -> bool {
        match self {
            NodeState::Alive => true,
            NodeState::Suspect | NodeState::Dead => false,
        }
    }

    /// Whether its replicas are to be rebuilt elsewhere.
    pub fn is_lost(self) -> bool {
        match self {
            NodeState::Alive | NodeState::Suspect => false,
            NodeState::Dead => true,
        }
    }
}

/// Who leads a group, as one of its replicas sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    /// The leader's node.
    pub node: NodeId,
    /// The term that it leads in.
    pub term: u64,
}

/// What a node says every second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who says it.
    pub node: NodeId,
    /// The leaders that its replicas know; groups without a known one are left out.
    pub leaders: Vec<(GroupId, Leader)>,
}

/// What the reports add up to.
#[derive(Clone, Debug)]
pub struct Liveness {
    options: Options,
    started: Duration,
    /// When each node was heard last.
    heard: BTreeMap<NodeId, Duration>,
    /// Of the greatest term that was ever reported for the group.
    leaders: BTreeMap<GroupId, Leader>,
}

impl Liveness {
    /// Begins now, with nobody heard yet.
    pub fn new(options: Options, now: Duration) -> Liveness {
        Liveness {
            options,
            started: now,
            heard: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// Takes a report. One that was overtaken by a later one changes nothing back.
    pub fn report(&mut self, report: &Report, now: Duration) {
        self.expect(report.node, now);
        for (group, leader) in &report.leaders {
            let known = self.leaders.entry(*group).or_insert(*leader);
            // In one term there is one leader, so an equal term has no news.
            if leader.term > known.term {
                *known = *leader;
            }
        }
    }

    /// Counts a node as heard, without a report: it has just registered.
    pub fn expect(&mut self, node: NodeId, now: Duration) {
        let heard = self.heard.entry(node).or_insert(now);
        *heard = now.max(*heard);
    }

    /// Drops a node that is no longer of the cluster. What it said about leaders stays.
    pub fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
    }

    /// How long a node has been silent; one that was never heard, since the beginning.
    pub fn silent_for(&self, node: NodeId, now: Duration) -> Duration {
        now.saturating_sub(self.heard.get(&node).copied().unwrap_or(self.started))
    }

    /// What is thought of a node.
    pub fn state(&self, node: NodeId, now: Duration) -> NodeState {
        let silent = self.silent_for(node, now);
        if silent >= self.options.dead_after {
            NodeState::Dead
        } else if silent >= self.options.suspect_after {
            NodeState::Suspect
        } else {
            NodeState::Alive
        }
    }

    /// Who leads a group, by the greatest term reported.
    pub fn leader(&self, group: GroupId) -> Option<Leader> {
        self.leaders.get(&group).copied()
    }

    /// All known leaders, by group.
    pub fn leaders(&self) -> impl Iterator<Item = (GroupId, Leader)> + '_ {
        self.leaders.iter().map(|(group, leader)| (*group, *leader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn report(leaders: &[(u32, u32, u64)]) -> Report {
        let leader = |&(group, node, term)| {
            (
                GroupId(group),
                Leader {
                    node: NodeId(node),
                    term,
                },
            )
        };
        Report {
            node: NODE,
            leaders: leaders.iter().map(leader).collect(),
        }
    }

    #[test]
    fn silence_ages() {
        let mut liveness = Liveness::new(Options::default(), seconds(1000));
        liveness.report(&report(&[]), seconds(1100));
        for (now, expected) in [
            (1100, NodeState::Alive),
            (1129, NodeState::Alive),
            (1130, NodeState::Suspect),
            (1699, NodeState::Suspect),
            (1700, NodeState::Dead),
            // A clock that was read before the report arrived.
            (1050, NodeState::Alive),
        ] {
            assert_eq!(liveness.state(NODE, seconds(now)), expected, "{now}");
        }
        liveness.report(&report(&[]), seconds(1800));
        assert_eq!(liveness.state(NODE, seconds(1800)), NodeState::Alive);
    }

    #[test]
    fn the_unheard_count_from_the_beginning() {
        let mut liveness = Liveness::new(Options::default(), seconds(1000));
        assert_eq!(liveness.state(NODE, seconds(1029)), NodeState::Alive);
        assert_eq!(liveness.state(NODE, seconds(1600)), NodeState::Dead);
        liveness.expect(NODE, seconds(1600));
        assert_eq!(liveness.state(NODE, seconds(1600)), NodeState::Alive);
        liveness.forget(NODE);
        assert_eq!(liveness.state(NODE, seconds(1600)), NodeState::Dead);
    }

    #[test]
    fn a_lower_term_never_overwrites() {
        let mut liveness = Liveness::new(Options::default(), seconds(0));
        let leads = |liveness: &Liveness| liveness.leader(GroupId(1)).map(|l| (l.node.0, l.term));
        assert_eq!(leads(&liveness), None);
        for (node, term, expected) in [
            (1, 5, (1, 5)),
            (2, 4, (1, 5)),
            (2, 6, (2, 6)),
            (1, 5, (2, 6)),
        ] {
            liveness.report(&report(&[(1, node, term)]), seconds(1));
            assert_eq!(leads(&liveness), Some(expected), "{node} {term}");
        }
        liveness.report(&report(&[]), seconds(2));
        assert_eq!(leads(&liveness), Some((2, 6)));
        assert_eq!(liveness.leaders().count(), 1);
    }

    #[test]
    fn options_are_checked() {
        assert!(Options::default().validate().is_ok());
        let options = |suspect, dead| Options {
            suspect_after: seconds(suspect),
            dead_after: seconds(dead),
        };
        assert!(options(2, 1).validate().is_err());
        assert!(options(0, 1).validate().is_err());
        assert!(options(1, 1).validate().is_ok());
    }
}
