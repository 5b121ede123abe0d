//! Files that are not as they were written: bits flipped, ranges zeroed, ends cut, files gone.
//!
//! The engine may refuse to open, or to read; or all is there. One thing more it may do, with a damaged write-ahead
//! log only: have a shorter prefix of the batches. It can't tell that from a torn tail; the replicas can, who know
//! how far their logs were synced (`caucus-raft`, `tests/damage.rs`). It must never have anything else.

use crate::model::{self, Contents, Model, Told};
use crate::rocks::copy_directory;
use caucus_engine::Engine;
use caucus_engine::rocks::{Options, RocksEngine};
use caucus_power::random::Random;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tempfile::TempDir;

const BATCHES: u64 = 400;
/// Damages of each kind to each file.
const TIMES: u64 = 2;
/// RocksDB's logs are made of blocks of so many bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Flip,
    Zero512,
    Zero4096,
    Cut,
    CutAtRecord,
    Remove,
}

const ALL: [Damage; 6] = [
    Damage::Flip,
    Damage::Zero512,
    Damage::Zero4096,
    Damage::Cut,
    Damage::CutAtRecord,
    Damage::Remove,
];

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    RefusedToOpen,
    RefusedToRead,
    Whole,
    Shorter,
}

/// An engine that has had many batches, all synced, in tables and in several write-ahead logs.
struct Template {
    directory: TempDir,
    model: Model,
}

/// The log's tables are flushed often; the state's seldom, so that old write-ahead logs are needed.
fn options() -> Options {
    Options {
        write_buffer_bytes: 64 << 10,
        write_buffers_bytes: 64 << 20,
        table_bytes: 64 << 10,
        level_bytes: 256 << 10,
        ..Options::default()
    }
}

/// Nothing here has to outlive the machine, and there are hundreds of opens with all their syncs.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary directory")
}

fn sync(engine: &dyn Engine) {
    let (sender, synced) = mpsc::channel();
    engine.sync(Box::new(move |outcome| {
        outcome.expect("sync");
        let _ = sender.send(());
    }));
    synced.recv().expect("called");
}

