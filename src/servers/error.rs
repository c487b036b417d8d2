//! What can go wrong with a private server, told so that a person knows what
//! to do next.

use std::{io, path::PathBuf};

/// Why a private server could not be started, stopped or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The server's program is not on this machine.
    #[error(
        "{program} not found: install the Debian package `{package}` \
         (`bin/dev` and `bin/test` do it), or set {instead} to use a server you already have"
    )]
    NotInstalled {
        /// The program that was looked for.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// The variable that names a server to use instead.
        instead: &'static str,
    },
    /// The data was written by a major version that is not installed (any more).
    #[error(
        "the data in {} needs PostgreSQL {wanted}, which is not installed: \
         install it, or delete the folder to start with an empty database",
        folder.display()
    )]
    OtherVersion {
        /// The server's folder.
        folder: PathBuf,
        /// The major version that wrote the data.
        wanted: u32,
    },
    /// Another process runs a server in this folder.
    #[error("{} is in use by another Galley: stop that one first, or use another folder", folder.display())]
    InUse {
        /// The server's folder.
        folder: PathBuf,
    },
    /// The folder has files in it that are not a private server's.
    #[error("{} has other files in it: a private server needs a folder of its own", folder.display())]
    NotOurs {
        /// The folder that was given.
        folder: PathBuf,
    },
    /// Root was asked to run PostgreSQL, which refuses root, and there is no
    /// other account to run it as.
    #[error(
        "PostgreSQL does not run as root, and this machine has neither a `postgres` nor a `nobody` account"
    )]
    NoAccount,
    /// A program ended, or did not get ready in time.
    #[error("{program} {how}; the end of {}:\n{tail}", log.display())]
    Refused {
        /// The program that was run.
        program: &'static str,
        /// How it failed, in words.
        how: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of that file.
        tail: String,
    },
    /// The server is stopped, so what was asked for cannot be done.
    #[error("{program} is not running")]
    Stopped {
        /// The program that was asked.
        program: &'static str,
    },
    /// The operating system refused something.
    #[error("could not {doing}: {source}")]
    Io {
        /// What was being done, as "verb object".
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Turns an I/O error into one that says what was being done.
pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ServerError {
    let doing = doing.into();
    move |source| ServerError::Io { doing, source }
}
