//! `route_range` against brute force, and the ring's arithmetic.

use std::sync::LazyLock;

use caucus_ring::{
    Ring, Rule, RuleEntry, Rules, RulesError, VNODES_DEFAULT, Vnode, VnodeSet, route_range,
};
use proptest::prelude::*;

static RING: LazyLock<Ring> = LazyLock::new(|| Ring::new(VNODES_DEFAULT).unwrap());

/// The bytes at which something can happen, and their neighbours.
const ALPHABET: &[u8] = b"//ab.0{}\x00\xff";

fn text(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(ALPHABET), length)
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let rule = prop_oneof![
        (1..5_u32).prop_map(Rule::Segments),
        Just(Rule::Directory),
        Just(Rule::WholeKey),
        Just(Rule::Tag),
    ];
    let entry = (text(0..4), rule).prop_map(|(mut prefix, rule)| {
        prefix.push(b'/');
        RuleEntry { prefix, rule }
    });
    prop::collection::vec(entry, 0..5).prop_map(|mut entries| {
        entries.retain(|entry| Rules::new(1, vec![entry.clone()]).is_ok());
        entries.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        entries.dedup_by(|a, b| a.prefix == b.prefix);
        Rules::new(1, entries).unwrap()
    })
}

fn vnode(rules: &Rules, key: &[u8]) -> Vnode {
    RING.vnode(rules.routing_key(key))
}

/// All keys of up to `length` letters of a small alphabet.
fn all_keys(letters: &[u8], length: usize) -> Vec<Vec<u8>> {
    let mut keys = vec![vec![]];
    let mut from = 0;
    for _ in 0..length {
        let to = keys.len();
        for at in from..to {
            for letter in letters {
                let mut longer = keys[at].clone();
                longer.push(*letter);
                keys.push(longer);
            }
        }
        from = to;
    }
    keys.sort();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_key_of_a_range_is_missed(
        rules in any_rules(), start in text(0..6), end in text(0..6), tails in prop::collection::vec(text(0..8), 30),
    ) {
        let vnodes = route_range(&rules, &RING, &start, &end);
        for tail in tails {
            // Keys near the start, near the end, and anywhere.
            for stem in [&start[..], &end[..end.len().saturating_sub(1)], &[]] {
                let key = [stem, &tail].concat();
                let inside = key >= start && (end.is_empty() || key < end);
                prop_assert!(!inside || vnodes.contains(vnode(&rules, &key)), "{}", key.escape_ascii());
            }
        }
    }

    #[test]
    fn a_range_inside_one_routing_key_is_exact(rules in any_rules(), start in text(0..8), end in text(0..8)) {
        static KEYS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| all_keys(b"/a{}\x00", 4));
        let vnodes = route_range(&rules, &RING, &start, &end);
        let inside = |key: &&Vec<u8>| **key >= start && (end.is_empty() || **key < end);
        // What extends the start, or a prefix of it with its last byte raised.
        let raised = (0..start.len()).filter_map(|at| Some([&start[..at], &[start[at].checked_add(1)?]].concat()));
        // And what a rule is for that lies inside.
        let ruled = rules.entries().iter().map(|entry| entry.prefix.clone());
        let stems: Vec<Vec<u8>> = raised.chain(ruled).chain([start.clone(), vec![]]).collect();
        let keys: Vec<Vec<u8>> =
            stems.iter().flat_map(|stem| KEYS.iter().map(move |tail| [&stem[..], tail].concat())).collect();
        let seen: VnodeSet = keys.iter().filter(inside).map(|key| vnode(&rules, key)).collect();
        prop_assert!(seen.is_subset(&vnodes));
        if vnodes.len() < VNODES_DEFAULT as usize {
            return Ok(());
        }
        // All vnodes is the right answer only if the keys really differ.
        prop_assert!(seen.len() > 1, "{} {}", start.escape_ascii(), end.escape_ascii());
    }

    #[test]
    fn one_key_is_one_vnode(rules in any_rules(), key in text(0..10)) {
        let end = [&key[..], b"\0"].concat();
        prop_assert_eq!(route_range(&rules, &RING, &key, &end), VnodeSet::single(vnode(&rules, &key)));
    }
}

