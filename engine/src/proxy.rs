//! Routes to servers: directly, or by a proxy that the usual environment variables name.

use crate::engine::Engine;
use crate::pipe::{Endpoint, Fence, Pipe};
use crate::tls::{self, Tls, TlsError};
use crate::tunnel::Tunnel;
use data_encoding::BASE64;
use mcp_local_provider_core::budget::Budget;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tungstenite::http::Uri;

#[cfg(test)]
mod tests;

/// Port of a proxy whose URL has none, as curl has it.
const PORT: u16 = 1080;

/// Server that is asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// True for TLS: `https://` and `wss://`.
    pub secure: bool,
    /// Name in lower case, or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// The server of a URL with the scheme `http`, `https`, `ws` or `wss`; `None` for any other URL.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let secure = match uri.scheme_str()? {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        (!host.is_empty()).then(|| Self {
            secure,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// `host:port`, an IPv6 address in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Value of the header `Host`: without the port where it is the scheme's.
    #[must_use]
    pub fn host_header(&self) -> String {
        let authority = self.authority();
        let own = if self.secure { ":443" } else { ":80" };
        match authority.strip_suffix(own) {
            Some(host) => host.to_owned(),
            None => authority,
        }
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// HTTP proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", authority(&self.host, self.port))
    }
}

impl Proxy {
    /// Value of `Proxy-Authorization`. It is a secret.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Reads `[http://][user[:password]@]host[:port]`. The path is ignored, as curl does.
    fn parse(url: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "it is not of the form http://host:port";
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err("a proxy must be http://");
        }
        let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        let (host, port) = split_port(place).ok_or(WRONG)?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(is_name) {
            return Err(WRONG);
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(PORT),
            authorization: user.map(|user| {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let mut plain = percent_decoded(name);
                plain.push(b':');
                plain.extend(percent_decoded(password));
                format!("Basic {}", BASE64.encode(&plain))
            }),
        })
    }
}

/// Splits `host`, `host:port`, `[address]` or `[address]:port`. `None` where that is malformed.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (
                address,
                rest.strip_prefix(':').or(rest.is_empty().then_some(""))?,
            )
        }
        None if place.parse::<IpAddr>().is_ok() => (place, ""),
        None => place.split_once(':').unwrap_or((place, "")),
    };
    match port {
        "" => Some((host, None)),
        port => Some((host, Some(port.parse().ok()?))),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let mut ahead = bytes.clone();
        let pair = digit(ahead.next()).zip(digit(ahead.next()));
        match pair.and_then(|(high, low)| u8::try_from(high << 4 | low).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                bytes = ahead;
            }
            Some(_) | None => out.push(byte),
        }
    }
    out
}

/// Value of an environment variable that names no proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} names no proxy: {reason}")]
pub struct ProxyError {
    /// Name of the variable. Its value may hold a password, and is not kept.
    pub variable: &'static str,
    /// Description of the fault, without the value.
    pub reason: &'static str,
}

/// Entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    All,
    /// A name, and all names below it.
    Name(String, Option<u16>),
    /// Addresses that begin with so many bits.
    Net(IpAddr, u32, Option<u16>),
}

/// Proxies of one environment.
///
/// - `http://` and `ws://`: `http_proxy`, `HTTP_PROXY`, `all_proxy`, `ALL_PROXY`; the first that is set and not empty counts.
///   `HTTP_PROXY` does not where `REQUEST_METHOD` is set: in a CGI program it is a header of the request.
/// - `https://` and `wss://`: `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`.
/// - A proxy is `[http://][user[:password]@]host[:port]`, with port 1080 where it has none. TLS to a proxy and SOCKS are not spoken.
/// - `no_proxy`, else `NO_PROXY`: a list with commas or spaces of `*`, names (with all names below them, with a dot before them or
///   not), addresses, and networks (`10.0.0.0/8`), each but the network with a `:port` or not. They are asked directly.
/// - `localhost`, names below it, and loopback addresses are always asked directly: they are other machines for a proxy.
///
/// The variables and their order are curl's. Unlike this, curl asks loopback addresses by a proxy too, takes no port in `no_proxy`,
/// and never reads `HTTP_PROXY`.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    plain: Option<Result<Proxy, ProxyError>>,
    secure: Option<Result<Proxy, ProxyError>>,
    exempt: Vec<Exempt>,
}

