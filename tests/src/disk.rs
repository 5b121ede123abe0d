//! Small file systems in memory, for as long as a test runs.
//!
//! They are mounted in a mount namespace of their own, which one process keeps open. Its standard input
//! is a pipe from the test: when the test ends, however it ends, so does that process, and with the last
//! process inside the namespace goes, and the mounts with it. Who isn't root gets one inside a user
//! namespace, where the machine allows that.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Mounts one file system at each argument, says so, and waits for the end of the test.
const HOLD: &str = "for dir do mount -t tmpfs -o size=$SIZE tmpfs \"$dir\" || exit 1; done; \
                    echo mounted; exec cat";

/// File systems that only processes started through [`Disks::enter`] see at their place.
#[derive(Debug)]
pub struct Disks {
    /// Dropping it closes its standard input.
    holder: Child,
    namespaces: &'static [&'static str],
}

impl Disks {
    /// Mounts a file system of `size` at each of the paths; an error if this machine won't let us.
    pub fn mount(paths: &[PathBuf], size: &str) -> Result<Disks, String> {
        for path in paths {
            std::fs::create_dir_all(path).expect("the test's directory can be written");
        }
        hold(paths, size, &["--mount"]).or_else(|as_root| {
            let as_user = hold(paths, size, &["--user", "--map-root-user", "--mount"]);
            as_user.map_err(|error| format!("{as_root}; in a user namespace: {error}"))
        })
    }

    /// What stands before the command line of a process that is to see them.
    pub fn enter(&self) -> Vec<String> {
        let mut words = vec![
            "nsenter".to_owned(),
            "--target".to_owned(),
            self.holder.id().to_string(),
        ];
        let flags: &[&str] = match self.namespaces.first() {
            Some(&"--user") => &["--user", "--preserve-credentials", "--mount"],
            Some(_) | None => &["--mount"],
        };
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        words
    }

    /// Where the test finds what the processes inside find at `path`.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").expect("an absolute path");
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(inside)
    }
}

fn hold(
    paths: &[PathBuf],
    size: &str,
    namespaces: &'static [&'static str],
) -> Result<Disks, String> {
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-c", HOLD, "hold"]);
    command.args(paths).env("SIZE", size);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("unshare: {error}"))?;
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("it is piped");
    let read = BufReader::new(stdout).read_line(&mut line);
    let mut disks = Disks { holder, namespaces };
    match read {
        Ok(_) if line == "mounted\n" => Ok(disks),
        Ok(_) | Err(_) => Err(disks.last_words()),
    }
}

impl Disks {
    fn last_words(&mut self) -> String {
        let stderr = self.holder.stderr.take().expect("it is piped");
        let text = std::io::read_to_string(stderr).unwrap_or_default();
        text.trim().replace('\n', "; ")
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
