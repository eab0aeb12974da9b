//! Client of the control API of the running program: HTTP/1.1, one request for each connection.

use serde_json::Value;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Time for the connection to be made, as a rule to this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for each read and write.
const PROGRESS: Duration = Duration::from_secs(10);
/// Size in bytes above which an answer is refused.
const MAX_ANSWER_BYTES: u64 = 32 << 20;
/// Header fields of an answer, at most.
const MAX_FIELDS: usize = 64;

/// Calls the control API of the program at one address.
#[derive(Clone)]
pub struct ControlClient {
    program: &'static str,
    address: SocketAddr,
    token: Option<String>,
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
        "nothing listens at {address}; is {program} running? ({error}) --listen or --config says where it is"
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
    #[error("{}", unauthorized(*.presented))]
    Unauthorized {
        /// True when a key was presented.
        presented: bool,
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
const fn unauthorized(presented: bool) -> &'static str {
    if presented {
        "the running program does not accept the operator key; it may have another data_dir or configuration, \
         which --config names, or give an operator's key in LOCAL_PROVIDER_KEY"
    } else {
        "the running program wants an operator key and there is none in data_dir/operator.token; make one with \
         `keys add NAME --role operator` and give it in LOCAL_PROVIDER_KEY"
    }
}

impl ControlClient {
    /// Makes a client of `program` at `address`, which presents `token` when there is one.
    pub fn new(program: &'static str, address: SocketAddr, token: Option<String>) -> ControlClient {
        ControlClient {
            program,
            address: crate::banner::reachable(address),
            token,
        }
    }

    /// Sends `GET path` and returns the JSON of the answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn get(&self, path: &str) -> Result<Value, ControlError> {
        self.call("GET", path, "")
    }

    /// Sends `POST path` with a JSON body and returns the JSON of the answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ControlError> {
        self.call("POST", path, &body.to_string())
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Result<Value, ControlError> {
        let address = self.address;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT).map_err(|error| {
            ControlError::NotRunning {
                program: self.program,
                address,
                error,
            }
        })?;
        let answer = self
            .exchange(&mut stream, method, path, body)
            .map_err(|error| ControlError::Connection(address, error))?;
        let (status, body) = parse(&answer).map_err(|what| ControlError::Foreign(address, what))?;
        let value = serde_json::from_slice::<Value>(&body);
        if (200..300).contains(&status) {
            return value.map_err(|_| ControlError::Foreign(address, "its answer is not JSON"));
        }
        if status == 401 {
            return Err(ControlError::Unauthorized {
                presented: self.token.is_some(),
            });
        }
        let message = value.ok().and_then(|value| {
            let error = value.get("error")?;
            Some(error.get("message").unwrap_or(error).as_str()?.to_owned())
        });
        let message =
            message.unwrap_or_else(|| "the running program refuses without saying why".to_owned());
        Err(ControlError::Refused {
            status,
            message: printable(&message),
        })
    }

    fn exchange(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PROGRESS))?;
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
                    "the operator key has control characters in it",
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
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Replaces control characters by spaces, because a terminal would act on them.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Splits a complete response (RFC 9112), whose connection was closed after it, into status and body.
fn parse(answer: &[u8]) -> Result<(u16, Vec<u8>), &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let start = match response.parse(answer) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Err("its answer ends too early"),
        Err(_) => return Err("it does not speak HTTP"),
    };
    let status = response.code.ok_or("it does not speak HTTP")?;
    let body = answer.get(start..).unwrap_or_default();
    let field = |name: &str| {
        let field = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok((status, unchunk(body).ok_or("its answer ends too early")?));
    }
    match field("content-length").map(|length| length.trim().parse::<usize>()) {
        None => Ok((status, body.to_vec())),
        Some(Ok(length)) => Ok((
            status,
            body.get(..length)
                .ok_or("its answer ends too early")?
                .to_vec(),
        )),
        Some(Err(_)) => Err("it does not speak HTTP"),
    }
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let httparse::Status::Complete((start, length)) = httparse::parse_chunk_size(body).ok()?
        else {
            return None;
        };
        let length = usize::try_from(length).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(start..start.checked_add(length)?)?);
        body = body.get(start + length..)?.strip_prefix(b"\r\n")?;
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
                 make one with `keys add NAME --role operator` and give it in LOCAL_PROVIDER_KEY",
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
                "nothing listens at {nobody}; is mlp running? (Connection refused (os error 111)) --listen or --config says where it is"
            )
        );
    }
}
