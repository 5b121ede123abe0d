//! One key, or one listing.

use std::io::{IsTerminal, Read};

use hyper::Method;
use hyper::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use serde_json::Value;

use super::{encoded, key_path};
use crate::endpoints::{Ask, Cluster};
use crate::fatal::Fatal;
use crate::output::{Form, print_bytes};

/// Options of `caucus kv put`.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// The key.
    key: String,

    /// The value; `-` reads it from standard input.
    value: String,

    /// The value is JSON.
    #[arg(long, conflicts_with = "content_type")]
    json: bool,

    /// Media type of the value.
    #[arg(long, default_value = "text/plain")]
    content_type: String,

    /// Only if the key is at this revision.
    #[arg(long, value_name = "REVISION", conflicts_with = "if_absent")]
    if_match: Option<u64>,

    /// Only if the key doesn't exist.
    #[arg(long)]
    if_absent: bool,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Sets a key.
pub(super) async fn put(args: PutArgs) -> Result<(), Fatal> {
    let value = match args.value.as_str() {
        "-" => read_stdin()?,
        text => text.as_bytes().to_vec(),
    };
    let kind = if args.json {
        "application/json"
    } else {
        &args.content_type
    };
    let mut ask = Ask::new(Method::PUT, key_path(&args.key)).header(CONTENT_TYPE, kind)?;
    if args.if_absent {
        ask = ask.header(IF_NONE_MATCH, "*")?;
    }
    if let Some(revision) = args.if_match {
        ask = ask.header(IF_MATCH, &format!("\"{revision}\""))?;
    }
    let answer = args
        .cluster
        .connect()?
        .send_for_json(&ask.body(value))
        .await?;
    args.output.print(&answer)
}

fn read_stdin() -> Result<Vec<u8>, Fatal> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Fatal::failed(format!("standard input: {error}")))?;
    Ok(bytes)
}

/// Options of `caucus kv get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The key.
    key: String,

    /// As it was then.
    #[arg(long)]
    revision: Option<u64>,

    #[command(flatten)]
    cluster: Cluster,

    /// Print key, value, revisions and media type, instead of the bare value.
    #[arg(short, long, value_enum)]
    output: Option<Form>,
}

/// Prints a value as its bytes, or the whole answer.
pub(super) async fn get(args: GetArgs) -> Result<(), Fatal> {
    let endpoints = args.cluster.connect()?;
    let then = args.revision.map(|revision| format!("revision={revision}"));
    let then = then.unwrap_or_default();
    if let Some(form) = args.output {
        let ask = Ask::new(Method::GET, format!("{}?{then}", key_path(&args.key)));
        return form.print(&endpoints.send_for_json(&ask).await?);
    }
    let ask = Ask::new(
        Method::GET,
        format!("{}?raw=true&{then}", key_path(&args.key)),
    );
    print_bytes(&endpoints.send(&ask).await?)?;
    match std::io::stdout().is_terminal() {
        true => print_bytes(b"\n"),
        false => Ok(()),
    }
}

/// Options of `caucus kv del`.
#[derive(Debug, clap::Args)]
pub(crate) struct DelArgs {
    /// The key.
    key: String,

    /// Only if the key is at this revision.
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Deletes a key.
pub(super) async fn del(args: DelArgs) -> Result<(), Fatal> {
    let mut ask = Ask::new(Method::DELETE, key_path(&args.key));
    if let Some(revision) = args.if_match {
        ask = ask.header(IF_MATCH, &format!("\"{revision}\""))?;
    }
    let answer = args.cluster.connect()?.send_for_json(&ask).await?;
    args.output.print(&answer)
}

/// Options of `caucus kv history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// The key.
    key: String,

    /// Changes at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,

