//! The native API over HTTP/1.1 and HTTP/2 on one socket.
//!
//! ```text
//!  serve ─▶ connection ─▶ Front ─┬─ /v1/kv, /v1/kv/{key}, /v1/batch, … ─▶ handlers, called directly
//!                                ├─ gRPC, /v3/… ─▶ etcd's API
//!                                └─ all else ─▶ axum
//! ```
//!
//! What clients call all the time is called directly: no boxed layers, one buffer for the answer.
//! Answers are JSON; errors are RFC 9457 problems ([`Problem`]). A request that is refused leaves its
//! connection usable: its body is read to the end, up to a limit.

mod batch;
mod change;
mod compact;
mod condition;
mod frames;
mod front;
mod gathering;
mod history;
mod idempotency;
mod json;
mod key;
mod kv;
mod listing;
mod media;
mod operator;
mod params;
mod payload;
mod probes;
mod problem;
mod recipes;
mod reply;
mod serve;
mod stream;
mod txn;
mod watch;

pub use problem::{Code, Problem};
pub use serve::{Here, HttpOptions, MetricsText, serve};
