//! Jute, ZooKeeper's encoding: big-endian numbers, and a length before everything of no fixed size.

/// Operation codes of the requests that are used here.
pub(super) mod operation {
    pub(in super::super) const CREATE: i32 = 1;
    pub(in super::super) const DELETE: i32 = 2;
    pub(in super::super) const GET_DATA: i32 = 4;
    pub(in super::super) const SET_DATA: i32 = 5;
    pub(in super::super) const GET_CHILDREN: i32 = 8;
    pub(in super::super) const CLOSE_SESSION: i32 = -11;
}

/// Error codes of replies that are not the end of a preload.
pub(super) mod code {
    pub(in super::super) const OK: i32 = 0;
    pub(in super::super) const NO_NODE: i32 = -101;
    pub(in super::super) const NODE_EXISTS: i32 = -110;
}

/// All rights for everybody, as `OPEN_ACL_UNSAFE` has it.
const PERMISSIONS_ALL: i32 = 31;

/// Overwrites whatever version is there.
const ANY_VERSION: i32 = -1;

/// Writes one frame: the length, then the fields.
pub(super) struct Frame<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Frame<'a> {
    /// Starts a frame in an empty buffer.
    pub(super) fn start(out: &'a mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&[0; 4]);
        Frame { out }
    }

    /// Appends an `int`.
    pub(super) fn int(self, value: i32) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a `long`.
    pub(super) fn long(self, value: i64) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a `boolean`.
    pub(super) fn boolean(self, value: bool) -> Self {
        self.out.push(u8::from(value));
        self
    }

    /// Appends a `buffer` or `ustring`.
    pub(super) fn bytes(self, value: &[u8]) -> Self {
        let length = i32::try_from(value.len()).expect("a value of a benchmark is below 2 GiB");
        let frame = self.int(length);
        frame.out.extend_from_slice(value);
        frame
    }

    /// Fills in the length.
    pub(super) fn finish(self) {
        let length = u32::try_from(self.out.len() - 4).expect("a frame is below 4 GiB");
        self.out[..4].copy_from_slice(&length.to_be_bytes());
    }
}

/// The first frame of a connection.
pub(super) fn connect(out: &mut Vec<u8>, timeout_ms: i32) {
    let protocol_version = 0;
    let (last_zxid_seen, session) = (0, 0);
    let frame = Frame::start(out)
        .int(protocol_version)
        .long(last_zxid_seen)
        .int(timeout_ms);
    let read_only = false;
    frame
        .long(session)
        .bytes(&[0; 16])
        .boolean(read_only)
        .finish();
}

/// How a node is made.
pub(super) mod mode {
    pub(in super::super) const PERSISTENT: i32 = 0;
    /// It goes with its session, and has a number after its name.
    pub(in super::super) const EPHEMERAL_SEQUENTIAL: i32 = 3;
}

/// Makes a node.
pub(super) fn create(out: &mut Vec<u8>, xid: i32, path: &str, value: &[u8], mode: i32) {
    let frame = Frame::start(out).int(xid).int(operation::CREATE);
    let frame = frame.bytes(path.as_bytes()).bytes(value);
    let entries = 1;
    let frame = frame
        .int(entries)
        .int(PERMISSIONS_ALL)
        .bytes(b"world")
        .bytes(b"anyone");
    frame.int(mode).finish();
}

/// Removes a node.
pub(super) fn delete(out: &mut Vec<u8>, xid: i32, path: &str) {
    let frame = Frame::start(out).int(xid).int(operation::DELETE);
    frame.bytes(path.as_bytes()).int(ANY_VERSION).finish();
}

/// Names the children of a node, without a watch.
pub(super) fn get_children(out: &mut Vec<u8>, xid: i32, path: &str) {
    let frame = Frame::start(out).int(xid).int(operation::GET_CHILDREN);
    let watch = false;
    frame.bytes(path.as_bytes()).boolean(watch).finish();
}

/// Reads a node, without a watch.
pub(super) fn get_data(out: &mut Vec<u8>, xid: i32, path: &str) {
    let frame = Frame::start(out).int(xid).int(operation::GET_DATA);
    let watch = false;
    frame.bytes(path.as_bytes()).boolean(watch).finish();
}

