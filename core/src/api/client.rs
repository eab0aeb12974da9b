//! The client of a request: which address it has behind the owner's proxies, and whether it is a program on this machine.

use super::guard::is_loopback_host;
use crate::config::{HubConfig, Network};
use core::net::{IpAddr, SocketAddr};

/// Headers with which a proxy says for whom it asks. Of several with one name the last is the one that the nearest proxy
/// wrote.
#[derive(Clone, Copy, Default, Debug)]
pub struct Forwarding<'h> {
    /// `X-Forwarded-For`.
    pub x_forwarded_for: Option<&'h str>,
    /// `Forwarded` (RFC 7239).
    pub forwarded: Option<&'h str>,
    /// There is one of these two, readable or not, or `X-Real-IP`.
    pub is_there: bool,
}

/// Client of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// It is a program on this machine, and asks for a name of this machine.
    pub is_local: bool,
}

impl Client {
    /// Finds the client of a request that came from `peer`. A peer in `listen.trusted_proxies` is believed whom it asks
    /// for: the right-most address that is not such a proxy itself. Whoever else says to ask for somebody is not believed,
    /// and is not local: a proxy on this machine that the owner has not named stands for strangers.
    #[must_use]
    pub fn find(
        config: &HubConfig,
        peer: IpAddr,
        host: Option<&str>,
        forwarding: &Forwarding<'_>,
    ) -> Self {
        let proxies = &config.trusted_proxies;
        let told = if !forwarding.is_there {
            Some(peer)
        } else if is_one_of(proxies, peer) {
            told(proxies, forwarding)
        } else {
            None
        };
        Self {
            address: told.unwrap_or(peer),
            is_local: told.is_some_and(|told| told.to_canonical().is_loopback())
                && host.is_some_and(is_loopback_host),
        }
    }
}

fn is_one_of(proxies: &[Network], address: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.contains(address))
}

/// The client that a trusted proxy tells of. Where both headers are there, one of them may be the client's own, so that
/// they have to agree.
fn told(proxies: &[Network], forwarding: &Forwarding<'_>) -> Option<IpAddr> {
    let plain = forwarding
        .x_forwarded_for
        .map(|value| first_stranger(proxies, value.rsplit(',').map(str::trim)));
    let standard = forwarding.forwarded.map(|value| {
        first_stranger(
            proxies,
            value
                .rsplit(',')
                .map(|hop| parameter_for(hop).unwrap_or_default()),
        )
    });
    match (plain, standard) {
        (Some(plain), Some(standard)) => plain.filter(|plain| standard == Some(*plain)),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => None,
    }
}

/// The first address that is no trusted proxy; `None` when what stands there is no address.
fn first_stranger<'v>(proxies: &[Network], hops: impl Iterator<Item = &'v str>) -> Option<IpAddr> {
    for hop in hops {
        let address = address(hop)?;
        if !is_one_of(proxies, address) {
            return Some(address);
        }
    }
    None
}

/// An address, with or without port, `[::1]:80` and `[::1]` included.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The value of `for` in one element of `Forwarded`: `for="[2001:db8::1]:80";proto=http`.
fn parameter_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for")
            .then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::string::{String, ToString};

    fn find(
        proxies: &[&str],
        peer: &str,
        host: &str,
        plain: &str,
        standard: &str,
    ) -> (String, bool) {
        let config = HubConfig {
            trusted_proxies: proxies.iter().map(|proxy| proxy.parse().unwrap()).collect(),
            ..HubConfig::default()
        };
        let forwarding = Forwarding {
            x_forwarded_for: Some(plain).filter(|value| !value.is_empty()),
            forwarded: Some(standard).filter(|value| !value.is_empty()),
            is_there: !plain.is_empty() || !standard.is_empty(),
        };
        let client = Client::find(&config, peer.parse().unwrap(), Some(host), &forwarding);
        (client.address.to_string(), client.is_local)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_this_machine_is_local() {
        let here = "127.0.0.1";
        let trusted: &[&str] = &[here, "10.0.0.0/8"];
        for (proxies, peer, host, plain, standard, address, is_local) in [
            // Nobody in between.
            (&[][..], here, "localhost:8788", "", "", here, true),
            (
                &[],
                "::ffff:127.0.0.1",
                "localhost",
                "",
                "",
                "::ffff:127.0.0.1",
                true,
            ),
            (&[], here, "nas.home", "", "", here, false),
            (
                &[],
                "192.168.1.9",
                "localhost",
                "",
                "",
                "192.168.1.9",
                false,
            ),
            // A proxy that the owner has not named.
            (&[], here, "localhost", "203.0.113.7", "", here, false),
            (&[], here, "localhost", "127.0.0.1", "", here, false),
            // One that the owner has named: what a client wrote itself stands further left.
            (
                trusted,
                here,
                "localhost",
                "203.0.113.7",
                "",
                "203.0.113.7",
                false,
            ),
            (
                trusted,
                here,
                "localhost",
                "127.0.0.1, 203.0.113.7",
                "",
                "203.0.113.7",
                false,
            ),
            (
                trusted,
                here,
                "localhost",
                "203.0.113.7, 10.1.1.1",
                "",
                "203.0.113.7",
                false,
            ),
            (trusted, here, "localhost", "unknown", "", here, false),
            (trusted, here, "localhost", "127.0.0.1", "", here, false),
            (
                trusted,
                here,
                "localhost",
                "",
                "for=\"[2001:db8::1]:80\";proto=http",
                "2001:db8::1",
                false,
            ),
            (
                trusted,
                here,
                "localhost",
                "",
                "for=127.0.0.1, For=198.51.100.2:99",
                "198.51.100.2",
                false,
            ),
            // One of the two is the client's own.
            (
                trusted,
                here,
                "localhost",
                "127.0.0.2",
                "for=203.0.113.7",
                here,
                false,
            ),
            // A program on this machine behind a proxy elsewhere.
            (
                &["10.0.0.1"],
                "10.0.0.1",
                "localhost",
                "127.0.0.1",
                "",
                here,
                true,
            ),
            (
                trusted,
                "192.168.1.9",
                "localhost",
                "127.0.0.1",
                "",
                "192.168.1.9",
                false,
            ),
        ] {
            let found = find(proxies, peer, host, plain, standard);
            assert_eq!(
                found,
                (address.to_string(), is_local),
                "{peer} {host} {plain} {standard}"
            );
        }
    }
}
