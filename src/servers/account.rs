//! Which account a server runs as.
//!
//! PostgreSQL refuses to run as root. Under root (containers, CI) it therefore
//! runs as `postgres`, which Debian's package creates, or as `nobody`; an
//! ordinary user just runs it. Redis runs as whoever started it.

use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{User, geteuid};

use crate::error::{ServerError, io};

/// The account a server runs as. `None` inside means: the one we run as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account(Option<Ids>);

#[derive(Debug, Clone, Copy)]
struct Ids {
    user: u32,
    group: u32,
}

impl Account {
    /// The account of this process.
    pub(crate) fn own() -> Self {
        Self(None)
    }

    /// The account for PostgreSQL: another one if we are root.
    pub(crate) fn for_postgres() -> Result<Self, ServerError> {
        if !geteuid().is_root() {
            return Ok(Self::own());
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self(Some(Ids { user: user.uid.as_raw(), group: user.gid.as_raw() })))
            .ok_or(ServerError::NoAccount)
    }

    /// Makes the command run as this account. The standard library drops
    /// root's supplementary groups along with the user id.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Some(ids) = self.0 {
            command.uid(ids.user).gid(ids.group);
        }
    }

    /// Hands a file or folder over to this account.
    pub(crate) fn give(self, path: &Path) -> Result<(), ServerError> {
        match self.0 {
            None => Ok(()),
            Some(ids) => chown(path, Some(ids.user), Some(ids.group))
                .map_err(io(format!("hand {} over to the server's account", path.display()))),
        }
    }

    /// Whether `uid` is this account or the one we run as: the owners that a
    /// folder of ours can have.
    pub(crate) fn may_own(self, uid: u32) -> bool {
        uid == geteuid().as_raw() || self.0.is_some_and(|ids| ids.user == uid)
    }

    /// Whether this account can reach and enter the folder.
    pub(crate) fn can_enter(self, folder: &Path) -> bool {
        self.can("-x", folder)
    }

    /// Whether this account can reach and write the folder.
    pub(crate) fn can_write(self, folder: &Path) -> bool {
        self.can("-w", folder)
    }

    /// Asks the kernel, by a process of that account: mode bits alone miss
    /// access lists and mounts.
    fn can(self, what: &str, folder: &Path) -> bool {
        let mut command = Command::new("test");
        command.arg(what).arg(folder).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}
