//! What the system answers to a process, changed: `strace`, attached while it runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::send;
use crate::wait::{wait_for, wait_until};

const LIMIT: Duration = Duration::from_secs(30);
/// Whatever brings data to a disk.
const SYNCS: &str = "fsync,fdatasync";

/// A process whose system calls are watched; it is left alone when this goes.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    log: PathBuf,
}

/// What becomes of each call that syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It takes so long more.
    Slow(Duration),
    /// It fails; the next ones of the same thread don't.
    FailsOnce,
}

impl Strace {
    /// Whether this machine has it, and lets us.
    pub fn is_here() -> bool {
        let tried = Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    }

    /// Changes what becomes of a process's syncs, from when this returns. What was done is logged in `dir`.
    pub fn syncs(pid: u32, what: Sync, dir: &Path) -> Strace {
        let log = dir.join(format!("strace-{pid}-{what:?}").replace(['(', ')', '.'], "-"));
        let fault = match what {
            Sync::Slow(by) => format!("delay_enter={}", by.as_micros()),
            Sync::FailsOnce => "error=EIO:when=1".to_owned(),
        };
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-o"]).arg(&log);
        command.args(["-e", &format!("trace={SYNCS}")]);
        command.args(["-e", &format!("inject={SYNCS}:{fault}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        let mut strace = Strace {
            child: child.expect("it was looked for before"),
            log,
        };
        wait_until("strace to have every thread", LIMIT, || {
            if let Ok(Some(status)) = strace.child.try_wait() {
                panic!("strace: {status}");
            }
            is_traced(pid)
        });
        strace
    }

    /// How many calls were changed so far.
    pub fn hits(&self) -> u64 {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let changed = |line: &&str| line.contains("(INJECTED)") || line.contains("(DELAYED)");
        log.lines().filter(changed).count() as u64
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It lets go of what it watches before it ends.
        send(self.child.id(), Signal::TERM);
        if !std::thread::panicking() {
            wait_for("the end of strace", LIMIT, || {
                self.child.try_wait().ok().flatten()
            });
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether all threads of a process have a tracer.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() != "0")
    })
}
