//! Requests of a login, one after the other, on the thread that waits for them.

use crate::connected::open;
use mcp_local_provider_engine::http_client::HttpRequest;
use mcp_local_provider_engine::proxy::Proxies;
use mcp_local_provider_engine::tls::Trust;
use mcp_local_provider_mcp::authorization::{Answer, Challenge, Request};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// Time that a server may take for each part of its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Size in bytes above which an answer is not read further. No document of a login comes near it.
const MAX_BYTES: u64 = 256 << 10;
/// Need for a server that cannot be reached.
const AFTER: &str = "a login needs it";

/// The ways to servers.
#[derive(Debug)]
pub(crate) struct Asking {
    proxies: Proxies,
    trust: Trust,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Received {
    status: u16,
    challenge: Option<Challenge>,
    body: Vec<u8>,
}

impl Received {
    /// The answer for the machine.
    pub(crate) fn told(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            challenge: self.challenge.as_ref(),
            body: &self.body,
        }
    }
}

impl Asking {
    /// Asks by these proxies, and trusts the system and a PEM file of root certificates.
    pub(crate) fn new(proxies: Proxies, ca_file: Option<PathBuf>) -> Self {
        let trust = Trust::new(ca_file);
        Self { proxies, trust }
    }

    /// Makes a request, with further headers for one that goes to the MCP server itself.
    ///
    /// # Errors
    /// A sentence about what was asked, with its address and without secrets.
    pub(crate) fn ask(
        &self,
        request: Request,
        own_headers: &[(String, String)],
    ) -> Result<Received, String> {
        let url = request.url;
        // A query may hold a secret.
        let shown = url.split(['?', '#']).next().unwrap_or_default().to_owned();
        let connected = open(&url, &self.proxies, &self.trust, AFTER, ANSWER);
        let connected = connected.map_err(|error| format!("{shown} {error}"))?;
        let mut headers = request.headers;
        if request.is_for_server {
            let own = own_headers.iter();
            headers.extend(own.map(|(name, value)| (name.clone().into(), value.clone())));
        }
        let place = url.split_once("://").map_or(&*url, |(_, place)| place);
        let path = place.find(['/', '?']).and_then(|at| place.get(at..));
        let path = path.unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let request = HttpRequest {
            method: request.method,
            path: format!("{slash}{path}"),
            headers,
            body: request.body.map(|body| body.into_bytes().into()),
        };
        let read = connected.ask(request).and_then(|mut answer| {
            let challenge = Challenge::read(answer.headers("www-authenticate"));
            let mut body = Vec::new();
            let kind = answer.header("content-type").unwrap_or_default();
            // A stream that a server opens all the same may have no end, and is no document.
            if !kind.starts_with("text/event-stream") {
                answer.by_ref().take(MAX_BYTES).read_to_end(&mut body)?;
            }
            Ok(Received {
                status: answer.status,
                challenge,
                body,
            })
        });
        read.map_err(|error| format!("{shown} does not answer: {error}"))
    }
}
