//! Requests of a login, one after the other, on the thread that waits for them.

use crate::connected::open;
use crate::control::Answer;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::http_client::{Call, CallTimes, HttpRequest};
use mcp_local_provider_engine::proxy::Proxies;
use mcp_local_provider_engine::tls::Trust;
use mcp_local_provider_mcp::authorization::{Answer as Told, Challenge, Request};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

/// Time that a server may take for each part of its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Size in bytes above which an answer is not read further. No document of a login comes near it.
const MAX_BYTES: u64 = 256 << 10;
/// What is left to do where a server cannot be reached.
const AFTER: &str = "then try again";

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
    pub(crate) fn told(&self) -> Told<'_> {
        Told {
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
        // The pipe waits itself.
        let times = CallTimes {
            connect: Duration::MAX,
            answer: Duration::MAX,
            progress: Duration::MAX,
        };
        let budget = Budget::new(usize::MAX);
        let call = Call::once(connected.pipe, &connected.origin, request, times, &budget);
        let read = call.map_err(io::Error::other).and_then(|call| {
            let mut answer = Answer::read(call)?;
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
