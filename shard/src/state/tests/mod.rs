//! The state machine against a plain model of it.
//!
//! `history` makes commands as a leader would, and some that none would; `model` says what each must
//! do; `rig` drives the state machine round by round, as the Raft adapter does, with no log.

mod cases;
mod check;
mod faults;
mod history;
mod journal;
mod malformed;
mod model;
mod past;
mod random;
mod rig;
mod standing;
mod wishes;
