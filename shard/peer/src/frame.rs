//! The frame: the unit that a link carries.
//!
//! Layout, little endian: `length: u32` (of what follows), `service: u8`, `id: u64`, body.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest body of a frame, in bytes. Above every limit of a request, a batch or a chunk.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Set in [`Frame::service`] of an answer.
pub const REPLY: u8 = 0x80;

const HEADER_BYTES: usize = 4 + 1 + 8;

/// Who a frame is for. Numbers are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Service {
    /// The first frame of every link.
    Hello = 1,
    /// Raft append stream of one replica.
    RaftAppend = 2,
    /// Raft votes and pre-votes.
    RaftVote = 3,
    /// Raft leadership transfer.
    RaftTransfer = 4,
    /// Chunks of a snapshot.
    RaftSnapshot = 5,
    /// Raft heartbeats.
    RaftHeartbeat = 6,
    /// Whether leaders of Raft groups still stand.
    RaftStanding = 7,
    /// Whether a replica of a Raft group has no entries yet.
    RaftBlank = 8,
    /// Requests to data groups.
    Shard = 16,
    /// Requests to the placement group.
    Placement = 17,
}

impl Service {
    /// The service of a number, reply bit ignored.
    pub fn from_number(number: u8) -> Option<Service> {
        Some(match number & !REPLY {
            1 => Service::Hello,
            2 => Service::RaftAppend,
            3 => Service::RaftVote,
            4 => Service::RaftTransfer,
            5 => Service::RaftSnapshot,
            6 => Service::RaftHeartbeat,
            7 => Service::RaftStanding,
            8 => Service::RaftBlank,
            16 => Service::Shard,
            17 => Service::Placement,
            _ => return None,
        })
    }
}

/// One message on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// A [`Service`], with [`REPLY`] set in an answer.
    pub service: u8,
    /// Matches an answer to its question; the service's own otherwise.
    pub id: u64,
    /// What it says.
    pub body: Bytes,
}

impl Frame {
    /// A question or a one-way message.
    pub fn new(service: Service, id: u64, body: Bytes) -> Frame {
        Frame {
            service: service as u8,
            id,
            body,
        }
    }

    /// The answer to this frame.
    pub fn reply(&self, body: Bytes) -> Frame {
        Frame {
            service: self.service | REPLY,
            id: self.id,
            body,
        }
    }

    /// Whether it is an answer.
    pub fn is_reply(&self) -> bool {
        self.service & REPLY != 0
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.reserve(HEADER_BYTES + self.body.len());
        out.put_u32_le((1 + 8 + self.body.len()) as u32);
        out.put_u8(self.service);
        out.put_u64_le(self.id);
        out.put_slice(&self.body);
    }

    /// Takes one whole frame from the front of `buffer`; `None` while it is incomplete; `Err` with
    /// the claimed length if that is impossible.
    pub(crate) fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, usize> {
        if buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = u32::from_le_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
        if !(9..=9 + FRAME_BYTES_MAX).contains(&length) {
            return Err(length);
        }
        if buffer.len() < 4 + length {
            buffer.reserve(4 + length - buffer.len());
            return Ok(None);
        }
        let mut frame = buffer.split_to(4 + length).freeze();
        frame.advance(4);
        let service = frame.get_u8();
        let id = frame.get_u64_le();
        Ok(Some(Frame {
            service,
            id,
            body: frame,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_any_cut() {
        let frames = [
            Frame::new(Service::Shard, 7, Bytes::from_static(b"hello")),
            Frame::new(Service::RaftVote, u64::MAX, Bytes::new()).reply(Bytes::from_static(b"x")),
        ];
        let mut whole = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut whole);
        }
        for cut in 0..=whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            let mut found = Vec::new();
            while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                found.push(frame);
            }
            buffer.extend_from_slice(&whole[cut..]);
            while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                found.push(frame);
            }
            assert_eq!(found, frames);
        }
    }

    #[test]
    fn the_layout_is_frozen() {
        let mut out = BytesMut::new();
        Frame::new(Service::Placement, 0x0102, Bytes::from_static(b"ab")).encode(&mut out);
        assert_eq!(
            &out[..],
            [11, 0, 0, 0, 17, 2, 1, 0, 0, 0, 0, 0, 0, b'a', b'b']
        );
    }

    #[test]
    fn an_impossible_length_is_refused() {
        let mut buffer = BytesMut::from(&[0xff; 32][..]);
        assert!(Frame::decode(&mut buffer).is_err());
        let mut buffer = BytesMut::from(&[0; 32][..]);
        assert!(Frame::decode(&mut buffer).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            failure_persistence: None,
            ..proptest::prelude::ProptestConfig::with_cases(2_000)
        })]

        /// Bytes that are no frame, and frames that were damaged: refused or waited for, with no more
        /// memory than a frame may take, and what is read is what stands there.
        #[test]
        fn any_bytes_are_read_refused_or_waited_for(
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
            changes in proptest::collection::vec(
                (proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()),
                0..4,
            ),
            raw in proptest::prelude::any::<bool>(),
        ) {
            let mut bytes = BytesMut::new();
            match raw {
                true => bytes.extend_from_slice(&body),
                false => Frame::new(Service::Shard, 7, Bytes::from(body)).encode(&mut bytes),
            }
            for (at, value) in changes.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            let whole = bytes.clone();
            let mut again = BytesMut::new();
            while let Ok(Some(frame)) = Frame::decode(&mut bytes) {
                let _ = (Service::from_number(frame.service), frame.is_reply());
                frame.encode(&mut again);
            }
            proptest::prop_assert!(bytes.capacity() <= 4 * (HEADER_BYTES + FRAME_BYTES_MAX));
            proptest::prop_assert_eq!([&again[..], &bytes[..]].concat(), whole.to_vec());
        }
    }
}
