//! Golden tests: these bytes are on disks. A test that fails here means a migration, not a new
//! golden value.

use bytes::Bytes;
use caucus_engine::keys::{self, log_kind, node_kind, state_kind};
use caucus_engine::record::{self, Record, RecordError, chain, decode_record, encode_record};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn range(range: std::ops::Range<Bytes>) -> String {
    format!("{}..{}", hex(&range.start), hex(&range.end))
}

const ID: keys::StorageId = 0x0102_0304;

#[test]
fn keys_are_frozen() {
    let table: [(Bytes, &str); 16] = [
        (keys::node(9), "000000000109"),
        (
            keys::pointer(5, 6),
            "000000000200000000000000050000000000000006",
        ),
        (keys::log_meta(ID, 1), "010203040101"),
        (keys::entry(ID, 0x0A0B), "01020304020000000000000a0b"),
        (keys::meta(ID, 3), "010203040103"),
        (keys::current(ID, 0x0FFE, b"k\0y"), "01020304020ffe6b0079"),
        (keys::current(ID, 1, b""), "01020304020001"),
        (
            keys::history(ID, 2, b"k\0", 7),
            "010203040300026b00ff00010000000000000007",
        ),
        (
            keys::history(ID, 2, b"", 1),
            "0102030403000200010000000000000001",
        ),
        (keys::dedup(ID, 8), "01020304040000000000000008"),
        (keys::vnode(ID, 0x1234), "01020304071234"),
        (keys::session(ID, 9), "01020304080000000000000009"),
        (keys::journal(ID, 10), "0102030409000000000000000a"),
        (
            keys::lease(ID, 0x1234, 11),
            "01020304051234000000000000000b",
        ),
        (keys::attached(ID, 12, b"k"), "010203040c000000000000000c6b"),
        (keys::open_lease(ID, 13), "010203040d000000000000000d"),
    ];
    for (key, wanted) in table {
        assert_eq!(hex(&key), wanted);
    }
}

