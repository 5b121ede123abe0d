//! One keep-alive connection.

use std::marker::PhantomData;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::response::{Parsed, Response, parse};
use crate::bench::args::Args;
use crate::bench::error::Failure;
use crate::bench::target::Connection;
use crate::bench::workload::Request;

/// More of a refusal than this says nothing new.
const SAMPLE_BYTES_MAX: usize = 300;

/// Writes a system's requests and judges its answers.
pub(in crate::bench) trait Dialect: 'static {
    /// Appends the whole request, head and body.
    fn encode(host: &str, request: &Request<'_>, out: &mut Vec<u8>);

    /// Whether the body of a 2xx answer says what was asked for.
    fn check(request: &Request<'_>, body: &[u8]) -> bool;

    /// Appends what has to be sent after a good answer to finish what was asked for; nothing for most.
    fn follow_up(_host: &str, _request: &Request<'_>, _body: &[u8], _out: &mut Vec<u8>) {}
}

/// A connection of one client, reopened when it breaks.
pub(in crate::bench) struct HttpConnection<D> {
    host: String,
    stream: Option<TcpStream>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// The next exchange is the first of its request.
    is_first: bool,
    dialect: PhantomData<D>,
}

impl<D: Dialect> Connection for HttpConnection<D> {
    async fn open(_: &Args, endpoint: &str) -> Result<Self, Failure> {
        let host = endpoint
            .strip_prefix("http://")
            .unwrap_or(endpoint)
            .trim_end_matches('/');
        let mut connection = HttpConnection {
            host: host.to_owned(),
            stream: None,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            is_first: true,
            dialect: PhantomData,
        };
        connection.connect().await?;
        Ok(connection)
    }

    fn share(&self) -> Option<Self> {
        None
    }

    async fn execute(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        self.outgoing.clear();
        self.is_first = true;
        D::encode(&self.host, request, &mut self.outgoing);
        let mut answer = self.exchange(request).await;
        if answer.is_ok() && !self.outgoing.is_empty() {
            answer = self.exchange(request).await;
        }
        if matches!(answer, Err(Failure::Broken(_))) {
            self.stream = None;
        }
        answer
    }
}

impl<D: Dialect> HttpConnection<D> {
    async fn connect(&mut self) -> Result<(), Failure> {
        let stream = TcpStream::connect(&self.host).await?;
        stream.set_nodelay(true)?;
        self.stream = Some(stream);
        self.incoming.clear();
        Ok(())
    }

    async fn exchange(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let Some(stream) = &mut self.stream else {
            return Err(Failure::Broken("not connected".to_owned()));
        };
        stream.write_all(&self.outgoing).await?;
        let was_first = std::mem::take(&mut self.is_first);
        self.outgoing.clear();
        loop {
            if stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(Failure::Broken(
                    "the server closed the connection".to_owned(),
                ));
            }
            let response = match parse(&self.incoming) {
                Ok(Parsed::Partial) => continue,
                Ok(Parsed::Complete(response)) => response,
                Err(malformed) => return Err(Failure::Broken(malformed.0.to_owned())),
            };
            let judged = judge::<D>(request, &response);
            if judged.is_ok() && was_first {
                D::follow_up(&self.host, request, &response.body, &mut self.outgoing);
            }
            let (consumed, closes) = (response.consumed, response.closes);
            self.incoming.drain(..consumed);
            if closes {
                self.stream = None;
            }
            return judged;
        }
    }
}

fn judge<D: Dialect>(request: &Request<'_>, response: &Response<'_>) -> Result<(), Failure> {
    let success = (200..300).contains(&response.status);
    if success && D::check(request, &response.body) {
        return Ok(());
    }
    let sample = &response.body[..response.body.len().min(SAMPLE_BYTES_MAX)];
    let sample = String::from_utf8_lossy(sample);
    Err(Failure::Refused(format!(
        "status {}: {}",
        response.status,
        sample.trim_end()
    )))
}
