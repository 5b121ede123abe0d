//! `caucus watch`: changes as they happen, through nodes that go and come.

use std::time::Duration;

use caucus_sdk::Lines;
use serde_json::Value;

use crate::endpoints::{Cluster, Endpoints, Error};
use crate::fatal::Fatal;
use crate::kv::encoded;
use crate::output::print_bytes;

/// Before a stream that ended is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Options of `caucus watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key; without one, and without --prefix, all keys.
    #[arg(conflicts_with = "prefix")]
    key: Option<String>,

    /// All keys that begin so.
    #[arg(long)]
    prefix: Option<String>,

    /// The first revision whose changes are shown; without it, what happens from now on.
    #[arg(long, value_name = "REVISION", conflicts_with = "initial")]
    from: Option<u64>,

    /// First the keys as they are.
    #[arg(long)]
    initial: bool,

    /// With what was there before.
    #[arg(long)]
    previous: bool,

    /// Without values.
    #[arg(long)]
    keys_only: bool,

    /// Only changes of this kind.
    #[arg(long, value_parser = ["put", "delete"])]
    only: Option<String>,

    /// Only keys that match, as in `/app/*/port` or `/app/**`.
    #[arg(long, value_name = "PATTERN")]
    glob: Option<String>,

    /// Only keys with at most so many segments after the prefix.
    #[arg(long)]
    depth: Option<u64>,

    /// Only changes of the value.
    #[arg(long)]
    changed: bool,

    /// A line with the revision reached, about every so many seconds.
    #[arg(long, value_name = "SECONDS")]
    progress: Option<u64>,

    /// End after so many changes.
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the changes.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

/// Form of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A line a change: revision, what happened, key, value.
    Text,
    /// A line of JSON a revision, as the API gives it.
    Json,
}

/// What was read of a stream, and how it goes on.
enum Ended {
    /// All that was asked for is shown.
    Enough,
    /// Another stream goes on after what was shown.
    Resume,
}

/// Watches until it is stopped, has shown enough, or can't go on.
pub(crate) async fn run(args: Args) -> Result<(), Fatal> {
    let endpoints = args.cluster.connect()?;
    let path = path(&args);
    let mut shown = Shown {
        form: args.output,
        left: args.count.unwrap_or(u64::MAX),
        last: None,
    };
    loop {
        let at = endpoints.in_use();
        match attempt(&endpoints, &path, &mut shown).await {
            Ok(Ended::Enough) => return Ok(()),
            Ok(Ended::Resume) => {}
            Err(Error::Refused(problem)) if !problem.retryable => {
                return Err(Fatal::failed(problem));
            }
            Err(error) => {
                eprintln!("{error}; trying another node");
                endpoints.leave(at);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn path(args: &Args) -> String {
    let mut path = "/v1/watch?".to_owned();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", encoded(&value)));
        }
    };
    let flag = |on: bool| on.then(|| "true".to_owned());
    add("key", args.key.clone());
    add("prefix", args.prefix.clone());
    add("from", args.from.map(|from| from.to_string()));
    add("initial", flag(args.initial));
    add("previous", flag(args.previous));
    add("keys_only", flag(args.keys_only));
    add("only", args.only.clone());
    add("glob", args.glob.clone());
    add("depth", args.depth.map(|depth| depth.to_string()));
    add("changed", flag(args.changed));
    add("progress", args.progress.map(|every| every.to_string()));
    path.pop();
    path
}

/// One stream, to its end.
async fn attempt(endpoints: &Endpoints, path: &str, shown: &mut Shown) -> Result<Ended, Error> {
    let mut lines = Lines::open(endpoints, path, shown.last).await?;
    while let Some((message, line)) = lines.next().await? {
        if let Some(ended) = shown.show(&message, &line)? {
            return Ok(ended);
        }
    }
    Ok(Ended::Resume)
}

/// What was shown so far.
struct Shown {
    form: Form,
    /// Changes still to show.
    left: u64,
    /// The revision up to which all was shown.
    last: Option<u64>,
}

impl Shown {
    /// Shows a message; something if the stream is over with it.
    fn show(&mut self, message: &Value, line: &[u8]) -> Result<Option<Ended>, Error> {
        let kind = message["event"].as_str().unwrap_or_default();
        if kind == "end" {
            return match message["retryable"].as_bool() {
                Some(true) => Ok(Some(Ended::Resume)),
                Some(false) | None => {
                    let problem = serde_json::from_value(message.clone());
                    Err(Error::Refused(problem.unwrap_or_default()))
                }
            };
        }
        if kind == "alive" {
            return Ok(None);
        }
        let text = match self.form {
            Form::Json => [line, b"\n"].concat(),
            Form::Text => text(kind, message).into_bytes(),
        };
        if print_bytes(&text).is_err() {
            // Nobody reads any more.
            return Ok(Some(Ended::Enough));
        }
        if kind != "state" {
            self.last = message["revision"].as_u64().or(self.last);
        }
        let changes = message["changes"].as_array().map_or(0, Vec::len);
        self.left = self.left.saturating_sub(changes as u64);
        Ok((self.left == 0).then_some(Ended::Enough))
    }
}

/// A message as lines for eyes.
fn text(kind: &str, message: &Value) -> String {
    let field = |object: &Value, name: &str| match (&object[name], &object[format!("{name}64")]) {
        (Value::String(text), _) => text.clone(),
        (Value::Null, Value::String(encoded)) => format!("base64:{encoded}"),
        (Value::Null, _) => String::new(),
        (value, _) => value.to_string(),
    };
    let revision = message["revision"].as_u64().unwrap_or(0);
    match kind {
        "changes" => {
            let changes = message["changes"].as_array().map_or(&[][..], Vec::as_slice);
            let lines = changes.iter().map(|change| {
                let mut line = format!("{revision}\t{}", field(change, "type"));
                for column in [field(change, "key"), field(change, "value")] {
                    line.push('\t');
                    line.push_str(&column);
                }
                if let Some(previous) = change.get("previous") {
                    line.push_str(&format!("\twas {}", field(previous, "value")));
                }
                format!("{}\n", line.trim_end())
            });
            lines.collect()
        }
        "state" => format!(
            "{revision}\tstate\t{}\t{}\n",
            field(message, "key"),
            field(message, "value")
        ),
        other => format!("{revision}\t{other}\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_a_line_each() {
        let message = json!({"event": "changes", "revision": 7, "changes": [
            {"type": "put", "key": "/a", "value": {"x": 1}, "previous": {"value": "old"}},
            {"type": "delete", "key64": "/w=="},
        ]});
        assert_eq!(
            text("changes", &message),
            "7\tput\t/a\t{\"x\":1}\twas old\n7\tdelete\tbase64:/w==\n"
        );
        let synced = json!({"event": "synced", "revision": 7, "items": 2});
        assert_eq!(text("synced", &synced), "7\tsynced\n");
    }
}
