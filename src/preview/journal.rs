//! The data file: one JSON line for each thing that happened, written before it
//! counts. Lines are only ever appended.
//!
//! A line is handed to the operating system before a client hears of its post,
//! so it survives the end of this process, killed or not; it is not forced to
//! the disk (a power cut may take the last posts of a preview, and no more).

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{accounts::Member, error::PreviewError, posts::Post};

/// A line to write.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// An account was created, or took a new name or token.
    Account(&'a Member),
    /// A post was published.
    Post(&'a Post),
}

/// A line that was read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stored {
    Account(Member),
    Post(Post),
}

/// The open file; it is ours alone until it is dropped.
pub(crate) struct Journal {
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl Journal {
    /// Opens or creates the file and shows every line to `each`, oldest first.
    ///
    /// A last line without its end is what a killed process leaves: nobody was
    /// told of it, and it is cut off.
    pub(crate) fn open(
        path: &Path,
        mut each: impl FnMut(Stored) -> Result<(), String>,
    ) -> Result<Self, PreviewError> {
        let data = |source| PreviewError::Data { file: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        // It has tokens in it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(data)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PreviewError::InUse { file: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(data(error)),
        }
        let (mut length, mut number, mut line) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&file);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(data)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            number += 1;
            let stored: Result<Stored, _> = serde_json::from_slice(&line);
            stored
                .map_err(|error| error.to_string())
                .and_then(&mut each)
                .map_err(|problem| PreviewError::BadLine { file: path.to_owned(), line: number, problem })?;
            length += read as u64;
        }
        drop(reader);
        file.set_len(length).map_err(data)?;
        Ok(Self { file, length })
    }

    /// Appends one line. After an error the file is as it was before.
    pub(crate) fn append(&mut self, line: &Line<'_>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| self.file.flush());
        if let Err(error) = written {
            // Half a line in the middle of the file would spoil the next start.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}
