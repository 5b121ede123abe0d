//! `caucus lock` and `caucus elect`.

use std::time::Duration;

use caucus_sdk::encoded;
use hyper::Method;
use serde_json::{Value, json};

use super::held::{self, Ended};
use super::{ask, follow, print, value_of};
use crate::endpoints::Cluster;
use crate::fatal::Fatal;

/// Options of `caucus lock`.
#[derive(Debug, clap::Args)]
pub(crate) struct Lock {
    /// The lock.
    name: String,

    /// What to run while it is held, with CAUCUS_LOCK_KEY, CAUCUS_LOCK_TOKEN and CAUCUS_LOCK_LEASE in its environment;
    /// it is ended if the lock is lost. Without one it is held until this process is told to end.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,

    /// How long it is held without a sign of life, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl: u64,

    /// How long to wait for it, in seconds; 0: not at all.
    #[arg(long, default_value_t = 3600.0, value_name = "SECONDS")]
    wait: f64,

    /// Together with other readers.
    #[arg(long, conflicts_with_all = ["write", "permits"])]
    read: bool,

    /// Without readers and other writers.
    #[arg(long, conflicts_with = "permits")]
    write: bool,

    /// As one of so many.
    #[arg(long, value_name = "N")]
    permits: Option<u32>,

    /// A note about who holds it.
    #[arg(long, default_value = "")]
    owner: String,

    /// Show who holds it and who waits.
    #[arg(long, conflicts_with_all = ["command", "force"])]
    show: bool,

    /// Take it from the holder with this lease.
    #[arg(long, value_name = "LEASE", conflicts_with = "command")]
    force: Option<String>,

    #[command(flatten)]
    cluster: Cluster,
}

/// Options of `caucus elect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Elect {
    /// The election.
    name: String,

    /// What to run while it leads, with CAUCUS_ELECTION_KEY, CAUCUS_ELECTION_TOKEN and CAUCUS_ELECTION_LEASE in its
    /// environment; it is ended when leadership is lost. Without one it leads until this process is told to end.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,

    /// What is proclaimed.
    #[arg(long, default_value = "")]
    value: String,

    /// How long it leads without a sign of life, in seconds.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl: u64,

    /// Show who leads.
    #[arg(long, conflicts_with_all = ["command", "observe"])]
    leader: bool,

    /// Show who leads, as that changes.
    #[arg(long, conflicts_with = "command")]
    observe: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// The exit code: that of the command, or 1 if the lock was lost.
pub(super) async fn lock(args: Lock) -> Result<u8, Fatal> {
    let path = format!("/v1/locks/{}", encoded(&args.name));
    if args.show {
        ask(&args.cluster, Method::GET, path, Value::Null).await?;
        return Ok(0);
    }
    if let Some(lease) = &args.force {
        let path = format!("{path}/holders/{}", encoded(lease));
        ask(&args.cluster, Method::DELETE, path, Value::Null).await?;
        return Ok(0);
    }
    let wait = Duration::try_from_secs_f64(args.wait);
    let wait = wait.map_err(|error| Fatal::setup(format!("--wait: {error}")))?;
    let mut request = args.cluster.client()?.lock(&args.name);
    request = request
        .ttl(Duration::from_secs(args.ttl))
        .wait(wait)
        .owner(&args.owner);
    request = match (args.read, args.write, args.permits) {
        (true, _, _) => request.read(),
        (_, true, _) => request.write(),
        (_, _, Some(permits)) => request.semaphore(permits),
        (_, _, None) => request,
    };
    let lock = request.acquire().await?;
    let (key, token, lease) = (lock.key(), lock.token(), lock.lease().id());
    if args.command.is_empty() {
        print(&json!({"key": key, "token": token, "lease": lease}))?;
    }
    let environment = [
        ("CAUCUS_LOCK_KEY", key.to_owned()),
        ("CAUCUS_LOCK_TOKEN", token.to_string()),
        ("CAUCUS_LOCK_LEASE", lease.to_owned()),
    ];
    match held::run(&args.command, &environment, lock.lost()).await? {
        Ended::Done(code) => {
            lock.release().await?;
            Ok(code)
        }
        Ended::Lost => Err(Fatal::failed("the lock is lost")),
    }
}

pub(super) async fn elect(args: Elect) -> Result<u8, Fatal> {
    let path = format!("/v1/elections/{}", encoded(&args.name));
    if args.leader {
        ask(
            &args.cluster,
            Method::GET,
            format!("{path}/leader"),
            Value::Null,
        )
        .await?;
        return Ok(0);
    }
    if args.observe {
        follow(&args.cluster, &format!("{path}/observe"), None).await?;
        return Ok(0);
    }
    let campaign = args.cluster.client()?.election(&args.name);
    let campaign = campaign
        .ttl(Duration::from_secs(args.ttl))
        .value(value_of(&args.value));
    let leadership = campaign.lead().await?;
    let (key, token, lease) = (
        leadership.key(),
        leadership.token(),
        leadership.lease().id(),
    );
    if args.command.is_empty() {
        print(&json!({"key": key, "token": token, "lease": lease}))?;
    }
    let environment = [
        ("CAUCUS_ELECTION_KEY", key.to_owned()),
        ("CAUCUS_ELECTION_TOKEN", token.to_string()),
        ("CAUCUS_ELECTION_LEASE", lease.to_owned()),
    ];
    match held::run(&args.command, &environment, leadership.lost()).await? {
        Ended::Done(code) => {
            leadership.resign().await?;
            Ok(code)
        }
        Ended::Lost => Err(Fatal::failed("leadership is lost")),
    }
}
