//! Why the process ends: one line and an exit code.

use crate::node::NodeError;
use crate::{bench, config, identity};

/// What ends a command.
#[derive(Debug)]
pub(crate) struct Fatal {
    /// 2 if the operator has to change something first, else 1.
    pub(crate) code: u8,
    /// One line, or nothing if all has been said.
    pub(crate) message: String,
}

impl Fatal {
    /// The command, the configuration or the machine has to change first.
    pub(crate) fn setup(message: impl ToString) -> Fatal {
        Fatal {
            code: 2,
            message: message.to_string(),
        }
    }

    /// It was tried, and failed.
    pub(crate) fn failed(message: impl ToString) -> Fatal {
        Fatal {
            code: 1,
            message: message.to_string(),
        }
    }
}

impl From<config::Error> for Fatal {
    fn from(error: config::Error) -> Self {
        Fatal::setup(error)
    }
}

impl From<identity::Error> for Fatal {
    fn from(error: identity::Error) -> Self {
        match error.is_setup() {
            true => Fatal::setup(error),
            false => Fatal::failed(error),
        }
    }
}

impl From<NodeError> for Fatal {
    fn from(error: NodeError) -> Self {
        match error.is_setup() {
            true => Fatal::setup(error),
            false => Fatal::failed(error),
        }
    }
}

impl From<bench::Error> for Fatal {
    fn from(error: bench::Error) -> Self {
        Fatal::failed(error)
    }
}
