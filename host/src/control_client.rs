//! Client of the running program: HTTP/1.1, one request for each connection.

use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time for the connection to be made, as a rule to this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for each read and write of an answer that no agent gives.
const PROGRESS: Duration = Duration::from_secs(10);
/// Size in bytes above which a whole answer is refused.
const MAX_ANSWER_BYTES: u64 = 32 << 20;
/// Size in bytes above which the head of an answer is refused.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Header fields of an answer, at most.
const MAX_FIELDS: usize = 64;

/// Calls the program at one address.
#[derive(Clone)]
pub struct ControlClient {
    program: &'static str,
    address: SocketAddr,
    token: Option<String>,
    is_client: bool,
}

impl fmt::Debug for ControlClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlClient({})", self.address)
    }
}

/// The reason for which a call failed, as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No process accepts connections there.
    #[error(
        "no {program} runs at {address} ({error}); `{program} serve` starts one, and --listen or --config says where another is"
    )]
    NotRunning {
        /// The program's name.
        program: &'static str,
        /// The address that was tried.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {0} broke: {1}")]
    Connection(SocketAddr, io::Error),
    /// The answer is not one of our control API.
    #[error("what listens at {0} is another program: {1}")]
    Foreign(SocketAddr, &'static str),
    /// The program requires a key, and the client has none or a wrong one.
    #[error("{}", unauthorized(*.presented, *.is_client))]
    Unauthorized {
        /// True when a key was presented.
        presented: bool,
        /// True when a client's key is wanted, and not an operator's.
        is_client: bool,
    },
    /// The program refused the request.
    #[error("{message} (status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The message of the program's error body.
        message: String,
    },
}

/// Returns the sentence of [`ControlError::Unauthorized`].
const fn unauthorized(presented: bool, is_client: bool) -> &'static str {
    match (presented, is_client) {
        (true, false) => {
            "the running program does not accept the operator key; it may have another data_dir or configuration, \
             which --config names, or give an operator's key in LOCAL_PROVIDER_KEY"
        }
        (false, false) => {
            "the running program wants an operator key and there is none in data_dir/operator.token; \
             `keys add operator --role operator` makes one there, or give one in LOCAL_PROVIDER_KEY"
        }
        (true, true) => {
            "the running program does not accept the client key; it may have another data_dir or configuration, \
             which --config names, or give a client's key in LOCAL_PROVIDER_KEY"
        }
        (false, true) => {
            "the running program wants a client key and there is none in data_dir/client.key; \
             `keys add client` makes one there, or give one in LOCAL_PROVIDER_KEY"
        }
    }
}

/// Cancels an answer from another thread. Clones cancel the same answer.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Mutex<Cancelling>>);

#[derive(Debug, Default)]
struct Cancelling {
    connection: Option<TcpStream>,
    cancelled: bool,
}

impl Cancel {
    /// Closes the connection of the answer under way, and returns true; false when there is none.
    pub fn cancel(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = state.connection.take() else {
            return false;
        };
        state.cancelled = true;
        // One that is closed already needs no closing.
        let _ = connection.shutdown(Shutdown::Both);
        true
    }

    /// Ends the time in which an answer can be cancelled. Returns true when it was.
    pub fn end(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state).cancelled
    }

    fn begin(&self, connection: &TcpStream) -> io::Result<()> {
        let connection = Some(connection.try_clone()?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Cancelling {
            connection,
            cancelled: false,
        };
        Ok(())
    }
}

impl ControlClient {
    /// Makes a client of `program` at `address`, which presents `token`, an operator's key, when there is one.
    pub fn new(program: &'static str, address: SocketAddr, token: Option<String>) -> ControlClient {
        ControlClient {
            program,
            address: crate::banner::reachable(address),
            token,
            is_client: false,
        }
    }

    /// Presents the token as a client's key.
    #[must_use]
    pub fn as_client(self) -> ControlClient {
        ControlClient {
            is_client: true,
            ..self
        }
    }

    /// Returns the address that is called.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns true when something accepts connections at the address.
    pub fn is_listening(&self) -> bool {
        TcpStream::connect_timeout(&self.address, CONNECT).is_ok()
    }

