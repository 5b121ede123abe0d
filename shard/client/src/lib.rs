//! The async client of nodes: for routers, the command line and whoever else talks to a cluster.
//!
//! ```text
//!   Router ── NodeHandle ──┬─ in this process ──▶ Groups::submit
//!                          └─ NodeLink: queue ─▶ task ═ one `Requests` frame ═▶ node
//!                                        ▲──── calls answered ◀═ `Replies` ════╯
//!   PlacementClient ── one question at a time, follows the leader ──▶ placement group
//!   MapFollower ── long poll ──▶ any placement replica; publishes maps, never an older one
//! ```
//!
//! Requests to one node travel together: what gathered while the node's task was not running leaves
//! in one frame, and that is all the batching there is. A reply finds its caller through the number
//! that its request carried (`calls.rs`); numbers aren't used twice, so a late reply finds
//! nobody. An error says whether the node can have received the request: [`CallError::is_unsent`].
//!
//! Deliberately absent: retries, redirects and deadlines of requests to data groups. They are the
//! router's, which knows what is safe to send again.

mod calls;
mod error;
mod links;
mod maps;
mod node;
mod placement;
mod progress;

pub use error::{CallError, PlacementError};
pub use links::{LinksOptions, NodeHandle, NodeLinks, Pending};
pub use maps::{MapFollower, MapFollowerOptions, Maps};
pub use placement::{PlacementClient, PlacementOptions};
pub use progress::Progress;
