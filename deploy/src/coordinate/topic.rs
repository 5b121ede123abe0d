//! `caucus topic`.

use caucus_sdk::encoded;
use hyper::Method;
use serde_json::{Value, json};

use super::{Query, ask, change, follow, read, value_of};
use crate::endpoints::Cluster;
use crate::fatal::Fatal;

/// Messages of one publication.
const MESSAGES_MAX: usize = 1000;

/// What to do with topics.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the topics, or how one stands.
    List {
        /// The topic.
        topic: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Publish messages.
    Publish {
        /// The topic.
        topic: String,
        /// The messages: JSON if it is some, else text.
        messages: Vec<String>,
        /// A message for each line of a file, or `-` for standard input.
        #[arg(long, conflicts_with = "messages")]
        lines: Option<String>,
        /// What they are about.
        #[arg(long, default_value = "")]
        key: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show messages as they come.
    Subscribe {
        /// The topic.
        topic: String,
        /// `first`, `last` or an offset.
        #[arg(long, default_value = "last")]
        from: String,
        /// Those after what this durable consumer has acknowledged.
        #[arg(long, conflicts_with = "from")]
        consumer: Option<String>,
        /// Only messages with this key.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Say what is kept.
    Keep {
        /// The topic.
        topic: String,
        /// So many messages.
        #[arg(long, value_name = "N")]
        messages: Option<u64>,
        /// So many bytes.
        #[arg(long, value_name = "N")]
        bytes: Option<u64>,
        /// So many seconds.
        #[arg(long, value_name = "SECONDS")]
        age: Option<u64>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Remove a topic with its consumers.
    Delete {
        /// The topic.
        topic: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show the durable consumers of a topic, or make one.
    Consumer {
        /// The topic.
        topic: String,
        /// The consumer to make.
        name: Option<String>,
        /// Where it begins: `first`, `last` or an offset.
        #[arg(long, default_value = "first")]
        from: String,
        /// Its messages are shared by those who fetch.
        #[arg(long)]
        shared: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Take messages as a member of a shared consumer.
    Fetch {
        /// The topic.
        topic: String,
        /// The consumer.
        name: String,
        /// The member.
        #[arg(long)]
        member: String,
        /// At most so many.
        #[arg(long, default_value_t = 1, value_name = "N")]
        count: u64,
        /// Seconds until others get what isn't acknowledged.
        #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
        visible: f64,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Acknowledge messages.
    Ack {
        /// The topic.
        topic: String,
        /// The consumer.
        name: String,
        /// The offset.
        offset: u64,
        /// Of a shared consumer: all from there to this offset.
        #[arg(long, value_name = "OFFSET")]
        to: Option<u64>,
        #[command(flatten)]
        cluster: Cluster,
    },
}

fn at(topic: &str) -> String {
    format!("/v1/topics/{}", encoded(topic))
}

pub(super) async fn run(command: Command) -> Result<(), Fatal> {
    match command {
        Command::List { topic, cluster } => {
            let path = topic.map_or_else(|| "/v1/topics".to_owned(), |topic| at(&topic));
            ask(&cluster, Method::GET, path, Value::Null).await
        }
        Command::Publish {
            topic,
            messages,
            lines,
            key,
            cluster,
        } => publish(&topic, messages, lines, &key, &cluster).await,
        Command::Subscribe {
            topic,
            from,
            consumer,
            key,
            cluster,
        } => {
            let path = match consumer {
                Some(name) => Query::of(format!(
                    "{}/consumers/{}/subscribe",
                    at(&topic),
                    encoded(&name)
                )),
                None => Query::of(format!("{}/subscribe", at(&topic))).with("from", Some(from)),
            };
            follow(&cluster, &path.with("key", key).0, Some("offset")).await
        }
        Command::Keep {
            topic,
            messages,
            bytes,
            age,
            cluster,
        } => {
            let kept = json!({
                "messages_max": messages, "bytes_max": bytes, "age_seconds_max": age,
            });
            ask(
                &cluster,
                Method::PUT,
                at(&topic),
                json!({ "retention": kept }),
            )
            .await
        }
        Command::Delete { topic, cluster } => {
            ask(&cluster, Method::DELETE, at(&topic), Value::Null).await
        }
        other => consume(other).await,
    }
}

async fn publish(
    topic: &str,
    messages: Vec<String>,
    lines: Option<String>,
    key: &str,
    cluster: &Cluster,
) -> Result<(), Fatal> {
    let messages = match lines {
        None => messages,
        Some(file) => {
            let text = String::from_utf8(read(&file)?);
            let text = text.map_err(|error| Fatal::setup(format!("{file}: {error}")))?;
            text.lines().map(str::to_owned).collect()
        }
    };
    for some in messages.chunks(MESSAGES_MAX) {
        let some = some.iter();
        let some: Vec<Value> = some
            .map(|text| json!({"key": key, "value": value_of(text)}))
            .collect();
        let path = format!("{}/messages", at(topic));
        change(cluster, Method::POST, path, &json!({ "messages": some })).await?;
    }
    Ok(())
}

async fn consume(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Consumer {
            topic,
            name,
            from,
            shared,
            cluster,
        } => match name {
            None => {
                let path = format!("{}/consumers", at(&topic));
                ask(&cluster, Method::GET, path, Value::Null).await
            }
            Some(name) => {
                let path = format!("{}/consumers/{}", at(&topic), encoded(&name));
                let body = json!({"from": value_of(&from), "shared": shared});
                ask(&cluster, Method::PUT, path, body).await
            }
        },
        Command::Fetch {
            topic,
            name,
            member,
            count,
            visible,
            cluster,
        } => {
            let path = format!("{}/consumers/{}/fetch", at(&topic), encoded(&name));
            let body = json!({"member": member, "count": count, "visible": visible});
            ask(&cluster, Method::POST, path, body).await
        }
        Command::Ack {
            topic,
            name,
            offset,
            to,
            cluster,
        } => {
            let path = format!("{}/consumers/{}/ack", at(&topic), encoded(&name));
            let body = match to {
                Some(to) => json!({"from": offset, "to": to}),
                None => json!({ "offset": offset }),
            };
            ask(&cluster, Method::POST, path, body).await
        }
        Command::List { .. }
        | Command::Publish { .. }
        | Command::Subscribe { .. }
        | Command::Keep { .. }
        | Command::Delete { .. } => Ok(()),
    }
}
