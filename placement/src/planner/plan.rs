//! A plan and its steps, as values.

use std::fmt;

use caucus_ring::Epoch;

use crate::catalog::{Command, GroupRecord};

/// What is decided and not yet done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The catalog's epoch that it was made from. The catalog refuses steps that
    /// don't fit it any more.
    pub basis: Epoch,
    /// To be done in this order; each is one command.
    pub steps: Vec<Step>,
}

/// One idempotent step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create data groups, all by one command.
    CreateGroups(Vec<PlannedGroup>),
}

/// A group to create and how much of the ring it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedGroup {
    /// What the catalog is told.
    pub record: GroupRecord,
    /// The lengths of its arcs together, of the 2^64 positions of the circle.
    pub arc: u128,
}

/// What a plan or step takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Replicas to build.
    pub replicas: u64,
    /// Bytes to copy between nodes.
    pub bytes: u64,
    /// Length of the arcs that change their owner, of the 2^64 positions.
    pub arc: u128,
    /// Leaders that have to move.
    pub leader_moves: u64,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What all steps take together.
    pub fn cost(&self) -> Cost {
        self.steps
            .iter()
            .map(Step::cost)
            .fold(Cost::default(), Cost::plus)
    }
}

impl Step {
    /// What it takes.
    pub fn cost(&self) -> Cost {
        match self {
            // New groups are empty, and their arcs had no owner: nothing is copied.
            Step::CreateGroups(groups) => {
                let replicas = groups
                    .iter()
                    .map(|group| group.record.replicas.len() as u64)
                    .sum();
                Cost {
                    replicas,
                    ..Cost::default()
                }
            }
        }
    }

    /// What the catalog is told.
    pub fn command(&self) -> Command {
        match self {
            Step::CreateGroups(groups) => {
                Command::CreateGroups(groups.iter().map(|group| group.record.clone()).collect())
            }
        }
    }
}

impl Cost {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Cost) -> Cost {
        Cost {
            replicas: self.replicas.saturating_add(other.replicas),
            bytes: self.bytes.saturating_add(other.bytes),
            arc: self.arc.saturating_add(other.arc),
            leader_moves: self.leader_moves.saturating_add(other.leader_moves),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan from epoch {}: {}", self.basis, self.cost())?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {step}", index + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateGroups(groups) => {
                write!(f, "create {} groups", groups.len())?;
                groups
                    .iter()
                    .try_for_each(|group| write!(f, "\n   {group}"))
            }
        }
    }
}

impl fmt::Display for PlannedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} on nodes", self.record.id)?;
        for replica in &self.record.replicas {
            write!(f, " {}", replica.node)?;
        }
        let vnodes = self.record.vnodes.len();
        write!(f, ", {vnodes} vnodes, {} of the ring", Share(self.arc))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost {
            replicas,
            bytes,
            arc,
            leader_moves,
        } = self;
        write!(f, "{replicas} replicas to build, {bytes} bytes to copy, ")?;
        write!(
            f,
            "{} of the ring and {leader_moves} leaders to move",
            Share(*arc)
        )
    }
}

/// A length of arc in per cent, to two digits.
struct Share(u128);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole numbers, so that it prints alike everywhere; rounded to nearest.
        let hundredths = (self.0.saturating_mul(10_000).saturating_add(1 << 63)) >> 64;
        write!(f, "{}.{:02} %", hundredths / 100, hundredths % 100)
    }
}
