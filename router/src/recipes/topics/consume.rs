//! To take messages as a consumer, alone or shared with others, and to acknowledge them.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::batch::Stored;
use super::consumer::{ATTEMPTS_MAX, Consumer, Taken, look, write};
use super::{Error, From, inside, page};
use crate::Router;
use crate::recipes::Mirror;

/// Ranges of a shared consumer that are taken, or acknowledged before what is before them.
const RANGES_MAX: usize = 1000;

/// Messages that a member has taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The messages.
    pub messages: Vec<Stored>,
    /// How often they were given to somebody, this time included.
    pub times: u32,
}

impl Consumer {
    /// Acknowledges what lies from `from` to before `to`. Of one that isn't shared: all before as well.
    fn acknowledge(&mut self, from: u64, to: u64, next: u64) -> Result<(), Error> {
        if to > next {
            let offset = to - 1;
            return Err(Error::Beyond { offset, next });
        }
        if !self.shared {
            if to < self.acked {
                return Err(Error::Behind { acked: self.acked });
            }
            self.acked = to;
            return Ok(());
        }
        let mut ranges = Vec::with_capacity(self.ranges.len() + 2);
        for taken in self.ranges.drain(..) {
            let (inner_from, inner_to) = (from.max(taken.from), to.min(taken.to));
            if taken.done || inner_from >= inner_to {
                ranges.push(taken);
                continue;
            }
            let part = |from, to, done| Taken {
                from,
                to,
                done,
                ..taken.clone()
            };
            let parts = [
                part(taken.from, inner_from, false),
                part(inner_from, inner_to, true),
                part(inner_to, taken.to, false),
            ];
            ranges.extend(parts.into_iter().filter(|part| part.from < part.to));
        }
        let done = ranges.iter().take_while(|taken| taken.done).count();
        for taken in ranges.drain(..done) {
            self.acked = taken.to;
        }
        ranges.dedup_by(|later, earlier| {
            let joins = earlier.done && later.done;
            if joins {
                earlier.to = later.to;
            }
            joins
        });
        self.ranges = ranges;
        Ok(())
    }

    /// Gives some messages to a member: those whose time with another one is over first. `None`: there are none now.
    fn take(
        &mut self,
        member: &str,
        count: u64,
        until_ms: u64,
        now_ms: u64,
        next: u64,
    ) -> Result<Option<Taken>, Error> {
        let late = |taken: &Taken| !taken.done && taken.until_ms <= now_ms;
        if let Some(at) = self.ranges.iter().position(late) {
            let taken = &mut self.ranges[at];
            taken.times = taken.times.saturating_add(1);
            member.clone_into(&mut taken.member);
            taken.until_ms = until_ms;
            return Ok(Some(taken.clone()));
        }
        let (from, to) = (self.next, next.min(self.next.saturating_add(count)));
        if from >= to {
            return Ok(None);
        }
        if self.ranges.len() >= RANGES_MAX {
            return Err(Error::Full);
        }
        let taken = Taken {
            from,
            to,
            done: false,
            member: member.to_owned(),
            until_ms,
            times: 1,
        };
        self.next = to;
        self.ranges.push(taken.clone());
        Ok(Some(taken))
    }

    /// When something that is taken is free again, in ms of Unix time.
    fn next_free_ms(&self) -> Option<u64> {
        let open = self.ranges.iter().filter(|taken| !taken.done);
        open.map(|taken| taken.until_ms).min()
    }
}

/// Acknowledges the messages from `from` to before `to`; of a consumer that isn't shared, all before as well.
pub async fn ack(
    router: &Router,
    topic: &str,
    name: &str,
    (from, to): (u64, u64),
    deadline: Instant,
) -> Result<Consumer, Error> {
    for _ in 0..ATTEMPTS_MAX {
        let (mut consumer, revision, (_, next)) = look(router, topic, name, deadline).await?;
        consumer.acknowledge(from, to, next)?;
        if write(router, topic, name, &consumer, revision, deadline).await? {
            return Ok(consumer);
        }
    }
    Err(Error::Contended)
}

