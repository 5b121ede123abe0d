//! Histories made by hand, for the tests of the checkers.

use serde_json::Value;

use crate::history::{History, Line, Process, Type};
use crate::record::line;

/// An operation that is to be put into a history.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    begin: Line,
    end: Line,
}

fn piece(kind: Type, steps: &str) -> Piece {
    let value: Value = serde_json::from_str(steps).expect("JSON");
    let of = |kind| line(kind, Process::Client(0), "txn", value.clone());
    Piece {
        begin: of(Type::Invoke),
        end: of(kind),
    }
}

/// It was answered, at a revision.
pub(crate) fn ok(rev: u64, steps: &str) -> Piece {
    let mut piece = piece(Type::Ok, steps);
    piece.end.rev = Some(rev);
    piece
}

/// It certainly hasn't happened.
pub(crate) fn failed(steps: &str) -> Piece {
    piece(Type::Fail, steps)
}

/// Nobody knows.
pub(crate) fn unknown(steps: &str) -> Piece {
    piece(Type::Info, steps)
}

impl Piece {
    fn each(mut self, change: impl Fn(&mut Line)) -> Piece {
        change(&mut self.begin);
        change(&mut self.end);
        self
    }

    pub(crate) fn mods(self, mods: &[u64]) -> Piece {
        self.each(|line| line.mods = mods.to_vec())
    }

    pub(crate) fn stale(self) -> Piece {
        self.each(|line| line.stale = true)
    }

    pub(crate) fn idem(self, name: &str) -> Piece {
        self.each(|line| line.idem = Some(name.to_owned()))
    }

    pub(crate) fn when(self, compares: &str, held: bool) -> Piece {
        let compares: Vec<(String, Value)> = serde_json::from_str(compares).expect("JSON");
        self.each(|line| {
            line.compares = compares.clone();
            line.held = Some(held);
        })
    }
}

/// A history under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    lines: Vec<Line>,
    clients: u64,
}

impl Made {
    pub(crate) fn new() -> Made {
        Made::default()
    }

    fn push(&mut self, mut line: Line, client: u64) {
        line.index = self.lines.len() as u64;
        line.time = 10 * line.index;
        if line.process == Process::Client(0) {
            line.process = Process::Client(client);
        }
        self.lines.push(line);
    }

    /// An operation after all before it.
    pub(crate) fn then(self, piece: Piece) -> Made {
        self.beside(vec![piece])
    }

    /// Operations at the same time.
    pub(crate) fn beside(mut self, pieces: Vec<Piece>) -> Made {
        let first = self.clients + 1;
        self.clients += pieces.len() as u64;
        for (client, piece) in (first..).zip(&pieces) {
            self.push(piece.begin.clone(), client);
        }
        for (client, piece) in (first..).zip(pieces) {
            self.push(piece.end, client);
        }
        self
    }

    /// A line of something else.
    pub(crate) fn say(mut self, kind: Type, by: &str, f: &str, value: &str) -> Made {
        let value = serde_json::from_str(value).expect("JSON");
        self.push(line(kind, Process::Other(by.to_owned()), f, value), 0);
        self
    }

    pub(crate) fn history(&self) -> History {
        History {
            lines: self.lines.clone(),
        }
    }
}
