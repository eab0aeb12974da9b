//! One connection to a provider, from the handshake to its end, over a socket that never blocks.

use crate::Error;
use crate::running::{Frame, Running};
use mcp_local_provider_core::agent::Lost;
use std::io::{self, ErrorKind, Read, Write};
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::handshake::client::{ClientHandshake, Response};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::Uri;
use tungstenite::protocol::frame::Utf8Bytes;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error as Fault, Message, WebSocket};

/// Longest message that is read, in bytes: a provider's requests are shorter.
const MESSAGE_BYTES: usize = 64 << 20;

/// A provider's address.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    uri: Uri,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_secure: bool,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Url {
            // Whoever puts a token into a URL does not want it in a log.
            url: url.split(['?', '#']).next().unwrap_or_default().to_owned(),
            why: why.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let is_secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") if cfg!(feature = "tls") => true,
            Some("wss") => return Err(wrong("this program was built without TLS; use ws://")),
            _ => return Err(wrong("it must start with ws:// or wss://")),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("it names no host"))?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            is_secure,
            uri,
        })
    }
}

/// A connection over `S`, whose reads and writes answer [`ErrorKind::WouldBlock`].
pub(crate) struct Connection<S: Read + Write>(State<S>);

enum State<S: Read + Write> {
    /// `None` once it has failed.
    Dialling(Option<MidHandshake<ClientHandshake<S>>>),
    Open(Box<WebSocket<S>>),
}

type Shaken<S> = Result<(WebSocket<S>, Response), HandshakeError<ClientHandshake<S>>>;

impl<S: Read + Write> Connection<S> {
    /// Begins the handshake.
    pub(crate) fn begin(stream: S, address: &Address, token: Option<&str>) -> Result<Self, Lost> {
        let mut request = ClientRequestBuilder::new(address.uri.clone());
        if let Some(token) = token {
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        shaken(client_with_config(request, stream, Some(config))).map(Self)
    }

    /// Reads and writes all that can be without waiting. Returns true when something is left to write.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) fn turn(&mut self, running: &Running) -> Result<bool, Lost> {
        if let State::Dialling(handshake) = &mut self.0
            && let Some(handshake) = handshake.take()
        {
            self.0 = shaken(handshake.handshake())?;
        }
        let State::Open(socket) = &mut self.0 else {
            return Ok(false);
        };
        running.connected();
        read(socket, running)?;
        write(socket, running)
    }

    /// Its bytes, to wait for.
    #[cfg(feature = "smol")]
    pub(crate) fn stream(&self) -> Option<&S> {
        match &self.0 {
            State::Dialling(handshake) => handshake.as_ref().map(|it| it.get_ref().get_ref()),
            State::Open(socket) => Some(socket.get_ref()),
        }
    }
}

/// Takes one step of a handshake.
fn shaken<S: Read + Write>(step: Shaken<S>) -> Result<State<S>, Lost> {
    match step {
        Ok((socket, _)) => Ok(State::Open(Box::new(socket))),
        Err(HandshakeError::Interrupted(handshake)) => Ok(State::Dialling(Some(handshake))),
        Err(HandshakeError::Failure(Fault::Http(response))) => {
            Err(Lost::Refused(response.status().as_u16()))
        }
        Err(HandshakeError::Failure(fault)) => Err(lost(fault)),
    }
}

/// Reads until nothing is there.
fn read<S: Read + Write>(socket: &mut WebSocket<S>, running: &Running) -> Result<(), Lost> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => running.frame(&text),
            Ok(Message::Close(frame)) => {
                let code = frame.map(|frame| frame.code.into());
                // The answer to it; whether that arrives changes nothing.
                let _ = socket.flush();
                return Err(Lost::Closed(code));
            }
            Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                running.alive();
            }
            Err(fault) if would_block(&fault) => return Ok(()),
            Err(fault) => return Err(lost(fault)),
        }
    }
}

/// Writes until nothing waits or the socket is full.
fn write<S: Read + Write>(socket: &mut WebSocket<S>, running: &Running) -> Result<bool, Lost> {
    loop {
        match socket.flush() {
            Ok(()) => {}
            Err(fault) if would_block(&fault) => return Ok(true),
            Err(fault) => return Err(lost(fault)),
        }
        running.written();
        let mut fed = false;
        while let Some(frame) = running.next_frame() {
            fed = true;
            let wrote = match frame {
                Frame::Text(text) => socket.write(Message::Text(text.into())),
                Frame::Ping => socket.write(Message::Ping(Vec::new().into())),
                Frame::Close(code) => {
                    let reason = Utf8Bytes::from_static(code.reason());
                    let code = code.code().into();
                    let _ = socket.close(Some(CloseFrame { code, reason }));
                    let _ = socket.flush();
                    return Err(Lost::Closed(None));
                }
            };
            match wrote {
                Ok(()) => {}
                // The frame is in the socket's buffer all the same.
                Err(fault) if would_block(&fault) => return Ok(true),
                Err(fault) => return Err(lost(fault)),
            }
        }
        if !fed {
            return Ok(false);
        }
    }
}

fn would_block(fault: &Fault) -> bool {
    matches!(fault, Fault::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn lost(fault: Fault) -> Lost {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "tungstenite's errors: the others are told by their own text"
    )]
    match fault {
        Fault::ConnectionClosed | Fault::AlreadyClosed => Lost::Closed(None),
        Fault::Io(error) => not_reached(&error),
        fault => Lost::Broken(format!("the connection broke: {fault}")),
    }
}

