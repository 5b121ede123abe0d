//! What people coordinate with, on the command line: leases, locks, elections, configuration, services, topics.
//!
//! ```text
//!  lock, elect ── guard of the SDK ── a command that runs as long as it is held
//!  all else    ── one request ── its answer, as JSON
//! ```

mod config;
mod held;
mod lease;
mod lock;
mod service;
mod topic;

pub(crate) use config::Command as Config;
pub(crate) use lease::Command as Lease;
pub(crate) use lock::{Elect, Lock};
pub(crate) use service::Command as Service;
pub(crate) use topic::Command as Topic;

use caucus_sdk::Lines;
use hyper::Method;
use serde_json::Value;

use crate::endpoints::{Ask, Cluster, Endpoints, Error};
use crate::fatal::Fatal;
use crate::output::print_bytes;

/// Before a stream that ended is asked for again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

pub(crate) async fn config(command: Config) -> Result<(), Fatal> {
    config::run(command).await
}

pub(crate) async fn lease(command: Lease) -> Result<(), Fatal> {
    lease::run(command).await
}

pub(crate) async fn lock(args: Lock) -> Result<u8, Fatal> {
    lock::lock(args).await
}

pub(crate) async fn elect(args: Elect) -> Result<u8, Fatal> {
    lock::elect(args).await
}

pub(crate) async fn service(command: Service) -> Result<(), Fatal> {
    service::run(command).await
}

pub(crate) async fn topic(command: Topic) -> Result<(), Fatal> {
    topic::run(command).await
}

/// Sends one request and prints the answer.
async fn ask(cluster: &Cluster, method: Method, path: String, body: Value) -> Result<(), Fatal> {
    let answer = send(&cluster.connect()?, method, path, &body).await?;
    print(&answer)
}

/// A change under a name of its own, so that it may be sent again.
async fn change(
    cluster: &Cluster,
    method: Method,
    path: String,
    body: &Value,
) -> Result<(), Fatal> {
    let answer = cluster.client()?.once(asked(method, path, body)).await?;
    print(&answer)
}

async fn send(
    endpoints: &Endpoints,
    method: Method,
    path: String,
    body: &Value,
) -> Result<Value, Fatal> {
    Ok(endpoints.send_for_json(&asked(method, path, body)).await?)
}

fn asked(method: Method, path: String, body: &Value) -> Ask {
    let ask = Ask::new(method, path);
    match body {
        Value::Null => ask,
        body => ask.body(body.to_string()),
    }
}

/// For eyes and for `jq`.
fn print(answer: &Value) -> Result<(), Fatal> {
    if answer.is_null() {
        return Ok(());
    }
    let mut text = serde_json::to_vec_pretty(answer).unwrap_or_default();
    text.push(b'\n');
    print_bytes(&text)
}

/// Parameters of a path.
struct Query(String);

impl Query {
    fn of(path: String) -> Query {
        Query(path)
    }

    fn with(mut self, name: &str, value: Option<impl ToString>) -> Query {
        if let Some(value) = value {
            self.separate();
            let value = caucus_sdk::encoded(&value.to_string());
            self.0.push_str(&format!("{name}={value}"));
        }
        self
    }

    fn flag(mut self, name: &str, on: bool) -> Query {
        if on {
            self.separate();
            self.0.push_str(name);
        }
        self
    }

    fn separate(&mut self) {
        let next = if self.0.contains('?') { '&' } else { '?' };
        self.0.push(next);
    }
}

/// Prints the lines of a stream until it is stopped or can't go on. `id`: which field of a message says where to go
/// on, if one does.
async fn follow(cluster: &Cluster, path: &str, id: Option<&str>) -> Result<(), Fatal> {
    let endpoints = cluster.connect()?;
    let mut last = None;
    loop {
        match follow_once(&endpoints, path, id, &mut last).await {
            Ok(()) => {}
            Err(error) if error.is_retryable() => {
                eprintln!("{error}; trying another node");
                endpoints.leave(endpoints.in_use());
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(
    endpoints: &Endpoints,
    path: &str,
    id: Option<&str>,
    last: &mut Option<u64>,
) -> Result<(), Error> {
    let mut lines = Lines::open(endpoints, path, *last).await?;
    while let Some((message, mut line)) = lines.next().await? {
        match message["event"].as_str() {
            Some("alive") => continue,
            Some("end") => {
                let problem = serde_json::from_value(message).unwrap_or_default();
                return Err(Error::Refused(problem));
            }
            _ => {}
        }
        line.push(b'\n');
        if print_bytes(&line).is_err() {
            // Nobody reads any more.
            std::process::exit(0);
        }
        if let Some(id) = id {
            *last = message[id].as_u64().or(*last);
        }
    }
    Ok(())
}

/// A value on the command line: JSON if it is some, else text.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A file, or standard input for `-`.
fn read(file: &str) -> Result<Vec<u8>, Fatal> {
    use std::io::Read as _;
    let read = match file {
        "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
        path => std::fs::read(path),
    };
    read.map_err(|error| Fatal::setup(format!("{file}: {error}")))
}
