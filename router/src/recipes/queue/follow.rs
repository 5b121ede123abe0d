//! Follows a queue for all that wait in it.

use std::collections::HashMap;

use bytes::Bytes;
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_api::range::prefix_end;
use caucus_ring::Revision;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::line::Line;
use super::{Queue, Seen, Turn};
use crate::watch::{Told, WatchSpec};
use crate::{Error, Listing, Router};

/// The only watch of a follower.
const WATCH: u64 = 0;
/// Between two attempts to begin anew.
const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(100);

/// What a follower is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Somebody waits for the turn of an entry.
    Wait {
        created: u64,
        tell: oneshot::Sender<Turn>,
    },
    /// Nobody does any more.
    Leave(u64),
}

pub(super) struct Follower {
    router: Router,
    queue: Queue,
    commands: mpsc::UnboundedReceiver<Command>,
    line: Line,
    /// The line is as it was at this revision; 0: it hasn't been read.
    position: u64,
    waiting: HashMap<u64, oneshot::Sender<Turn>>,
}

impl Follower {
    pub(super) fn new(
        router: Router,
        queue: Queue,
        seen: Option<Seen>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Follower {
        Follower {
            router,
            commands,
            position: seen.as_ref().map_or(0, |seen| seen.revision.0),
            line: seen.map_or_else(
                || Line::new(queue.share),
                |seen| Line::of(queue.share, &seen.items),
            ),
            waiting: HashMap::new(),
            queue,
        }
    }

    /// Until nobody waits any more.
    pub(super) async fn run(mut self) {
        loop {
            while self.position == 0 && self.read_anew().await.is_err() {
                sleep(AGAIN_AFTER).await;
                self.take_commands();
                if self.waiting.is_empty() && self.ends() {
                    return;
                }
            }
            if self.follow().await.is_ok() {
                return;
            }
            self.position = 0;
            sleep(AGAIN_AFTER).await;
        }
    }

    /// `Err`: the watch has ended, or doesn't begin.
    async fn follow(&mut self) -> Result<(), Error> {
        let mut watches = self.router.watches();
        let spec = WatchSpec {
            start: self.queue.prefix.clone(),
            end: Some(self.end()),
            from: Some(Revision(self.position + 1)),
            ..WatchSpec::default()
        };
        watches.open(WATCH, &spec, self.deadline()).await?;
        loop {
            self.take_commands();
            self.tell_holders();
            if self.waiting.is_empty() && self.ends() {
                return Ok(());
            }
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    // The registry holds a sender as long as this runs.
                    None => return Ok(()),
                },
                parcel = watches.next() => match parcel.told {
                    Told::Events { events, through } => {
                        for event in events {
                            let gone = self.line.set(&event.key, event.record.as_ref());
                            let waits = gone.and_then(|gone| self.waiting.remove(&gone));
                            if let Some(tell) = waits {
                                _ = tell.send(Turn::Gone);
                            }
                        }
                        self.position = self.position.max(through);
                    }
                    Told::Ended(_) => return Err(Error::no_map(crate::Outcome::Read)),
                },
            }
        }
    }

    /// The queue as it is now, whatever has happened in between.
    async fn read_anew(&mut self) -> Result<(), Error> {
        let deadline = self.deadline();
        let revision = self.router.granted(deadline).await?;
        let mut listing = Listing {
            start: self.queue.prefix.clone(),
            end: self.end(),
            limit: PAGE_KEYS_MAX,
            revision: Some(revision),
            ..Listing::default()
        };
        let mut line = Line::new(self.queue.share);
        loop {
            let page = self.router.list(&listing, Revision(0), deadline).await?;
            for item in &page.items {
                line.set(&item.key, item.record.as_ref());
            }
            match page.next {
                Some(next) => listing.start = next,
                None => break,
            }
        }
        (self.line, self.position) = (line, revision.0);
        let (line, position) = (&self.line, self.position);
        let gone = self
            .waiting
            .extract_if(|created, _| *created <= position && !line.has(*created));
        for (_, tell) in gone {
            _ = tell.send(Turn::Gone);
        }
        Ok(())
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Wait { created, tell } => {
                if created <= self.position && !self.line.has(created) {
                    _ = tell.send(Turn::Gone);
                } else {
                    self.waiting.insert(created, tell);
                }
            }
            Command::Leave(created) => _ = self.waiting.remove(&created),
        }
    }

    fn tell_holders(&mut self) {
        for holder in self.line.holders() {
            if let Some(tell) = self.waiting.remove(&holder) {
                _ = tell.send(Turn::Holds);
            }
        }
    }

    /// Whether this is the end: nobody has come in the last moment.
    fn ends(&mut self) -> bool {
        let mut followed = self.router.shared.queues.lock();
        if !self.commands.is_empty() {
            return false;
        }
        followed.remove(&self.queue.prefix);
        true
    }

    fn end(&self) -> Bytes {
        prefix_end(&self.queue.prefix).unwrap_or_default()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.router.options().timeout
    }
}
