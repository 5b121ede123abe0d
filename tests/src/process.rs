//! One process, from start to end.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::wait::wait_for;

/// The binary under test: what is shipped, or the one with bugs compiled in if the environment names one
/// (`tests/planted`).
pub fn caucus() -> PathBuf {
    match std::env::var_os(caucus_planted::VARIABLE) {
        Some(_) => planted(),
        None => shipped(),
    }
}

/// The binary with bugs and places to fail at.
pub fn planted() -> PathBuf {
    built("caucus-planted", "run deploy/local/planted")
}

/// The binary that is shipped.
pub fn shipped() -> PathBuf {
    built(
        "caucus",
        "run deploy/local/test, or cargo build --release first",
    )
}

/// Another program of this repository.
pub fn program(name: &str) -> PathBuf {
    built(
        name,
        "run deploy/local/test first, or cargo build --release --workspace --bins",
    )
}

/// In the directory that this test runs from.
fn built(name: &str, remedy: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests run from PROFILE/deps");
    let binary = profile.join(name);
    assert!(
        binary.exists(),
        "{} isn't built: {remedy}",
        binary.display()
    );
    binary
}

/// `caucus` with arguments, and nothing of the caller's configuration but a planted bug.
pub fn command(args: &[&str]) -> Command {
    command_behind(&[], args)
}

/// The same, started by another program, whose command line stands before.
pub fn command_behind(before: &[String], args: &[&str]) -> Command {
    command_of(&caucus(), before, args)
}

/// The same of another build.
pub fn command_of(binary: &Path, before: &[String], args: &[&str]) -> Command {
    let mut command = match before.split_first() {
        Some((program, more)) => {
            let mut command = Command::new(program);
            command.args(more).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_string_lossy().starts_with("CAUCUS_");
        if is_ours && name != caucus_planted::VARIABLE {
            command.env_remove(name);
        }
    }
    command
}

/// A process in the background; killed when the handle goes.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `caucus dev`, `server` or `join`, which then ends with the thread that calls this, even if
    /// nobody is left to end it.
    pub fn start_nodes(mut command: Command, dir: &Path, name: &str) -> Process {
        command.args(["--parent", &std::process::id().to_string()]);
        Process::start(command, dir, name)
    }

    /// Starts it; its output goes to the files `NAME.out` and `NAME.err` in `dir`.
    pub fn start(mut command: Command, dir: &Path, name: &str) -> Process {
        let stdout = dir.join(format!("{name}.out"));
        let stderr = dir.join(format!("{name}.err"));
        let file = |path: &Path| File::create(path).expect("the test's directory can be written");
        let child = command.stdout(file(&stdout)).stderr(file(&stderr)).spawn();
        let child = child.expect("the binary starts");
        Process {
            child,
            stdout,
            stderr,
        }
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end; returns the exit code, none if a signal ended it.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        wait_for("the end of a process", limit, || self.ended()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.expect("the output's file is there");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a signal to a process that may be gone.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = number(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process with this number exists and isn't a zombie.
pub fn is_alive(pid: u32) -> bool {
    let exists = number(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    // Its first thread may be gone while others still hold its files.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    exists && (state == Some(false) || threads > 1)
}

fn number(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// A finished run of `caucus`.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `caucus` to its end.
pub fn run(args: &[&str]) -> Finished {
    let output = command(args).output().expect("the binary starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
