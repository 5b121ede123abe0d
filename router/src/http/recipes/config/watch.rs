//! What is published below a path, as a stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_ring::Revision;
use http::Response;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::show::{write_entries, write_meta};
use crate::http::frames::{self, ALIVE, Form, Frames, Speaker};
use crate::http::front::Body;
use crate::http::json;
use crate::http::json::Object;
use crate::http::problem::Problem;
use crate::http::recipes::call::Call;
use crate::http::recipes::streamed;
use crate::recipes::config::{self, Change, Path, Watch};
use crate::{Error, Reason, Router};

/// Values of one message of the state.
const STATE_MAX: usize = 1000;

pub(super) async fn begin(call: Call<'_>, path: Path) -> Result<Response<Body>, Problem> {
    let deadline = call.deadline(&call.params(&["timeout", "watch"])?)?;
    let form = Form::asked(call.parts);
    let granted = call.router.granted(deadline).await?;
    let last = frames::last_event_id(call.parts)?.map(Revision);
    // An id that is still to come is another store's.
    let resumed = last.filter(|last| *last <= granted);
    let at = resumed.unwrap_or(granted);
    let watching = Watching {
        watch: Watch::open(call.router, &path, at, deadline).await?,
        path,
        router: call.router.clone(),
        frames: Frames::new(form),
        shutdown: call.shutdown.child_token(),
        state: match resumed {
            Some(_) => None,
            None => Some(State { at, after: None }),
        },
    };
    Ok(streamed(frames::respond(form, None, watching)))
}

/// First the values in messages of some each, then a message for each publication. Who comes back with the id of the
/// last message gets what was published since; if that is compacted, or without an id, the values again.
struct Watching {
    watch: Watch,
    path: Path,
    router: Router,
    frames: Frames,
    shutdown: CancellationToken,
    /// What is to be told of the state; `None`: all of it is.
    state: Option<State>,
}

/// How far the state has been told.
struct State {
    /// As of when it is told.
    at: Revision,
    /// The last path that was.
    after: Option<Path>,
}

impl Watching {
    /// Tells the next values.
    async fn tell_state(&mut self, state: State) -> Result<(), Error> {
        let deadline = Instant::now() + self.router.options().timeout;
        let State { at, after } = state;
        let listed = config::list(
            &self.router,
            &self.path,
            after.as_ref(),
            STATE_MAX,
            Some(at),
            deadline,
        );
        let listed = listed.await?;
        // Before the last message there is nothing to come back to.
        let id = (!listed.more).then_some(at.0);
        self.frames.message("state", id, |object| {
            write_entries(object, &listed.entries);
            match id {
                Some(at) => object.number("revision", at),
                None => object.boolean("more", true),
            }
        });
        self.state = listed.more.then(|| State {
            at,
            after: listed.entries.last().map(|entry| entry.path.clone()),
        });
        Ok(())
    }

    fn tell_change(&mut self, changes: &BTreeMap<Path, Change>, revision: Revision) {
        self.frames
            .message("published", Some(revision.0), |object| {
                json::array(object.field("changes"), changes, |out, (path, change)| {
                    let mut object = Object::begin(out);
                    object.text("path", &path.to_string());
                    if let Some(record) = &change.record {
                        object.value(record);
                    }
                    match &change.meta {
                        Some(meta) => write_meta(&mut object, meta),
                        None if change.record.is_none() => object.boolean("deleted", true),
                        None => {}
                    }
                    object.end();
                });
                object.number("revision", revision.0);
            });
    }

    /// Begins anew with the state, as what was to be told next is compacted.
    async fn restart(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.router.options().timeout;
        let at = self.router.granted(deadline).await?;
        self.watch = Watch::open(&self.router, &self.path, at, deadline).await?;
        self.state = Some(State { at, after: None });
        Ok(())
    }

    async fn tell_next(&mut self) -> Result<(), Error> {
        if let Some(state) = self.state.take() {
            return self.tell_state(state).await;
        }
        let told = tokio::select! {
            told = self.watch.next() => told,
            () = sleep_until(Instant::now() + ALIVE) => {
                self.frames.alive();
                return Ok(());
            }
        };
        match told {
            Ok((changes, revision)) => {
                self.tell_change(&changes, revision);
                Ok(())
            }
            Err(error) if matches!(error.reason, Reason::Compacted { .. }) => self.restart().await,
            Err(error) => Err(error),
        }
    }
}

impl Speaker for Watching {
    async fn next(&mut self) -> (Bytes, bool) {
        let shutdown = self.shutdown.clone();
        loop {
            let ended = tokio::select! {
                told = self.tell_next() => told.err(),
                () = shutdown.cancelled() => {
                    self.frames.shut_down();
                    return (self.frames.take(), true);
                }
            };
            if let Some(error) = ended {
                self.frames.failed(error);
                return (self.frames.take(), true);
            }
            // There is nothing to tell of a restart yet.
            if self.frames.len() > 0 {
                return (self.frames.take(), false);
            }
        }
    }
}
