//! Messages of a stream: server-sent events, or lines of JSON.

use std::convert::Infallible;
use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use caucus_ring::Revision;
use futures::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Response};

use super::json::Object;
use super::params::impossible;
use super::problem::{Code, Problem};
use super::reply;
use super::stream::{self, NDJSON};
use crate::Error;

/// Something is sent at least so often, so that whoever is between doesn't take it for dead.
pub(super) const ALIVE: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How messages are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events.
    Events,
    /// A line of JSON each.
    Lines,
}

impl Form {
    /// As the client wants it.
    pub(super) fn asked(parts: &Parts) -> Form {
        match stream::is_asked_for(&parts.headers) {
            true => Form::Lines,
            false => Form::Events,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Form::Events => "text/event-stream",
            Form::Lines => NDJSON,
        }
    }
}

/// The id of the last message that a client has seen, if it comes back.
pub(super) fn last_event_id(parts: &Parts) -> Result<Option<u64>, Problem> {
    let Some(id) = parts.headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    match id.to_str().ok().map(str::trim) {
        Some("") => Ok(None),
        id => {
            let id = id.and_then(|id| id.parse().ok());
            let id = id.filter(|id| *id <= u64::MAX >> 1);
            id.map(Some)
                .ok_or_else(|| impossible("Last-Event-ID", "the id of a message of this stream"))
        }
    }
}

/// Gathers messages until they are sent.
pub(super) struct Frames {
    form: Form,
    out: Vec<u8>,
}

impl Frames {
    pub(super) fn new(form: Form) -> Frames {
        Frames {
            form,
            out: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }

    /// One message: a name, an id to come back with, and the fields of its object.
    pub(super) fn message(
        &mut self,
        name: &str,
        id: Option<u64>,
        fields: impl FnOnce(&mut Object<'_>),
    ) {
        let out = &mut self.out;
        if self.form == Form::Events {
            if let Some(id) = id {
                let _ = writeln!(out, "id: {id}");
            }
            let _ = write!(out, "event: {name}\ndata: ");
        }
        let mut object = Object::begin(out);
        object.text("event", name);
        fields(&mut object);
        object.end();
        self.out.push(b'\n');
        if self.form == Form::Events {
            self.out.push(b'\n');
        }
    }

    /// Nothing has happened.
    pub(super) fn alive(&mut self) {
        match self.form {
            Form::Events => self.out.extend_from_slice(b": alive\n\n"),
            Form::Lines => self.message("alive", None, |_| {}),
        }
    }

    /// The last message, and why it is.
    pub(super) fn end(&mut self, problem: &Problem, more: impl FnOnce(&mut Object<'_>)) {
        self.message("end", None, |object| {
            problem.write_fields(object);
            more(object);
        });
    }

    /// The last message: the node goes.
    pub(super) fn shut_down(&mut self) {
        let detail = "this node shuts down; another one goes on from the last id";
        self.end(&Problem::new(Code::Unavailable, detail), |_| {});
    }

    pub(super) fn failed(&mut self, error: Error) {
        self.end(&Problem::from(error), |_| {});
    }
}

/// What says the messages of a stream.
pub(super) trait Speaker: Send + 'static {
    /// The next bytes, and whether they are the last. Dropped when the client is gone.
    fn next(&mut self) -> impl Future<Output = (Bytes, bool)> + Send;
}

/// An answer that goes on as long as there is something to say; as of a revision.
pub(super) fn respond(
    form: Form,
    revision: Option<Revision>,
    speaker: impl Speaker,
) -> Response<Body> {
    let body = unfold(Some(speaker), |speaker| async {
        let mut speaker = speaker?;
        let (chunk, ends) = speaker.next().await;
        Some((Ok::<Bytes, Infallible>(chunk), (!ends).then_some(speaker)))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(revision) = revision {
        reply::set_revision(headers, revision);
    }
    response
}
