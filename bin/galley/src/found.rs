//! What `galley dev` tells the other commands: a file in the project's folder
//! with the server's URL and a token. A command finds it in the folder it is
//! run in or in one above.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The folder `galley dev` keeps its things in.
pub(crate) const FOLDER: &str = ".galley";
const FILE: &str = "dev.json";

/// A running, or once running, `galley dev`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DevFile {
    /// The API's URL.
    pub(crate) url: String,
    /// A token for the workspace `demo`, with every role.
    pub(crate) token: String,
    /// The process.
    pub(crate) pid: u32,
    /// Where metrics are; absent when they are off.
    pub(crate) metrics: Option<String>,
    /// Where the preview network is; absent when it is off.
    #[serde(default)]
    pub(crate) preview: Option<String>,
    /// Where workers in other languages call; absent when it is off.
    #[serde(default)]
    pub(crate) gateway: Option<String>,
}

impl DevFile {
    /// Writes it for this user's eyes only: it holds a token.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::unexpected("a value does not serialize").detail(error))?;
        write_private(&path, &format!("{text}\n"))
    }

    /// The one of this folder or the nearest above, and where it is.
    pub(crate) fn find() -> Option<(PathBuf, Self)> {
        let here = std::env::current_dir().ok()?;
        here.ancestors().find_map(|folder| {
            let path = folder.join(FOLDER).join(FILE);
            let text = fs::read_to_string(&path).ok()?;
            Some((path, serde_json::from_str(&text).ok()?))
        })
    }
}

/// Writes a file that only this user can read.
///
/// # Errors
/// The operating system refused.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let told = |error| Failure::unexpected(format!("could not write {}", path.display())).detail(error);
    // A new file under another name: an old one may be readable by others, and
    // nobody reads a half-written one.
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new).map_err(told)?;
    file.write_all(text.as_bytes()).map_err(told)?;
    fs::rename(&new, path).map_err(told)
}
