//! How far a copy has got, in a file, so that another start goes on there.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::fatal::Fatal;

/// Where a copy stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The source's cluster.
    pub(super) cluster: u64,
    /// What is copied, in base64.
    pub(super) prefix: String,
    /// As of which revision of the source.
    pub(super) revision: i64,
    /// The last key that is done, in base64; none before the first page is.
    pub(super) after: Option<String>,
    /// Keys done.
    pub(super) copied: u64,
    /// Of these, keys that had a lease.
    pub(super) leased: u64,
}

impl State {
    /// A copy that hasn't begun.
    pub(super) fn new(cluster: u64, prefix: &[u8], revision: i64) -> State {
        State {
            cluster,
            prefix: STANDARD.encode(prefix),
            revision,
            after: None,
            copied: 0,
            leased: 0,
        }
    }

    /// The key at which the next page begins.
    pub(super) fn next_key(&self, prefix: &[u8]) -> Vec<u8> {
        let after = self
            .after
            .as_ref()
            .and_then(|key| STANDARD.decode(key).ok());
        match after {
            Some(mut key) => {
                key.push(0);
                key
            }
            // A range can't begin with no key.
            None if prefix.is_empty() => vec![0],
            None => prefix.to_vec(),
        }
    }

    /// A page is done.
    pub(super) fn advance(&mut self, last: &[u8], copied: u64, leased: u64) {
        self.after = Some(STANDARD.encode(last));
        self.copied += copied;
        self.leased += leased;
    }

    /// Takes up what a file says, if there is one; it must be of the same copy.
    pub(super) fn resume(path: &Path, new: State) -> Result<State, Fatal> {
        let name = path.display();
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(new),
            Err(error) => return Err(Fatal::setup(format!("{name}: {error}"))),
        };
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| Fatal::setup(format!("{name} is no state of an import: {error}")))?;
        if (state.cluster, &state.prefix) != (new.cluster, &new.prefix) {
            return Err(Fatal::setup(format!(
                "{name} is of another source or another prefix; name another file to begin anew"
            )));
        }
        Ok(state)
    }

    /// Writes it, wholly or not at all.
    pub(super) fn save(&self, path: &Path) -> Result<(), Fatal> {
        let cannot = |error: std::io::Error| Fatal::failed(format!("{}: {error}", path.display()));
        let text = serde_json::to_vec(self).map_err(Fatal::failed)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        std::fs::write(&beside, text).map_err(cannot)?;
        std::fs::rename(&beside, path).map_err(cannot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_taken_up_where_it_stood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let new = State::new(7, b"/a/", 40);
        assert_eq!(State::resume(&path, new.clone()).unwrap(), new);
        assert_eq!(new.next_key(b"/a/"), b"/a/");
        assert_eq!(new.next_key(b""), b"\0");
        let mut state = new.clone();
        state.advance(b"/a/\xff", 500, 3);
        state.save(&path).unwrap();
        let newer = State::new(7, b"/a/", 90);
        assert_eq!(State::resume(&path, newer).unwrap(), state);
        assert_eq!(state.next_key(b"/a/"), b"/a/\xff\0");
        assert!(State::resume(&path, State::new(8, b"/a/", 40)).is_err());
        assert!(State::resume(&path, State::new(7, b"/b/", 40)).is_err());
        std::fs::write(&path, b"{").unwrap();
        assert!(State::resume(&path, new).is_err());
    }
}
