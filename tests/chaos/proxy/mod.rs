//! A TCP proxy that misbehaves as told: one before Postgres and one before
//! Redis for every process of the fleet, so that a fault can hit one process
//! alone.
//!
//! It must never invent bytes: it delays, drops and cuts.

mod link;
mod postgres;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What flows through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Messages of PostgreSQL, without TLS.
    Postgres,
    /// Bytes.
    Opaque,
}

/// A direction through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// How bytes pass now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Every piece waits this long.
    pub delay: Duration,
    /// Nothing arrives at the server, and nobody is told.
    pub swallow_to_server: bool,
    /// Nothing arrives at the client, and nobody is told.
    pub swallow_to_client: bool,
}

impl Weather {
    /// Whether this direction is silent.
    const fn swallows(self, way: Way) -> bool {
        match way {
            Way::ToServer => self.swallow_to_server,
            Way::ToClient => self.swallow_to_client,
        }
    }
}

/// What a proxy did, by name: only what really happened to somebody counts.
pub type Counts = BTreeMap<&'static str, u64>;

/// The proxy. Stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

/// What all connections of a proxy look at.
#[derive(Debug)]
struct Shared {
    weather: watch::Sender<Weather>,
    /// Rises to cut every connection there is.
    cuts: watch::Sender<u64>,
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    /// Replies of `COMMIT` still to lose.
    lose_commits: u32,
    /// Cut a connection after this many more bytes in this direction.
    cut_after: Option<(Way, u64)>,
    counts: Counts,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, what: &'static str) {
        *self.orders().counts.entry(what).or_default() += 1;
    }

    /// Whether the reply of the `COMMIT` that just passed is to be lost.
    fn take_commit(&self) -> bool {
        let mut orders = self.orders();
        let take = orders.lose_commits > 0;
        orders.lose_commits = orders.lose_commits.saturating_sub(1);
        take
    }

    /// How many of `bytes` may still pass before the cut, if one is ordered.
    fn take_bytes(&self, way: Way, bytes: usize) -> Option<usize> {
        let mut orders = self.orders();
        let (cut_way, left) = orders.cut_after?;
        if cut_way != way {
            return None;
        }
        let bytes = bytes as u64;
        if bytes < left {
            orders.cut_after = Some((way, left - bytes));
            return None;
        }
        orders.cut_after = None;
        usize::try_from(left).ok()
    }
}

impl Proxy {
    /// A proxy before a server, on a free port of this machine.
    ///
    /// # Errors
    /// No port.
    pub async fn before(server: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            weather: watch::Sender::new(Weather::default()),
            cuts: watch::Sender::new(0),
            orders: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, server, protocol, Arc::clone(&shared)));
        Ok(Self { address, shared, listening })
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, bytes pass like this. Connections that lost bytes are cut
    /// when they would be heard again: their streams have a hole.
    pub fn weather(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Cuts every connection there is; new ones are served.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts whichever connection passes the next `bytes` in this direction, in
    /// the middle of whatever it says.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.shared.orders().cut_after = Some((way, bytes));
    }

    /// Loses exactly the replies of the next `times` `COMMIT`s: the server has
    /// committed, the client sees its connection end.
    pub fn lose_commits(&self, times: u32) {
        self.shared.orders().lose_commits = times;
    }

    /// Forgets everything that was ordered and lets all pass.
    pub fn heal(&self) {
        {
            let mut orders = self.shared.orders();
            orders.lose_commits = 0;
            orders.cut_after = None;
        }
        self.weather(Weather::default());
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.shared.orders().counts.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, protocol: Protocol, shared: Arc<Shared>) {
    loop {
        // Too many open files: a later try may do.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A server that is down: the client sees its connection end.
            let Ok(server) = TcpStream::connect(server).await else { return };
            link::run(client, server, protocol, &shared).await;
        });
    }
}

#[cfg(test)]
mod tests;
