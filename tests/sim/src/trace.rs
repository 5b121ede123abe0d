//! What happened, for comparing two runs and for looking at one.

use std::fmt::Display;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::wire::HostId;

/// Takes all that happens. A cheap clone.
#[derive(Clone)]
pub(crate) struct Trace {
    inner: Arc<Mutex<Inner>>,
    prints: bool,
}

struct Inner {
    hash: Xxh3,
    packets: u64,
}

impl Trace {
    /// `prints`: every line goes to standard output too.
    pub(crate) fn new(prints: bool) -> Trace {
        Trace {
            inner: Arc::new(Mutex::new(Inner {
                hash: Xxh3::new(),
                packets: 0,
            })),
            prints,
        }
    }

    /// Something that isn't a packet.
    pub(crate) fn say(&self, now: u64, what: impl Display) {
        let line = format!("{now:>8} {what}\n");
        let mut inner = self.inner.lock().expect("no panic under this lock");
        inner.hash.update(line.as_bytes());
        if self.prints {
            print!("{line}");
        }
    }

    /// A packet arrives.
    pub(crate) fn packet(&self, now: u64, from: HostId, to: HostId, data: &[u8]) {
        let content = xxh3_64(data);
        let mut inner = self.inner.lock().expect("no panic under this lock");
        inner.packets += 1;
        for number in [now, from as u64, to as u64, data.len() as u64, content] {
            inner.hash.update(&number.to_le_bytes());
        }
        if self.prints {
            println!("{now:>8} {from} > {to} {} {content:016x}", data.len());
        }
    }

    /// Of all that was taken, in its order; and how many packets there were.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let inner = self.inner.lock().expect("no panic under this lock");
        (inner.hash.digest(), inner.packets)
    }
}
