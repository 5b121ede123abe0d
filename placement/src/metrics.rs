//! The metrics of this crate. Handles are resolved once.

use metrics::{Counter, Gauge, Histogram, Unit};

const GRANTED: &str = "caucus_oracle_granted_revisions_total";
const GRANTS: &str = "caucus_oracle_grants_total";
const ROUND_REQUESTS: &str = "caucus_oracle_round_requests";
const GRANT_SECONDS: &str = "caucus_oracle_grant_seconds";
const RAISES: &str = "caucus_oracle_ceiling_raises_total";
const QUEUED: &str = "caucus_oracle_queued_requests";

/// Gives each metric its unit and meaning.
pub fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(GRANTED, Unit::Count, "Revisions granted");
    describe_counter!(GRANTS, Unit::Count, "Blocks of revisions granted");
    describe_histogram!(
        ROUND_REQUESTS,
        Unit::Count,
        "Requests that shared one quorum round of the oracle"
    );
    describe_histogram!(
        GRANT_SECONDS,
        Unit::Seconds,
        "From the arrival of a request at the oracle to its answer"
    );
    describe_counter!(
        RAISES,
        Unit::Count,
        "Raises of the oracle's ceiling, by result"
    );
    describe_gauge!(
        QUEUED,
        Unit::Count,
        "Requests that wait for the next quorum round of the oracle"
    );
}

pub(crate) struct Oracle {
    pub(crate) granted: Counter,
    pub(crate) grants: Counter,
    pub(crate) round_requests: Histogram,
    pub(crate) grant_seconds: Histogram,
    pub(crate) raised: Counter,
    pub(crate) raise_failed: Counter,
    pub(crate) queued: Gauge,
}

impl Oracle {
    pub(crate) fn new() -> Oracle {
        Oracle {
            granted: metrics::counter!(GRANTED),
            grants: metrics::counter!(GRANTS),
            round_requests: metrics::histogram!(ROUND_REQUESTS),
            grant_seconds: metrics::histogram!(GRANT_SECONDS),
            raised: metrics::counter!(RAISES, "result" => "applied"),
            raise_failed: metrics::counter!(RAISES, "result" => "failed"),
            queued: metrics::gauge!(QUEUED),
        }
    }
}
