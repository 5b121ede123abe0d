//! Places that are armed, by the crate `fail`.

use std::time::Duration;

use super::{POINTS, POINTS_VARIABLE, Point};

/// So long a thread stalls.
const STALL: Duration = Duration::from_secs(1);

/// The process is at a place, where a test may want it to die or to stall.
pub fn at(point: Point) {
    fails(point);
}

/// The same for a place at which there is an error to fail with: whether to.
pub fn fails(point: Point) -> bool {
    let Some(action) = armed(point) else {
        return false;
    };
    // A test looks for this: a place that nobody came to has tested nothing.
    eprintln!("fail point: {}={action}", point.name);
    match &action[..] {
        "die" => std::process::abort(),
        "fail" => true,
        _ => {
            #[allow(clippy::disallowed_methods, reason = "to stall is what it is for")]
            std::thread::sleep(STALL);
            false
        }
    }
}

fn armed(point: Point) -> Option<String> {
    fail::fail_point!(point.name, |action: Option<String>| action);
    None
}

/// Arms what the environment names for a node.
///
/// # Errors
///
/// What it says can't be read, or there is no such place.
pub fn arm_from_environment(node: u32) -> Result<(), String> {
    let places = std::env::var(POINTS_VARIABLE).unwrap_or_default();
    for place in places.split(',').filter(|place| !place.is_empty()) {
        arm_one(node, place).map_err(|why| format!("{POINTS_VARIABLE}: `{place}`: {why}"))?;
    }
    Ok(())
}

/// `NODE/NAME=ACTION@PASSES`.
fn arm_one(node: u32, place: &str) -> Result<(), String> {
    let number = |text: &str| {
        let number = text.parse::<u32>();
        number.map_err(|_| format!("`{text}` is not a number"))
    };
    let (whose, place) = place.split_once('/').ok_or("it is NODE/NAME")?;
    let (place, passes) = match place.split_once('@') {
        Some((place, passes)) => (place, number(passes)?),
        None => (place, 0),
    };
    let (name, action) = place.split_once('=').unwrap_or((place, "die"));
    let point = POINTS.iter().find(|point| point.name == name);
    let point = point.ok_or_else(|| format!("there is no `{name}`"))?;
    match action {
        "die" | "stall" => {}
        "fail" if point.can_fail => {}
        _ => return Err(format!("it can't {action}")),
    }
    if number(whose)? != node {
        return Ok(());
    }
    // Once: after that all goes on as ever.
    let once = format!("1*return({action})->off");
    match passes {
        0 => fail::cfg(name, &once),
        passes => fail::cfg(name, &format!("{passes}*off->{once}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::*;

    #[test]
    fn a_place_fires_once_after_its_passes() {
        arm_one(2, "2/router-answered=fail@2").unwrap();
        let fired: Vec<bool> = (0..5).map(|_| fails(ROUTER_ANSWERED)).collect();
        assert_eq!(fired, [false, false, true, false, false]);
        arm_one(2, "3/log-writing=fail").unwrap();
        assert!(!fails(LOG_WRITING), "another node's");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (place, why) in [
            ("log-writing", "NODE/NAME"),
            ("x/log-writing", "not a number"),
            ("2/log-writing@x", "not a number"),
            ("2/a-good-day", "there is no"),
            ("2/log-synced=fail", "can't fail"),
            ("2/log-synced=sing", "can't sing"),
        ] {
            let refused = arm_one(2, place).unwrap_err();
            assert!(refused.contains(why), "{place}: {refused}");
        }
    }
}
