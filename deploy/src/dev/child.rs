//! One node as a child process.
//!
//! A task owns the process: it alone signals it and waits for it, so a number that the system has given
//! to somebody else is never signalled. The child asks the system to kill it when its parent is gone
//! (`--parent`).

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::layout::Place;
use crate::fatal::Fatal;

/// What is asked of all children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing yet.
    No,
    /// End in good order.
    Terminate,
    /// End.
    Kill,
}

/// A child is gone.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its node.
    pub(super) node: u32,
    status: Option<ExitStatus>,
    error: Option<String>,
}

impl Ended {
    /// The exit code to pass on.
    pub(super) fn code(&self) -> u8 {
        let code = self.status.and_then(|status| status.code());
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(code) if code != 0 => code,
            Some(_) | None => 1,
        }
    }

    /// Its own last words, or what the system says.
    pub(super) fn reason(&self) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => error.clone(),
            (None, Some(status)) => match status.signal() {
                Some(signal) => format!("signal {signal}"),
                None => status.to_string(),
            },
            (None, None) => "it can't be waited for".to_owned(),
        }
    }
}

/// Starts a node; `ended` hears of its end. Returns the process id.
pub(super) fn start(
    place: &Place,
    stop: watch::Receiver<Stop>,
    ended: mpsc::Sender<Ended>,
) -> Result<u32, Fatal> {
    let program = std::env::current_exe().map_err(Fatal::failed)?;
    let mut command = Command::new(program);
    for name in foreign_variables() {
        command.env_remove(name);
    }
    let mut child = command
        .arg("server")
        .arg("--config")
        .arg(place.config_file())
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Fatal::failed)?;
    let pid = child.id().expect("it hasn't been waited for");
    let errors = child.stderr.take().expect("it is piped");
    let node = place.id;
    tokio::spawn(async move {
        let (error, status) = tokio::join!(relay(node, errors), wait(&mut child, stop));
        let end = Ended {
            node,
            status,
            error,
        };
        // Nobody listens any more when this process is ending itself.
        let _ = ended.send(end).await;
    });
    Ok(pid)
}

/// Variables that would change the generated configuration. Those of tests don't.
fn foreign_variables() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| {
        let is_ours = name.to_string_lossy().starts_with("CAUCUS_");
        let is_of_tests =
            name == caucus_planted::VARIABLE || name == caucus_planted::POINTS_VARIABLE;
        is_ours && !(caucus_planted::COMPILED_IN && is_of_tests)
    })
}

/// Waits for the end, and passes on what is asked in the meantime.
async fn wait(child: &mut Child, mut stop: watch::Receiver<Stop>) -> Option<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status.ok(),
            Ok(()) = stop.changed() => {
                let asked = *stop.borrow_and_update();
                let signal = match asked {
                    Stop::No => continue,
                    Stop::Terminate => Signal::TERM,
                    Stop::Kill => Signal::KILL,
                };
                let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(pid) = pid {
                    // It may have ended by itself just now.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// Copies the child's lines to standard error, with its number; returns its last error.
async fn relay(node: u32, errors: impl AsyncRead + Unpin) -> Option<String> {
    let mut lines = BufReader::new(errors).lines();
    let mut last = None;
    while let Ok(Some(line)) = lines.next_line().await {
        match line.strip_prefix("error: ") {
            Some(error) => last = Some(error.to_owned()),
            None => eprintln!("[node {node}] {line}"),
        }
    }
    last
}
