//! Takes the power away: after a kill -9, files are cut to what was synced.
//!
//! The page cache of the system outlives a process, so `kill -9` finds no sync that is missing. Processes that
//! are started with [`Power::env`] have a library loaded (`preload.c`) that notes each sync and each change of a
//! name; when they are dead, [`Power::cut`] leaves of their files what a machine without power would be sure to
//! have, or something between that and all:
//!
//! | of what isn't synced | may be lost |
//! |---|---|
//! | bytes at the end of a file | all, or a part; or a part comes back as zeros |
//! | new, changed and removed names in a directory | the last ones, any number |
//!
//! A cut is where a chain of such losses goes on from: what it leaves is on disk.
//!
//! Not modelled: bytes overwritten in place (nothing here does that), removed directories that come back, hard
//! links made by the processes.

mod cut;
mod notes;
pub mod random;

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use cut::{Loss, Lost};

/// The library.
pub const PRELOAD: &str = env!("POWER_PRELOAD");

/// Names of environment variables, for tests that want more of the library than [`Power::env`].
pub mod variable {
    /// The process dies at this moment, counted in its calls.
    pub const AT: &str = "POWER_LOSS_AT";
    /// Syncs of files with these suffixes are left out, as far as a cut is concerned.
    pub const LIE: &str = "POWER_LOSS_LIE";
    pub(crate) const DIR: &str = "POWER_LOSS_DIR";
    pub(crate) const LOG: &str = "POWER_LOSS_LOG";
}

/// A directory that can lose power.
#[derive(Debug)]
pub struct Power {
    dir: PathBuf,
    log: PathBuf,
}

impl Power {
    /// Watches a directory; all that is in it is on disk. `log` is a file that nobody has, beside the directory and
    /// on the same file system; others with longer names come along.
    pub fn watch(dir: &Path, log: &Path) -> io::Result<Power> {
        fs::create_dir_all(dir)?;
        let power = Power {
            dir: dir.canonicalize()?,
            log: log.to_owned(),
        };
        power.settle_all(&power.dir)?;
        Ok(power)
    }

    /// The environment of a process that writes there.
    pub fn env(&self) -> [(&'static str, OsString); 3] {
        [
            ("LD_PRELOAD", PRELOAD.into()),
            (variable::DIR, self.dir.clone().into()),
            (variable::LOG, self.log.clone().into()),
        ]
    }

    /// A file, or the names in a directory, are on disk; the test itself has seen to that.
    pub fn settle(&self, path: &Path) -> io::Result<()> {
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.log)?;
        let found = fs::metadata(path)?;
        log.write_all(notes::synced(found.ino(), found.len()).as_bytes())
    }

    /// The same for everything in a directory.
    pub fn settle_all(&self, dir: &Path) -> io::Result<()> {
        for path in cut::walk(dir)? {
            self.settle(&path)?;
        }
        self.settle(dir)
    }

    /// Leaves in a directory what power loss leaves. Its processes are dead.
    pub fn cut(&self, dir: &Path, loss: Loss, random: &mut random::Random) -> io::Result<Lost> {
        let dir = dir.canonicalize()?;
        let notes = notes::Notes::parse(&fs::read_to_string(&self.log)?);
        let lost = cut::cut(&notes, &dir, loss, random)?;
        if dir == self.dir {
            self.forget()?;
        }
        self.settle_all(&dir)?;
        Ok(lost)
    }

    /// All that was noted is history.
    fn forget(&self) -> io::Result<()> {
        let beside = self.log.parent().expect("the log is a file");
        let name = self.log.file_name().expect("the log is a file");
        for entry in fs::read_dir(beside)? {
            let entry = entry?;
            let found = entry.file_name();
            if found
                .as_encoded_bytes()
                .starts_with(name.as_encoded_bytes())
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
