//! One connection through a proxy.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::postgres::{Replies, Requests};
use super::{Protocol, Shared, Way};

/// What both directions of a connection know of each other.
#[derive(Debug, Default)]
pub(super) struct Pair {
    /// Bytes were swallowed: nothing that follows makes sense any more.
    damaged: AtomicBool,
}

/// Passes bytes until either end hangs up, or the proxy does.
pub(super) async fn run(client: TcpStream, server: TcpStream, protocol: Protocol, shared: &Shared) {
    // Small messages must not wait for each other; a socket that refuses the
    // option only is slower.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let mut cuts = shared.cuts.subscribe();
    cuts.mark_unchanged();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let pair = Pair::default();
    let both = async {
        match protocol {
            Protocol::Opaque => {
                tokio::select! {
                    _ = bytes(from_client, to_server, Way::ToServer, shared, &pair) => {}
                    _ = bytes(from_server, to_client, Way::ToClient, shared, &pair) => {}
                }
            }
            Protocol::Postgres => {
                let requests = Requests::default();
                tokio::select! {
                    _ = requests.pass(from_client, to_server, shared, &pair) => {}
                    _ = Replies::pass(&requests, from_server, to_client, shared, &pair) => {}
                }
            }
        }
    };
    tokio::select! {
        () = both => {}
        _ = cuts.changed() => shared.count("cut"),
        () = healed(shared, &pair) => shared.count("cut when heard again"),
    }
    // Dropping both sockets ends them for both sides.
}

async fn bytes(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    shared: &Shared,
    pair: &Pair,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        forward(&buffer[..count], &mut to, way, shared, pair).await?;
    }
}

/// Passes one piece as the weather is. An error ends the connection.
pub(super) async fn forward(
    piece: &[u8],
    to: &mut OwnedWriteHalf,
    way: Way,
    shared: &Shared,
    pair: &Pair,
) -> io::Result<()> {
    let weather = *shared.weather.borrow();
    if !weather.delay.is_zero() {
        shared.count("delayed");
        tokio::time::sleep(weather.delay).await;
    }
    // It may have changed during the delay.
    if shared.weather.borrow().swallows(way) {
        if !pair.damaged.swap(true, Ordering::Relaxed) {
            shared.count("swallowed");
        }
        return Ok(());
    }
    if let Some(left) = shared.take_bytes(way, piece.len()) {
        shared.count("cut at a byte");
        to.write_all(&piece[..left.min(piece.len())]).await?;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    to.write_all(piece).await
}

/// Waits until nothing is swallowed any more on a connection that has a hole.
async fn healed(shared: &Shared, pair: &Pair) {
    let mut weather = shared.weather.subscribe();
    loop {
        let calm = { *weather.borrow_and_update() };
        let silent = calm.swallow_to_client || calm.swallow_to_server;
        if !silent && pair.damaged.load(Ordering::Relaxed) {
            return;
        }
        if weather.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
