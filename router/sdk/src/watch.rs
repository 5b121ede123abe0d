//! Watches that go on through nodes that go and come.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderName};
use serde_json::Value;
use tokio::time::sleep;

use crate::endpoints::{Ask, Endpoints, Error};
use crate::{Client, encoded};

/// Before a stream that ended is asked for again.
const PAUSE: Duration = Duration::from_millis(200);
/// A message larger than this isn't one of Caucus.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A stream of lines of JSON, as they come.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    endpoint: String,
    partial: Vec<u8>,
    whole: VecDeque<Vec<u8>>,
}

impl Lines {
    /// Opens a stream at the endpoint in use. `last`: the id of the last message that was seen.
    pub async fn open(
        endpoints: &Endpoints,
        path: &str,
        last: Option<u64>,
    ) -> Result<Lines, Error> {
        let endpoint = endpoints.base(endpoints.in_use()).to_owned();
        let mut ask = Ask::new(Method::GET, path.to_owned());
        let headers = [
            (ACCEPT, Some("application/x-ndjson".to_owned())),
            (
                HeaderName::from_static("last-event-id"),
                last.map(|last| last.to_string()),
            ),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                ask = ask.header(name, &value).map_err(|bad| Error::NoAnswer {
                    endpoint: endpoint.clone(),
                    reason: bad.to_string(),
                    unsent: true,
                })?;
            }
        }
        Ok(Lines {
            body: endpoints.stream(&ask).await?,
            endpoint,
            partial: Vec::new(),
            whole: VecDeque::new(),
        })
    }

    /// The next line, without its end, and what it says; `None`: the stream has ended.
    pub async fn next(&mut self) -> Result<Option<(Value, Vec<u8>)>, Error> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                let message = serde_json::from_slice(&line);
                let message =
                    message.map_err(|error| self.cut(format!("a message is no JSON: {error}")))?;
                return Ok(Some((message, line)));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| self.cut(error.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let mut rest = &data[..];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(&rest[..end]);
                self.whole.push_back(std::mem::take(&mut self.partial));
                rest = &rest[end + 1..];
            }
            self.partial.extend_from_slice(rest);
            if self.partial.len() > LINE_BYTES_MAX {
                return Err(self.cut("a message has no end".to_owned()));
            }
        }
    }

    fn cut(&self, reason: String) -> Error {
        Error::NoAnswer {
            endpoint: self.endpoint.clone(),
            reason,
            unsent: false,
        }
    }
}

/// Changes of keys: each revision once, in order, none missing.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    path: String,
    /// The revision up to which all was told.
    last: Option<u64>,
    lines: Option<Lines>,
}

impl Watch {
    pub(crate) fn new(client: Client, prefix: &str, from: Option<u64>) -> Watch {
        Watch {
            client,
            path: format!("/v1/watch?prefix={}", encoded(prefix)),
            last: from.map(|from| from.saturating_sub(1)),
            lines: None,
        }
    }

    /// What happened at the next revision: a message as `/v1/watch` sends it, with `revision` and `changes`. Errors for
    /// good if what comes next is compacted; all else it waits out, at other nodes.
    pub async fn next(&mut self) -> Result<Value, Error> {
        loop {
            match self.attempt().await {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) if error.is_retryable() => {
                    let endpoints = self.client.endpoints();
                    endpoints.leave(endpoints.in_use());
                }
                Err(error) => return Err(error),
            }
            self.lines = None;
            sleep(PAUSE).await;
        }
    }

    /// `None`: the stream has ended and is to be asked for again.
    async fn attempt(&mut self) -> Result<Option<Value>, Error> {
        let lines = match &mut self.lines {
            Some(lines) => lines,
            None => {
                // So that it is known where to go on, also if nothing happens before it is cut.
                if self.last.is_none() {
                    self.last = Some(self.now().await?);
                }
                let opened = Lines::open(self.client.endpoints(), &self.path, self.last).await?;
                self.lines.insert(opened)
            }
        };
        while let Some((message, _)) = lines.next().await? {
            match message["event"].as_str() {
                Some("changes") => {
                    self.last = message["revision"].as_u64().or(self.last);
                    return Ok(Some(message));
                }
                Some("end") => {
                    let problem = serde_json::from_value(message).unwrap_or_default();
                    return Err(Error::Refused(problem));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// A revision at or above all that was granted before this was asked.
    async fn now(&self) -> Result<u64, Error> {
        let path = "/v1/kv?limit=1&keys_only=true&consistency=global".to_owned();
        let ask = Ask::new(Method::GET, path);
        let listed = self.client.endpoints().send_for_json(&ask).await?;
        Ok(listed["revision"].as_u64().unwrap_or(0))
    }
}
