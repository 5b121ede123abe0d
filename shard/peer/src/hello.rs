//! The first frame of a link: who is calling.

/// The version of the peer protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Sent by the dialing side before anything else.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the caller.
    #[prost(uint32, tag = "1")]
    pub protocol_version: u32,
    /// The cluster's configured name: links between clusters are refused.
    #[prost(string, tag = "2")]
    pub cluster_name: String,
    /// The calling node; 0 for a client that is no node.
    #[prost(uint32, tag = "3")]
    pub node: u32,
}
