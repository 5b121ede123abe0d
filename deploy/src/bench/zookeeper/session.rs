//! One session on one connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::jute::{self, ReplyHeader, code, mode};
use crate::bench::args::Args;
use crate::bench::error::Failure;
use crate::bench::keyspace::Pair;
use crate::bench::target::Connection;
use crate::bench::workload::Request;

/// Longer than any pause between two phases.
const SESSION_TIMEOUT_MS: i32 = 30_000;

/// A session of one client, opened anew when its connection breaks.
pub(in crate::bench) struct Session {
    address: String,
    stream: Option<TcpStream>,
    xid: i32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Of the last reply.
    body: Vec<u8>,
    /// The node of its lock has been made.
    has_directory: bool,
}

impl Connection for Session {
    async fn open(_: &Args, endpoint: &str) -> Result<Self, Failure> {
        let mut session = Session {
            address: endpoint.to_owned(),
            stream: None,
            xid: 0,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            body: Vec::new(),
            has_directory: false,
        };
        session.connect().await?;
        Ok(session)
    }

    fn share(&self) -> Option<Self> {
        None
    }

    async fn execute(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let xid = self.next_xid();
        let value_size = match request {
            Request::Put(pair) => {
                jute::set_data(&mut self.outgoing, xid, pair.key, pair.value.as_bytes());
                0
            }
            Request::Get(pair) => {
                jute::get_data(&mut self.outgoing, xid, pair.key);
                pair.value.len()
            }
            // Refused with the options: `multi` is one operation, and no batch.
            Request::Lock(number) => return self.lock(*number).await,
            Request::Batch(_) | Request::Publish(..) => {
                return Err(Failure::Refused("batches are for Caucus only".to_owned()));
            }
            Request::Txn(_) | Request::List(_) => {
                return Err(Failure::Refused("these are for gRPC only".to_owned()));
            }
        };
        match self.call(xid).await? {
            Reply {
                error: code::OK,
                body_bytes,
            } if body_bytes > value_size => Ok(()),
            Reply {
                error: code::OK, ..
            } => Err(Failure::Refused("an empty node".to_owned())),
            Reply { error, .. } => Err(Failure::Refused(format!("ZooKeeper error {error}"))),
        }
    }

    async fn preload(&mut self, pair: Pair<'_>) -> Result<(), Failure> {
        match self.create(pair.key, pair.value.as_bytes()).await? {
            code::NO_NODE => {
                let slashes = pair.key.match_indices('/').skip(1);
                for (end, _) in slashes {
                    self.create(&pair.key[..end], b"").await?;
                }
                let error = self.create(pair.key, pair.value.as_bytes()).await?;
                created(pair.key, error)
            }
            error => created(pair.key, error),
        }
    }

    async fn close(&mut self) {
        let xid = self.next_xid();
        jute::close_session(&mut self.outgoing, xid);
        // The answers are in; what becomes of the session doesn't matter any more.
        let _ = self.call(xid).await;
        self.stream = None;
    }
}

/// What is read of a reply.
struct Reply {
    error: i32,
    body_bytes: usize,
}

impl Session {
    async fn connect(&mut self) -> Result<(), Failure> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let mut greeting = Vec::new();
        jute::connect(&mut greeting, SESSION_TIMEOUT_MS);
        stream.write_all(&greeting).await?;
        self.incoming.clear();
        self.stream = Some(stream);
        let payload_bytes = self.receive().await?;
        // Protocol version, then the granted timeout: zero is a refused session.
        let timeout_ms = jute::int_at(&self.incoming, 4 + 4).unwrap_or(0);
        self.incoming.drain(..4 + payload_bytes);
        match timeout_ms {
            0 => Err(Failure::Broken("the session was refused".to_owned())),
            _ => Ok(()),
        }
    }

    async fn create(&mut self, path: &str, value: &[u8]) -> Result<i32, Failure> {
        let xid = self.next_xid();
        jute::create(&mut self.outgoing, xid, path, value, mode::PERSISTENT);
        Ok(self.call(xid).await?.error)
    }

    /// The recipe: a numbered node under the lock's; whoever has the lowest number holds it.
    async fn lock(&mut self, number: usize) -> Result<(), Failure> {
        let directory = format!("/bench-lock-{number}");
        if !std::mem::replace(&mut self.has_directory, true) {
            let error = self.create(&directory, b"").await?;
            created(&directory, error)?;
        }
        let xid = self.next_xid();
        let prefix = format!("{directory}/l-");
        let mode = mode::EPHEMERAL_SEQUENTIAL;
        jute::create(&mut self.outgoing, xid, &prefix, b"", mode);
        done(self.call(xid).await?.error)?;
        let path = jute::text(&self.body).ok_or_else(|| nonsense("no name"))?;
        let xid = self.next_xid();
        jute::get_children(&mut self.outgoing, xid, &directory);
        done(self.call(xid).await?.error)?;
        // Nobody else wants it: the only child is this client's.
        if jute::int_at(&self.body, 0) != Some(1) {
            return Err(nonsense("somebody else wants the lock"));
        }
        let xid = self.next_xid();
        jute::delete(&mut self.outgoing, xid, &path);
        done(self.call(xid).await?.error)
    }

    fn next_xid(&mut self) -> i32 {
        // Negative ones have meanings of their own.
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        self.xid
    }

    /// Sends the prepared frame and reads its reply.
    async fn call(&mut self, xid: i32) -> Result<Reply, Failure> {
        let reply = self.exchange(xid).await;
        if matches!(reply, Err(Failure::Broken(_))) {
            self.stream = None;
        }
        reply
    }

    async fn exchange(&mut self, xid: i32) -> Result<Reply, Failure> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let Some(stream) = &mut self.stream else {
            return Err(Failure::Broken("not connected".to_owned()));
        };
        stream.write_all(&self.outgoing).await?;
        let payload_bytes = self.receive().await?;
        let Some((header, body)) = ReplyHeader::split(&self.incoming[4..4 + payload_bytes]) else {
            return Err(Failure::Broken("a reply without a header".to_owned()));
        };
        if header.xid != xid {
            return Err(Failure::Broken(format!(
                "asked {xid}, answered {}",
                header.xid
            )));
        }
        let reply = Reply {
            error: header.error,
            body_bytes: body.len(),
        };
        self.body.clear();
        self.body.extend_from_slice(body);
        self.incoming.drain(..4 + payload_bytes);
        Ok(reply)
    }

    /// Reads until a whole frame is at the start of the buffer; gives the length of its payload.
    async fn receive(&mut self) -> Result<usize, Failure> {
        let Some(stream) = &mut self.stream else {
            return Err(Failure::Broken("not connected".to_owned()));
        };
        loop {
            if let Some(payload) = jute::payload(&self.incoming) {
                return Ok(payload.len());
            }
            if stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(Failure::Broken(
                    "the server closed the connection".to_owned(),
                ));
            }
        }
    }
}

fn done(error: i32) -> Result<(), Failure> {
    match error {
        code::OK => Ok(()),
        error => Err(Failure::Refused(format!("ZooKeeper error {error}"))),
    }
}

fn nonsense(what: &str) -> Failure {
    Failure::Refused(what.to_owned())
}

fn created(path: &str, error: i32) -> Result<(), Failure> {
    match error {
        code::OK | code::NODE_EXISTS => Ok(()),
        error => Err(Failure::Refused(format!(
            "cannot create {path}: ZooKeeper error {error}"
        ))),
    }
}
