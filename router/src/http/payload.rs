//! Request bodies: read whole, within limits; or thrown away, so that the connection stays usable.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use caucus_api::limits::REQUEST_BYTES_MAX;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::problem::{Code, Problem};

/// A refused body is read up to this and thrown away; a longer one costs its connection.
const DRAINED_BYTES_MAX: usize = 4 << 20;

/// The body of one request.
pub(super) struct Payload {
    body: Incoming,
    limit: Duration,
    /// How much was read so far.
    taken: usize,
    broken: bool,
}

impl Payload {
    /// `limit`: how long it may take to arrive.
    pub(super) fn new(body: Incoming, limit: Duration) -> Payload {
        Payload {
            body,
            limit,
            taken: 0,
            broken: false,
        }
    }

    /// All of it.
    pub(super) async fn read(&mut self) -> Result<Bytes, Problem> {
        if self.body.is_end_stream() {
            return Ok(Bytes::new());
        }
        if self.body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
            return Err(too_large());
        }
        match timeout(self.limit, self.collect()).await {
            Ok(read) => read,
            Err(_) => {
                self.broken = true;
                let seconds = self.limit.as_secs();
                Err(Problem::new(
                    Code::BodyTimeout,
                    format!("the body takes longer than {seconds} s"),
                ))
            }
        }
    }

    async fn collect(&mut self) -> Result<Bytes, Problem> {
        let Some(first) = self.next().await? else {
            return Ok(Bytes::new());
        };
        // Nearly always the only one: then it is not copied.
        if self.body.is_end_stream() {
            return Ok(first);
        }
        let Some(second) = self.next().await? else {
            return Ok(first);
        };
        let mut whole =
            BytesMut::with_capacity(self.taken + self.body.size_hint().lower() as usize);
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(next) = self.next().await? {
            whole.extend_from_slice(&next);
        }
        Ok(whole.freeze())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let data = self.next_data().await?;
        if self.taken > REQUEST_BYTES_MAX {
            return Err(too_large());
        }
        Ok(data)
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.broken = true;
                    return Err(Problem::new(Code::BodyIncomplete, error.to_string()));
                }
            };
            // Trailers say nothing here.
            if let Ok(data) = frame.into_data() {
                self.taken += data.len();
                return Ok(Some(data));
            }
        }
    }

    /// Throws away what was not read; whether the connection can go on.
    pub(super) async fn drain(&mut self) -> bool {
        if self.broken {
            return false;
        }
        if self.body.is_end_stream() {
            return true;
        }
        if self.taken as u64 + self.body.size_hint().lower() > DRAINED_BYTES_MAX as u64 {
            return false;
        }
        let limit = self.limit;
        let drained = timeout(limit, async {
            while self.taken <= DRAINED_BYTES_MAX {
                match self.next_data().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
            false
        });
        drained.await.unwrap_or(false)
    }
}

fn too_large() -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("a request body has at most {REQUEST_BYTES_MAX} bytes"),
    )
}
