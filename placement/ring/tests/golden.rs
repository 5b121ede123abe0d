//! Golden vectors. They were computed once, checked against an independent
//! implementation of xxh3, and are frozen: if one of these fails, the code is
//! wrong, never the vector. A changed vector means that keys of existing clusters
//! are looked for in the wrong place.

use caucus_ring::{Ring, Rule, RuleEntry, Rules, VNODES_DEFAULT, VNODES_MAX, Vnode, hash};

/// Key, routing key under the default, its hash, its vnode of 4096.
const KEYS: &[(&[u8], &[u8], u64, u16)] = &[
    (b"", b"", 0x9f35_0897_093d_d6f8, 2514),
    (b"a", b"a", 0x6726_6a3f_73ec_4b1b, 329),
    (b"my-lock", b"my-lock", 0x6fc9_1a3d_52c1_333c, 1726),
    (b"my-lock/abc", b"my-lock/", 0x65f5_6d50_0be9_8d03, 1769),
    (b"my-lock/abc/def", b"my-lock/", 0x65f5_6d50_0be9_8d03, 1769),
    (b"/", b"/", 0xfa8d_babb_9b5e_c8dc, 568),
    (b"/a", b"/", 0xfa8d_babb_9b5e_c8dc, 568),
    (b"//", b"//", 0x30b2_97f8_7311_b03b, 1968),
    (b"//a/b", b"//a/", 0x2c41_73c1_21ef_435a, 3419),
    (b"/service", b"/", 0xfa8d_babb_9b5e_c8dc, 568),
    (b"/service/", b"/service/", 0x8146_3e83_6ee1_7e82, 1723),
    (
        b"/service/batman",
        b"/service/",
        0x8146_3e83_6ee1_7e82,
        1723,
    ),
    (
        b"/service/batman/",
        b"/service/batman/",
        0x3afe_b8fe_fc62_e5ca,
        2926,
    ),
    (
        b"/service/batman/leader",
        b"/service/batman/",
        0x3afe_b8fe_fc62_e5ca,
        2926,
    ),
    (
        b"/service/batman/members/node-1",
        b"/service/batman/",
        0x3afe_b8fe_fc62_e5ca,
        2926,
    ),
    (
        b"/service/robin/leader",
        b"/service/robin/",
        0xcd4e_85dd_8962_4d28,
        3531,
    ),
    (
        b"/registry/pods/default/web-0",
        b"/registry/pods/",
        0x37eb_187b_5293_ae7b,
        1655,
    ),
    (
        b"/registry/services/specs/default/kubernetes",
        b"/registry/services/",
        0xa4ca_cc70_a45d_096b,
        1617,
    ),
    (
        b"/config/app.json",
        b"/config/",
        0x6e29_7a32_4750_9173,
        4011,
    ),
    (b"{tag}/x", b"{tag}/", 0xe38c_5927_d368_a996, 2729),
    (b"\x00", b"\x00", 0x93e6_b6e2_5800_8af1, 2337),
    (
        b"\xff\xff\xff",
        b"\xff\xff\xff",
        0x777f_cb4d_b2fa_b361,
        2643,
    ),
    (b"\xff/\x00/\xff", b"\xff/", 0x5fea_4e51_685a_7de4, 2686),
    (
        "/größe/schlüssel/ä".as_bytes(),
        "/größe/schlüssel/".as_bytes(),
        0x43a5_9834_5747_277f,
        1954,
    ),
];

/// A vnode and its point.
const POINTS: &[(u16, u64)] = &[
    (0, 0x426b_1144_a01a_6fd8),
    (1, 0xaf94_970d_c3d9_2d21),
    (2, 0x21fd_f5ce_4c21_b24b),
    (255, 0x63c8_fb0b_c284_8660),
    (256, 0x2415_024f_9e79_dca0),
    (1000, 0xa287_6ede_7fc9_735c),
    (4095, 0x2d21_c2dc_5fd4_6da4),
    (4096, 0x0fbf_0362_4a98_8490),
    (65535, 0x2797_8b14_2d4a_f842),
];

#[test]
fn keys() {
    let (rules, ring) = (Rules::default(), Ring::new(VNODES_DEFAULT).unwrap());
    for (key, routing_key, position, vnode) in KEYS {
        let got = rules.routing_key(key);
        assert_eq!(got.as_bytes(), *routing_key, "{}", key.escape_ascii());
        let found = (hash::position(got.as_bytes()), ring.vnode(got).0);
        assert_eq!(
            found,
            (*position, *vnode),
            "{}: {:#018x}, {}",
            key.escape_ascii(),
            found.0,
            found.1
        );
    }
}

#[test]
fn points() {
    for (vnode, point) in POINTS {
        assert_eq!(hash::point(Vnode(*vnode)), *point, "{vnode}");
    }
    // All points of the largest ring at once.
    let mut folded: u64 = 0;
    for vnode in 0..=u16::MAX {
        folded = folded.rotate_left(1) ^ hash::point(Vnode(vnode));
    }
    assert_eq!(folded, 0x5e3b_85c6_ada1_d63f, "{folded:#018x}");
}

/// Long inputs take other paths through xxh3 than short ones.
#[test]
fn long_routing_keys() {
    for (length, expected) in [
        (16_usize, 0x6668_eabc_cb91_182e_u64),
        (128, 0xa661_01c6_80cd_da1a),
        (240, 0x4bcb_d749_483a_c53e),
        (4096, 0xe899_2ee0_6d1d_bd8c),
    ] {
        let key: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        assert_eq!(hash::position(&key), expected, "{length}");
    }
}

#[test]
fn routing_keys_under_rules() {
    let entry = |prefix: &str, rule| RuleEntry {
        prefix: prefix.as_bytes().to_vec(),
        rule,
    };
    let rules = Rules::new(
        7,
        vec![
            entry("/deep/", Rule::Segments(4)),
            entry("/deep/flat/", Rule::Segments(2)),
            entry("/one/", Rule::Segments(1)),
            entry("/dirs/", Rule::Directory),
            entry("/keys/", Rule::WholeKey),
            entry("/tags/", Rule::Tag),
            entry("app/", Rule::Segments(3)),
        ],
    )
    .unwrap();
    for (key, expected) in [
        ("/deep/a/b/c/d/e", "/deep/a/b/c/"),
        ("/deep/a/b", "/deep/a/"),
        ("/deep/flat/b/c/d", "/deep/flat/"),
        ("/deep", "/"),
        ("/one/a/b/c", "/one/"),
        ("/dirs/a/b/c/d/e", "/dirs/a/b/c/d/"),
        ("/dirs/", "/dirs/"),
        ("/keys/a/b/c", "/keys/a/b/c"),
        ("/keys/", "/keys/"),
        ("/tags/x/{user}/y/z", "{user}"),
        ("/tags/{user}", "{user}"),
        ("/tags/a/b/c", "/tags/a/"),
        ("/tags/a/b/{}{x}", "/tags/a/"),
        ("/tags/a/{x", "/tags/a/"),
        ("/other/{user}/x/y", "/other/{user}/"),
        ("app/a/b/c/d", "app/a/b/"),
        ("app", "app"),
    ] {
        assert_eq!(
            rules.routing_key(key.as_bytes()).as_bytes(),
            expected.as_bytes(),
            "{key}"
        );
    }
}

#[test]
fn no_two_points_meet() {
    let mut points: Vec<u64> = (0..=u16::MAX).map(|v| hash::point(Vnode(v))).collect();
    points.sort_unstable();
    points.dedup();
    assert_eq!(points.len(), VNODES_MAX as usize);
}
