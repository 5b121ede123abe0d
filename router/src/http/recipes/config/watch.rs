//! A subtree as it changes.

use bytes::Bytes;
use http::Response;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::show::write_entry;
use crate::http::frames::{self, ALIVE, Form, Frames, Speaker};
use crate::http::front::Body;
use crate::http::json;
use crate::http::json::Object;
use crate::http::problem::Problem;
use crate::http::recipes::call::Call;
use crate::http::recipes::streamed;
use crate::recipes::config::{Path, Watch};

pub(super) async fn begin(call: Call<'_>, prefix: Path) -> Result<Response<Body>, Problem> {
    let deadline = call.deadline(&call.params(&["timeout", "watch"])?)?;
    let form = Form::asked(call.parts);
    let watching = Watching {
        watch: Watch::open(call.router, &prefix, deadline).await?,
        frames: Frames::new(form),
        shutdown: call.shutdown.child_token(),
        begun: false,
    };
    Ok(streamed(frames::respond(form, None, watching)))
}

/// First all values in one message, then a message for each publication. Who comes back gets all values again, so
/// nothing is missed that matters.
struct Watching {
    watch: Watch,
    frames: Frames,
    shutdown: CancellationToken,
    begun: bool,
}

impl Speaker for Watching {
    async fn next(&mut self) -> (Bytes, bool) {
        if !std::mem::replace(&mut self.begun, true) {
            let (entries, revision) = self.watch.entries();
            self.frames.message("state", Some(revision.0), |object| {
                json::array(object.field("entries"), &entries, |out, entry| {
                    let mut object = Object::begin(out);
                    write_entry(&mut object, entry);
                    object.end();
                });
                object.number("revision", revision.0);
            });
            return (self.frames.take(), false);
        }
        let ends = tokio::select! {
            told = self.watch.next() => match told {
                Ok((changes, revision)) => {
                    self.frames.message("published", Some(revision.0), |object| {
                        json::array(object.field("changes"), changes, |out, (path, record)| {
                            let mut object = Object::begin(out);
                            object.text("path", &path.to_string());
                            match record {
                                Some(record) => object.value(&record),
                                None => object.boolean("deleted", true),
                            }
                            object.end();
                        });
                        object.number("revision", revision.0);
                    });
                    false
                }
                Err(error) => {
                    self.frames.failed(error);
                    true
                }
            },
            () = self.shutdown.cancelled() => {
                self.frames.shut_down();
                true
            }
            () = sleep_until(Instant::now() + ALIVE) => {
                self.frames.alive();
                false
            }
        };
        (self.frames.take(), ends)
    }
}
