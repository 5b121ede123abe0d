//! Explicit-state models of the protocols between groups: revisions, transactions, reads, watches, moves,
//! leases. Each rule has a case that fails without it; see `README.md`.

mod attempts;
mod case;
mod checker;
mod entries;
mod feed;
mod history;
mod lease;
mod marks;
mod oracle;
mod ranges;
mod requests;
mod revoke;
mod store;

use case::Case;

fn cases() -> Vec<Case> {
    let families = [
        oracle::cases(),
        store::cases(),
        lease::cases(),
        entries::cases(),
        attempts::cases(),
        requests::cases(),
        ranges::cases(),
        history::cases(),
        feed::cases(),
        marks::cases(),
        revoke::cases(),
    ];
    families.into_iter().flatten().collect()
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let trace = std::env::var_os("TRACE").is_some();
    let mut wrong = 0;
    for case in cases().iter().filter(|case| case.name.contains(&filter)) {
        wrong += usize::from(!case.run(case::bounds(), trace));
    }
    if wrong > 0 {
        eprintln!("{wrong} cases didn't end as they must");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cases: &[Case]) {
        let wrong: Vec<&str> = cases
            .iter()
            .filter(|case| !case.is_slow() && !case.run(case::bounds(), false))
            .map(|case| case.name)
            .collect();
        assert!(wrong.is_empty(), "didn't end as they must: {wrong:?}");
    }

    #[test]
    fn oracle() {
        run(&oracle::cases());
    }

    #[test]
    fn store() {
        run(&store::cases());
    }

    #[test]
    fn lease() {
        run(&lease::cases());
    }

    #[test]
    fn entries() {
        run(&entries::cases());
    }

    #[test]
    fn attempts() {
        run(&attempts::cases());
    }

    #[test]
    fn requests() {
        run(&requests::cases());
    }

    #[test]
    fn ranges() {
        run(&ranges::cases());
    }

    #[test]
    fn history() {
        run(&history::cases());
    }

    #[test]
    fn feed() {
        run(&feed::cases());
    }

    #[test]
    fn marks() {
        run(&marks::cases());
    }

    #[test]
    fn revoke() {
        run(&revoke::cases());
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = cases().iter().map(|case| case.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