#[test]
fn kinds_are_frozen() {
    use state_kind as s;
    let state = [
        s::META,
        s::CURRENT,
        s::HISTORY,
        s::DEDUP,
        s::LEASE,
        s::TXN,
        s::VNODE,
        s::SESSION,
        s::JOURNAL,
        s::IDEMPOTENT,
        s::CHANGES,
        s::ATTACHED,
        s::OPEN,
    ];
    assert_eq!(state, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert_eq!([log_kind::META, log_kind::ENTRY], [1, 2]);
    assert_eq!([node_kind::NODE, node_kind::POINTER], [1, 2]);
}

#[test]
fn ranges_are_frozen() {
    let table = [
        (keys::prefix_range(ID), "01020304..01020305"),
        (keys::prefix_range(0xFF), "000000ff..000001"),
        (
            keys::prefix_range(keys::STORAGE_ID_MAX),
            "fffffffe..ffffffff",
        ),
        (
            keys::kind_range(ID, state_kind::CURRENT),
            "0102030402..0102030403",
        ),
        (
            keys::vnode_range(ID, state_kind::CURRENT, 0x00FF),
            "010203040200ff..010203040201",
        ),
        (
            keys::vnode_range(ID, state_kind::CURRENT, 0xFFFF),
            "0102030402ffff..0102030403",
        ),
        (
            keys::entry_range(ID, 1..3),
            "01020304020000000000000001..01020304020000000000000003",
        ),
        (
            keys::entries_from(ID, 1),
            "01020304020000000000000001..0102030403",
        ),
        (
            keys::history_range(ID, 2, b"a"),
            "01020304030002610001..01020304030002610002",
        ),
    ];
    for (found, wanted) in table {
        // Trailing FF bytes are cut from an end; what remains is the smallest key above.
        assert_eq!(range(found), wanted);
    }
    for prefix in [&b""[..], b"\xFF", b"\xFF\xFF\xFF"] {
        assert_eq!(keys::prefix_end(prefix), Bytes::new());
    }
    assert_eq!(hex(&keys::prefix_end(b"a\xFF\xFF")), "62");
}

#[test]
fn parsers_refuse_other_keys() {
    assert_eq!(keys::parse_entry(ID, &keys::entry(ID, 77)), Some(77));
    assert_eq!(keys::parse_entry(ID + 1, &keys::entry(ID, 77)), None);
    assert_eq!(keys::parse_entry(ID, &keys::log_meta(ID, 7)), None);
    assert_eq!(keys::parse_entry(ID, &keys::entry(ID, 77)[..12]), None);
    assert_eq!(keys::parse_pointer(&keys::pointer(3, 4)), Some((3, 4)));
    assert_eq!(keys::parse_pointer(&keys::node(1)), None);
    assert_eq!(keys::parse_current(ID, b""), None);
    for broken in [&b""[..], b"a", b"a\0", b"a\0\x02", b"\0\0"] {
        assert_eq!(keys::unescape(broken), None, "{broken:?}");
    }
}

#[test]
fn records_are_frozen() {
    let (first, first_chain) = encode_record(record::CHAIN_START, &[b"hello ", b"log"]);
    assert_eq!(hex(&first), "0129e1b0b36f23fc7b1481436968656c6c6f206c6f67");
    let (second, _) = encode_record(first_chain, &[]);
    assert_eq!(hex(&second), "018a2915986926a9f8fd4eaf54");
    assert_eq!(chain(0, &[]), 0x2d06_8005_38d3_94c2, "XXH3-64 of nothing");
}

#[test]
fn damage_shows() {
    let (first, first_chain) = encode_record(0, &[b"one"]);
    let (second, _) = encode_record(first_chain, &[b"two"]);
    assert_eq!(second.len(), record::RECORD_OVERHEAD_BYTES + 3);
    assert!(decode_record(&first).expect("whole").follows(0));
    let second_read = decode_record(&second).expect("whole");
    assert!(second_read.follows(first_chain));
    assert!(!second_read.follows(0), "a hole in the log");
    for bit in 0..second.len() * 8 {
        let mut damaged = second.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = decode_record(&damaged.into()).expect_err("damaged");
        let version = matches!(error, RecordError::Version { .. });
        assert!(version == (bit < 8) && (version || error == RecordError::Checksum));
    }
    for length in 0..second.len() {
        assert!(decode_record(&second.slice(..length)).is_err());
    }
}

proptest! {
    #[test]
    fn records_come_back(prev: u64, parts: Vec<Vec<u8>>) {
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (frame, chain) = encode_record(prev, &slices);
        let payload = Bytes::from(parts.concat());
        let record = decode_record(&frame);
        prop_assert_eq!(record, Ok(Record { chain, payload: payload.clone() }));
        prop_assert_eq!(encode_record(prev, &[&payload]), (frame, chain));
    }

    #[test]
    fn garbage_is_no_record_and_no_panic(bytes: Vec<u8>) {
        let _ = decode_record(&bytes.into());
    }

    #[test]
    fn user_keys_come_back_and_keep_their_order(
        a in prop::collection::vec(0u8..3, 0..6), b in prop::collection::vec(0u8..3, 0..6),
        x in 0u64..3, y in 0u64..3,
    ) {
        let (left, right) = (keys::history(ID, 5, &a, x), keys::history(ID, 5, &b, y));
        prop_assert_eq!(left.cmp(&right), (&a, x).cmp(&(&b, y)));
        prop_assert_eq!(keys::parse_history(ID, &left), Some((5, a.clone(), x)));
        prop_assert_eq!(keys::history_range(ID, 5, &a).contains(&right), a == b);
        let (left, right) = (keys::current(ID, 5, &a), keys::current(ID, 5, &b));
        prop_assert_eq!(keys::parse_current(ID, &left), Some((5, &a[..])));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
    }

    #[test]
    fn a_prefix_end_is_the_least_key_above(prefix: Vec<u8>, key: Vec<u8>) {
        let end = keys::prefix_end(&prefix);
        let within = key >= prefix && (end.is_empty() || key[..] < end[..]);
        prop_assert_eq!(within, key.starts_with(&prefix));
    }
}
