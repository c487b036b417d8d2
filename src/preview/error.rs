//! What can go wrong for whoever starts or steers the network from Rust. What
//! a client over HTTP is told is in [`crate::answer`].

use std::{io, path::PathBuf};

/// Why a preview network did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreviewError {
    /// The listener has no address.
    #[error("the preview network's listener has no address")]
    Listener(#[source] io::Error),
    /// The data file cannot be opened, read or written.
    #[error("cannot use {} as the preview network's data file", file.display())]
    Data {
        /// The data file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another preview network writes to the same file.
    #[error("{} is in use by another preview network: stop that one first", file.display())]
    InUse {
        /// The data file.
        file: PathBuf,
    },
    /// A line of the data file is not one of ours.
    #[error(
        "line {line} of {} is not the preview network's ({problem}): \
         delete the file to start with an empty network",
        file.display()
    )]
    BadLine {
        /// The data file.
        file: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// An account of [`crate::PreviewOptions::accounts`] cannot be created.
    #[error("account {handle:?} of the preview network's options")]
    Account {
        /// The handle as it was given.
        handle: String,
        /// What is wrong with it.
        source: Invalid,
    },
}

/// A value that the network does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field, as it is called in JSON.
    pub field: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}
