//! The addresses that a program listens on, as people write them.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address to listen on: `127.0.0.1:8788`, `[::1]:8788`, `localhost:8788`, or a port alone, which means loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener(pub SocketAddr);

/// A listener that is off unless it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// No listener.
    Off,
    /// The usual address when it is free; when it is taken, the program goes on without this listener.
    Auto,
    /// This address; the program does not start when it is taken.
    Address(SocketAddr),
}

/// Address at which programs look for an Ollama: the one of [`Extra::Auto`].
pub const OLLAMA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 11434);

/// Parses an address in one of the forms of [`Listener`].
///
/// # Errors
/// Returns a sentence that says what is wrong, with the form of a right address.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(loopback, port));
    }
    let hint = if text.contains("://") {
        format!(
            "; leave `{}://` and any path out",
            text.split("://").next().unwrap_or_default()
        )
    } else if let Some((host, port)) = text.rsplit_once(':') {
        match port.parse() {
            Ok(port) if host.eq_ignore_ascii_case("localhost") => {
                return Ok(SocketAddr::new(loopback, port));
            }
            Ok(_) if host.is_empty() || host == "*" => {
                "; to listen on every interface write `0.0.0.0:PORT`".to_owned()
            }
            Ok(port) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                format!("; write `[{host}]:{port}`")
            }
            Ok(_) => "; a name cannot be listened on, only an address of this machine".to_owned(),
            Err(_) => "; a port is a number from 0 to 65535".to_owned(),
        }
    } else {
        "; the port is missing".to_owned()
    };
    Err(format!(
        "expected an address such as `127.0.0.1:8788`, found `{text}`{hint}"
    ))
}

impl Serialize for Listener {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Extra::Off => serializer.serialize_str("off"),
            Extra::Auto => serializer.serialize_str("auto"),
            Extra::Address(address) => serializer.collect_str(address),
        }
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListenerVisitor;
        impl Visitor<'_> for ListenerVisitor {
            type Value = Listener;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as `127.0.0.1:8788`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listener, E> {
                parse_address(text).map(Listener).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(ListenerVisitor)
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExtraVisitor;
        impl Visitor<'_> for ExtraVisitor {
            type Value = Extra;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, `auto` or an address such as `127.0.0.1:11434`")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Extra, E> {
                if value {
                    Err(E::invalid_type(de::Unexpected::Bool(value), &self))
                } else {
                    Ok(Extra::Off)
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Extra, E> {
                match text {
                    "off" => Ok(Extra::Off),
                    "auto" => Ok(Extra::Auto),
                    text => parse_address(text).map(Extra::Address).map_err(E::custom),
                }
            }
        }
        deserializer.deserialize_str(ExtraVisitor)
    }
}
