//! Where leases are at home.

use crate::{Ring, Vnode};

/// What stands before the id.
const PREFIX: &[u8] = b"\0lease\0";

impl Ring {
    /// The vnode that a lease is at home in: the remainder of its id by the number of vnodes. So whoever
    /// chooses the id chooses the vnode.
    pub fn lease_vnode(&self, lease: u64) -> Vnode {
        // Below VNODES_MAX.
        Vnode((lease % u64::from(self.vnodes())) as u16)
    }
}

/// The name of a lease where a key is wanted: of the home of a request, of what is locked. Nothing is stored
/// under it. A user's key that looks like this is a key like others, but that a request of it alone may be at
/// home elsewhere.
pub fn lease_key(lease: u64) -> [u8; 15] {
    let mut key = [0; 15];
    key[..7].copy_from_slice(PREFIX);
    key[7..].copy_from_slice(&lease.to_be_bytes());
    key
}

/// The lease of a [`lease_key`].
pub fn parse_lease_key(key: &[u8]) -> Option<u64> {
    let id = key.strip_prefix(PREFIX)?.try_into().ok()?;
    Some(u64::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_ever() {
        let ring = Ring::new(4096).expect("a ring of a usual size");
        assert_eq!(ring.lease_vnode(0x1234_5678_9abc_def0), Vnode(0x0ef0));
        assert_eq!(lease_key(0x0102), *b"\0lease\0\0\0\0\0\0\0\x01\x02");
        assert_eq!(parse_lease_key(&lease_key(u64::MAX)), Some(u64::MAX));
        assert_eq!(parse_lease_key(b"\0lease\0"), None);
    }
}
