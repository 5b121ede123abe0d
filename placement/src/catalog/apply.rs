//! The one door.

use super::state::Cluster;
use super::{
    Answer, Catalog, Changed, Command, Effect, Outcome, Refusal, ceiling, groups, init, nodes,
    rules,
};

/// What a verb says of itself. Verbs check first and change after, so that a
/// refusal leaves no trace.
pub(super) type Verdict = Result<(Answer, Change), Refusal>;

/// What a verb has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was so already.
    Nothing,
    /// Something that the cluster map shows.
    Map,
    /// The ceiling, which no map shows.
    Ceiling,
}

impl Catalog {
    /// Applies one entry of the log. Deterministic; never panics.
    pub fn apply(&mut self, command: Command) -> Outcome {
        let verdict = match command {
            Command::InitCluster(init) => init::init_cluster(&mut self.cluster, init),
            Command::RegisterNode(node) => self.on_cluster(|c| nodes::register(c, node)),
            Command::CreateGroups(records) => self.on_cluster(|c| groups::create(c, records)),
            Command::ActivateGroup(id) => self.on_cluster(|c| groups::activate(c, id)),
            Command::SetRules(set) => self.on_cluster(|c| rules::set(c, set)),
            Command::RaiseCeiling(to) => ceiling::raise(&mut self.ceiling, to),
        };
        let outcome = match verdict {
            Ok((answer, change)) => self.record(answer, change),
            Err(refusal) => Outcome {
                answer: Err(refusal),
                changed: Changed::default(),
                effects: Vec::new(),
            },
        };
        debug_assert_eq!(self.check(), Ok(()));
        outcome
    }

    /// The only place where the epoch advances.
    fn record(&mut self, answer: Answer, change: Change) -> Outcome {
        let (changed, effects) = match change {
            Change::Nothing => (Changed::default(), Vec::new()),
            Change::Map => {
                self.epoch = self.epoch.next();
                let changed = Changed {
                    catalog: true,
                    ceiling: false,
                };
                (changed, vec![Effect::MapChanged { epoch: self.epoch }])
            }
            Change::Ceiling => {
                let changed = Changed {
                    catalog: false,
                    ceiling: true,
                };
                (
                    changed,
                    vec![Effect::CeilingRaised {
                        ceiling: self.ceiling,
                    }],
                )
            }
        };
        Outcome {
            answer: Ok(answer),
            changed,
            effects,
        }
    }

    fn on_cluster(&mut self, verb: impl FnOnce(&mut Cluster) -> Verdict) -> Verdict {
        verb(self.cluster.as_mut().ok_or(Refusal::NotInitialized)?)
    }
}
