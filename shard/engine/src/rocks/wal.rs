//! Whether a write-ahead log has holes.
//!
//! RocksDB takes a record without length and kind for room that was made and not used: it skips the rest of the block
//! and says nothing. So sectors that have become zero inside of a log, if they begin where a record does, take batches
//! out of the middle of what is recovered, and what comes after them stays. Here such a log is found before RocksDB
//! opens: zeros may stand at the end of what was written, and nowhere else.

use crate::error::{Error, Result};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A log is made of blocks of so many bytes; no record goes over the end of one.
const BLOCK_BYTES: usize = 32 << 10;
/// A checksum, a length of two bytes and a kind.
const HEADER_BYTES: usize = 7;

/// Before RocksDB opens: whether something is missing in the middle of what is in its logs.
pub(super) fn check(database: &Path) -> Result<()> {
    let logs = match logs(database) {
        Ok(logs) => logs,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // The first in which zeros stand for records.
    let mut ended: Option<&Path> = None;
    for (_, path) in &logs {
        let bytes = fs::read(path)?;
        let zeros = zeros(&bytes);
        // Half a header may be the last that was written.
        let rest = zeros.map_or(0, |at| at + HEADER_BYTES);
        let goes_on = bytes[rest..].iter().any(|byte| *byte != 0);
        let hole = match (ended, zeros) {
            (Some(earlier), _) if goes_on => Some(earlier),
            (None, Some(_)) if goes_on => Some(path.as_path()),
            _ => None,
        };
        if let Some(hole) = hole {
            return Err(Error::Corruption {
                context: format!("{}: zeros stand where records were", hole.display()),
            });
        }
        ended = ended.or(zeros.map(|_| path.as_path()));
    }
    Ok(())
}

/// The logs, the oldest first.
fn logs(database: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".log")?.parse().ok());
        logs.extend(number.map(|number| (number, path)));
    }
    logs.sort_unstable();
    Ok(logs)
}

/// Where the first header is without length and kind; `None`: all is records, as far as their lengths tell.
fn zeros(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at + HEADER_BYTES <= bytes.len() {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
            continue;
        }
        let header = &bytes[at..at + HEADER_BYTES];
        if header[4..].iter().all(|byte| *byte == 0) {
            return Some(at);
        }
        at += HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> Vec<u8> {
        let length = u16::try_from(bytes).unwrap().to_le_bytes();
        let header = [9, 9, 9, 9, length[0], length[1], 1];
        [&header[..], &vec![7; bytes]].concat()
    }

    fn holds(logs: &[(&str, Vec<u8>)]) -> bool {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in logs {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        match check(directory.path()) {
            Ok(()) => true,
            Err(Error::Corruption { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn zeros_may_stand_at_the_end_and_nowhere_else() {
        let two = [record(100), record(200)].concat();
        let torn = [&two[..], &[0; 600]].concat();
        let hole = [&torn[..], &record(3)].concat();
        // The zeros begin in the middle of a header.
        let half = [&two[..], &[9, 9], &[0; 500]].concat();
        let one = |bytes: &[u8]| holds(&[("000004.log", bytes.to_vec())]);
        assert!(one(&[]) && one(&two) && one(&torn) && one(&[0; 600]));
        assert!(one(&two[..250]), "a torn record is RocksDB's matter");
        assert!(!one(&hole) && one(&half));
        let logs = |older: &[u8], newer: &[u8]| {
            let (older, newer) = (older.to_vec(), newer.to_vec());
            holds(&[("000010.log", newer), ("000009.log", older)])
        };
        assert!(logs(&two, &torn) && logs(&torn, &[]) && logs(&torn, &[0; 100]));
        assert!(!logs(&torn, &two), "the newer one comes after the zeros");
        assert!(!logs(&hole, &two) && !logs(&two, &hole));
        assert!(holds(&[("000005.sst", hole)]), "that is no log");
    }

    /// The end of a block that has no room for a header is filled with zeros.
    #[test]
    fn the_rest_of_a_block_is_no_hole() {
        let full = record(BLOCK_BYTES - HEADER_BYTES - 5);
        let log = [&full[..], &[0; 5], &record(10)].concat();
        assert!(holds(&[("000001.log", log)]));
    }
}