/// A socket's error, in words.
pub(crate) fn not_reached(error: &io::Error) -> Lost {
    Lost::Broken(format!("the provider cannot be reached: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::{Order, Writer};
    use mcp_local_provider_core::agent::{Piece, Times};
    use mcp_local_provider_core::link::{FromAgent, Registration};
    use mcp_local_provider_core::websocket;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::sync::Arc;

    /// One end of a connection that takes and gives a few bytes at a time, and has none every other time.
    #[derive(Clone)]
    struct End {
        incoming: Rc<RefCell<VecDeque<u8>>>,
        outgoing: Rc<RefCell<VecDeque<u8>>>,
        piece: Rc<Cell<usize>>,
        can_read: bool,
        can_write: bool,
    }

    impl End {
        fn pair(piece: Rc<Cell<usize>>) -> (Self, Self) {
            let own = Self {
                incoming: Rc::default(),
                outgoing: Rc::default(),
                piece,
                can_read: false,
                can_write: false,
            };
            let other = Self {
                incoming: own.outgoing.clone(),
                outgoing: own.incoming.clone(),
                piece: own.piece.clone(),
                can_read: false,
                can_write: false,
            };
            (own, other)
        }

        /// Fails every other time.
        fn wait(can: &mut bool) -> io::Result<()> {
            *can = !*can;
            match *can {
                true => Ok(()),
                false => Err(ErrorKind::WouldBlock.into()),
            }
        }
    }

    impl Read for End {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            Self::wait(&mut self.can_read)?;
            let mut incoming = self.incoming.borrow_mut();
            let count = self.piece.get().min(buf.len()).min(incoming.len());
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            for (to, from) in buf.iter_mut().zip(incoming.drain(..count)) {
                *to = from;
            }
            Ok(count)
        }
    }

    impl Write for End {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Self::wait(&mut self.can_write)?;
            let count = self.piece.get().min(buf.len());
            let taken = buf.iter().take(count);
            self.outgoing.borrow_mut().extend(taken);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_arrives_in_whatever_pieces_the_bytes_come()
    -> Result<(), Box<dyn std::error::Error>> {
        for piece in [1, 2, 3, 7, 64, 4096] {
            let running = Arc::new(Running::new(Registration::default(), Times::default()));
            running.serve_timers();
            assert!(matches!(running.next_order(), Some(Order::Dial)));
            // tungstenite takes a handshake in the least pieces for an attack.
            let size = Rc::new(Cell::new(4096));
            let (own, other) = End::pair(size.clone());
            let address = Address::parse("ws://provider/agent")?;
            let mut agent = Connection::begin(own, &address, Some("key"))?;
            let mut accepting = Some(tungstenite::accept(other));
            let mut provider = loop {
                agent.turn(&running)?;
                accepting = match accepting.take() {
                    Some(Ok(provider)) => break provider,
                    Some(Err(HandshakeError::Interrupted(more))) => Some(more.handshake()),
                    Some(Err(HandshakeError::Failure(fault))) => return Err(fault.into()),
                    None => return Err("the handshake is over".into()),
                };
            };
            let text = "é🦀 \"quoted\" ".repeat(50);
            let (mut told, mut ended) = (String::new(), false);
            let (mut is_asked, mut writer) = (false, None);
            while !ended {
                agent.turn(&running)?;
                if let Some(Order::Invoke(request)) = running.next_order() {
                    assert_eq!(request.prompt(), text);
                    let answer = Writer::new(running.clone(), request.id().clone());
                    for word in text.split_inclusive(' ') {
                        answer.write(&Piece::Text(word))?;
                    }
                    answer.end(Ok(()));
                    writer = Some(answer);
                }
                let _ = provider.flush();
                let frame = match provider.read() {
                    Ok(Message::Text(frame)) => frame,
                    Ok(_) => continue,
                    Err(fault) if would_block(&fault) => continue,
                    Err(fault) => return Err(fault.into()),
                };
                match websocket::decode(&frame, 1 << 20)? {
                    FromAgent::Register(_) if !is_asked => {
                        is_asked = true;
                        size.set(piece);
                        let prompt = text.replace('"', "\\\"");
                        for message in [
                            r#"{"type":"registered","session_id":"s","status":"active"}"#
                                .to_owned(),
                            format!(r#"{{"type":"model_invoke","id":"a","prompt":"{prompt}"}}"#),
                        ] {
                            // Full or not, the socket has taken it.
                            let _ = provider.write(Message::Text(message.into()));
                        }
                    }
                    FromAgent::Chunk(chunk) => {
                        told.push_str(&chunk.delta.content.decode());
                        ended = chunk.ending.is_some();
                    }
                    other => return Err(format!("{other:?}").into()),
                }
            }
            assert_eq!(told, text, "in pieces of {piece}");
            assert!(writer.is_some_and(|writer| !writer.is_open()));
        }
        Ok(())
    }

    #[test]
    fn a_url_names_the_provider() {
        let parsed = |url| {
            let address = Address::parse(url).ok()?;
            Some((address.host, address.port, address.is_secure))
        };
        let local = ("127.0.0.1".to_owned(), 8788, false);
        assert_eq!(parsed("ws://127.0.0.1:8788/agent"), Some(local));
        assert_eq!(
            parsed("ws://[::1]/agent"),
            Some(("::1".to_owned(), 80, false))
        );
        #[cfg(feature = "tls")]
        assert_eq!(
            parsed("wss://a.b/agent"),
            Some(("a.b".to_owned(), 443, true))
        );
        for wrong in ["", "127.0.0.1:8788", "http://a/agent", "ws:///agent"] {
            let error = Address::parse(wrong).map_err(|error| error.to_string());
            assert!(error.is_err_and(|error| error.starts_with("the URL ")));
        }
        let secret = Address::parse("http://a/agent?token=secret").map_err(|e| e.to_string());
        assert!(secret.is_err_and(|error| !error.contains("secret")));
    }
}
