//! `caucus service`.

use caucus_sdk::encoded;
use hyper::Method;
use serde_json::{Value, json};

use super::{Query, ask, follow, value_of};
use crate::endpoints::Cluster;
use crate::fatal::Fatal;

/// What to do with services.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the services, or the instances of one.
    List {
        /// The service.
        service: Option<String>,
        /// Only instances that aren't critical.
        #[arg(long)]
        healthy: bool,
        /// Only instances with this tag.
        #[arg(long)]
        tag: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Register an instance.
    Register(Box<Register>),
    /// Show that an instance lives, and how it is.
    Heartbeat {
        /// The service.
        service: String,
        /// The instance.
        id: String,
        /// How it is.
        #[arg(long, default_value = "passing", value_parser = ["passing", "warning", "critical"])]
        status: String,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Remove an instance.
    Deregister {
        /// The service.
        service: String,
        /// The instance.
        id: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show all instances as they are and at each change.
    Watch {
        /// The service.
        service: String,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// Options of `caucus service register`.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// The service.
    service: String,
    /// The instance.
    id: String,
    /// Where it is.
    #[arg(long)]
    address: String,
    /// Its port.
    #[arg(long)]
    port: u16,
    /// What it can be chosen by.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// What else others shall know, as JSON.
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// After so many seconds without a heartbeat it is critical.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["http", "tcp"])]
    ttl: Option<u64>,
    /// After so many seconds of being critical it is removed.
    #[arg(long, value_name = "SECONDS")]
    critical_after: Option<u64>,
    /// Let the nodes ask for this path.
    #[arg(long, value_name = "PATH", conflicts_with = "tcp")]
    http: Option<String>,
    /// Let the nodes connect to this port.
    #[arg(long, value_name = "PORT")]
    tcp: Option<u16>,
    /// Seconds between two checks.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    interval: u64,
    #[command(flatten)]
    cluster: Cluster,
}

impl Register {
    fn body(&self) -> Value {
        let mut body = json!({"address": self.address, "port": self.port, "tags": self.tags});
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[name] = value;
            }
        };
        set("metadata", self.metadata.as_deref().map(value_of));
        set("ttl", self.ttl.map(Value::from));
        set("critical_after", self.critical_after.map(Value::from));
        let http = self.http.as_ref();
        let check = http.map(|path| json!({"http": path, "interval": self.interval}));
        let tcp = self
            .tcp
            .map(|port| json!({"tcp": port, "interval": self.interval}));
        set("check", check.or(tcp));
        body
    }
}

fn at(service: &str) -> String {
    format!("/v1/services/{}", encoded(service))
}

pub(super) async fn run(command: Command) -> Result<(), Fatal> {
    match command {
        Command::List {
            service,
            healthy,
            tag,
            cluster,
        } => {
            let path = match service {
                Some(service) => Query::of(at(&service))
                    .flag("healthy", healthy)
                    .with("tag", tag),
                None => Query::of("/v1/services".to_owned()),
            };
            ask(&cluster, Method::GET, path.0, Value::Null).await
        }
        Command::Register(args) => {
            let path = format!("{}/{}", at(&args.service), encoded(&args.id));
            ask(&args.cluster, Method::PUT, path, args.body()).await
        }
        Command::Heartbeat {
            service,
            id,
            status,
            note,
            cluster,
        } => {
            let path = format!("{}/{}/heartbeat", at(&service), encoded(&id));
            let body = json!({"status": status, "note": note});
            ask(&cluster, Method::POST, path, body).await
        }
        Command::Deregister {
            service,
            id,
            cluster,
        } => {
            let path = format!("{}/{}", at(&service), encoded(&id));
            ask(&cluster, Method::DELETE, path, Value::Null).await
        }
        Command::Watch { service, cluster } => {
            follow(&cluster, &format!("{}/watch", at(&service)), None).await
        }
    }
}
