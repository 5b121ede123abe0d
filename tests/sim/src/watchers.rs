//! Watchers, who come back whenever their watch ends or their router dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caucus_history::history::Type;
use caucus_ring::Revision;
use caucus_router::Router;
use caucus_router::watch::{End, Event, Told, WatchSpec};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::clients::{is_list, read_value};
use crate::scene::{Scene, all, deadline};

/// A watch that says nothing for so long is opened again.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Who leaves is away for so long at most, in ms; the past may be forgotten meanwhile.
const AWAY_MAX: u64 = 40_000;

/// A watch over the lives of its router.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) number: u64,
    pub(crate) prefix: &'static str,
    /// How often it had to begin anew, because what it needed was compacted.
    begun: u64,
    /// The first revision of this beginning.
    from: u64,
    /// Up to where it has got.
    through: u64,
}

impl Watch {
    pub(crate) fn new(number: u64, prefix: &'static str) -> Watch {
        Watch {
            number,
            prefix,
            begun: 0,
            from: 1,
            through: 0,
        }
    }

    fn name(&self) -> String {
        format!("watcher-{}-{}", self.number, self.begun)
    }
}

/// Writes down what is told, up to the revision that the scene says at last.
pub(crate) async fn play(scene: Arc<Scene>, router: Router, watch: Arc<std::sync::Mutex<Watch>>) {
    let mut leaving = Leaving::new(&scene, &watch);
    loop {
        let (prefix, through) = {
            let watch = watch.lock().expect("no panic under this lock");
            (watch.prefix, watch.through)
        };
        let until = scene.until.load(Ordering::Relaxed);
        if until > 0 && through >= until {
            scene.arrived.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let span = all(prefix).expect("a span");
        let spec = WatchSpec {
            start: span.start,
            end: Some(span.end),
            from: Some(Revision(through + 1)),
            ..WatchSpec::default()
        };
        let mut watches = router.watches();
        if watches.open(1, &spec, deadline()).await.is_ok() {
            if until > 0 {
                watches.reach(1, Revision(until));
            }
            while let Ok(parcel) = timeout(SILENCE_MAX, watches.next()).await {
                let mut watch = watch.lock().expect("no panic under this lock");
                if !take(&scene, &mut watch, parcel.told) {
                    break;
                }
                let until = scene.until.load(Ordering::Relaxed);
                if until == 0 && leaving.decides() {
                    break;
                }
                if until > 0 {
                    if watch.through >= until {
                        break;
                    }
                    watches.reach(1, Revision(until));
                }
            }
        }
        drop(watches);
        sleep(leaving.pause()).await;
    }
}

/// Whether a watcher goes away now and then, to come back where it was.
struct Leaving {
    random: Option<fastrand::Rng>,
    leaves: bool,
}

impl Leaving {
    fn new(scene: &Scene, watch: &std::sync::Mutex<Watch>) -> Leaving {
        let number = watch.lock().expect("no panic under this lock").number;
        let seed = scene.plan.seed.rotate_left(11) ^ number;
        let random = scene.plan.has_odd.then(|| fastrand::Rng::with_seed(seed));
        Leaving {
            random,
            leaves: false,
        }
    }

    fn decides(&mut self) -> bool {
        let random = self.random.as_mut();
        self.leaves = random.is_some_and(|random| random.u8(0..40) == 0);
        self.leaves
    }

    /// Until the watch is opened again.
    fn pause(&mut self) -> Duration {
        let leaves = std::mem::take(&mut self.leaves);
        let away = self.random.as_mut().filter(|_| leaves);
        Duration::from_millis(away.map_or(100, |random| random.u64(100..AWAY_MAX)))
    }
}

/// Notes what a watch was told; `false`: it has ended.
fn take(scene: &Scene, watch: &mut Watch, told: Told) -> bool {
    match told {
        Told::Events { events, through } => {
            let events = events.iter().filter_map(|event| shown(event));
            let told = json!({
                "watch": watch.name(), "prefix": watch.prefix, "from": watch.from,
                "events": events.collect::<Vec<Value>>(), "through": through,
            });
            scene.say(Type::Ok, &watch.name(), "watch", told);
            watch.through = through;
            true
        }
        Told::Ended(End::Compacted { revision }) => {
            watch.begun += 1;
            watch.from = revision + 1;
            watch.through = revision;
            false
        }
        Told::Ended(End::Lagging { .. } | End::Refused(_)) => false,
    }
}

/// Lists are checked by those who read them.
fn shown(event: &Event) -> Option<Value> {
    let key = std::str::from_utf8(&event.key).expect("ours");
    let value = read_value(key, event.record.as_ref());
    (!is_list(key)).then(|| json!([event.revision, key, value]))
}
