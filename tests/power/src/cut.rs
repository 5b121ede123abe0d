//! What is left of the files.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::notes::{Change, Notes};
use crate::random::Random;

/// Disks write sectors.
const SECTOR_BYTES: u64 = 512;

/// How much of what isn't synced is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All bytes; names are kept, as a file system with an ordered journal does it at best.
    Bytes,
    /// Any part of the bytes; names are kept.
    Torn,
    /// All bytes, and all names.
    All,
    /// Any part of either.
    Any,
    /// Any part of the bytes, and what is left may be zeros here and there: a file system that makes a file longer
    /// before it has its data.
    Zeros,
}

impl Loss {
    /// One of those after which a database can be opened.
    pub fn one(random: &mut Random) -> Loss {
        [Loss::Bytes, Loss::Torn, Loss::All, Loss::Any][random.below(4) as usize]
    }

    fn is_torn(self) -> bool {
        match self {
            Loss::Bytes | Loss::All => false,
            Loss::Torn | Loss::Any | Loss::Zeros => true,
        }
    }

    fn takes_names(self) -> bool {
        match self {
            Loss::Bytes | Loss::Torn | Loss::Zeros => false,
            Loss::All | Loss::Any => true,
        }
    }
}

/// What a cut has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Files that have lost bytes.
    pub files: u64,
    /// The bytes, those that came back as zeros too.
    pub bytes: u64,
    /// Names that are as they were.
    pub names: u64,
}

pub(crate) fn cut(notes: &Notes, dir: &Path, loss: Loss, random: &mut Random) -> io::Result<Lost> {
    let mut lost = Lost::default();
    if loss.takes_names() {
        for change in undone(notes, dir, loss, random) {
            lost.names += u64::from(undo(change)?);
        }
    }
    for path in walk(dir)? {
        let found = fs::metadata(&path)?;
        // Who isn't known died before it could be noted.
        let synced = notes.synced.get(&found.ino()).copied().unwrap_or(0);
        if found.is_file() && found.len() > synced {
            let bytes = shorten(&path, synced, found.len(), loss, random)?;
            lost.files += u64::from(bytes > 0);
            lost.bytes += bytes;
        }
    }
    Ok(lost)
}

/// The changes that are lost, last one first: of each directory any number of the last ones.
fn undone<'a>(notes: &'a Notes, dir: &Path, loss: Loss, random: &mut Random) -> Vec<&'a Change> {
    let mut unsynced: HashMap<&Path, u64> = HashMap::new();
    let mut last_first = Vec::new();
    for (at, change) in &notes.changes {
        let directory = change.directory();
        let number = fs::metadata(directory).map_or(0, |found| found.ino());
        let is_synced = notes.settled.get(&number).is_some_and(|synced| synced > at);
        if directory.starts_with(dir) && !is_synced {
            *unsynced.entry(directory).or_default() += 1;
            last_first.push(change);
        }
    }
    last_first.reverse();
    let mut directories: Vec<_> = unsynced.into_iter().collect();
    directories.sort_unstable();
    let mut left: HashMap<&Path, u64> = HashMap::new();
    for (directory, count) in directories {
        let count = match loss.is_torn() {
            true => random.below(count + 1),
            false => count,
        };
        left.insert(directory, count);
    }
    last_first.retain(|change| {
        let left = left.entry(change.directory()).or_default();
        let is_undone = *left > 0;
        *left = left.saturating_sub(1);
        is_undone
    });
    last_first
}

/// Makes it as it was; whether there was something to do: a change that was noted may not have happened.
fn undo(change: &Change) -> io::Result<bool> {
    let is = |path: &Path, file: u64| fs::metadata(path).is_ok_and(|found| found.ino() == file);
    match change {
        Change::Created { file, path } if is(path, *file) => {
            match path.is_dir() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
            Ok(true)
        }
        Change::Renamed {
            file,
            from,
            to,
            saved,
        } if is(to, *file) => {
            fs::rename(to, from)?;
            if let Some(saved) = saved {
                fs::hard_link(saved, to)?;
            }
            Ok(true)
        }
        Change::Removed {
            path,
            saved: Some(saved),
        } if !path.exists() && path.parent().is_some_and(Path::exists) => {
            fs::hard_link(saved, path)?;
            Ok(true)
        }
        Change::Created { .. } | Change::Renamed { .. } | Change::Removed { .. } => Ok(false),
    }
}

/// Takes what is behind the synced part, or some of it; how many bytes.
fn shorten(
    path: &Path,
    synced: u64,
    length: u64,
    loss: Loss,
    random: &mut Random,
) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path)?;
    if !loss.is_torn() {
        file.set_len(synced)?;
        return Ok(length - synced);
    }
    let from = synced + random.below(length - synced + 1);
    if loss == Loss::Zeros {
        let end = from.next_multiple_of(SECTOR_BYTES) + random.below(8) * SECTOR_BYTES;
        zero(&file, from, end.min(length))?;
        return Ok(end.min(length) - from);
    }
    file.set_len(from)?;
    Ok(length - from)
}

fn zero(file: &File, from: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(end - from).expect("some sectors")];
    file.write_all_at(&zeros, from)
}

/// Everything in a directory and below, sorted.
pub(crate) fn walk(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(walk(&path)?);
        }
        found.push(path);
    }
    found.sort_unstable();
    Ok(found)
}
