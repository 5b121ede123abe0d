//! `VnodeSet` against the standard library's set.

use std::collections::BTreeSet;

use caucus_ring::{Vnode, VnodeSet};
use proptest::prelude::*;

fn numbers() -> impl Strategy<Value = BTreeSet<u16>> {
    let number = prop_oneof![
        0..200_u16,
        any::<u16>(),
        Just(0),
        Just(63),
        Just(64),
        Just(u16::MAX)
    ];
    prop::collection::btree_set(number, 0..20)
}

fn set(numbers: &BTreeSet<u16>) -> VnodeSet {
    numbers.iter().copied().map(Vnode).collect()
}

proptest! {
    #[test]
    fn behaves_like_a_set(a in numbers(), b in numbers(), probe in any::<u16>()) {
        let (x, y) = (set(&a), set(&b));
        prop_assert_eq!(x.len(), a.len());
        prop_assert_eq!(x.is_empty(), a.is_empty());
        prop_assert_eq!(x.contains(Vnode(probe)), a.contains(&probe));
        prop_assert_eq!(x.iter().map(|v| v.0).collect::<Vec<_>>(), a.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(x.intersection(&y), set(&(&a & &b)));
        prop_assert_eq!(x.difference(&y), set(&(&a - &b)));
        prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
        prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
        let mut both = x.clone();
        both.union_with(&y);
        prop_assert_eq!(both, set(&(&a | &b)));
        prop_assert_eq!(x.only().map(|v| v.0), a.first().copied().filter(|_| a.len() == 1));
    }

    #[test]
    fn equal_however_it_came_about(a in numbers(), extra in numbers()) {
        let mut detour = set(&extra);
        detour.extend(a.iter().copied().map(Vnode));
        for number in extra.difference(&a) {
            prop_assert!(detour.remove(Vnode(*number)));
            prop_assert!(!detour.remove(Vnode(*number)));
        }
        prop_assert_eq!(&detour, &set(&a));
        prop_assert_eq!(detour.to_packed(), set(&a).to_packed());
    }

    #[test]
    fn packs_and_unpacks(a in numbers()) {
        let packed = set(&a).to_packed();
        prop_assert_eq!(VnodeSet::from_packed(&packed), Ok(set(&a)));
    }

    #[test]
    fn only_packed_bytes_unpack(bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..12)) {
        if let Ok(set) = VnodeSet::from_packed(&bytes) {
            prop_assert_eq!(set.to_packed(), bytes);
        }
    }
}

#[test]
fn packed_bytes_are_frozen() {
    for (numbers, expected) in [
        (vec![], &[][..]),
        (vec![0], &[0, 0, 1][..]),
        (vec![7], &[0, 0, 0x80]),
        (vec![8, 17], &[1, 0, 1, 2]),
        (vec![4095], &[0xff, 0x01, 0x80]),
        (vec![65535], &[0xff, 0x1f, 0x80]),
    ] {
        let set: VnodeSet = numbers.iter().copied().map(Vnode).collect();
        assert_eq!(set.to_packed(), expected, "{numbers:?}");
    }
}

#[test]
fn full_and_printed() {
    for vnodes in [0, 2, 63, 64, 65, 4096, 65536] {
        let full = VnodeSet::full(vnodes);
        assert_eq!(full.len(), vnodes as usize);
        assert_eq!(VnodeSet::from_packed(&full.to_packed()), Ok(full));
    }
    let set: VnodeSet = [0, 1, 2, 3, 7, 65534, 65535]
        .map(Vnode)
        .into_iter()
        .collect();
    assert_eq!(set.to_string(), "{0-3,7,65534-65535}");
    assert_eq!(VnodeSet::new().to_string(), "{}");
}
