//! Finding the servers' programs on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::ServerError;

/// The oldest major version Galley's statements are tested with.
const OLDEST: u32 = 15;
/// Where Debian keeps one folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// One installed PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct PostgresPrograms {
    bin: PathBuf,
    major: u32,
}

impl PostgresPrograms {
    /// The installation to use: the one on `PATH`, else Debian's newest. Data
    /// that exists decides the major version, as no other can read it.
    pub(crate) fn find(data_version: Option<u32>, home: &Path) -> Result<Self, ServerError> {
        let mut found: Vec<Self> = on_path("postgres")
            .and_then(|program| {
                let major = major_of(&program)?;
                let bin = program.parent()?.to_path_buf();
                Some(Self { bin, major })
            })
            .into_iter()
            .collect();
        let mut packaged: Vec<Self> = fs::read_dir(DEBIAN)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major = entry.file_name().to_str()?.parse().ok()?;
                let bin = entry.path().join("bin");
                Some(Self { bin, major })
            })
            .collect();
        packaged.sort_by_key(|install| std::cmp::Reverse(install.major));
        found.extend(packaged);
        found.retain(|install| {
            install.major >= OLDEST
                && install.initdb().is_file()
                && install.server().is_file()
                && data_version.is_none_or(|wanted| wanted == install.major)
        });
        found.into_iter().next().ok_or(match data_version {
            Some(wanted) => ServerError::OtherVersion { folder: home.to_path_buf(), wanted },
            None => ServerError::NotInstalled {
                program: "PostgreSQL 15 or newer",
                package: "postgresql",
                instead: "DATABASE_URL",
            },
        })
    }

    /// The server.
    pub(crate) fn server(&self) -> PathBuf {
        self.bin.join("postgres")
    }

    /// The program that makes a new data folder.
    pub(crate) fn initdb(&self) -> PathBuf {
        self.bin.join("initdb")
    }
}

/// The Redis server.
pub(crate) fn redis_server() -> Result<PathBuf, ServerError> {
    on_path("redis-server").ok_or(ServerError::NotInstalled {
        program: "redis-server",
        package: "redis-server",
        instead: "REDIS_URL",
    })
}

/// `setpriv`, if this machine has it (util-linux: every Debian).
pub(crate) fn setpriv() -> Option<PathBuf> {
    on_path("setpriv")
}

/// The program of this name on `PATH`, or where Debian keeps programs that an
/// ordinary user's `PATH` lacks.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The major version a server program reports, as in
/// `postgres (PostgreSQL) 15.8 (Debian …)`.
fn major_of(program: &Path) -> Option<u32> {
    let said = Command::new(program).arg("--version").output().ok()?.stdout;
    let said = String::from_utf8(said).ok()?;
    said.split_once("(PostgreSQL) ")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
