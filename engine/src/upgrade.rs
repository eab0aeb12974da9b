//! Requests that become a WebSocket: of an agent, of a client of the Model Context Protocol, or of one of completions.

use super::Engine;
use super::answer::Answer;
use super::converse::Converse;
use super::inbound::Inbound;
use super::link::Connected;
use super::{mcp_request, mcp_socket, registry_completions, registry_socket, websocket};
use mcp_local_provider_core::agents;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::hub::{Hello, Outcome, Verdict};
use std::fmt;
use std::sync::Arc;
use tungstenite::http;

/// The status that accepts a WebSocket.
pub(super) const SWITCHING: u16 = 101;

/// The response that changes a connection to a WebSocket, and our side of the conversation on it.
pub type Upgraded = (http::Response<()>, Box<dyn Converse>);

/// Somebody who wants to open a WebSocket.
pub struct Upgrade {
    inbound: Inbound,
    peer: Peer,
}

/// Peers that want one.
pub(super) enum Peer {
    /// An agent with its token.
    Agent(Option<String>),
    /// A client of the Model Context Protocol.
    Mcp(mcp_socket::Upgrading),
    /// A client of the registry's completions.
    Completion(Box<registry_completions::Post>),
}

impl fmt::Debug for Upgrade {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upgrade({:?})", self.inbound.account)
    }
}

impl Upgrade {
    pub(super) const fn new(inbound: Inbound, peer: Peer) -> Self {
        Self { inbound, peer }
    }

    /// No WebSocket can be opened here, and `why` says where one can.
    #[must_use]
    pub fn refuse(self, why: &'static str) -> Answer {
        let refusal = Refusal::new(Code::NotImplemented, why);
        self.inbound.refuse(&refusal)
    }

    /// Checks the handshake and the token. The conversation begins as soon as the response, which has status 101, is written.
    ///
    /// # Errors
    /// What is to be answered instead.
    pub fn accept<B>(self, request: &http::Request<B>) -> Result<Upgraded, Box<Answer>> {
        let subprotocol = match &self.peer {
            Peer::Agent(_) => agents::websocket::SUBPROTOCOL,
            Peer::Mcp(_) => mcp_socket::SUBPROTOCOL,
            // It has none.
            Peer::Completion(_) => "",
        };
        let engine = self.inbound.account.engine().clone();
        let mut response = match websocket::accept(request, subprotocol) {
            Ok(response) => response,
            Err(refusal) => return Err(Box::new(self.inbound.refuse(&refusal))),
        };
        if let Some(page) = &self.inbound.page {
            page.headers(|name, value| {
                if let Ok(value) = http::HeaderValue::from_bytes(value) {
                    let headers = response.headers_mut();
                    headers.insert(http::HeaderName::from_static(name), value);
                }
            });
        }
        let side = match self.peer {
            Peer::Agent(token) => link(&engine, token.as_deref()),
            Peer::Completion(post) => {
                let socket =
                    registry_socket::Socket::new(&engine, self.inbound.account.id(), *post);
                socket.map(|socket| Box::new(socket) as Box<dyn Converse>)
            }
            Peer::Mcp(upgrading) => {
                let plain = websocket::offers(request, subprotocol);
                match upgrading.open(&engine, plain) {
                    Ok((socket, session)) => {
                        let id = session.and_then(|id| http::HeaderValue::from_str(&id).ok());
                        if let Some(id) = id {
                            response.headers_mut().insert("mcp-session-id", id);
                        }
                        Ok(Box::new(socket) as Box<dyn Converse>)
                    }
                    Err(refusal) => {
                        let answer = mcp_request::refuse(self.inbound, &refusal, "null");
                        return Err(Box::new(answer));
                    }
                }
            }
        };
        let accepted = side.map(|side| (response, side));
        match accepted {
            Ok(accepted) => {
                let outcome = Outcome::new(Verdict::Completed, SWITCHING, 0);
                let now = self.inbound.account.engine().clock();
                self.inbound.account.close(now, &outcome);
                Ok(accepted)
            }
            Err(refusal) => Err(Box::new(self.inbound.refuse(&refusal))),
        }
    }
}

/// Introduces an agent.
fn link(engine: &Arc<Engine>, token: Option<&str>) -> Result<Box<dyn Converse>, Refusal> {
    let connect = || {
        let hello = Hello {
            token,
            dialled: None,
        };
        Connected::new(engine, hello)
    };
    let link = connect().or_else(|refusal| {
        if engine.has_new_keys(&refusal) {
            connect()
        } else {
            Err(refusal)
        }
    })?;
    Ok(Box::new(link))
}
