//! The planner: what should be where.
//!
//! Pure: (catalog, who is usable) to a [`Plan`]. A plan is a value: it can be
//! printed, costed, refused, and carried out later, one step at a time, by the
//! controller. The same input always gives the same plan.
//!
//! One file for each occasion ([`initial`] so far; repair and rebalance go beside
//! it), all of them on the same two arithmetics: [`spread`](spread::by_weight) shares
//! weights among bins, [`seats`](seats::assign) puts replicas on nodes.
//!
//! Deliberately absent: doing anything, and knowing the time.

mod initial;
mod plan;
pub mod seats;
pub mod spread;

pub use initial::{GROUPS_PER_NODE_DEFAULT, Unplannable, initial};
pub use plan::{Cost, Plan, PlannedGroup, Step};

#[cfg(test)]
mod tests;
