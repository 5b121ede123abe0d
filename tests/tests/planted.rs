//! The bugs that tests are tested with: each is in the code, and none in what is shipped.

use caucus_tests::process;
use caucus_tests::sources;

/// In the binary in any case: a look that finds nothing else finds this.
const IN_ANY_BINARY: &str = "CAUCUS_FAIL_POINTS";

#[test]
fn what_is_shipped_has_no_planted_bug() {
    let binary = std::fs::read(process::shipped()).expect("it is built");
    let text = String::from_utf8_lossy(&binary);
    assert!(text.contains(IN_ANY_BINARY), "no text is found in it");
    let mut found = Vec::new();
    for bug in caucus_planted::ALL {
        if text.contains(bug.name) {
            found.push(bug.name);
        }
    }
    assert!(found.is_empty(), "planted in the binary: {found:?}");
}

#[test]
fn each_bug_is_in_the_code_of_the_product() {
    let product: Vec<_> = sources::rust()
        .into_iter()
        .filter(|source| !source.path.starts_with("tests/"))
        .collect();
    let mut missing = Vec::new();
    for bug in caucus_planted::ALL {
        let constant = bug.name.replace('-', "_").to_ascii_uppercase();
        let asked = format!("planted::{constant}");
        if !product.iter().any(|source| source.text.contains(&asked)) {
            missing.push(bug.name);
        }
    }
    assert!(missing.is_empty(), "planted nowhere: {missing:?}");
}
