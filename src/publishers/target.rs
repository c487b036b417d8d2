//! Where a webhook may go. A workspace chooses the address, so it must not
//! reach what only this machine or its network can reach: not by an address in
//! any spelling, not by a name that resolves to one, not by a name that changes
//! its answer between a check and a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::http::Forbidden;

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

/// Whether an address is one of the internet at large.
pub(crate) fn is_public(ip: IpAddr) -> bool {
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
pub(crate) fn check_host(url: &Url) -> Result<(), String> {
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

/// Resolves names to public addresses alone. The client connects to what it is
/// given here and asks nobody again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public = public(name.as_str(), found)?;
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
    use std::sync::Arc;

    use galley_core::publish::SEND_TIMEOUT;

    use super::*;
    use crate::http::{Failed, Http};

    #[test]
    fn only_the_internet_at_large_is_public() {
        for (text, expected) in [
            ("8.8.8.8", true),
            ("1.1.1.1", true),
            ("9.255.255.255", true),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("100.100.100.200", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("168.63.129.16", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.192", false),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700:4700::1111", true),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("64:ff9b:1::808:808", false),
            ("2002:7f00:1::", false),
            ("2002:a9fe:a9fe::1", false),
            ("2001:0:1::", false),
            ("2001:db8::1", false),
            ("3fff::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn no_spelling_of_a_private_address_passes() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "①②⑦.0.0.1",
            "10.1.2.3",
            "0xa9fea9fe",
            "2852039166",
            "169.254.169.254",
            "0.0.0.0",
            "0",
            "100.64.0.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:a9fe:a9fe]",
            "[fd00:ec2::254]",
            "[fc00::1]",
            "[fe80::1]",
            "[64:ff9b::10.0.0.1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "any.localhost",
            "printer.local",
            "metadata.google.internal",
        ] {
            let url =
                Url::parse(&format!("https://{host}/hook")).unwrap_or_else(|error| panic!("{host}: {error}"));
            assert!(check_host(&url).is_err(), "{host} as {url}");
        }
        for host in [
            "example.com",
            "8.8.8.8",
            "134744072",
            "[2606:4700:4700::1111]",
            "notlocalhost",
            "local.example.com",
        ] {
            let url = Url::parse(&format!("https://{host}/hook")).unwrap();
            assert_eq!(check_host(&url), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_name_is_worth_its_public_addresses() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let (inner, outer) = (at("10.0.0.1"), at("8.8.8.8"));
        assert_eq!(public("name", vec![inner, outer]).unwrap(), [outer]);
        assert!(public("name", vec![inner, at("::1")]).unwrap_err().to_string().contains("name"));
        assert!(public("name", Vec::new()).unwrap().is_empty());
    }

    /// Past every look at the text: what a name means is found out last.
    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_not_called() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let http = Http::new(SEND_TIMEOUT, |client| client.dns_resolver(Arc::new(PublicOnly))).unwrap();
        for url in [url.clone(), url.replace("http:", "https:")] {
            let failed = http.call(http.client().post(&url).build().unwrap()).await.unwrap_err();
            assert!(
                matches!(&failed, Failed::Unsendable(why) if why.starts_with("localhost is not an address")),
                "{url}: {failed:?}"
            );
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody came");
    }
}
