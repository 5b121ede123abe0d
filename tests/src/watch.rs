//! Watching over `/v1/watch`, as a client does that comes back whenever its stream ends.

use std::io;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Answer, Stream};

/// One stream.
#[derive(Debug)]
pub struct Watching {
    stream: Stream,
}

/// Asks for a watch; an answer other than 200 is returned whole. `query` follows the path.
pub fn watch(
    address: &str,
    query: &str,
    last: Option<u64>,
) -> io::Result<Result<Watching, Answer>> {
    let mut headers = vec![("accept", "application/x-ndjson")];
    let last = last.map(|last| last.to_string());
    if let Some(last) = &last {
        headers.push(("last-event-id", last));
    }
    let target = format!("/v1/watch?{query}");
    let opened = Stream::open(address, ("GET", &target), &headers, b"")?;
    Ok(opened.map(|stream| Watching { stream }))
}

impl Watching {
    /// The next message but signs of life; none: the stream ended.
    pub fn message(&mut self) -> io::Result<Option<Value>> {
        while let Some(line) = self.stream.line()? {
            let message: Value = serde_json::from_slice(&line).map_err(io::Error::other)?;
            if message["event"] != "alive" {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next message of a stream that goes on; panics otherwise.
    pub fn expect(&mut self) -> Value {
        let next = self.message().expect("the stream can be read");
        next.expect("the stream goes on")
    }

    /// How long a read waits.
    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.set_patience(patience);
    }
}