impl Proxies {
    /// The proxies that variables name. `variable` gives the value of one.
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let first = |names: &[&'static str]| {
            let found = names.iter().find_map(|name| Some((*name, set(name)?)));
            found.map(|(variable, url)| {
                Proxy::parse(url.trim()).map_err(|reason| ProxyError { variable, reason })
            })
        };
        let plain: &[_] = if variable("REQUEST_METHOD").is_some() {
            &["http_proxy", "all_proxy", "ALL_PROXY"]
        } else {
            &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
        };
        let exempt = set("no_proxy").or_else(|| set("NO_PROXY"));
        let exempt = exempt.unwrap_or_default();
        let entries = exempt.split(|c: char| c == ',' || c.is_whitespace());
        Self {
            plain: first(plain),
            secure: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            exempt: entries.filter_map(Exempt::parse).collect(),
        }
    }

    /// The proxy by which a server is asked; `None` for directly.
    ///
    /// # Errors
    /// When the variable that counts names none.
    pub fn proxy(&self, origin: &Origin) -> Result<Option<&Proxy>, ProxyError> {
        let named = if origin.secure {
            &self.secure
        } else {
            &self.plain
        };
        let Some(named) = named else {
            return Ok(None);
        };
        let host = origin.host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let is_local = match address {
            Some(address) => address.is_loopback(),
            None => host == "localhost" || host.ends_with(".localhost"),
        };
        let exempt = |entry: &Exempt| entry.holds(&host, address, origin.port);
        if is_local || self.exempt.iter().any(exempt) {
            return Ok(None);
        }
        named.as_ref().map(Some).map_err(Clone::clone)
    }
}

impl Exempt {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((net, bits)) = entry.split_once('/') {
            let net: IpAddr = net.trim_matches(['[', ']']).parse().ok()?;
            let bits = bits.parse().ok()?;
            return (bits <= width(net)).then_some(Self::Net(net, bits, None));
        }
        let (host, port) = split_port(entry)?;
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Some(Self::Net(address, width(address), port));
        }
        let name = host.strip_prefix('*').unwrap_or(host);
        let name = name.trim_matches('.');
        (!name.is_empty()).then(|| Self::Name(name.to_ascii_lowercase(), port))
    }

    fn holds(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let fits = |own: &Option<u16>| own.is_none_or(|own| own == port);
        match self {
            Self::All => true,
            Self::Name(name, own) => {
                let below = host.strip_suffix(name.as_str());
                let below = below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                address.is_none() && below && fits(own)
            }
            Self::Net(net, bits, own) => {
                address.is_some_and(|address| begins_alike(*net, address, *bits)) && fits(own)
            }
        }
    }
}

/// Bits of an address.
const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// True when the first `bits` of two addresses of one family are the same.
fn begins_alike(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    let differ = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    differ >= bits
}

/// Way to a server. Pipes of equal routes can take each other's place.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// The server.
    pub origin: Origin,
    /// The proxy by which it is asked.
    pub proxy: Option<Proxy>,
    /// Addresses that the connection may go to; any without one.
    pub fence: Option<Fence>,
}

/// Opens TCP connections, and speaks TLS on them.
pub trait Open: Send + Sync {
    /// Opens a connection. It returns at once: calls of the pipe are pending until it is connected, and fail when it cannot be.
    fn tcp(&self, endpoint: &Endpoint) -> Box<dyn Pipe>;

    /// Speaks TLS on a pipe to the server of that name. Calls are pending until the handshake is over, and fail when it does.
    ///
    /// # Errors
    /// When there is no such name, or there are no roots to trust.
    fn tls(&self, pipe: Box<dyn Pipe>, host: &str) -> Result<Box<dyn Pipe>, TlsError>;

