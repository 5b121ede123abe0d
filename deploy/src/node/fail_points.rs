//! Arms the places at which a test wants this node to die.

use caucus_ring::NodeId;

/// `NODE/PLACE`, separated by commas.
pub(crate) const VARIABLE: &str = "CAUCUS_FAIL_POINTS";

/// Arms what the environment names for this node.
///
/// # Errors
///
/// What it says can't be read, or there is no such place.
pub(super) fn arm(node: NodeId) -> Result<(), String> {
    let Ok(places) = std::env::var(VARIABLE) else {
        return Ok(());
    };
    for place in places.split(',').filter(|place| !place.is_empty()) {
        let (whose, name) = place
            .split_once('/')
            .ok_or_else(|| format!("{VARIABLE} is NODE/PLACE,..., not `{place}`"))?;
        let whose: u32 = whose
            .parse()
            .map_err(|_| format!("{VARIABLE}: `{whose}` is not the number of a node"))?;
        if whose == node.0 {
            caucus_shard::fail_points::arm(name).map_err(|why| format!("{VARIABLE}: {why}"))?;
            tracing::warn!(place = name, "this node dies there, as {VARIABLE} says");
        }
    }
    Ok(())
}
