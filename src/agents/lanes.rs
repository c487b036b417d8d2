//! Connections to one provider. Over HTTP/2 many calls share one; but a server
//! lets only so many be open on it, and whatever is beyond waits unseen. So
//! calls are spread over lanes, each with connections of its own, and a lane
//! takes no more calls than servers usually allow.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use galley_reach::{System, Targets};
use genai::Client;
use rustls_platform_verifier::ConfigVerifierExt;

/// Calls in one lane. Servers allow 100 streams on a connection, or more.
const CALLS: usize = 96;

/// How long connecting may take; the whole call is bounded by the step.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection that is in use is asked whether it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(20);

/// One lane.
#[derive(Debug)]
struct Lane {
    client: Client,
    busy: AtomicUsize,
}

/// The lanes to one provider; made as they are needed, kept for the next burst.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// The service speaks HTTP/2 without TLS.
    prior_knowledge: bool,
    /// Where calls may go, if a workspace names the address.
    targets: Option<Targets>,
}

/// A call's place in a lane; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Lane>);

impl Lanes {
    /// The first lane; nothing is sent.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub(crate) fn new(prior_knowledge: bool, targets: Option<Targets>) -> Result<Self, String> {
        let first = Lane { client: client(prior_knowledge, targets)?, busy: AtomicUsize::new(0) };
        Ok(Self { lanes: Mutex::new(vec![Arc::new(first)]), prior_knowledge, targets })
    }

    /// A place for a call: in the first lane that has one.
    pub(crate) fn place(&self) -> Place {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let free = lanes.iter().find(|lane| lane.busy.load(Ordering::Relaxed) < CALLS);
        let lane = match free {
            Some(lane) => Arc::clone(lane),
            None => match client(self.prior_knowledge, self.targets) {
                Ok(client) => {
                    let lane = Arc::new(Lane { client, busy: AtomicUsize::new(0) });
                    lanes.push(Arc::clone(&lane));
                    lane
                }
                // It could be made once, so this is not met; a full lane is
                // slower, not wrong.
                Err(_) => Arc::clone(&lanes[0]),
            },
        };
        lane.busy.fetch_add(1, Ordering::Relaxed);
        Place(lane)
    }
}

impl Place {
    /// What the call goes through.
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

fn client(prior_knowledge: bool, targets: Option<Targets>) -> Result<Client, String> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("galley/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(ALIVE_EVERY)
        .tcp_nodelay(true)
        // A redirect would carry the key to a place that nobody configured.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls()?);
    let builder = if prior_knowledge { builder.http2_prior_knowledge() } else { builder };
    let builder = match targets {
        // A proxy looks names up on its own: an address that was checked here
        // would not be the one it connects to.
        Some(targets) => builder.no_proxy().dns_resolver(targets.resolver(Arc::new(System))),
        None => builder,
    };
    let client = builder.build().map_err(|error| error.to_string())?;
    Client::builder().with_reqwest(client).build().map_err(|error| error.to_string())
}

/// How TLS is spoken, made once: reading the machine's authorities takes time
/// and memory, and every lane would.
fn tls() -> Result<rustls::ClientConfig, String> {
    static TLS: OnceLock<Result<rustls::ClientConfig, String>> = OnceLock::new();
    TLS.get_or_init(|| {
        // reqwest is built without a TLS provider of its own; a program that
        // installed one keeps it.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut config = rustls::ClientConfig::with_platform_verifier().map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_is_followed_by_another_and_places_come_back() {
        let lanes = Lanes::new(false, None).unwrap();
        let places: Vec<Place> = (0..=CALLS).map(|_| lanes.place()).collect();
        let lane = |place: &Place| Arc::as_ptr(&place.0);
        assert!(places[1..CALLS].iter().all(|place| lane(place) == lane(&places[0])));
        assert_ne!(lane(&places[CALLS]), lane(&places[0]), "what a server would let wait");
        let first = lane(&places[0]);
        drop(places);
        assert_eq!(lane(&lanes.place()), first, "no more lanes than a burst needed");
        assert_eq!(lanes.lanes.lock().unwrap().len(), 2);
    }
}
