//! The first frame of a link: who is calling. Who refuses the caller answers with its own, and closes.

use bytes::Bytes;

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
    /// The cluster's id, drawn when it was created; empty as long as it isn't known. Names are chosen by
    /// people: two clusters may well have the same.
    #[prost(bytes = "bytes", tag = "4")]
    pub cluster_id: Bytes,
}

impl Hello {
    /// Why there can be no link between us and them.
    pub(crate) fn refusal(&self, theirs: &Hello) -> Option<String> {
        if self.protocol_version != theirs.protocol_version {
            return Some(format!(
                "it speaks version {} of the peer protocol, not {}",
                theirs.protocol_version, self.protocol_version
            ));
        }
        if self.cluster_name != theirs.cluster_name {
            return Some(format!(
                "it belongs to cluster `{}`, not `{}`",
                theirs.cluster_name, self.cluster_name
            ));
        }
        let known = !self.cluster_id.is_empty() && !theirs.cluster_id.is_empty();
        (known && self.cluster_id != theirs.cluster_id)
            .then(|| format!("it belongs to another cluster `{}`", theirs.cluster_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_keep_apart() {
        let hello = |name: &str, id: &'static [u8]| Hello {
            protocol_version: PROTOCOL_VERSION,
            cluster_name: name.to_owned(),
            node: 1,
            cluster_id: Bytes::from_static(id),
        };
        let ours = hello("a", b"1");
        assert_eq!(ours.refusal(&hello("a", b"1")), None);
        // A node that is new here can't know the id yet.
        assert_eq!(ours.refusal(&hello("a", b"")), None);
        assert_eq!(hello("a", b"").refusal(&ours), None);
        let refused = |theirs: &Hello| ours.refusal(theirs).unwrap();
        assert!(refused(&hello("b", b"1")).contains("`b`, not `a`"));
        assert!(refused(&hello("a", b"2")).contains("another cluster `a`"));
        let newer = Hello {
            protocol_version: PROTOCOL_VERSION + 1,
            ..ours.clone()
        };
        assert!(refused(&newer).contains("version 2"));
    }
}
