//! Routing rules.

use caucus_ring::Rules;

use super::apply::{Change, Verdict};
use super::state::Cluster;
use super::{Answer, Refusal, SetRules};

/// Rules take effect at once, so they can be set only while no group can hold a
/// key. With keys it takes the protocol that closes the prefix in each group first
/// (pending rules have their place reserved in the encodings).
pub(super) fn set(cluster: &mut Cluster, set: SetRules) -> Verdict {
    let current = cluster.rules.version();
    let rules = Rules::new(current + 1, set.entries)?;
    if rules.entries() == cluster.rules.entries() {
        return Ok((Answer::RulesSet { version: current }, Change::Nothing));
    }
    if set.expected_version != current {
        return Err(Refusal::RulesVersion {
            current,
            expected: set.expected_version,
        });
    }
    if !cluster.groups.is_empty() {
        return Err(Refusal::RulesInUse);
    }
    cluster.rules = rules;
    Ok((
        Answer::RulesSet {
            version: current + 1,
        },
        Change::Map,
    ))
}