    /// Sends `GET path` and returns the JSON of the answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn get(&self, path: &str) -> Result<Value, ControlError> {
        let answer = self.send("GET", path, "", Some(PROGRESS), None)?;
        self.json(self.accept(answer)?)
    }

    /// Sends `GET path` and returns the JSON of a report, which has the status 503 when the program is not well.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn report(&self, path: &str) -> Result<Value, ControlError> {
        let answer = self.send("GET", path, "", Some(PROGRESS), None)?;
        if answer.status == 503 {
            return self.json(answer);
        }
        self.json(self.accept(answer)?)
    }

    /// Sends `POST path` with a JSON body and returns the JSON of the answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ControlError> {
        let answer = self.send("POST", path, &body.to_string(), Some(PROGRESS), None)?;
        self.json(self.accept(answer)?)
    }

    /// Sends `POST path` with a JSON body and returns the answer's body to be read as it comes, however long an agent takes.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn stream(
        &self,
        path: &str,
        body: &Value,
        cancel: &Cancel,
    ) -> Result<impl BufRead + use<>, ControlError> {
        let answer = self.send("POST", path, &body.to_string(), None, Some(cancel))?;
        Ok(BufReader::new(self.accept(answer)?))
    }

    /// Returns the error of a read from [`ControlClient::stream`].
    pub fn broken(&self, error: io::Error) -> ControlError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return ControlError::Foreign(self.address, "its answer ends too early");
        }
        ControlError::Connection(self.address, error)
    }

    fn json(&self, mut answer: Answer) -> Result<Value, ControlError> {
        let body = answer.whole().map_err(|error| self.broken(error))?;
        let foreign = |_| ControlError::Foreign(self.address, "its answer is not JSON");
        serde_json::from_slice(&body).map_err(foreign)
    }

    /// Returns an answer of success, or the error that it tells.
    fn accept(&self, mut answer: Answer) -> Result<Answer, ControlError> {
        let status = answer.status;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let body = answer.whole().map_err(|error| self.broken(error))?;
        if status == 401 {
            return Err(ControlError::Unauthorized {
                presented: self.token.is_some(),
                is_client: self.is_client,
            });
        }
        let told = serde_json::from_slice::<Value>(&body).ok();
        let message = told
            .as_ref()
            .and_then(error_message)
            .unwrap_or_else(|| "the running program refuses without saying why".to_owned());
        Err(ControlError::Refused { status, message })
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: &str,
        patience: Option<Duration>,
        cancel: Option<&Cancel>,
    ) -> Result<Answer, ControlError> {
        let address = self.address;
        let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(|error| {
            ControlError::NotRunning {
                program: self.program,
                address,
                error,
            }
        })?;
        let broken = |error| ControlError::Connection(address, error);
        cancel
            .map_or(Ok(()), |cancel| cancel.begin(&stream))
            .and_then(|()| self.write(&stream, method, path, body))
            .and_then(|()| stream.set_read_timeout(patience))
            .map_err(broken)?;
        Answer::read(stream).map_err(|error| match error {
            HeadError::Connection(error) => broken(error),
            HeadError::Foreign(why) => ControlError::Foreign(address, why),
        })
    }

    fn write(
        &self,
        mut stream: &TcpStream,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<()> {
        stream.set_write_timeout(Some(PROGRESS))?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: application/json\r\nUser-Agent: {}\r\n",
            self.address, self.program
        );
        if let Some(token) = &self.token {
            // A line break in a token would inject header fields.
            if token.chars().any(|c| c.is_control()) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the key has control characters in it",
                ));
            }
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if method == "POST" {
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())
    }
}

/// Returns the message of an error body of any dialect, as one printable line.
pub(crate) fn error_message(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let message = error.get("message").unwrap_or(error).as_str()?;
    Some(printable(message))
}

