//! What lies in the engine's directory: a `FORMAT` file and the database in `db/`.
//!
//! The format file is written last at the first open, and synced. So without it nothing was ever
//! written, and with it a missing database is a loss, not a fresh start: an engine that quietly
//! came up empty would make its replicas forget their votes.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const FORMAT: &str = "FORMAT";
const FORMAT_PART: &str = "FORMAT.part";
const DATABASE: &str = "db";
/// Content of the format file; the number rises when older binaries can't read the data.
const CONTENT: &str = "caucus-engine 1\n";

/// What [`prepare`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// No data: create the database, then [`seal`].
    New,
    /// A complete engine of this format.
    Existing,
}

impl Opening {
    pub(super) fn is_new(self) -> bool {
        match self {
            Opening::New => true,
            Opening::Existing => false,
        }
    }
}

/// Directory of the database.
pub(super) fn database(path: &Path) -> PathBuf {
    path.join(DATABASE)
}

/// Look at the directory before RocksDB touches it; make it if it is missing.
pub(super) fn prepare(path: &Path) -> Result<Opening> {
    fs::create_dir_all(path)?;
    match fs::read(path.join(FORMAT)) {
        Ok(content) if content == CONTENT.as_bytes() => {
            if database(path).join("CURRENT").exists() {
                Ok(Opening::Existing)
            } else {
                Err(Error::Corruption {
                    context: format!("{} has lost its database", path.display()),
                })
            }
        }
        Ok(content) => Err(Error::Format {
            context: format!(
                "{} says {:?}, this program reads {CONTENT:?}",
                path.join(FORMAT).display(),
                String::from_utf8_lossy(&content[..content.len().min(64)]),
            ),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            only_ours(path)?;
            Ok(Opening::New)
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuse to settle in a directory that holds somebody else's files.
fn only_ours(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        // What a new file system has at its root, and what a first open cut short leaves.
        if name != DATABASE && name != FORMAT_PART && name != "lost+found" {
            return Err(Error::Format {
                context: format!("{} holds {name:?} and no {FORMAT} file", path.display(),),
            });
        }
    }
    Ok(())
}

/// Write the format file, durably: content, name, and the directory's own name.
pub(super) fn seal(path: &Path) -> Result<()> {
    let part = path.join(FORMAT_PART);
    let mut file = File::create(&part)?;
    file.write_all(CONTENT.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path.join(FORMAT))?;
    File::open(path)?.sync_all()?;
    if let Some(parent) = path.canonicalize()?.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Bytes of the write-ahead log files. Files that vanish meanwhile count nothing.
pub(super) fn wal_bytes(database: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(database) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "log"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
