//! The synced mark: a file that remembers how far each replica's log was known to be durable, so
//! that a node notices at start that its log lost a tail (a disk that lied about fsync, a restored
//! image, a damaged write-ahead log cut by recovery).
//!
//! A mark is a lower bound: it lags behind what is durable, which only makes the check weaker. It must
//! never be above the truth, so it is rewritten before a truncation is acknowledged. A log whose last
//! entry has a higher term than the mark's lost nothing: it was overwritten by a new leader.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use prost::Message;

use crate::wire;

/// What was durable of one replica's log.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Mark {
    #[prost(uint32, tag = "1")]
    pub(crate) group: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) replica: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) vote: Option<wire::Vote>,
    #[prost(message, optional, tag = "4")]
    pub(crate) last: Option<wire::LogId>,
    #[prost(message, optional, tag = "5")]
    pub(crate) purged: Option<wire::LogId>,
}

#[derive(Clone, PartialEq, Message)]
struct MarkFile {
    #[prost(message, repeated, tag = "1")]
    marks: Vec<Mark>,
}

impl Mark {
    /// What is missing in a log that has this vote, last entry and purge position; `None` if nothing.
    pub(crate) fn missing(
        &self,
        vote: Option<wire::Vote>,
        last: Option<wire::LogId>,
    ) -> Option<String> {
        let rank = |vote: Option<wire::Vote>| vote.map_or(0, |vote| vote.term);
        if rank(vote) < rank(self.vote) {
            return Some(format!(
                "its vote was synced in term {} and is now of term {}",
                rank(self.vote),
                rank(vote)
            ));
        }
        let marked = self.last?;
        match last {
            Some(last) if last.term > marked.term || last.index >= marked.index => None,
            Some(last) => Some(format!(
                "its log was synced up to {}, now it ends at {}",
                marked.index, last.index
            )),
            None => Some(format!(
                "its log was synced up to {}, now it is empty",
                marked.index
            )),
        }
    }
}

/// The marks of all replicas of a node, and their file.
#[derive(Debug)]
pub(crate) struct Marks {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    marks: BTreeMap<(u32, u64), Mark>,
    dirty: bool,
}

impl Marks {
    /// Reads the file, if there is one. `None`: nothing is kept (memory engine).
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Marks> {
        let mut state = State::default();
        if let Some(path) = &path {
            for mark in read(path)? {
                state.marks.insert((mark.group, mark.replica), mark);
            }
        }
        Ok(Marks {
            path,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn get(&self, group: u32, replica: u64) -> Option<Mark> {
        let state = self.state.lock().expect("no panic under this lock");
        state.marks.get(&(group, replica)).copied()
    }

    /// Notes what is durable now; written with the next [`Marks::flush`].
    pub(crate) fn note(&self, mark: Mark) {
        let mut state = self.state.lock().expect("no panic under this lock");
        let old = state.marks.insert((mark.group, mark.replica), mark);
        state.dirty |= old != Some(mark);
    }

    /// Forgets a replica.
    pub(crate) fn forget(&self, group: u32, replica: u64) {
        let mut state = self.state.lock().expect("no panic under this lock");
        state.dirty |= state.marks.remove(&(group, replica)).is_some();
    }

    /// Makes the file say what was noted.
    pub(crate) async fn flush(self: Arc<Self>) -> io::Result<()> {
        if self.path.is_none() {
            return Ok(());
        }
        let written = tokio::task::spawn_blocking(move || self.write());
        written.await.map_err(io::Error::other)?
    }

    /// Blocks on the disk.
    pub(crate) fn write(&self) -> io::Result<()> {
        // The lock is held over the writing, or an older file could replace a newer one.
        let mut state = self.state.lock().expect("no panic under this lock");
        let Some(path) = self.path.as_deref().filter(|_| state.dirty) else {
            return Ok(());
        };
        let file = MarkFile {
            marks: state.marks.values().copied().collect(),
        };
        write(path, &file.encode_to_vec())?;
        state.dirty = false;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Vec<Mark>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the synced mark is damaged");
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
        return Err(damaged());
    }
    let file = MarkFile::decode(body).map_err(|_| damaged())?;
    Ok(file.marks)
}

fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&crc32c::crc32c(body).to_le_bytes())?;
    file.write_all(body)?;
    file.sync_data()?;
    fs::rename(&new, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{LogId, Vote};

    fn vote(term: u64) -> Option<Vote> {
        Some(Vote {
            term,
            replica: 1,
            committed: true,
        })
    }

    fn at(term: u64, index: u64) -> Option<LogId> {
        Some(LogId { term, index })
    }

    #[test]
    fn a_lost_tail_is_noticed() {
        let mark = Mark {
            group: 1,
            replica: 2,
            vote: vote(3),
            last: at(3, 10),
            purged: None,
        };
        assert_eq!(mark.missing(vote(3), at(3, 10)), None);
        assert_eq!(mark.missing(vote(4), at(3, 12)), None);
        assert_eq!(
            mark.missing(vote(5), at(4, 7)),
            None,
            "overwritten by a leader of term 4"
        );
        assert!(mark.missing(vote(3), at(3, 9)).is_some());
        assert!(mark.missing(vote(3), None).is_some());
        assert!(mark.missing(vote(2), at(3, 10)).is_some());
        assert!(mark.missing(None, at(3, 10)).is_some());
    }

    #[test]
    fn marks_survive_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("SYNCED");
        let marks = Marks::open(Some(path.clone())).unwrap();
        let mark = Mark {
            group: 1,
            replica: 2,
            vote: vote(3),
            last: at(3, 10),
            purged: at(1, 4),
        };
        marks.note(mark);
        marks.write().unwrap();
        assert_eq!(
            Marks::open(Some(path.clone())).unwrap().get(1, 2),
            Some(mark)
        );
        let whole = fs::read(&path).unwrap();
        let is_damaged = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Marks::open(Some(path.clone())).is_err()
        };
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(is_damaged(&flipped), "flipped at {at}");
            assert!(is_damaged(&whole[..at]), "cut at {at}");
        }
        assert!(is_damaged(&vec![0; whole.len()]), "zeroed");
    }
}
