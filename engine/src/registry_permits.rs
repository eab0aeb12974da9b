//! Hosts that the registry may ask: the list `registry.http`, and URLs held against it.

use crate::pipe::Fence;
use crate::proxy::{Origin, Route};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of a host, in bytes (RFC 1035).
const NAME_BYTES: usize = 253;

/// Host of a list or a URL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Host {
    /// Lower case, without a dot at its end.
    Name(Box<str>),
    Address(IpAddr),
}

impl Host {
    /// Reads a name or an address, an IPv6 address without brackets.
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('%') {
            return Err("a host has no `%`: neither escapes nor zones");
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if !text.is_ascii() {
            return Err("a name outside of ASCII is written as `xn--…`");
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_of_a_label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let is_label =
            |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_of_a_label);
        if name.len() > NAME_BYTES || !name.split('.').all(is_label) {
            return Err("it is no name of a host and no address");
        }
        // Resolvers take these for addresses: `127.1`, `2130706433`, `0x7f.0.0.1`, `0177.0.0.1`.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
        if last.bytes().all(|b| b.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(is_hex) {
            return Err("an IPv4 address is written as four decimal numbers, such as `192.0.2.1`");
        }
        Ok(Self::Name(name.into()))
    }
}

impl fmt::Display for Host {
    /// As the host of an [`Origin`]: an IPv6 address without brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Splits `host`, `host:port`, `[address]` or `[address]:port`.
fn split(text: &str) -> Result<(Host, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("its `[` has no `]`")?;
            let address: Ipv6Addr = address
                .parse()
                .map_err(|_| "in brackets stands an IPv6 address without a zone")?;
            let host = Host::Address(IpAddr::V6(address).to_canonical());
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or("behind `]` comes `:port`")?),
            };
            (host, port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            (Host::parse(host)?, port)
        }
    };
    let port = port.map(|port| {
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = digits.then(|| port.parse::<NonZeroU16>().ok()).flatten();
        port.map(NonZeroU16::get)
            .ok_or("a port is a number from 1 to 65535")
    });
    Ok((host, port.transpose()?))
}

/// Entry of `registry.http`: a name or an address, with a port or for any.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostEntry {
    host: Host,
    port: Option<u16>,
}

impl FromStr for HostEntry {
    type Err = &'static str;

    /// Reads `api.example.com`, `api.example.com:8443`, `10.0.0.5:80`, `::1` or `[::1]:80`.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.contains("://") || text.contains('/') {
            return Err("it is a name or an address alone, without `https://` and without a path");
        }
        if text.contains('*') {
            return Err("there are no patterns; list each host");
        }
        // A bare IPv6 address has no port.
        let (host, port) = match text.parse::<IpAddr>() {
            Ok(address) => (Host::Address(address.to_canonical()), None),
            Err(_) => split(text)?,
        };
        Ok(Self { host, port })
    }
}

/// Host or URL that may not be asked. Its text is a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostRefused(pub String);

/// Server that may be asked, if its address passes the fence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The server.
    pub origin: Origin,
    /// The addresses that it may have.
    pub fence: Fence,
}

impl Target {
    /// The way to it. No proxy of the environment is on it.
    #[must_use]
    pub fn route(&self) -> Route {
        Route::fenced(self.origin.clone(), self.fence.clone())
    }
}

/// Hosts that may be asked: the list `registry.http`. A cheap handle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    entries: Arc<[HostEntry]>,
    fence: Fence,
}

impl FromIterator<HostEntry> for Permits {
    fn from_iter<I: IntoIterator<Item = HostEntry>>(entries: I) -> Self {
        let entries: Arc<[HostEntry]> = entries.into_iter().collect();
        let addresses = entries.iter().filter_map(|entry| match entry.host {
            Host::Address(address) => Some((address, entry.port)),
            Host::Name(_) => None,
        });
        Self {
            fence: Fence::new(addresses),
            entries,
        }
    }
}

impl Permits {
    /// True when no host is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Holds scheme, host and port of a URL against the list. `host` may have the brackets of an IPv6 address; without a port it
    /// is the scheme's. Whether the host's addresses are permitted is known once its name is looked up: the [`Target`]'s fence
    /// tells then.
    ///
    /// # Errors
    /// When the scheme is another than `http` and `https`, the host is none or is not listed.
    pub fn http(&self, scheme: &str, host: &str, port: Option<u16>) -> Result<Target, HostRefused> {
        let secure = secure(scheme)?;
        let wrong = |why| HostRefused(format!("`{}` cannot be asked: {why}", printable(host)));
        let host = match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            Some(_) => split(host).map_err(wrong)?.0,
            None => Host::parse(host).map_err(wrong)?,
        };
        self.target(secure, host, port)
    }

    /// Holds a whole URL against the list, and returns the server with path and query, which begin with `/`.
    ///
    /// # Errors
    /// Beside those of [`Permits::http`]: credentials or a fragment in the URL, or characters that belong percent-encoded.
    pub fn url(&self, url: &str) -> Result<(Target, String), HostRefused> {
        let refuse = |why: &str| HostRefused(format!("the URL cannot be asked: {why}"));
        if url.bytes().any(|b| !b.is_ascii_graphic() || b == b'\\') {
            let why = "blanks, control characters, `\\` and characters outside of ASCII belong percent-encoded";
            return Err(refuse(why));
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| refuse("it begins with `http://` or `https://`"))?;
        let secure = secure(scheme)?;
        if rest.contains('#') {
            return Err(refuse("a fragment (`#…`) is not sent; leave it out"));
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(at).unwrap_or_default();
        if authority.contains('@') {
            return Err(refuse(
                "there are credentials in it; send them in a header, such as `Authorization`",
            ));
        }
        let (host, port) = split(authority).map_err(refuse)?;
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok((self.target(secure, host, port)?, path))
    }

    fn target(&self, secure: bool, host: Host, port: Option<u16>) -> Result<Target, HostRefused> {
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        let origin = Origin {
            secure,
            host: host.to_string(),
            port,
        };
        let is_listed = |entry: &HostEntry| {
            entry.host == host && entry.port.is_none_or(|listed| listed == port)
        };
        if !self.entries.iter().any(is_listed) {
            let authority = origin.authority();
            return Err(HostRefused(format!(
                "`registry.http` of the configuration does not list `{authority}`; add it there to reach it"
            )));
        }
        Ok(Target {
            origin,
            fence: self.fence.clone(),
        })
    }
}

fn secure(scheme: &str) -> Result<bool, HostRefused> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok(false),
        "https" => Ok(true),
        _ => Err(HostRefused(format!(
            "`{}` is no scheme of a URL that can be asked; those are `http` and `https`",
            printable(scheme)
        ))),
    }
}

/// A text of a caller, shortened and without control characters.
fn printable(text: &str) -> String {
    let text: String = text.chars().take(100).collect();
    text.escape_debug().to_string()
}
