//! Requests that clients name (`Idempotency-Key`): the same name and the same request are executed once.

use caucus_api::shard::RequestId;
use caucus_ring::Revision;
use xxhash_rust::xxh3::Xxh3;

/// A client's name of a request, and what the request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestName {
    id: u128,
    fingerprint: u64,
}

impl RequestName {
    /// `scope`: within which a name means one request; the home of the request must follow from it, so
    /// that a name is looked for where it was kept. `content`: all else that the request asks for.
    pub fn new(scope: &[&[u8]], name: &[u8], content: &[&[u8]]) -> RequestName {
        let mut id = Xxh3::new();
        for part in scope.iter().chain([&name]) {
            update(&mut id, part);
        }
        let mut fingerprint = Xxh3::new();
        for part in content {
            update(&mut fingerprint, part);
        }
        RequestName {
            id: id.digest128(),
            // 0 is a request without a name.
            fingerprint: fingerprint.digest().max(1),
        }
    }

    pub(crate) fn id(&self, stamp: Revision) -> RequestId {
        RequestId {
            session: (self.id >> 64) as u64,
            sequence: self.id as u64,
            stamp: stamp.0,
        }
    }

    /// The name in 32 hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        format!("{:032x}", self.id)
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// With its length, so that no two lists of parts read the same.
fn update(hash: &mut Xxh3, part: &[u8]) {
    hash.update(&(part.len() as u64).to_le_bytes());
    hash.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_its_scope_and_content() {
        let name = |scope: &[&[u8]], content: &[&[u8]]| RequestName::new(scope, b"n", content);
        let first = name(&[b"PUT", b"/a"], &[b"body"]);
        assert_eq!(first, name(&[b"PUT", b"/a"], &[b"body"]));
        let other = name(&[b"PUT", b"/a"], &[b"other"]);
        assert_eq!(
            (first.id, first.fingerprint == other.fingerprint),
            (other.id, false)
        );
        assert_ne!(first.id, name(&[b"PUT/", b"a"], &[b"body"]).id);
    }
}
