//! Whole groups on nodes of this process: memory engines, real sockets on loopback, and an oracle that
//! does what the test says.

mod deadlines;
mod leaders;
mod limits;
mod names;
mod oracle;
mod order;
mod reach;
mod reads;
mod requests;
mod support;
mod transactions;
mod watches;
