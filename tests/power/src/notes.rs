//! What the library has noted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A change of names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file or a directory is new.
    Created { file: u64, path: PathBuf },
    /// A file has another name; the one that had it before is `saved`.
    Renamed {
        file: u64,
        from: PathBuf,
        to: PathBuf,
        saved: Option<PathBuf>,
    },
    /// A file has lost its name.
    Removed {
        path: PathBuf,
        saved: Option<PathBuf>,
    },
}

impl Change {
    /// The directory that must be synced for the change to last.
    pub(crate) fn directory(&self) -> &Path {
        let path = match self {
            Change::Created { path, .. } | Change::Removed { path, .. } => path,
            Change::Renamed { to, .. } => to,
        };
        path.parent().expect("a path in a directory")
    }
}

/// Everything, by numbers of files.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// How far files are on disk.
    pub(crate) synced: HashMap<u64, u64>,
    /// The line after which the names in a directory were last synced.
    pub(crate) settled: HashMap<u64, usize>,
    /// Changes with their lines.
    pub(crate) changes: Vec<(usize, Change)>,
}

/// Lines that say that a file is on disk, with this length and no other.
pub(crate) fn synced(file: u64, length: u64) -> String {
    format!("T\t{file}\t{length}\nS\t{file}\t{length}\n")
}

impl Notes {
    /// Reads the log. Its last line may be cut short: the process died in it.
    pub(crate) fn parse(text: &str) -> Notes {
        let mut notes = Notes::default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for (at, line) in whole.lines().enumerate() {
            notes.line(at, line);
        }
        notes
    }

    fn line(&mut self, at: usize, line: &str) {
        let words: Vec<&str> = line.split('\t').collect();
        let number = |word: &str| -> u64 { word.parse().unwrap_or_else(|_| panic!("{line}")) };
        let saved = |word: &str| (word != "-").then(|| PathBuf::from(word));
        match words[..] {
            ["S", file, length] => {
                self.settled.insert(number(file), at);
                // Of two threads that sync the same file the one that saw less of it may be noted last.
                let synced = self.synced.entry(number(file)).or_default();
                *synced = number(length).max(*synced);
            }
            ["T", file, length] => {
                let synced = self.synced.entry(number(file)).or_default();
                *synced = number(length).min(*synced);
            }
            ["C", file, path] => {
                let file = number(file);
                self.synced.insert(file, 0);
                let path = path.into();
                self.changes.push((at, Change::Created { file, path }));
            }
            ["R", file, from, to, before] => {
                let change = Change::Renamed {
                    file: number(file),
                    from: from.into(),
                    to: to.into(),
                    saved: saved(before),
                };
                self.changes.push((at, change));
            }
            ["U", path, before] => {
                let (path, saved) = (path.into(), saved(before));
                self.changes.push((at, Change::Removed { path, saved }));
            }
            _ => panic!("not a note: {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_disk(lines: &str) -> Option<u64> {
        Notes::parse(lines).synced.get(&7).copied()
    }

    #[test]
    fn what_was_synced_stays_so_until_it_is_cut() {
        assert_eq!(on_disk("C\t7\t/d/a\n"), Some(0));
        assert_eq!(on_disk("C\t7\t/d/a\nS\t7\t10\n"), Some(10));
        // Noted by a thread that was overtaken.
        assert_eq!(on_disk("S\t7\t20\nS\t7\t10\n"), Some(20));
        assert_eq!(on_disk("S\t7\t20\nT\t7\t5\n"), Some(5));
        assert_eq!(on_disk("S\t7\t20\nT\t7\t5\nS\t7\t8\n"), Some(8));
        // The number was another file's.
        assert_eq!(on_disk("S\t7\t20\nC\t7\t/d/b\n"), Some(0));
        assert_eq!(on_disk(&format!("S\t7\t20\n{}", synced(7, 12))), Some(12));
    }
}
