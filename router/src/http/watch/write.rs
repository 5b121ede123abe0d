//! The messages of a watch.

use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::Item;

use crate::Error;
use crate::http::frames::{Form, Frames};
use crate::http::json::{self, Object};
use crate::http::problem::{Code, Problem};
use crate::watch::{Event, WatchSpec};

/// Gathers messages until they are sent.
pub(super) struct Writer {
    frames: Frames,
    /// Messages have the revision as their id: a watch by group can't be resumed by one number.
    has_ids: bool,
}

/// How changes are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Show {
    pub(super) keys_only: bool,
    pub(super) previous: bool,
}

impl Writer {
    pub(super) fn new(form: Form, spec: &WatchSpec) -> Writer {
        Writer {
            frames: Frames::new(form),
            has_ids: !spec.by_group,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn take(&mut self) -> Bytes {
        self.frames.take()
    }

    /// One message: a name, an id, and the fields of its object.
    fn message(&mut self, name: &str, id: Option<u64>, fields: impl FnOnce(&mut Object<'_>)) {
        let id = id.filter(|_| self.has_ids);
        self.frames.message(name, id, fields);
    }

    /// Keys as they are, in messages of their own; how many.
    pub(super) fn state<'a>(
        &mut self,
        items: impl Iterator<Item = &'a Item>,
        keys_only: bool,
    ) -> usize {
        let mut count = 0;
        for item in items {
            let Some(record) = &item.record else {
                continue;
            };
            count += 1;
            self.message("state", None, |object| {
                object.record(&item.key, record, keys_only);
            });
        }
        count
    }

    /// The state is whole.
    pub(super) fn synced(&mut self, revision: u64, items: usize) {
        self.message("synced", Some(revision), |object| {
            object.number("revision", revision);
            object.number("items", items as u64);
        });
    }

    /// What happened at one revision; nothing if there is nothing to tell.
    pub(super) fn changes<'a>(
        &mut self,
        revision: u64,
        group: Option<u32>,
        show: Show,
        changes: impl Iterator<Item = &'a Arc<Event>>,
    ) {
        let mut changes = changes.peekable();
        if changes.peek().is_none() {
            return;
        }
        self.message("changes", Some(revision), |object| {
            object.number("revision", revision);
            if let Some(group) = group {
                object.number("group", u64::from(group));
            }
            json::array(object.field("changes"), changes, |out, event| {
                write_change(out, event, show);
            });
        });
    }

    /// Nothing at or below a revision follows.
    pub(super) fn progress(&mut self, revision: u64) {
        self.message("progress", Some(revision), |object| {
            object.number("revision", revision);
        });
    }

    pub(super) fn alive(&mut self) {
        self.frames.alive();
    }

    /// The last message: what was to come next is compacted.
    pub(super) fn compacted(&mut self, revision: u64) {
        let detail = format!("nothing at or below revision {revision} is kept");
        let problem = Problem::new(Code::Compacted, detail);
        self.end(&problem, |object| {
            object.number("compact_revision", revision);
        });
    }

    /// The last message: the client was too slow, or a group can't be asked.
    pub(super) fn lagging(&mut self, resume: u64) {
        let detail = "too little was read for too long, or a group doesn't answer; \
                      a watch from `resume` on misses nothing";
        self.end(&Problem::new(Code::Lagging, detail), |object| {
            object.number("resume", resume);
        });
    }

    pub(super) fn refused(&mut self, why: &str) {
        self.end(&Problem::new(Code::InvalidRequest, why.to_owned()), |_| {});
    }

    /// The last message: the node goes.
    pub(super) fn shut_down(&mut self) {
        self.frames.shut_down();
    }

    pub(super) fn failed(&mut self, error: Error) {
        self.frames.failed(error);
    }

    fn end(&mut self, problem: &Problem, more: impl FnOnce(&mut Object<'_>)) {
        self.frames.end(problem, more);
    }
}

fn write_change(out: &mut Vec<u8>, event: &Event, show: Show) {
    let mut object = Object::begin(out);
    match &event.record {
        Some(record) => {
            object.text("type", "put");
            object.record(&event.key, record, show.keys_only);
        }
        None => {
            object.text("type", "delete");
            object.key(&event.key);
            object.number("revision", event.revision);
        }
    }
    if let Some(previous) = event.previous.as_ref().filter(|_| show.previous) {
        let mut before = Object::begin(object.field("previous"));
        if !show.keys_only {
            before.value(previous);
        }
        before.revisions(
            previous.mod_revision,
            previous.create_revision,
            previous.version,
        );
        before.end();
    }
    object.end();
}
