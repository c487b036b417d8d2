//! Free ports on loopback.
//!
//! Ports are taken from below the kernel's ephemeral range. A port inside it
//! can be grabbed between a stop and a restart by any outgoing connection,
//! even by a client of ours that retries and so connects to itself.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    time::Duration,
};

use crate::error::{ServerError, io};

/// First port we take: above the well-known servers' defaults.
const LOWEST: u16 = 15_000;
/// Start of the ephemeral range where the kernel does not tell.
const EPHEMERAL: u16 = 32_768;

/// Whether a taken port may be replaced by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moving {
    /// Nobody knows the URL yet.
    Allowed,
    /// Clients hold the URL.
    Refused,
}

/// How often a start is tried when the port was taken or a crashed server's
/// last processes are still leaving.
pub(crate) const ATTEMPTS: u32 = 20;
/// Between two such tries.
pub(crate) const BETWEEN: Duration = Duration::from_millis(250);

/// A port that is free now. Somebody else may still be faster: the caller
/// tries again when its server cannot bind.
pub(crate) fn free() -> Result<u16, ServerError> {
    let end = ephemeral_start();
    if end > LOWEST + 1_000 {
        for _ in 0..100 {
            let port = rand::random_range(LOWEST..end);
            if is_free(port) {
                return Ok(port);
            }
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io("find a free port on 127.0.0.1"))
}

/// The port that was used in this folder before, if it is still free (URLs in
/// a person's notes stay true between runs); else a free one.
pub(crate) fn remembered(file: &Path) -> Result<u16, ServerError> {
    let before = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    match before {
        Some(port) if is_free(port) => Ok(port),
        _ => free(),
    }
}

/// Keeps the port for [`remembered`].
pub(crate) fn remember(file: &Path, port: u16) -> Result<(), ServerError> {
    fs::write(file, format!("{port}\n")).map_err(io(format!("write {}", file.display())))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(EPHEMERAL)
}
