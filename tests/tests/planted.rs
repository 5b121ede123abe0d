//! The bugs that tests are tested with, and the places at which nodes fail: each is in the code, and none in what
//! is shipped.

use caucus_tests::process;
use caucus_tests::sources;

/// In the binary in any case: a look that finds nothing else finds this.
const IN_ANY_BINARY: &str = "the Raft log cannot be synced";

fn names() -> impl Iterator<Item = &'static str> {
    let bugs = caucus_planted::ALL.into_iter().map(|bug| bug.name);
    bugs.chain(caucus_planted::POINTS.iter().map(|point| point.name))
}

#[test]
fn what_is_shipped_has_no_planted_bug() {
    let binary = std::fs::read(process::shipped()).expect("it is built");
    let text = String::from_utf8_lossy(&binary);
    assert!(text.contains(IN_ANY_BINARY), "no text is found in it");
    let mut found: Vec<&str> = names().collect();
    found.retain(|name| text.contains(name));
    assert!(found.is_empty(), "planted in the binary: {found:?}");
}

#[test]
fn each_is_in_the_code_of_the_product() {
    let product: Vec<_> = sources::rust()
        .into_iter()
        .filter(|source| !source.path.starts_with("tests/"))
        .collect();
    let mut missing: Vec<&str> = names().collect();
    missing.retain(|name| {
        let constant = name.replace('-', "_").to_ascii_uppercase();
        let asked = format!("planted::{constant}");
        !product.iter().any(|source| source.text.contains(&asked))
    });
    assert!(missing.is_empty(), "planted nowhere: {missing:?}");
}
