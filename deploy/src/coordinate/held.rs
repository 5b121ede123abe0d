//! A command that runs as long as something is held.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::fatal::Fatal;

/// A command that has to end gets so long to do it in good order.
const GRACE: Duration = Duration::from_secs(5);

/// How it ended.
pub(super) enum Ended {
    /// The command, with a code; or this process was told to end.
    Done(u8),
    /// What was held is lost.
    Lost,
}

/// Runs a command, or waits to be told to end, until that or until `lost`.
pub(super) async fn run(
    command: &[String],
    environment: &[(&str, String)],
    lost: impl Future<Output = ()>,
) -> Result<Ended, Fatal> {
    let interrupted = listen()?;
    tokio::pin!(interrupted, lost);
    let Some((program, arguments)) = command.split_first() else {
        return Ok(tokio::select! {
            () = &mut interrupted => Ended::Done(0),
            () = &mut lost => Ended::Lost,
        });
    };
    let child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| Fatal::setup(format!("{program}: {error}")))?;
    tokio::select! {
        ended = child.wait() => {
            let status = ended.map_err(|error| Fatal::failed(format!("{program}: {error}")))?;
            Ok(Ended::Done(code(status)))
        }
        () = &mut lost => {
            end(&mut child).await;
            Ok(Ended::Lost)
        }
        () = &mut interrupted => Ok(Ended::Done(end(&mut child).await)),
    }
}

/// As a shell says it: 128 and the signal, if one has ended it.
fn code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

async fn end(child: &mut Child) -> u8 {
    let pid = child
        .id()
        .and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
    if let Some(pid) = pid {
        // It may have ended by itself.
        _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    match timeout(GRACE, child.wait()).await {
        Ok(Ok(status)) => code(status),
        Ok(Err(_)) => 1,
        Err(_) => {
            _ = child.kill().await;
            1
        }
    }
}

fn listen() -> Result<impl Future<Output = ()>, Fatal> {
    let listen = |kind| signal(kind).map_err(|error| Fatal::failed(error.to_string()));
    let (mut term, mut int) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
