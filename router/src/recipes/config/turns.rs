//! Publishers of the same path wait for each other, as far as they come by the same router. Those of other routers
//! they meet in the store, where one of them begins anew: that alone would leave many with nothing but attempts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::OwnedMutexGuard;

use super::path::Path;

type Turn = Arc<tokio::sync::Mutex<()>>;

/// The paths that are being published; as many as there are publications.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    paths: Mutex<HashMap<Path, Turn>>,
}

/// The turn of one publication, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'t> {
    turns: &'t Turns,
    paths: Vec<&'t Path>,
    guards: Vec<OwnedMutexGuard<()>>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<Path, Turn>> {
        self.paths.lock().expect("no panic under this lock")
    }

    /// Waits until nobody else publishes any of them.
    pub(super) async fn take<'t>(&'t self, paths: impl Iterator<Item = &'t Path>) -> Taken<'t> {
        let mut taken = Taken {
            turns: self,
            paths: paths.collect(),
            guards: Vec::new(),
        };
        // All take them in the same order, so none waits for one that waits for it.
        taken.paths.sort_unstable();
        for at in 0..taken.paths.len() {
            let turn = Arc::clone(self.lock().entry(taken.paths[at].clone()).or_default());
            taken.guards.push(turn.lock_owned().await);
        }
        taken
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.guards.clear();
        let mut paths = self.turns.lock();
        for path in &self.paths {
            // Nobody has it or waits for it: they get it under the lock that is held.
            if paths
                .get(*path)
                .is_some_and(|turn| Arc::strong_count(turn) == 1)
            {
                paths.remove(*path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn one_after_the_other_and_nothing_is_left() {
        let turns = Turns::default();
        let path = |text| Path::parse(text).expect("a path");
        let (a, b, c) = (path("ns/a"), path("ns/b"), path("ns/c"));
        let mut first = pin!(turns.take([&b, &a].into_iter()));
        let Some(first) = poll_once(first.as_mut()) else {
            panic!("nobody else publishes");
        };
        let mut other = pin!(turns.take([&c].into_iter()));
        assert!(poll_once(other.as_mut()).is_some());
        {
            let mut given_up = pin!(turns.take([&a].into_iter()));
            assert!(poll_once(given_up.as_mut()).is_none());
        }
        let mut second = pin!(turns.take([&a, &b].into_iter()));
        assert!(poll_once(second.as_mut()).is_none());
        drop(first);
        assert!(poll_once(second.as_mut()).is_some());
        assert!(turns.lock().is_empty());
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