#[test]
fn ranges_by_hand() {
    let entry = |prefix: &str, rule| RuleEntry {
        prefix: prefix.as_bytes().to_vec(),
        rule,
    };
    let plain = Rules::default();
    let ruled = Rules::new(
        1,
        vec![
            entry("/registry/pods/", Rule::Segments(3)),
            entry("/one/", Rule::Segments(1)),
            entry("/one/x/y/", Rule::Segments(3)),
            entry("/tags/", Rule::Tag),
        ],
    )
    .unwrap();
    let one = |rules: &Rules, start: &str, end: &str, key: &str| {
        let got = route_range(rules, &RING, start.as_bytes(), end.as_bytes());
        assert_eq!(
            got,
            VnodeSet::single(vnode(rules, key.as_bytes())),
            "{start} {end}"
        );
    };
    let count = |rules: &Rules, start: &str, end: &str, expected: usize| {
        let got = route_range(rules, &RING, start.as_bytes(), end.as_bytes());
        assert_eq!(got.len(), expected, "{start} {end}");
    };
    let all = VNODES_DEFAULT as usize;
    one(
        &plain,
        "/service/batman/",
        "/service/batman0",
        "/service/batman/",
    );
    one(
        &plain,
        "/service/batman/a/b",
        "/service/batman/a/c",
        "/service/batman/",
    );
    one(&plain, "my-lock/", "my-lock0", "my-lock/");
    count(&plain, "/service/bat", "/service/bau", all);
    count(&plain, "/service/", "/service0", all);
    count(&plain, "", "", all);
    count(&plain, "b", "a", 0);
    count(&plain, "a", "a", 0);
    count(&plain, "a", "a\0\0\0", 3);
    count(&ruled, "/registry/pods/", "/registry/pods0", all);
    one(
        &ruled,
        "/registry/pods/default/",
        "/registry/pods/default0",
        "/registry/pods/default/",
    );
    // The rule inside adds its vnode to that of the rule around it.
    count(&ruled, "/one/", "/one0", 2);
    one(&ruled, "/one/a", "/one/b", "/one/");
    one(&ruled, "/tags/a/{user}/", "/tags/a/{user}0", "/tags/{user}");
    count(&ruled, "/tags/a/b/c/", "/tags/a/b/c0", all);
    one(&plain, "/tags/a/b/c/", "/tags/a/b/c0", "/tags/a/x");
}

#[test]
fn arcs_add_up_and_belong_to_the_point_at_their_end() {
    for vnodes in [2, 3, 64, 4096, 65536] {
        let ring = Ring::new(vnodes).unwrap();
        let total: u128 = ring.arcs().iter().map(|arc| u128::from(*arc)).sum();
        assert_eq!(total, 1 << 64, "{vnodes}");
    }
    // Keys fall on vnodes in proportion to arcs.
    let ring = Ring::new(4).unwrap();
    let mut hits = [0_u32; 4];
    for number in 0..40_000 {
        hits[usize::from(vnode_of(&ring, &format!("key-{number}")).0)] += 1;
    }
    for (hit, arc) in hits.iter().zip(ring.arcs()) {
        let expected = *arc as f64 / 2_f64.powi(64) * 40_000.0;
        assert!(
            (f64::from(*hit) - expected).abs() < 500.0,
            "{hit} {expected}"
        );
    }
    for wrong in [0, 1, 65537] {
        assert!(Ring::new(wrong).is_err());
    }
}

fn vnode_of(ring: &Ring, key: &str) -> Vnode {
    ring.vnode(Rules::default().routing_key(key.as_bytes()))
}

#[test]
fn rules_that_are_refused() {
    let one = |prefix: &str, rule| {
        Rules::new(
            1,
            vec![RuleEntry {
                prefix: prefix.as_bytes().to_vec(),
                rule,
            }],
        )
    };
    for (prefix, rule) in [
        ("", Rule::Directory),
        ("/a", Rule::Directory),
        ("/a/", Rule::Segments(0)),
        ("/a/b/", Rule::Segments(1)),
        ("/a/", Rule::Segments(65)),
    ] {
        let refused = one(prefix, rule);
        assert!(refused.is_err(), "{prefix} {rule:?}");
    }
    let long = "a".repeat(256) + "/";
    assert_eq!(
        one(&long, Rule::Directory),
        Err(RulesError::PrefixTooLong { bytes: 257 })
    );
    let message = one("/a/b/", Rule::Segments(1)).unwrap_err().to_string();
    assert!(message.contains("2 to 64 segments"), "{message}");
    let twice = RuleEntry {
        prefix: b"/a/".to_vec(),
        rule: Rule::Tag,
    };
    let refused = Rules::new(1, vec![twice.clone(), twice.clone()]);
    assert_eq!(
        refused,
        Err(RulesError::Duplicate {
            prefix: "/a/".to_owned()
        })
    );
    assert!(matches!(
        Rules::new(1, vec![twice; 1025]),
        Err(RulesError::TooMany { count: 1025 })
    ));
    assert!(one("/", Rule::Segments(1)).is_ok());
}
