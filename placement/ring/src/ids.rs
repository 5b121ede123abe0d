//! The numbers that name things. Newtypes, so that no two of them can be
//! swapped by accident.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

number! {
    /// A Raft group. [`GroupId::PLACEMENT`] is the placement group, which owns
    /// no vnodes; data groups count from 1.
    GroupId(u32)
}

number! {
    /// A server process with its data directory. Counts from 1.
    NodeId(u32)
}

number! {
    /// One member of one group on one node. Counts from 1 and is never used
    /// twice in a cluster, also not after the replica is gone.
    ReplicaId(u64)
}

number! {
    /// A virtual node: one point of the ring and the arc that ends there.
    Vnode(u16)
}

number! {
    /// The version of the cluster map. Not a Raft term.
    Epoch(u64)
}

number! {
    /// The number of a change, one sequence for the whole cluster.
    Revision(u64)
}

impl GroupId {
    /// The placement group. In the vnode table it means "no owner yet".
    pub const PLACEMENT: GroupId = GroupId(0);
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

/// The identity of a cluster, drawn at random when it is created, so that
/// nodes of two clusters never mix. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ClusterId(pub [u8; 16]);

/// A cluster id that isn't 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id is 32 hexadecimal digits, this is {0:?}")]
pub struct InvalidClusterId(String);

impl ClusterId {
    /// Its first eight bytes, for protocols that have no more room.
    pub fn short(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = InvalidClusterId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `from_str_radix` would also take a sign.
        let digits_only = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if digits_only => Ok(ClusterId(number.to_be_bytes())),
            Ok(_) | Err(_) => Err(InvalidClusterId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ClusterId {
    type Error = InvalidClusterId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_in_text_and_json() {
        assert_eq!(GroupId(7).to_string(), "7");
        assert_eq!(serde_json::to_string(&ReplicaId(9)).unwrap(), "9");
        assert_eq!(
            serde_json::from_str::<Vnode>("65535").unwrap(),
            Vnode(65535)
        );
    }

    #[test]
    fn cluster_id_round_trips_as_text() {
        let id = ClusterId(*b"\x00\x01\xfe\xffabcdefghijkl");
        assert_eq!(id.to_string(), "0001feff6162636465666768696a6b6c");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "12",
            "+001feff6162636465666768696a6b6",
            "zz01feff6162636465666768696a6b6c",
        ] {
            assert!(wrong.parse::<ClusterId>().is_err(), "{wrong}");
        }
    }
}
