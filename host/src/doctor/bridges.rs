//! Checks of bridges: each is connected to, by the proxy that the environment names for it, and one with TLS has to prove who it
//! is.

use super::{Findings, Health};
use crate::config::Loaded;
use crate::connected::{CONNECT, open};
use crate::printable::printable;
use mcp_local_provider_engine::proxy::Proxies;
use mcp_local_provider_engine::tls::Trust;

pub(super) fn examine(loaded: &Loaded, findings: &mut Findings) {
    let config = &loaded.config;
    let trust = Trust::new(config.tls.ca_file.clone());
    let proxies = loaded.environment.proxies();
    for bridge in &config.bridges {
        let name = printable(&bridge.name);
        let after = "it is dialled again and again";
        let (health, text) = match connect_to(&bridge.url, &proxies, &trust, after) {
            Ok(text) => (Health::Ok, text),
            Err(text) => (Health::Warn, text),
        };
        findings.add(health, "bridge", format!("{name} {text}"));
    }
}

/// Connects to a server. The text of the finding, without the server's name; `after` says what the program does where it cannot.
pub(super) fn connect_to(
    url: &str,
    proxies: &Proxies,
    trust: &Trust,
    after: &str,
) -> Result<String, String> {
    open(url, proxies, trust, after, CONNECT).map(|connected| connected.text)
}
