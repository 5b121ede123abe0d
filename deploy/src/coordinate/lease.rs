//! `caucus lease`.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::{Query, ask, change, print, send};
use crate::endpoints::Cluster;
use crate::fatal::Fatal;

/// What to do with leases.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Grant one.
    Grant {
        /// How long it lives without a sign of life, in seconds.
        ttl: u64,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show that one lives: once, or until this process is told to end.
    KeepAlive {
        /// Which.
        lease: String,
        /// Once.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show how much time it has, and its keys.
    Show {
        /// Which.
        lease: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show all of them.
    List {
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Those after this one.
        #[arg(long, value_name = "LEASE")]
        after: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// End one with all its keys.
    Revoke {
        /// Which.
        lease: String,
        #[command(flatten)]
        cluster: Cluster,
    },
}

pub(super) async fn run(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Grant { ttl, cluster } => {
            let path = "/v1/leases".to_owned();
            change(&cluster, Method::POST, path, &json!({ "ttl": ttl })).await
        }
        Command::KeepAlive {
            lease,
            once,
            cluster,
        } => keep_alive(&lease, once, &cluster).await,
        Command::Show { lease, cluster } => {
            let path = format!("/v1/leases/{lease}?keys");
            ask(&cluster, Method::GET, path, Value::Null).await
        }
        Command::List {
            limit,
            after,
            cluster,
        } => {
            let path = Query::of("/v1/leases".to_owned());
            let path = path.with("limit", limit).with("after", after);
            ask(&cluster, Method::GET, path.0, Value::Null).await
        }
        Command::Revoke { lease, cluster } => {
            let path = format!("/v1/leases/{lease}");
            ask(&cluster, Method::DELETE, path, Value::Null).await
        }
    }
}

async fn keep_alive(lease: &str, once: bool, cluster: &Cluster) -> Result<(), Fatal> {
    let endpoints = cluster.connect()?;
    let path = format!("/v1/leases/{lease}/keepalive");
    loop {
        let kept = send(&endpoints, Method::POST, path.clone(), &Value::Null).await?;
        print(&kept)?;
        if once {
            return Ok(());
        }
        let ttl = Duration::from_secs(kept["ttl"].as_u64().unwrap_or(1));
        tokio::time::sleep(ttl / 3).await;
    }
}
