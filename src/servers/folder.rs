//! The folder a server lives in: its data, log, port and password.
//!
//! One process at a time uses a folder: it holds a file lock that the kernel
//! frees when the process ends, however it ends. Whoever gets the lock and
//! still finds a server running there has found an orphan, and stops it.

use std::{
    env,
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    account::Account,
    error::{ServerError, io},
    process::{is_running_in, stop_orphan},
};

/// The file that is locked, and by which we know a folder as ours.
const LOCK: &str = "lock";
/// Where the data is, if it could not be kept in the folder itself.
const MOVED: &str = "data-is-in";
/// How the folders of throwaway servers begin.
const TEMPORARY: &str = "galley-throwaway-";
/// Where data goes that the server's account cannot reach elsewhere; it
/// outlives a reboot.
const SHARED: &str = "/var/tmp";
/// How an orphan is stopped: in good order, at once, by force. Both servers
/// read the signals this way.
const STOPS: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(15)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// A locked folder. Dropping it frees it, and deletes it if it is temporary.
#[derive(Debug)]
pub(crate) struct Folder {
    home: PathBuf,
    // Declared before the folder it deletes, so that nobody finds the lock
    // free while files are still there.
    _temporary: Option<TempDir>,
    _lock: File,
}

impl Folder {
    /// Opens the folder for a server of this account, creating it if needed.
    ///
    /// # Errors
    /// When it is in use, is somebody else's, or cannot be written.
    pub(crate) async fn open(dir: &Path, account: Account) -> Result<Self, ServerError> {
        fs::create_dir_all(dir).map_err(io(format!("create {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(io(format!("find {}", dir.display())))?;
        // A wrong path must not turn somebody's home into a server's.
        let empty = fs::read_dir(&dir).map_err(io(format!("read {}", dir.display())))?.next().is_none();
        if !empty && !dir.join(LOCK).exists() {
            return Err(ServerError::NotOurs { folder: dir });
        }
        let lock = lock(&dir)?;
        let home = settle(&dir, account)?;
        stop_leftovers(&home).await;
        Ok(Self { home, _temporary: None, _lock: lock })
    }

    /// A new folder that is deleted in the end. What killed processes left of
    /// theirs is deleted first.
    ///
    /// # Errors
    /// When no place for temporary files can be used by the account.
    pub(crate) async fn temporary(account: Account) -> Result<Self, ServerError> {
        let place = [env::temp_dir(), SHARED.into(), "/tmp".into()]
            .into_iter()
            .find(|place| account.can_enter(place))
            .unwrap_or_else(env::temp_dir);
        sweep(&place, account).await;
        loop {
            let temporary = tempfile::Builder::new()
                .prefix(TEMPORARY)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(&place)
                .map_err(io(format!("create a folder in {}", place.display())))?;
            match lock(temporary.path()) {
                Ok(lock) => {
                    account.give(temporary.path())?;
                    return Ok(Self {
                        home: temporary.path().to_path_buf(),
                        _temporary: Some(temporary),
                        _lock: lock,
                    });
                }
                // Another process swept it before we had the lock.
                Err(ServerError::InUse { .. }) => {}
                Err(other) => return Err(other),
            }
        }
    }

    /// Where the server's files are.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// A file or folder in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }
}

fn lock(folder: &Path) -> Result<File, ServerError> {
    let path = folder.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io(format!("write {}", path.display())))?;
    match file.try_lock() {
        // Somebody may have locked, deleted and freed it since it was opened:
        // a lock of a file that is gone keeps nobody out.
        Ok(()) if !is_at(&file, &path) => Err(ServerError::InUse { folder: folder.to_path_buf() }),
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::InUse { folder: folder.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(io(format!("lock {}", path.display()))(error)),
    }
}

/// Whether the path leads to this open file.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().and_then(|open| Ok(same(open, fs::metadata(path)?))).unwrap_or(false)
}

/// Decides where the data is: in the folder, or, when the server's account
/// cannot reach it (a checkout below root's home), in one that follows from
/// the folder's path.
fn settle(dir: &Path, account: Account) -> Result<PathBuf, ServerError> {
    let moved = dir.join(MOVED);
    if let Ok(before) = fs::read_to_string(&moved) {
        return shared(Path::new(before.trim()), account);
    }
    let reachable = dir.parent().is_some_and(|parent| account.can_enter(parent));
    if reachable && account.give(dir).is_ok() && account.can_write(dir) {
        return Ok(dir.to_path_buf());
    }
    let name = hex::encode(Sha256::digest(dir.as_os_str().as_encoded_bytes()));
    let home = Path::new(SHARED).join(format!("galley-{}", &name[..16]));
    let home = shared(&home, account)?;
    fs::write(&moved, format!("{}\n", home.display())).map_err(io(format!("write {}", moved.display())))?;
    Ok(home)
}

/// Creates the folder in a place that everybody can write, or takes it if it
/// is ours: anybody could have put one there first.
fn shared(home: &Path, account: Account) -> Result<PathBuf, ServerError> {
    match DirBuilder::new().mode(0o700).create(home) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io(format!("create {}", home.display()))(error));
        }
        _ if !is_ours(home, account) => {
            return Err(ServerError::NotOurs { folder: home.to_path_buf() });
        }
        _ => {}
    }
    account.give(home)?;
    Ok(home.to_path_buf())
}

/// Whether this is a real folder (no link) that we or the server's account own.
fn is_ours(folder: &Path, account: Account) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir() && account.may_own(meta.uid()))
}

/// Stops servers that still run in a folder we hold the lock of.
async fn stop_leftovers(home: &Path) {
    let servers = [(home.join("data"), "postmaster.pid"), (home.to_path_buf(), "redis.pid")];
    for (cwd, file) in servers {
        let file = cwd.join(file);
        let Some(pid) = first_number(&file) else {
            continue;
        };
        if is_running_in(pid, &cwd) {
            stop_orphan(pid, &cwd, &STOPS).await;
        } else if kill(Pid::from_raw(pid), None).is_ok() {
            // The id belongs to another process by now (a container that was
            // started again). PostgreSQL would take that one for itself and
            // refuse to start. Nothing depends on the file being gone.
            let _ = fs::remove_file(&file);
        }
    }
}

fn first_number(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

/// Deletes throwaway folders whose process was killed. Best effort: what
/// cannot be read or deleted is not ours to worry about.
async fn sweep(place: &Path, account: Account) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let folder = entry.path();
        let named = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        if !named || !is_ours(&folder, account) {
            continue;
        }
        let Ok(file) = File::open(folder.join(LOCK)) else {
            continue;
        };
        if file.try_lock().is_ok() {
            stop_leftovers(&folder).await;
            let _ = fs::remove_dir_all(&folder);
        }
    }
}
