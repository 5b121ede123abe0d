//! etcd's API as JSON over HTTP/1.1, through the gateway that etcd has itself.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caucus_tests::http::{Client, Stream};
use serde_json::{Value, json};

/// Elections take a second or two.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes are base64 in JSON.
pub(super) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// What [`encode`] was given.
pub(super) fn decode(encoded: &Value) -> String {
    let bytes = STANDARD.decode(encoded.as_str().unwrap_or_default());
    String::from_utf8(bytes.expect("base64")).expect("only text is written here")
}

/// Numbers of 64 bits are text in JSON, and 0 is left out.
pub(super) fn number(value: &Value) -> u64 {
    value.as_str().map_or(0, |text| text.parse().unwrap_or(0))
}

/// The revision that an answer is of.
pub(super) fn revision(answer: &Value) -> u64 {
    number(&answer["header"]["revision"])
}

/// `[key, end)`: all that begins with a prefix.
pub(super) fn range(prefix: &str) -> Value {
    let (head, last) = prefix.split_at(prefix.len() - 1);
    let next = char::from(last.as_bytes()[0] + 1);
    json!({"key": encode(prefix), "range_end": encode(&format!("{head}{next}"))})
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// It never got there.
    Never(String),
    /// Nobody knows what has become of it.
    Unknown(String),
}

/// One member's gateway.
pub(super) struct Gateway {
    client: Client,
}

impl Gateway {
    pub(super) fn new(address: &str) -> Gateway {
        Gateway {
            client: Client::new(address),
        }
    }

    /// Who isn't answered within this time asks another.
    pub(super) fn hasty(address: &str) -> Gateway {
        let mut gateway = Gateway::new(address);
        gateway.client.set_patience(PATIENCE);
        gateway
    }

    /// One call; of one that streams, the only message.
    pub(super) fn call(&mut self, path: &str, body: &Value) -> Result<Value, Failed> {
        let headers = [("content-type", "application/json")];
        let target = format!("/v3/{path}");
        let sent = self
            .client
            .request("POST", &target, &headers, body.to_string().as_bytes());
        match sent {
            Ok(answer) if answer.status == 200 => Ok(answer.json()),
            Ok(answer) => Err(Failed::Unknown(answer.text())),
            // Only connecting is refused, and then nothing was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(Failed::Never(error.to_string()))
            }
            Err(error) => Err(Failed::Unknown(error.to_string())),
        }
    }

    /// A call that has to be answered.
    pub(super) fn must(&mut self, path: &str, body: &Value) -> Value {
        self.call(path, body)
            .unwrap_or_else(|failed| panic!("{path} {body}: {failed:?}"))
    }
}

/// A stream of watches.
pub(super) struct Watch {
    stream: Stream,
}

impl Watch {
    /// Sends requests, all at once: this gateway hears nothing more once it has begun to answer.
    pub(super) fn open(address: &str, requests: &[Value]) -> io::Result<Watch> {
        let body: String = requests.iter().map(Value::to_string).collect();
        let opened = Stream::open(address, ("POST", "/v3/watch"), &[], body.as_bytes())?;
        let mut stream = opened.map_err(|answer| io::Error::other(answer.text()))?;
        stream.set_patience(Duration::from_secs(5));
        Ok(Watch { stream })
    }

    /// All changes under a prefix from a revision on.
    pub(super) fn create(prefix: &str, from: u64) -> Value {
        let mut create = range(prefix);
        create["start_revision"] = Value::from(from.to_string());
        json!({"create_request": create})
    }

    /// How far the watches of this stream have got, when all have got there.
    pub(super) fn ask_progress() -> Value {
        json!({"progress_request": {}})
    }

    /// The next message; none: it is over.
    pub(super) fn message(&mut self) -> io::Result<Option<Value>> {
        let Some(line) = self.stream.line()? else {
            return Ok(None);
        };
        let mut message: Value = serde_json::from_slice(&line).map_err(io::Error::other)?;
        match message["result"].take() {
            Value::Null => Err(io::Error::other(message.to_string())),
            result => Ok(Some(result)),
        }
    }
}
