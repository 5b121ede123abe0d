//! RocksDB loses power: a process of its own writes, dies, and its files are cut to what it had synced.

use crate::life::{Coverage, Plan, Subject, Then};
use crate::model::{self, Contents, Model, Told};
use caucus_engine::rocks::{Options, RocksEngine};
use caucus_engine::{Engine, Space};
use caucus_power::random::Random;
use caucus_power::{Loss, Power, variable};
use rustix::process::{Signal, getpid, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use tempfile::TempDir;

/// Variables of the process that dies.
const DIR: &str = "LIFE_DIR";
const TOLD: &str = "LIFE_TOLD";
const SEED: &str = "LIFE_SEED";
const LIFE: &str = "LIFE_NUMBER";
const COUNT: &str = "LIFE_COUNT";

pub(crate) struct Rocks {
    power: Power,
    /// Planted: syncs of files with this ending are left out.
    lie: Option<&'static str>,
    /// What a power loss takes; none: any of what databases must bear.
    loss: Option<Loss>,
    life: u64,
    directory: TempDir,
}

/// Small, so that a few hundred batches flush and compact.
fn options() -> Options {
    Options {
        write_buffer_bytes: 64 << 10,
        write_buffers_bytes: 192 << 10,
        wal_bytes_max: 256 << 10,
        table_bytes: 64 << 10,
        level_bytes: 256 << 10,
        ..Options::default()
    }
}

impl Rocks {
    pub(crate) fn new(lie: Option<&'static str>) -> Rocks {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        let power = Power::watch(&root.join("data"), &root.join("power")).expect("a new directory");
        Rocks {
            power,
            lie,
            loss: None,
            life: 0,
            directory,
        }
    }

    pub(crate) fn losing(loss: Loss) -> Rocks {
        Rocks {
            loss: Some(loss),
            ..Rocks::new(None)
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Subject for Rocks {
    fn run(&mut self, model: &Model, plan: &Plan, coverage: &mut Coverage) -> Told {
        let told = self.path("told");
        // Empty, also if it dies before it says anything.
        File::create(&told).expect("the test's directory can be written");
        let mut command = Command::new(std::env::current_exe().expect("a test knows where it is"));
        command.args([
            "--exact",
            "rocks::a_process_that_dies",
            "--ignored",
            "--nocapture",
        ]);
        command.envs(self.power.env());
        command.env(DIR, self.path("data")).env(TOLD, &told);
        command
            .env(SEED, model.seed.to_string())
            .env(LIFE, self.life.to_string());
        command.env(COUNT, model.count.to_string());
        if let Some(moment) = plan.dies_at {
            command.env(variable::AT, moment.to_string());
        }
        if let Some(lie) = self.lie {
            command.env(variable::LIE, lie);
        }
        let ended = command.stdout(Stdio::null()).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(9), "{}: {said}", ended.status);
        let mut random = Random::nth(model.seed ^ 0x6375_7473, self.life);
        let loss = self.loss.unwrap_or_else(|| Loss::one(&mut random));
        let lost = self.power.cut(&self.path("data"), loss, &mut random);
        let lost = lost.expect("the files can be cut");
        coverage.names_lost += u64::from(lost.names > 0);
        self.life += 1;
        read_told(&told, model.count)
    }

    /// Of a copy: a look that mends something must not help the next life.
    fn contents(&mut self) -> Result<Contents, String> {
        let copy = self.path("copy");
        copy_directory(&self.path("data"), &copy);
        let engine =
            RocksEngine::open(&copy, options()).map_err(|error| format!("open: {error}"))?;
        let found = model::contents(&engine).map_err(|error| format!("read: {error}"));
        drop(engine);
        fs::remove_dir_all(&copy).expect("it is ours");
        found
    }
}

/// Lines `written N` before a batch is written, and `synced N`.
fn read_told(path: &Path, before: u64) -> Told {
    let mut told = Told {
        synced: 0,
        written: before,
    };
    for line in fs::read_to_string(path).expect("it was made").lines() {
        let (what, number) = line.split_once(' ').expect("two words");
        let number: u64 = number.parse().expect("a number");
        match what {
            "written" => told.written = number,
            _ => told.synced = told.synced.max(number),
        }
    }
    told
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("type").is_dir() {
            true => copy_directory(&entry.path(), &target),
            false => _ = fs::copy(entry.path(), target).expect("copy"),
        }
    }
}

fn number(name: &str) -> u64 {
    let text = std::env::var(name).expect("its parent says so");
    text.parse().expect("a number")
}

/// What is told must be told before the process can die of the next call, so it goes straight to the system.
fn tell(mut file: &File, what: &str, number: u64) {
    let line = format!("{what} {number}\n");
    file.write_all(line.as_bytes()).expect("the parent's file");
}

#[test]
#[ignore = "the others start it, and it dies"]
fn a_process_that_dies() {
    let path = std::env::var(TOLD).expect("its parent says so");
    let told = OpenOptions::new().append(true).open(path);
    let told = Arc::new(told.expect("its parent made it"));
    let directory = std::env::var(DIR).expect("its parent says so");
    let engine = RocksEngine::open(directory, options()).expect("open");
    let begun = number(COUNT);
    let found = model::contents(&engine).expect("read");
    assert_eq!(
        model::count(&found, Space::Log),
        begun,
        "another one found so many"
    );
    let (seed, plan) = (number(SEED), Plan::new(number(SEED), number(LIFE)));
    for (before, then) in (begun..).zip(plan.steps) {
        let count = before + 1;
        tell(&told, "written", count);
        engine.write(model::batch(seed, before)).expect("write");
        let (sender, synced) = mpsc::channel();
        if matches!(then, Then::Sync | Then::SyncAndWait) {
            let told = Arc::clone(&told);
            engine.sync(Box::new(move |outcome| {
                outcome.expect("sync");
                tell(&told, "synced", count);
                let _ = sender.send(());
            }));
        }
        match then {
            Then::SyncAndWait => synced.recv().expect("called"),
            Then::Compact => engine.compact().expect("compact"),
            Then::Nothing | Then::Sync => {}
        }
    }
    kill_process(getpid(), Signal::KILL).expect("it may die");
}
