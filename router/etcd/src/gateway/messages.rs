//! The JSON messages of a body, one after another, as they arrive.
//!
//! ```text
//!  body ─▶ buffer, up to a limit ─▶ the end of the first value is found ─▶ message
//! ```
//!
//! No more of the body is read than the next message needs, and no byte of it is looked at twice until
//! its value is whole.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message;
use serde::de::DeserializeOwned;
use tonic::Status;

use super::{MAX_BODY_BYTES, MAX_MESSAGE_BYTES};
use crate::json;

/// Why there is no message where one should be. Nothing is read after either.
#[derive(Debug)]
pub(super) enum Unread {
    /// It isn't JSON, or not of this message.
    Malformed(String),
    /// It is over the limit on messages.
    TooLarge(Status),
}

/// What gRPC says of a message that is over the limit, whose length isn't known if it wasn't read.
pub(super) fn too_large(length: Option<usize>) -> Status {
    let length = length.map_or_else(|| "max".to_owned(), |length| format!("{length} vs."));
    let text = format!("grpc: received message larger than max ({length} {MAX_MESSAGE_BYTES})");
    Status::resource_exhausted(text)
}

/// A body with several messages: concatenated, or with white space between them.
pub(super) struct Messages {
    body: Body,
    buffer: BytesMut,
    value: Value,
    ended: bool,
}

impl Messages {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            value: Value::default(),
            ended: false,
        }
    }

    /// The next message, as soon as it is whole; none at the end, or where the client is gone. Can be
    /// dropped while it waits, and called again: nothing is lost.
    pub(super) async fn next<I>(&mut self) -> Option<Result<I, Unread>>
    where
        I: Message + DeserializeOwned + Default,
    {
        let text = match self.text().await? {
            Ok(text) => text,
            Err(unread) => return Some(Err(unread)),
        };
        let message = json::parse::<I>(&text).map_err(Unread::Malformed);
        Some(message.and_then(|message| {
            let length = message.encoded_len();
            if length > MAX_MESSAGE_BYTES {
                return Err(Unread::TooLarge(too_large(Some(length))));
            }
            Ok(message)
        }))
    }

    async fn text(&mut self) -> Option<Result<Bytes, Unread>> {
        loop {
            if let Some(length) = self.value.end(&mut self.buffer) {
                self.value = Value::default();
                return Some(Ok(self.buffer.split_to(length).freeze()));
            }
            if self.buffer.len() > MAX_BODY_BYTES {
                return Some(Err(Unread::TooLarge(too_large(None))));
            }
            if self.ended {
                // Cut short, or a word that only the end ends.
                let rest = self.buffer.split();
                return (!rest.is_empty()).then(|| Ok(rest.freeze()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => {
                    self.buffer.clear();
                    self.ended = true;
                }
                None => self.ended = true,
            }
        }
    }
}

/// How far into a JSON value the buffer has been looked at. Whether it is one is left to who reads it.
#[derive(Default)]
struct Value {
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Value {
    /// The length of the value the buffer starts with, less white space; none if more is needed to tell.
    fn end(&mut self, buffer: &mut BytesMut) -> Option<usize> {
        if self.seen == 0 {
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace());
            let blank = blank.count();
            drop(buffer.split_to(blank));
        }
        while let Some(&byte) = buffer.get(self.seen) {
            let is_bare = self.depth == 0 && !self.in_text;
            if is_bare && self.seen > 0 && !is_word(byte) {
                return Some(self.seen);
            }
            self.seen += 1;
            if self.is_over_after(byte) {
                return Some(self.seen);
            }
        }
        None
    }

    fn is_over_after(&mut self, byte: u8) -> bool {
        if self.in_text {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_text = false;
                return self.depth == 0;
            }
            return false;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            // Nothing starts like this: no need to wait for what follows.
            other => return self.depth == 0 && self.seen == 1 && !starts_word(other),
        }
        false
    }
}

fn starts_word(byte: u8) -> bool {
    matches!(byte, b'-' | b'0'..=b'9' | b't' | b'f' | b'n')
}

/// Whether a byte may be in a number, or in `true`, `false` and `null`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}
