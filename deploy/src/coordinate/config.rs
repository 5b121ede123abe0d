//! `caucus config`: the configuration centre, and the configuration of a server.

use caucus_sdk::encoded;
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::{Query, ask, change, follow, print, read, value_of};
use crate::cli::ConfigArgs;
use crate::endpoints::{Ask, Cluster};
use crate::fatal::Fatal;
use crate::server;

/// What to do with configuration.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the server's reference file: every field with its default and what it does.
    Reference,
    /// Check what `caucus server` would run with, and print it.
    Check(ConfigArgs),
    /// Show a value.
    Get {
        /// Its path: `namespace/segment/…`.
        path: String,
        /// A version that it had.
        #[arg(long)]
        version: Option<u64>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Publish a value.
    Set {
        /// Its path.
        path: String,
        /// JSON if it is some, else text.
        #[arg(required_unless_present = "file")]
        value: Option<String>,
        /// Take the value from a file, or `-` for standard input.
        #[arg(long, conflicts_with = "value")]
        file: Option<String>,
        /// The media type of a file.
        #[arg(long, requires = "file", default_value = "text/plain")]
        content_type: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Remove a value; its versions stay.
    Delete {
        /// Its path.
        path: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show all values below a path.
    List {
        /// The path.
        path: String,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Those after this path.
        #[arg(long, value_name = "PATH")]
        after: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show the versions of a value, newest first.
    History {
        /// Its path.
        path: String,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show what differs between two versions.
    Diff {
        /// The path.
        path: String,
        /// The older one.
        from: u64,
        /// The newer one.
        to: u64,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Publish the value of an old version again.
    Rollback {
        /// The path.
        path: String,
        /// The version.
        version: u64,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Publish several values at once, or none of them.
    Publish {
        /// A file of JSON, or `-`: {"author", "comment", "set": [{"path", "value"}], "delete": [{"path"}]}.
        file: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show what holds when layers lie over each other, the last on top.
    Effective {
        /// Paths of the layers.
        #[arg(required = true)]
        layers: Vec<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show a value, or all below a path, as they are and as they change.
    Watch {
        /// The path; with a `/` at the end all below it.
        path: String,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// Who publishes, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct By {
    /// Who.
    #[arg(long, env = "USER", default_value = "")]
    author: String,
    /// Why.
    #[arg(long, default_value = "")]
    comment: String,
    /// Only if it is at this version; 0: if there is no value.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

impl By {
    fn add(&self, query: Query) -> Query {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        query
            .with("author", given(&self.author))
            .with("comment", given(&self.comment))
            .with("if_version", self.if_version)
    }
}

fn at(path: &str) -> Query {
    let segments: Vec<String> = path.split('/').map(encoded).collect();
    Query::of(format!("/v1/config/{}", segments.join("/")))
}

fn below(path: &str) -> Query {
    at(&format!("{}/", path.trim_end_matches('/')))
}

pub(super) async fn run(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Reference => server::reference(),
        Command::Check(args) => server::check(args),
        Command::Get {
            path,
            version,
            cluster,
        } => {
            let path = at(&path).with("version", version);
            ask(&cluster, Method::GET, path.0, Value::Null).await
        }
        Command::Set {
            path,
            value,
            file,
            content_type,
            by,
            cluster,
        } => {
            let (bytes, kind) = match (&value, &file) {
                (_, Some(file)) => (read(file)?, &content_type[..]),
                (Some(text), None) => match value_of(text) {
                    Value::String(text) => (text.into_bytes(), "text/plain"),
                    other => (other.to_string().into_bytes(), "application/json"),
                },
                (None, None) => return Err(Fatal::setup("a value or --file is wanted")),
            };
            let ask = Ask::new(Method::PUT, by.add(at(&path)).0);
            let ask = ask.header(CONTENT_TYPE, kind)?.body(bytes);
            print(&cluster.client()?.once(ask).await?)
        }
        Command::Delete { path, by, cluster } => {
            let path = by.add(at(&path));
            change(&cluster, Method::DELETE, path.0, &Value::Null).await
        }
        Command::Rollback {
            path,
            version,
            by,
            cluster,
        } => {
            let path = by.add(at(&path).with("rollback", Some(version)));
            change(&cluster, Method::POST, path.0, &Value::Null).await
        }
        Command::Publish { file, cluster } => {
            let body: Value = serde_json::from_slice(&read(&file)?)
                .map_err(|error| Fatal::setup(format!("{file}: {error}")))?;
            change(&cluster, Method::POST, "/v1/config".to_owned(), &body).await
        }
        other => look(other).await,
    }
}

/// What only reads.
async fn look(command: Command) -> Result<(), Fatal> {
    let (path, cluster) = match command {
        Command::List {
            path,
            limit,
            after,
            cluster,
        } => {
            let path = below(&path).with("limit", limit).with("after", after);
            (path, cluster)
        }
        Command::History {
            path,
            limit,
            cluster,
        } => (
            at(&path).flag("history", true).with("limit", limit),
            cluster,
        ),
        Command::Diff {
            path,
            from,
            to,
            cluster,
        } => (
            at(&path).with("diff", Some(format!("{from}..{to}"))),
            cluster,
        ),
        Command::Effective { layers, cluster } => {
            let layers: Vec<String> = layers.iter().map(|layer| encoded(layer)).collect();
            let path = format!("/v1/config?effective={}", layers.join(","));
            (Query::of(path), cluster)
        }
        Command::Watch { path, cluster } => {
            let path = at(&path).flag("watch", true);
            return follow(&cluster, &path.0, Some("revision")).await;
        }
        // They are done where they are told from these.
        Command::Reference
        | Command::Check(_)
        | Command::Get { .. }
        | Command::Set { .. }
        | Command::Delete { .. }
        | Command::Rollback { .. }
        | Command::Publish { .. } => return Ok(()),
    };
    ask(&cluster, Method::GET, path.0, Value::Null).await
}