/// Replaces control characters by spaces, because a terminal would act on them.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The reason for which an answer has no head.
enum HeadError {
    Connection(io::Error),
    Foreign(&'static str),
}

/// Framing of the rest of a body (RFC 9112, section 6).
enum Framing {
    /// So many bytes follow.
    Length(u64),
    /// So many bytes of a chunk follow, then further chunks.
    Chunk(u64),
    /// A chunk's size follows, after the line end of the last chunk where there was one.
    Size { first: bool },
    /// All bytes until the connection is closed.
    Close,
}

/// An answer whose head was read. Reading it gives its body.
struct Answer {
    status: u16,
    framing: Framing,
    stream: BufReader<TcpStream>,
}

impl Answer {
    fn read(stream: TcpStream) -> Result<Self, HeadError> {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            let room = MAX_HEAD_BYTES.saturating_sub(head.len()) as u64;
            let read = (&mut stream).take(room).read_until(b'\n', &mut head);
            if read.map_err(HeadError::Connection)? == 0 {
                break;
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(HeadError::Foreign("its answer ends too early"));
            }
            Err(_) => return Err(HeadError::Foreign("it does not speak HTTP")),
        }
        let foreign = HeadError::Foreign("it does not speak HTTP");
        let Some(status) = response.code else {
            return Err(foreign);
        };
        let field = |name: &str| {
            let mut fields = response.headers.iter();
            let field = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value).ok()
        };
        let chunked = field("transfer-encoding");
        let length = field("content-length").map(|length| length.trim().parse());
        let framing = match length {
            _ if chunked.is_some_and(|value| value.eq_ignore_ascii_case("chunked")) => {
                Framing::Size { first: true }
            }
            None => Framing::Close,
            Some(Ok(length)) => Framing::Length(length),
            Some(Err(_)) => return Err(foreign),
        };
        Ok(Self {
            status,
            framing,
            stream,
        })
    }

    /// Reads the whole body.
    fn whole(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.take(MAX_ANSWER_BYTES).read_to_end(&mut body)?;
        Ok(body)
    }

    /// Reads a chunk's size, in hexadecimal digits before an extension.
    fn size(&mut self, first: bool) -> io::Result<u64> {
        let mut line = Vec::new();
        for _ in 0..if first { 1 } else { 2 } {
            line.clear();
            (&mut self.stream).take(1024).read_until(b'\n', &mut line)?;
        }
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => Ok(size),
            Ok(httparse::Status::Partial) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Size { first } = self.framing {
            self.framing = match self.size(first)? {
                0 => Framing::Length(0),
                size => Framing::Chunk(size),
            };
        }
        let left = match self.framing {
            Framing::Length(left) | Framing::Chunk(left) => left,
            Framing::Close | Framing::Size { .. } => u64::MAX,
        };
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let count = (&mut self.stream).take(left).read(buffer)?;
        let rest = left.saturating_sub(count as u64);
        match &mut self.framing {
            Framing::Length(_) | Framing::Chunk(_) if count == 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Framing::Length(left) => *left = rest,
            framing @ Framing::Chunk(_) => {
                *framing = match rest {
                    0 => Framing::Size { first: false },
                    rest => Framing::Chunk(rest),
                };
            }
            Framing::Close | Framing::Size { .. } => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Answers one request with these bytes, and returns the request.
    fn serve(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let count = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(buffer.get(..count).unwrap());
                let text = String::from_utf8_lossy(&request).into_owned();
                let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
                    body.len() >= length.unwrap_or(0)
                });
                if whole || count == 0 {
                    stream.write_all(answer.as_bytes()).unwrap();
                    return text;
                }
            }
        });
        (address, server)
    }

    #[test]
    fn calls_carry_the_token_and_bring_json() {
        let (address, server) = serve(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ok\"\r\n6;x=y\r\n:true}\r\n0\r\n\r\n",
        );
        let client = ControlClient::new("mlp", address, Some("secret".to_owned()));
        let body = serde_json::json!({"session_id": "s"});
        assert_eq!(
            client.post("/control/approve", &body).unwrap(),
            serde_json::json!({"ok": true})
        );
        assert_eq!(
            server.join().unwrap(),
            format!(
                "POST /control/approve HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: application/json\r\n\
                 User-Agent: mlp\r\nAuthorization: Bearer secret\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n\
                 {{\"session_id\":\"s\"}}"
            )
        );
        assert!(!format!("{client:?}").contains("secret"));
    }

    #[test]
    fn what_goes_wrong_is_said_with_a_remedy() {
        let cases = [
            (
                "HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\n\r\n{\"error\":{\"message\":\"no session\\u001b[31m\"}}",
                "no session [31m (status 404)",
            ),
            (
                "HTTP/1.1 409 C\r\n\r\n{\"error\":\"not now\"}",
                "not now (status 409)",
            ),
            (
                "HTTP/1.1 401 U\r\nContent-Length: 0\r\n\r\n",
                "the running program wants an operator key and there is none in data_dir/operator.token; \
                 `keys add operator --role operator` makes one there, or give one in LOCAL_PROVIDER_KEY",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
                "what listens at ADDRESS is another program: its answer ends too early",
            ),
            (
                "SSH-2.0-x\r\n",
                "what listens at ADDRESS is another program: it does not speak HTTP",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n<html>",
                "what listens at ADDRESS is another program: its answer is not JSON",
            ),
        ];
        for (answer, expected) in cases {
            let (address, server) = serve(answer);
            let error = ControlClient::new("mlp", address, None)
                .get("/control/sessions")
                .unwrap_err();
            server.join().unwrap();
            assert_eq!(
                error.to_string(),
                expected.replace("ADDRESS", &address.to_string())
            );
        }
        let nobody = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(
            ControlClient::new("mlp", nobody, None)
                .get("/")
                .unwrap_err()
                .to_string(),
            format!(
                "no mlp runs at {nobody} (Connection refused (os error 111)); `mlp serve` starts one, and --listen or --config says where another is"
            )
        );
    }
}
