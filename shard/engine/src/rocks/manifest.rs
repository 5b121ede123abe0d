//! How long RocksDB's manifest is at least.
//!
//! The manifest says which tables and logs there are. One that has lost its end at a record is whole for all that
//! RocksDB can know: it opens with tables of before, and replays today's write-ahead log behind the hole. So a
//! file beside the database says how long the manifest was at a time when it was on disk. It lags behind, which only
//! makes the check weaker, and a lost one checks nothing; it must never say too much.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const MARK: &str = "MANIFEST-MARK";
const MARK_PART: &str = "MANIFEST-MARK.part";

/// A manifest and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Length {
    name: String,
    bytes: u64,
}

impl Length {
    /// Of the manifest in use.
    fn now(database: &Path) -> io::Result<Length> {
        let name = fs::read_to_string(database.join("CURRENT"))?
            .trim_end()
            .to_owned();
        let bytes = fs::metadata(database.join(&name))?.len();
        Ok(Length { name, bytes })
    }

    /// Later manifests have higher numbers, each written whole before it is used.
    fn number(&self) -> Option<u64> {
        self.name.strip_prefix("MANIFEST-")?.parse().ok()
    }

    fn to_text(&self) -> String {
        let text = format!("{} {}", self.name, self.bytes);
        format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
    }

    fn parse(text: &str) -> Option<Length> {
        let (checked, crc) = text.strip_suffix('\n')?.rsplit_once(' ')?;
        let (name, bytes) = checked.split_once(' ')?;
        let length = Length {
            name: name.to_owned(),
            bytes: bytes.parse().ok()?,
        };
        (crc == format!("{:08x}", crc32c::crc32c(checked.as_bytes()))).then_some(length)
    }
}

/// Before RocksDB opens: whether the manifest is as long as it was.
pub(super) fn check(path: &Path, database: &Path) -> Result<()> {
    let text = match fs::read(path.join(MARK)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let corrupt = |context: String| Err(Error::Corruption { context });
    let Some(mark) = Length::parse(&text) else {
        return corrupt(format!("{} is damaged", path.join(MARK).display()));
    };
    let now = match Length::now(database) {
        Ok(now) => now,
        // RocksDB has the better words.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if now.number() < mark.number() || (now.name == mark.name && now.bytes < mark.bytes) {
        return corrupt(format!(
            "{} has {} bytes, and {} had {}",
            now.name, now.bytes, mark.name, mark.bytes
        ));
    }
    Ok(())
}

/// Writes down how long the manifest is, if that isn't what `known` says. Blocks on the disk.
pub(super) fn note(path: &Path, database: &Path, known: &mut Option<Length>) -> io::Result<()> {
    let now = Length::now(database)?;
    if known.as_ref() == Some(&now) {
        return Ok(());
    }
    // RocksDB may be between writing and syncing it.
    File::open(database.join(&now.name))?.sync_data()?;
    let part = path.join(MARK_PART);
    let mut file = File::create(&part)?;
    file.write_all(now.to_text().as_bytes())?;
    file.sync_data()?;
    // The old file or the new one, whichever a power loss leaves.
    fs::rename(&part, path.join(MARK))?;
    *known = Some(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(name: &str, bytes: u64) -> Length {
        Length {
            name: name.to_owned(),
            bytes,
        }
    }

    #[test]
    fn a_mark_reads_as_written_and_no_damage_does() {
        let mark = length("MANIFEST-000012", 3456);
        let text = mark.to_text();
        assert_eq!(Length::parse(&text), Some(mark));
        for at in 0..text.len() {
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 1;
            assert_eq!(Length::parse(&String::from_utf8_lossy(&flipped)), None);
            assert_eq!(Length::parse(&text[..at]), None);
        }
    }

    #[test]
    fn a_manifest_may_be_longer_or_later_but_not_less() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, database) = (directory.path(), directory.path().join("db"));
        fs::create_dir(&database).expect("create");
        let write = |name: &str, bytes: usize| {
            fs::write(database.join(name), vec![0; bytes]).expect("write");
            fs::write(database.join("CURRENT"), format!("{name}\n")).expect("write");
        };
        write("MANIFEST-000009", 100);
        check(path, &database).expect("no mark yet");
        note(path, &database, &mut None).expect("note");
        let is_refused = || check(path, &database).is_err_and(|error| error.is_corruption());
        for (name, bytes, refused) in [
            ("MANIFEST-000009", 100, false),
            ("MANIFEST-000009", 99, true),
            ("MANIFEST-000009", 101, false),
            ("MANIFEST-000010", 1, false),
            ("MANIFEST-000008", 1000, true),
        ] {
            write(name, bytes);
            assert_eq!(is_refused(), refused, "{name} {bytes}");
        }
    }
}