    /// Only changes before this revision.
    #[arg(long, value_name = "REVISION")]
    below: Option<u64>,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Prints what happened to a key.
pub(super) async fn history(args: HistoryArgs) -> Result<(), Fatal> {
    let mut path = format!("{}/history?limit={}", key_path(&args.key), args.limit);
    if let Some(below) = args.below {
        path.push_str(&format!("&below={below}"));
    }
    let ask = Ask::new(Method::GET, path);
    let answer = args.cluster.connect()?.send_for_json(&ask).await?;
    args.output.print(&answer)
}

/// Options of `caucus kv increment`.
#[derive(Debug, clap::Args)]
pub(crate) struct IncrementArgs {
    /// The key; one that isn't there counts from 0.
    key: String,

    /// What is added.
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    by: i64,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Adds to an integer.
pub(super) async fn increment(args: IncrementArgs) -> Result<(), Fatal> {
    let path = format!("{}/increment", key_path(&args.key));
    let body = serde_json::json!({ "by": args.by }).to_string();
    let ask = Ask::new(Method::POST, path).body(body);
    let answer = args.cluster.connect()?.send_for_json(&ask).await?;
    args.output.print(&answer)
}

/// Options of `caucus kv append`.
#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    /// The key; one that isn't there begins empty.
    key: String,

    /// What is appended; `-` reads it from standard input.
    tail: String,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Appends to a value.
pub(super) async fn append_to(args: AppendArgs) -> Result<(), Fatal> {
    let tail = match args.tail.as_str() {
        "-" => read_stdin()?,
        text => text.as_bytes().to_vec(),
    };
    let path = format!("{}/append", key_path(&args.key));
    let ask = Ask::new(Method::POST, path).body(tail);
    let answer = args.cluster.connect()?.send_for_json(&ask).await?;
    args.output.print(&answer)
}

/// Options of `caucus kv list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Keys that begin so.
    #[arg(default_value = "")]
    prefix: String,

    /// Keys at most; none: all of them.
    #[arg(long)]
    limit: Option<u64>,

    /// Without values.
    #[arg(long)]
    keys_only: bool,

    /// As they were then, in all groups.
    #[arg(long, conflicts_with = "global")]
    revision: Option<u64>,

    /// As they are now, in all groups at one revision.
    #[arg(long)]
    global: bool,

    /// Keys that go on behind this after the prefix are shown as one prefix.
    #[arg(long)]
    delimiter: Option<String>,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Lists page after page, as one answer.
pub(super) async fn list(args: ListArgs) -> Result<(), Fatal> {
    let endpoints = args.cluster.connect()?;
    let mut base = format!("/v1/kv?prefix={}", encoded(&args.prefix));
    if args.keys_only {
        base.push_str("&keys_only=true");
    }
    if let Some(delimiter) = &args.delimiter {
        base.push_str(&format!("&delimiter={}", encoded(delimiter)));
    }
    if let Some(revision) = args.revision {
        base.push_str(&format!("&revision={revision}"));
    }
    if args.global {
        base.push_str("&consistency=global");
    }
    let mut whole = Value::Null;
    let mut pages = super::export::Pages::new(base, args.limit);
    while let Some(page) = pages.next(&endpoints).await? {
        let page = serde_json::from_slice(&page).map_err(Fatal::failed)?;
        match &mut whole {
            Value::Null => whole = page,
            whole => append(whole, page),
        }
    }
    if let Some(fields) = whole.as_object_mut() {
        fields.remove("cursor");
    }
    args.output.print(&whole)
}

/// Adds the lists of one more page to those of the first.
fn append(whole: &mut Value, mut page: Value) {
    for list in ["items", "prefixes"] {
        let more = page.get_mut(list).and_then(Value::as_array_mut);
        let there = whole.get_mut(list).and_then(Value::as_array_mut);
        if let (Some(there), Some(more)) = (there, more) {
            there.append(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pages_add_up() {
        let mut whole = json!({"items": [1], "prefixes": ["a"], "revision": 5});
        append(
            &mut whole,
            json!({"items": [2, 3], "prefixes": [], "revision": 5}),
        );
        assert_eq!(
            whole,
            json!({"items": [1, 2, 3], "prefixes": ["a"], "revision": 5})
        );
    }
}