/// Takes some messages of a shared consumer; others get them only if they aren't acknowledged in time. Waits until
/// there are any; no messages: there were none in time.
pub async fn fetch(
    router: &Router,
    topic: &str,
    name: &str,
    (member, count, visible): (&str, u64, Duration),
    until: Instant,
) -> Result<Fetched, Error> {
    let deadline = || Instant::now() + router.options().timeout;
    let mut mirror: Option<Mirror> = None;
    let mut attempts = 0;
    loop {
        let looked = look(router, topic, name, deadline()).await?;
        let (mut consumer, revision, (_, next)) = looked;
        if !consumer.shared {
            let why = "only a shared consumer's messages are fetched: read this one's from what it acknowledged";
            return Err(Error::Kind(why));
        }
        let now_ms = (router.options().unix_ms)();
        let until_ms = now_ms.saturating_add(visible.as_millis() as u64);
        if let Some(taken) = consumer.take(member, count, until_ms, now_ms, next)? {
            if write(router, topic, name, &consumer, revision, deadline()).await? {
                let limit = (taken.to - taken.from) as usize;
                let from = From::Offset(taken.from);
                let (messages, ..) = page(router, topic, from, limit, deadline()).await?;
                return Ok(Fetched {
                    messages,
                    times: taken.times,
                });
            }
            attempts += 1;
            if attempts >= ATTEMPTS_MAX {
                return Err(Error::Contended);
            }
            continue;
        }
        let none = Fetched {
            messages: Vec::new(),
            times: 0,
        };
        if until <= Instant::now() {
            return Ok(none);
        }
        let Some(watched) = &mut mirror else {
            // From here on nothing is missed; then it is looked at once more.
            mirror = Some(Mirror::open(router, &inside(topic, "n"), deadline()).await?);
            continue;
        };
        let free = consumer.next_free_ms().map(|free_ms| {
            let wait = Duration::from_millis(free_ms.saturating_sub(now_ms) + 1);
            Instant::now() + wait
        });
        let turn = free.map_or(until, |free| free.min(until));
        tokio::select! {
            changed = watched.next() => {
                changed?;
            }
            () = sleep_until(turn) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Consumer {
        Consumer {
            acked: 0,
            shared: true,
            next: 0,
            ranges: Vec::new(),
        }
    }

    fn take(consumer: &mut Consumer, now_ms: u64) -> Option<(u64, u64, u32)> {
        let taken = consumer.take("m", 10, now_ms + 100, now_ms, 25);
        taken
            .expect("there is room")
            .map(|taken| (taken.from, taken.to, taken.times))
    }

    #[test]
    fn members_share_what_there_is() {
        let mut consumer = shared();
        assert_eq!(take(&mut consumer, 0), Some((0, 10, 1)));
        assert_eq!(take(&mut consumer, 10), Some((10, 20, 1)));
        assert_eq!(take(&mut consumer, 20), Some((20, 25, 1)));
        assert_eq!(take(&mut consumer, 30), None);
        assert_eq!(consumer.pending(), 25);
        consumer.acknowledge(10, 20, 25).expect("taken");
        assert_eq!(consumer.acked, 0, "what is before isn't acknowledged");
        consumer.acknowledge(3, 5, 25).expect("taken");
        consumer.acknowledge(0, 3, 25).expect("taken");
        assert_eq!(consumer.acked, 5);
        // The first one's time is over: what it hasn't acknowledged goes to another.
        assert_eq!(take(&mut consumer, 100), Some((5, 10, 2)));
        assert_eq!(take(&mut consumer, 100), None);
        consumer.acknowledge(5, 10, 25).expect("taken");
        assert_eq!(consumer.acked, 20);
        consumer.acknowledge(0, 25, 25).expect("taken");
        assert_eq!((consumer.acked, consumer.ranges.len()), (25, 0));
        assert!(matches!(
            consumer.acknowledge(0, 26, 25),
            Err(Error::Beyond {
                offset: 25,
                next: 25
            })
        ));
    }

    #[test]
    fn alone_it_acknowledges_all_before() {
        let mut consumer = Consumer {
            shared: false,
            ..shared()
        };
        consumer.acknowledge(7, 8, 25).expect("there");
        assert_eq!(consumer.acked, 8);
        assert!(matches!(
            consumer.acknowledge(3, 4, 25),
            Err(Error::Behind { acked: 8 })
        ));
    }
}