/// Overwrites a node.
pub(super) fn set_data(out: &mut Vec<u8>, xid: i32, path: &str, value: &[u8]) {
    let frame = Frame::start(out).int(xid).int(operation::SET_DATA);
    frame
        .bytes(path.as_bytes())
        .bytes(value)
        .int(ANY_VERSION)
        .finish();
}

/// Ends the session.
pub(super) fn close_session(out: &mut Vec<u8>, xid: i32) {
    Frame::start(out)
        .int(xid)
        .int(operation::CLOSE_SESSION)
        .finish();
}

/// The start of every reply but the first; the answer's own fields follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyHeader {
    /// The request that it answers.
    pub(super) xid: i32,
    /// One of [`code`], or another.
    pub(super) error: i32,
}

impl ReplyHeader {
    /// `xid`, `zxid` and `err`.
    const BYTES: usize = 16;

    /// Reads it from the payload of a frame, with what follows.
    pub(super) fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = payload.split_at_checked(Self::BYTES)?;
        Some((
            ReplyHeader {
                xid: int_at(header, 0)?,
                error: int_at(header, 12)?,
            },
            rest,
        ))
    }
}

/// Reads an `int`.
pub(super) fn int_at(bytes: &[u8], position: usize) -> Option<i32> {
    let bytes = bytes.get(position..position + 4)?;
    Some(i32::from_be_bytes(bytes.try_into().ok()?))
}

/// Reads a `ustring`.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let length = usize::try_from(int_at(bytes, 0)?).ok()?;
    String::from_utf8(bytes.get(4..4 + length)?.to_vec()).ok()
}

/// Payload of the frame at the start of the buffer, if all of it is there.
pub(super) fn payload(buffer: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(int_at(buffer, 0)?).ok()?;
    buffer.get(4..4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_begins_with_its_length() {
        let mut out = vec![9; 3];
        Frame::start(&mut out)
            .int(-2)
            .long(1)
            .boolean(true)
            .bytes(b"ab")
            .finish();
        let fields = b"\xff\xff\xff\xfe\0\0\0\0\0\0\0\x01\x01\0\0\0\x02ab";
        assert_eq!(out, [b"\0\0\0\x13".as_slice(), fields].concat());
        assert_eq!(payload(&out), Some(fields.as_slice()));
        assert_eq!(payload(&out[..out.len() - 1]), None);
    }

    #[test]
    fn requests_are_what_the_java_client_sends() {
        let mut out = Vec::new();
        connect(&mut out, 30_000);
        assert_eq!(out.len(), 49);
        assert_eq!(out[..4], [0, 0, 0, 45]);
        get_data(&mut out, 7, "/a");
        assert_eq!(out, b"\0\0\0\x0f\0\0\0\x07\0\0\0\x04\0\0\0\x02/a\0");
        set_data(&mut out, 7, "/a", b"v");
        let expected = b"\0\0\0\x17\0\0\0\x07\0\0\0\x05\0\0\0\x02/a\0\0\0\x01v\xff\xff\xff\xff";
        assert_eq!(out, expected);
        create(&mut out, 1, "/a", b"", mode::PERSISTENT);
        let expected = b"\0\0\0\x31\0\0\0\x01\0\0\0\x01\0\0\0\x02/a\0\0\0\0\
            \0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone\0\0\0\0";
        assert_eq!(out, expected);
        close_session(&mut out, 3);
        assert_eq!(out, b"\0\0\0\x08\0\0\0\x03\xff\xff\xff\xf5");
    }

    #[test]
    fn a_reply_begins_with_its_header() {
        let payload = b"\0\0\0\x05\0\0\0\0\0\0\0\x09\xff\xff\xff\x92rest";
        let (header, rest) = ReplyHeader::split(payload).expect("a header");
        assert_eq!(
            header,
            ReplyHeader {
                xid: 5,
                error: code::NODE_EXISTS
            }
        );
        assert_eq!(rest, b"rest");
        assert_eq!(ReplyHeader::split(&payload[..15]), None);
    }
}