    /// The memory that connections take their shares of.
    fn budget(&self) -> &Budget;
}

impl Open for Engine {
    fn tcp(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        self.outside().dial(endpoint)
    }

    fn tls(&self, pipe: Box<dyn Pipe>, host: &str) -> Result<Box<dyn Pipe>, TlsError> {
        if self.budget().left() < tls::MEMORY {
            self.pool().clear();
        }
        Ok(Box::new(Tls::new(
            pipe,
            host,
            self.trust(),
            Engine::budget(self),
        )?))
    }

    fn budget(&self) -> &Budget {
        Engine::budget(self)
    }
}

/// Longest waits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeTimes {
    /// From the look-up of the name to the open connection.
    pub connect: Duration,
    /// Without progress of a write.
    pub write: Duration,
}

impl Route {
    /// Way to a server in an environment.
    ///
    /// # Errors
    /// When the variable that counts names no proxy.
    pub fn to(origin: Origin, proxies: &Proxies) -> Result<Self, ProxyError> {
        Ok(Self {
            proxy: proxies.proxy(&origin)?.cloned(),
            origin,
            fence: None,
        })
    }

    /// Way to a server whose address has to pass a fence. It never leads by a proxy: that would look the name up itself, and
    /// connect to whatever it finds.
    #[must_use]
    pub const fn fenced(origin: Origin, fence: Fence) -> Self {
        Self {
            origin,
            proxy: None,
            fence: Some(fence),
        }
    }

    /// True when the proxy is asked with the whole URL, and not for a tunnel: `http://` by a proxy.
    #[must_use]
    pub const fn asks_proxy(&self) -> bool {
        self.proxy.is_some() && !self.origin.secure
    }

    /// Name and port that are connected to: those of the proxy, or of the server.
    #[must_use]
    pub fn first_hop(&self) -> (&str, u16) {
        match &self.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&self.origin.host, self.origin.port),
        }
    }

    /// Opens a pipe for HTTP requests: TCP to the server or the proxy, for `https://` with a tunnel and TLS above it.
    ///
    /// # Errors
    /// See [`Open::tls`].
    pub fn open(&self, with: &dyn Open, times: PipeTimes) -> Result<Box<dyn Pipe>, TlsError> {
        if self.asks_proxy() {
            Ok(self.tcp(with, times))
        } else {
            self.open_through(with, times)
        }
    }

    /// Opens a pipe whose bytes reach the server itself, as a WebSocket needs it: by a proxy there is always a tunnel.
    ///
    /// # Errors
    /// See [`Open::tls`].
    pub fn open_through(
        &self,
        with: &dyn Open,
        times: PipeTimes,
    ) -> Result<Box<dyn Pipe>, TlsError> {
        let mut pipe = self.tcp(with, times);
        if let Some(proxy) = &self.proxy {
            pipe = Box::new(Tunnel::new(pipe, &self.origin, proxy, with.budget()));
        }
        if self.origin.secure {
            pipe = with.tls(pipe, &self.origin.host)?;
        }
        Ok(pipe)
    }

    fn tcp(&self, with: &dyn Open, times: PipeTimes) -> Box<dyn Pipe> {
        let (host, port) = self.first_hop();
        with.tcp(&Endpoint {
            host: host.to_owned(),
            port,
            connect_timeout: times.connect,
            write_timeout: times.write,
            fence: self.fence.clone(),
        })
    }
}

impl Engine {
    /// Names the proxies by which servers are asked. The first ones stay; without a call there are none.
    pub fn set_proxies(&self, proxies: Proxies) {
        // A second call is a fault of the host, and changes nothing.
        let _ = self.proxies.set(proxies);
    }

    /// Proxies by which servers are asked.
    pub fn proxies(&self) -> &Proxies {
        self.proxies.get_or_init(Proxies::default)
    }
}
