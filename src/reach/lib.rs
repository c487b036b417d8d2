//! Where a post, or a prompt with a key, may be sent. A workspace chooses the
//! address, so it must not reach what only this machine or its network can
//! reach: not by an address in any spelling, not by a name that resolves to one,
//! not by a name that changes its answer between a check and a connection.
//!
//! This room sends nothing. Whoever does builds its client with
//! [`Targets::resolver`] and asks [`Targets::check`] before every call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Names that never leave the machine or the network, whatever resolves them.
const LOCAL_NAMES: [&str; 5] = ["localhost", "local", "internal", "home.arpa", "localdomain"];

/// Blocks of IPv4 that are not the internet: the first address and the length
/// of the prefix.
const NOT_INTERNET_V4: [(Ipv4Addr, u32); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this host
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // carriers' NAT, and clouds' metadata
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // a cloud's metadata
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, and clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments, and a cloud's metadata
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24),  // AS112
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, broadcast
];

/// What the deployment decided about addresses that workspaces name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Whether they may be private ones, and plain `http://`.
    pub allow_private: bool,
}

impl Targets {
    /// No rules.
    pub const ANY: Self = Self { allow_private: true };

    /// Checks a URL as far as that goes without asking anybody. Done when an
    /// account is added, and again at every call: an account may be older than
    /// the deployment's rules.
    ///
    /// # Errors
    /// The URL's problem, as what follows its place.
    pub fn check(self, url: &Url) -> Result<(), String> {
        if self.allow_private {
            return Ok(());
        }
        check_host(url)?;
        if url.scheme() == "https" {
            return Ok(());
        }
        Err("must begin with https://: nothing is sent in the clear from here \
             (publishing.allow_private_targets)"
            .into())
    }

    /// Checks a text that should be such a URL.
    ///
    /// # Errors
    /// As [`check`](Self::check), or it is no `https://` or `http://` URL.
    pub fn check_text(self, text: &str) -> Result<(), String> {
        match text.parse::<Url>() {
            Ok(url) if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() => {
                Err("must begin with https:// or http://".into())
            }
            // It would be shown to whoever may look at the settings.
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                Err("must carry no user name and no password: a key has a field of its own".into())
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                Err("must end with its path: no `?` and no `#`".into())
            }
            Ok(url) => self.check(&url),
            Err(error) => Err(format!("is no URL: {error}")),
        }
    }

    /// What a client under these rules asks for the addresses of names.
    pub fn resolver(self, names: Arc<dyn Resolve>) -> Arc<dyn Resolve> {
        if self.allow_private { names } else { Arc::new(PublicOnly { names }) }
    }
}

/// Why an address may not be called. A resolver's error, found again in the
/// client's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(pub String);

/// Whether an address is one of the internet at large.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let inside = |first: Ipv4Addr, length: u32| (ip.to_bits() ^ first.to_bits()) >> (32 - length) == 0;
    !NOT_INTERNET_V4.into_iter().any(|(first, length)| inside(first, length))
}

/// Only what is handed out as global unicast, and not what carries an IPv4
/// address to somewhere else.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        // ::ffff:a.b.c.d is a.b.c.d itself; 64:ff9b:: is how NAT64 writes it.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(v4(high, low))
        }
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)), // 6to4
        [0x2001, 0..0x200, ..] => false,                        // protocols, Teredo among them
        [0x2001, 0x0db8, ..] => false,                          // documentation
        [0x3fff, 0..0x1000, ..] => false,                       // documentation
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Checks the host of a URL as far as that goes without asking anybody.
///
/// The URL parser has turned every spelling of an IPv4 address (decimal, octal,
/// hexadecimal, short) into the usual one.
///
/// # Errors
/// The host's problem, as what follows its place.
pub fn check_host(url: &Url) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return if is_public(ip) { Ok(()) } else { Err(refusal(host)) };
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let below =
        |local: &str| name.strip_suffix(local).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if name.is_empty() || LOCAL_NAMES.into_iter().any(below) { Err(refusal(host)) } else { Ok(()) }
}

fn refusal(host: &str) -> String {
    format!(
        "{host} is not an address of the public internet, and this deployment does not allow others \
         (publishing.allow_private_targets)"
    )
}

/// Names as the machine knows them.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Resolves names to public addresses alone. The client connects to what it is
/// given here and asks nobody again.
struct PublicOnly {
    names: Arc<dyn Resolve>,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let text = name.as_str().to_owned();
        let found = self.names.resolve(name);
        Box::pin(async move {
            let public = public(&text, found.await?.collect())?;
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// The public ones of a name's addresses; an error when it has only others.
fn public(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
    let some = !found.is_empty();
    let public: Vec<_> = found.into_iter().filter(|address| is_public(address.ip())).collect();
    if some && public.is_empty() { Err(Forbidden(refusal(name))) } else { Ok(public) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_addresses_has_none_to_forbid() {
        assert!(public("name", Vec::new()).is_ok_and(|found| found.is_empty()));
    }

    #[test]
    fn an_address_of_a_workspaces_own_is_public_and_a_url() {
        let public = Targets { allow_private: false };
        assert_eq!(public.check_text("https://llm.example.com/v1"), Ok(()));
        for (text, told) in [
            ("http://llm.example.com/v1", "https://"),
            ("https://127.0.0.1/v1", "not an address of the public internet"),
            ("https://[::1]/v1", "not an address of the public internet"),
            ("https://metadata.google.internal/v1", "not an address of the public internet"),
            ("https://2130706433/", "not an address of the public internet"),
            ("file:///etc/passwd", "must begin with"),
            ("https://llm.example.com/v1?key=1", "no `?`"),
            ("https://ada:secret@llm.example.com/v1", "no user name"),
            ("https://token@llm.example.com/v1", "no user name"),
            ("llm.example.com", "no URL"),
        ] {
            let why = public.check_text(text).unwrap_err();
            assert!(why.contains(told), "{text}: {why}");
        }
        assert_eq!(Targets::ANY.check_text("http://127.0.0.1:1234/v1"), Ok(()));
    }
}
