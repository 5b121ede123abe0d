//! Messages, and how those that were published together are stored.

use bytes::Bytes;
use prost::Message as _;

/// Messages that are published together.
pub const MESSAGES_MAX: usize = 1000;
/// The media type of what is stored.
pub(super) const CONTENT_TYPE: &str = "application/vnd.caucus.messages";

/// A message as it is published.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// What it is about; consumers may choose by it.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    /// Its media type.
    #[prost(string, tag = "3")]
    pub content_type: String,
}

/// Messages that were published together. Bytes are for ever.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub(super) messages: Vec<Message>,
    /// When, in ms of Unix time.
    #[prost(uint64, tag = "2")]
    pub(super) time_ms: u64,
}

/// A message as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its offset.
    pub offset: u64,
    /// When it was published, in ms of Unix time, by the clock of a node.
    pub time_ms: u64,
    /// The message.
    pub message: Message,
}

impl Batch {
    /// Reads messages; what can't be read are none.
    pub(super) fn read(stored: &Bytes) -> Batch {
        Batch::decode(stored.clone()).unwrap_or_default()
    }

    /// Its messages from an offset on.
    pub(super) fn from(self, first: u64, offset: u64) -> impl Iterator<Item = Stored> {
        let time_ms = self.time_ms;
        let numbered = (first..).zip(self.messages);
        numbered
            .filter(move |(at, _)| *at >= offset)
            .map(move |(offset, message)| Stored {
                offset,
                time_ms,
                message,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_ever() {
        let batch = Batch {
            messages: vec![Message {
                key: Bytes::from_static(b"k"),
                value: Bytes::from_static(b"vv"),
                content_type: "t".to_owned(),
            }],
            time_ms: 300,
        };
        let bytes = b"\x0a\x0a\x0a\x01k\x12\x02vv\x1a\x01t\x10\xac\x02";
        assert_eq!(batch.encode_to_vec(), bytes);
        assert_eq!(Batch::read(&Bytes::from_static(bytes)), batch);
        let offsets: Vec<u64> = batch.from(7, 0).map(|stored| stored.offset).collect();
        assert_eq!(offsets, [7]);
    }
}
