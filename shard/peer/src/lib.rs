//! Connections between nodes: frames over one socket in each direction of a pair of nodes.
//!
//! ```text
//!   Peers ── Peer(addr) ──dial──▶ Link ═══ socket ═══ Link ◀── Server(listener)
//!             │ call(service, body)                      │ Handler::frame(link, frame)
//!             └ one-way frames, replies matched by id    └ replies on the same link
//! ```
//!
//! A frame is `length | service | id | body`. Everything that nodes say to each other (Raft, the
//! oracle, forwarded requests) travels in frames of the same link. A link's writer takes all that
//! waits in its queue and writes it with one system call: that is the only batching, so a frame
//! leaves at once when the link is idle and gathers with others when it is not.
//!
//! HTTP/2 is deliberately absent here: a frame costs no header compression, no flow-control window
//! and no per-stream state, which is what a put or a heartbeat would mostly consist of. The bytes
//! of the bodies are protobuf, as everywhere. TLS wraps the socket behind [`Net`].
//!
//! Invariants: frames of one link arrive in the order in which they were queued; a queue, a frame and
//! a connection attempt have limits; a link that lost one frame is gone as a whole.

mod call;
mod error;
mod frame;
mod hello;
mod link;
mod net;
mod peers;
mod server;

pub use call::Calls;
pub use error::{CallError, Gone};
pub use frame::{FRAME_BYTES_MAX, Frame, REPLY, Service};
pub use hello::{Hello, PROTOCOL_VERSION};
pub use link::Link;
pub use net::{Listener, Net, Socket, TcpNet};
pub use peers::{Handler, Lane, Peer, Peers, PeersOptions};
pub use server::{ServerOptions, serve};
