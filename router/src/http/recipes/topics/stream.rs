//! Subscriptions as streams.

use bytes::Bytes;
use http::{Method, Response};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::begin;
use super::messages::write_fields;
use crate::http::frames::{self, ALIVE, Form, Frames, Speaker};
use crate::http::front::Body;
use crate::http::problem::Problem;
use crate::http::recipes::call::Call;
use crate::http::recipes::streamed;
use crate::recipes::topics::{self, Error, From as Begin, Subscription};

pub(super) async fn begin_as(
    call: Call<'_>,
    topic: &str,
    name: &str,
) -> Result<Response<Body>, Problem> {
    call.only(&Method::GET, "GET")?;
    let params = call.params(&["timeout", "key"])?;
    let deadline = call.deadline(&params)?;
    let (consumer, _) = topics::consumer(call.router, topic, name, deadline).await?;
    if consumer.shared {
        let why = "a shared consumer's messages are fetched";
        return Err(Error::Kind(why).into());
    }
    let key = params.get("key").map(Bytes::copy_from_slice);
    let from = resumed(&call)?.unwrap_or(Begin::Offset(consumer.acked));
    stream(call, topic, from, key, deadline).await
}

pub(super) async fn begin_at(call: Call<'_>, topic: &str) -> Result<Response<Body>, Problem> {
    call.only(&Method::GET, "GET")?;
    let params = call.params(&["timeout", "from", "key"])?;
    let deadline = call.deadline(&params)?;
    let key = params.get("key").map(Bytes::copy_from_slice);
    let asked = begin(&params)?.unwrap_or(Begin::Last);
    let from = resumed(&call)?.unwrap_or(asked);
    stream(call, topic, from, key, deadline).await
}

/// After the last message that the client has seen.
fn resumed(call: &Call<'_>) -> Result<Option<Begin>, Problem> {
    let last = frames::last_event_id(call.parts)?;
    Ok(last.map(|last| Begin::Offset(last + 1)))
}

async fn stream(
    call: Call<'_>,
    topic: &str,
    from: Begin,
    key: Option<Bytes>,
    deadline: Instant,
) -> Result<Response<Body>, Problem> {
    let form = Form::asked(call.parts);
    let subscribed = Subscribed {
        subscription: Subscription::open(call.router, topic, from, deadline).await?,
        key,
        frames: Frames::new(form),
        shutdown: call.shutdown.child_token(),
    };
    Ok(streamed(frames::respond(form, None, subscribed)))
}

/// A stream of messages. What is let go before it was told is told of.
struct Subscribed {
    subscription: Subscription,
    /// Only messages with this key.
    key: Option<Bytes>,
    frames: Frames,
    shutdown: CancellationToken,
}

impl Speaker for Subscribed {
    async fn next(&mut self) -> (Bytes, bool) {
        let alive = Instant::now() + ALIVE;
        let mut ends = false;
        while self.frames.len() == 0 {
            tokio::select! {
                told = self.subscription.next() => match told {
                    Ok(messages) => {
                        let key = &self.key;
                        let wanted = messages.iter().filter(|stored| {
                            key.as_ref().is_none_or(|key| stored.message.key == *key)
                        });
                        for stored in wanted {
                            self.frames.message("message", Some(stored.offset), |object| {
                                write_fields(object, stored);
                            });
                        }
                    }
                    Err(Error::Gone { offset, first }) => {
                        self.frames.message("gone", None, |object| {
                            object.number("from", offset);
                            object.number("first", first);
                        });
                    }
                    Err(error) => {
                        self.frames.end(&error.into(), |_| {});
                        ends = true;
                    }
                },
                () = self.shutdown.cancelled() => {
                    self.frames.shut_down();
                    ends = true;
                }
                () = sleep_until(alive) => self.frames.alive(),
            }
        }
        (self.frames.take(), ends)
    }
}