impl Template {
    fn new(seed: u64) -> Template {
        let directory = in_memory();
        let engine = RocksEngine::open(directory.path(), options()).expect("open");
        let mut model = Model::new(seed);
        for number in 0..BATCHES {
            engine.write(model::batch(seed, number)).expect("write");
            if number % 10 == 0 {
                sync(&engine);
            }
            if number == BATCHES / 2 {
                engine.compact().expect("compact");
            }
        }
        sync(&engine);
        drop(engine);
        // A look moves all from the write-ahead logs into tables.
        let copy = in_memory();
        copy_directory(directory.path(), copy.path());
        let found = look(copy.path()).expect("nothing is damaged");
        let told = Told {
            synced: BATCHES,
            written: BATCHES,
        };
        model.go_on(told, &found).expect("nothing is damaged");
        Template { directory, model }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for directory in ["", "db"] {
            for entry in fs::read_dir(self.directory.path().join(directory)).expect("list") {
                let name = entry.expect("entry").file_name();
                let path = Path::new(directory).join(name);
                // Written for people; and held while it is open.
                let is_data = !["LOG", "LOCK"].contains(&kind(&path).as_str());
                if is_data && self.directory.path().join(&path).is_file() {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// How long a manifest is, by its mark.
    fn marks(&self, file: &Path) -> Option<u64> {
        let mark = fs::read_to_string(self.directory.path().join("MANIFEST-MARK")).expect("synced");
        let (name, rest) = mark.split_once(' ').expect("three words");
        let (bytes, _) = rest.split_once(' ').expect("three words");
        (file.file_name()? == name).then(|| bytes.parse().expect("a number"))
    }

    /// None if the file is too small to be damaged so.
    fn judge(
        &self,
        file: &Path,
        damage: Damage,
        random: &mut Random,
    ) -> Option<Result<Verdict, String>> {
        let copy = in_memory();
        copy_directory(self.directory.path(), copy.path());
        let hurt_file = copy.path().join(file);
        // A cut in what was written after the last mark can't be seen.
        if !hurt(&hurt_file, damage, random)
            || self
                .marks(file)
                .is_some_and(|marked| marked <= length(&hurt_file))
        {
            return None;
        }
        Some(match look(copy.path()) {
            Err(Refusal::Open) => Ok(Verdict::RefusedToOpen),
            Err(Refusal::Read) => Ok(Verdict::RefusedToRead),
            Ok(found) if found == self.model.contents => Ok(Verdict::Whole),
            Ok(found) => {
                let told = Told {
                    synced: 0,
                    written: BATCHES,
                };
                let prefix = Model::new(self.model.seed).go_on(told, &found);
                prefix.map(|()| Verdict::Shorter)
            }
        })
    }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

#[derive(Debug)]
enum Refusal {
    Open,
    Read,
}

fn look(path: &Path) -> Result<Contents, Refusal> {
    let engine = RocksEngine::open(path, options()).map_err(|_| Refusal::Open)?;
    model::contents(&engine).map_err(|_| Refusal::Read)
}

/// Whether there was anything to damage.
fn hurt(path: &Path, damage: Damage, random: &mut Random) -> bool {
    let mut bytes = fs::read(path).expect("read");
    let whole = bytes.clone();
    let at = |random: &mut Random, unit: usize| {
        let units = whole.len().div_ceil(unit) as u64;
        random.below(units.max(1)) as usize * unit
    };
    match damage {
        Damage::Flip if whole.is_empty() => {}
        Damage::Flip => bytes[at(random, 1)] ^= 1 << random.below(8),
        Damage::Zero512 => zero(&mut bytes, at(random, 512), 512),
        Damage::Zero4096 => zero(&mut bytes, at(random, 4096), 4096),
        Damage::Cut => bytes.truncate(at(random, 1)),
        Damage::CutAtRecord => {
            let ends = record_ends(&bytes);
            bytes.truncate(
                ends.get(random.below(ends.len().max(1) as u64) as usize)
                    .map_or(whole.len(), |end| *end),
            );
        }
        Damage::Remove => {
            fs::remove_file(path).expect("remove");
            return true;
        }
    }
    fs::write(path, &bytes).expect("write");
    bytes != whole
}

fn zero(bytes: &mut [u8], from: usize, length: usize) {
    let end = (from + length).min(bytes.len());
    bytes[from..end].fill(0);
}

/// Where the records of one of RocksDB's logs end: checksum, length (2 bytes), kind, data; none goes over the end of
/// a block. Nonsense, but harmless, for a file that is no such log.
fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at + 7 <= bytes.len() {
        if BLOCK_BYTES - at % BLOCK_BYTES < 7 {
            at = at.next_multiple_of(BLOCK_BYTES);
            continue;
        }
        at += 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        if at < bytes.len() {
            ends.push(at);
        }
    }
    ends
}

fn kind(file: &Path) -> String {
    let name = file
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    match name.split_once(['-', '.']) {
        Some((_, ending @ ("log" | "sst"))) => ending.to_owned(),
        Some((begin, _)) => begin.to_owned(),
        None => name,
    }
}

#[test]
fn no_damage_goes_unseen() {
    let mut seen: BTreeMap<(String, Damage, Verdict), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in 1..=2 {
        let template = Template::new(seed);
        let mut random = Random::nth(seed, 1);
        for file in template.files() {
            for damage in ALL {
                for _ in 0..TIMES {
                    let kind = kind(&file);
                    match template.judge(&file, damage, &mut random) {
                        None => break,
                        Some(Ok(verdict)) if verdict != Verdict::Shorter || kind == "log" => {
                            *seen.entry((kind, damage, verdict)).or_default() += 1;
                        }
                        Some(Ok(verdict)) => {
                            wrong.push(format!("{damage:?} of {}: {verdict:?}", file.display()))
                        }
                        Some(Err(why)) => {
                            wrong.push(format!("{damage:?} of {}: {why}", file.display()))
                        }
                    }
                }
            }
        }
    }
    let verdicts = |kind: &str, verdict: Verdict| {
        let counts = seen
            .iter()
            .filter(|((of, _, said), _)| of == kind && *said == verdict);
        counts.map(|(_, count)| count).sum::<u64>()
    };
    // A damage that is never done proves nothing.
    assert!(verdicts("log", Verdict::Shorter) > 0, "{seen:?}");
    assert!(verdicts("log", Verdict::RefusedToOpen) > 0, "{seen:?}");
    assert!(verdicts("sst", Verdict::RefusedToRead) > 0, "{seen:?}");
    for kind in ["MANIFEST", "CURRENT", "FORMAT"] {
        assert!(verdicts(kind, Verdict::RefusedToOpen) > 0, "{seen:?}");
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
