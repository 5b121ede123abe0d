//! The framing of a log record: proof that it is whole and that it follows the one before.
//!
//! ```text
//! version u8 | crc32c u32 | chain u64 | payload             integers are big endian
//!               └─ over ───────────────────────▶
//! ```
//!
//! The checksum tells a damaged record from a good one. The chain tells a good record in the
//! wrong place: it hashes the payload and the chain of the record before, so that two logs with
//! the same chain at an index are the same up to there, and a hole, a swap or a splice shows.
//! It is `XXH3-64(payload, seed = chain before)`: it guards against accidents, not against
//! somebody who wants a collision.

use bytes::{BufMut, Bytes, BytesMut};
use caucus_planted as planted;
use xxhash_rust::xxh3::Xxh3;

/// Version of the framing that [`encode_record`] writes.
pub const RECORD_VERSION: u8 = 1;
/// Chain before the first record of a log.
pub const CHAIN_START: u64 = 0;
/// Bytes that the framing adds to a payload.
pub const RECORD_OVERHEAD_BYTES: usize = CHECKED_AT + 8;

/// Where the part under the checksum begins.
const CHECKED_AT: usize = 1 + 4;

/// A record taken out of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Hash of this payload and all before it.
    pub chain: u64,
    /// What was recorded; shares memory with the frame.
    pub payload: Bytes,
}

impl Record {
    /// Whether this record was written after the one whose chain is `prev_chain`.
    pub fn follows(&self, prev_chain: u64) -> bool {
        self.chain == chain(prev_chain, &[&self.payload])
            || planted::is(planted::RECORD_NOT_CHECKED)
    }
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too short to be a frame.
    #[error("log record of {length} bytes is cut short")]
    Short {
        /// Bytes found.
        length: usize,
    },
    /// Written by another program version, or damaged in its first byte.
    #[error("log record has unknown version {version}")]
    Version {
        /// Version found.
        version: u8,
    },
    /// The bytes are not those that were written.
    #[error("log record has a wrong checksum")]
    Checksum,
}

/// The chain after a record with this payload, given in parts as one.
pub fn chain(prev_chain: u64, payload: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::with_seed(prev_chain);
    for part in payload {
        hash.update(part);
    }
    hash.digest()
}

/// Frame a payload, given in parts that are joined. Returns the record and its chain, which the
/// next record needs.
pub fn encode_record(prev_chain: u64, payload: &[&[u8]]) -> (Bytes, u64) {
    let len = payload.iter().map(|part| part.len()).sum::<usize>();
    let chain = chain(prev_chain, payload);
    let mut record = BytesMut::with_capacity(RECORD_OVERHEAD_BYTES + len);
    record.put_u8(RECORD_VERSION);
    record.put_u32(0);
    record.put_u64(chain);
    for part in payload {
        record.put_slice(part);
    }
    let checksum = crc32c::crc32c(&record[CHECKED_AT..]);
    record[1..CHECKED_AT].copy_from_slice(&checksum.to_be_bytes());
    (record.freeze(), chain)
}

/// Take a record out of its frame. This checks the record alone; whether it stands where it
/// belongs is for [`Record::follows`].
pub fn decode_record(frame: &Bytes) -> Result<Record, RecordError> {
    let short = RecordError::Short {
        length: frame.len(),
    };
    let (version, rest) = frame.split_first().ok_or(short)?;
    if *version != RECORD_VERSION {
        return Err(RecordError::Version { version: *version });
    }
    let (checksum, checked) = rest.split_first_chunk::<4>().ok_or(short)?;
    let (chain, _) = checked.split_first_chunk::<8>().ok_or(short)?;
    let is_whole = crc32c::crc32c(checked) == u32::from_be_bytes(*checksum);
    if !is_whole && !planted::is(planted::RECORD_NOT_CHECKED) {
        return Err(RecordError::Checksum);
    }
    Ok(Record {
        chain: u64::from_be_bytes(*chain),
        payload: frame.slice(RECORD_OVERHEAD_BYTES..),
    })
}
