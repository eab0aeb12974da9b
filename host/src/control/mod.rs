//! Calls of the running program by the command line: one connection for each, never by a proxy.

use crate::printable::printable;
use crate::waiting_pipe::WaitingPipe;
pub(crate) use answer::Answer;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::http_client::{Call, CallError, CallTimes, HttpRequest};
use mcp_local_provider_engine::proxy::Origin;
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod answer;
#[cfg(test)]
mod tests;

/// Time for the connection to be made, as a rule to this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for each read and write of an answer that no agent gives.
const PROGRESS: Duration = Duration::from_secs(10);
/// Size in bytes above which a whole answer is refused.
const MAX_ANSWER_BYTES: u64 = 32 << 20;

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

/// One request, without what all have.
pub(crate) struct Sent<'s> {
    pub(crate) method: &'static str,
    pub(crate) path: &'s str,
    /// Forms that the answer may have.
    pub(crate) accept: &'static str,
    pub(crate) headers: &'s [(&'static str, &'s str)],
    /// JSON.
    pub(crate) body: Option<String>,
}

impl<'s> Sent<'s> {
    const fn new(method: &'static str, path: &'s str) -> Self {
        Self {
            method,
            path,
            accept: "application/json",
            headers: &[],
            body: None,
        }
    }

    fn json(method: &'static str, path: &'s str, body: &Value) -> Self {
        Self {
            body: Some(body.to_string()),
            ..Self::new(method, path)
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
        let answer = self.send(&Sent::new("GET", path), Some(PROGRESS), None)?;
        self.json(self.accept(answer)?)
    }

    /// Sends `GET path` and returns the JSON of a report, which has the status 503 when the program is not well.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn report(&self, path: &str) -> Result<Value, ControlError> {
        let answer = self.send(&Sent::new("GET", path), Some(PROGRESS), None)?;
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
        let answer = self.send(&Sent::json("POST", path, body), Some(PROGRESS), None)?;
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
        let answer = self.send(&Sent::json("POST", path, body), None, Some(cancel))?;
        self.accept(answer)
    }

    /// Sends any request, however long its answer takes, and returns an answer of success to be read as it comes.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub(crate) fn exchange(&self, sent: &Sent<'_>) -> Result<Answer, ControlError> {
        let answer = self.send(sent, None, None)?;
        self.accept(answer)
    }

    /// Returns the error of a read from [`ControlClient::stream`].
    pub fn broken(&self, error: io::Error) -> ControlError {
        let why = if error.kind() == ErrorKind::UnexpectedEof {
            "its answer ends too early"
        } else if error.kind() == ErrorKind::InvalidData {
            "it does not speak HTTP"
        } else {
            return ControlError::Connection(self.address, error);
        };
        ControlError::Foreign(self.address, why)
    }

    fn json(&self, mut answer: Answer) -> Result<Value, ControlError> {
        let body = self.whole(&mut answer)?;
        let foreign = |_| ControlError::Foreign(self.address, "its answer is not JSON");
        serde_json::from_slice(&body).map_err(foreign)
    }

    /// Returns an answer of success, or the error that it tells.
    fn accept(&self, mut answer: Answer) -> Result<Answer, ControlError> {
        let status = answer.status;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let body = self.whole(&mut answer)?;
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

    /// Reads the rest of an answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub(crate) fn whole(&self, answer: &mut Answer) -> Result<Vec<u8>, ControlError> {
        let mut body = Vec::new();
        let read = answer.take(MAX_ANSWER_BYTES).read_to_end(&mut body);
        read.map_err(|error| self.broken(error))?;
        Ok(body)
    }

    fn send(
        &self,
        sent: &Sent<'_>,
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
        let pipe = cancel
            .map_or(Ok(()), |cancel| cancel.begin(&stream))
            .and_then(|()| WaitingPipe::new(stream, PROGRESS, patience));
        let pipe = pipe.map_err(|error| self.broken(error))?;
        let request = self.request(sent);
        let origin = Origin {
            secure: false,
            host: address.ip().to_string(),
            port: address.port(),
        };
        // The pipe waits itself.
        let times = CallTimes {
            connect: Duration::MAX,
            answer: Duration::MAX,
            progress: Duration::MAX,
        };
        // The command serves nobody.
        let budget = Budget::new(usize::MAX);
        let call = Call::once(Box::new(pipe), &origin, request, times, &budget);
        call.map_err(unsendable)
            .and_then(Answer::read)
            .map_err(|error| self.broken(error))
    }

    fn request(&self, sent: &Sent<'_>) -> HttpRequest {
        let mut headers = vec![
            ("accept".into(), sent.accept.to_owned()),
            ("user-agent".into(), self.program.to_owned()),
        ];
        if let Some(token) = &self.token {
            headers.push(("authorization".into(), format!("Bearer {token}")));
        }
        if sent.body.is_some() {
            headers.push(("content-type".into(), "application/json".to_owned()));
        }
        let further = sent.headers.iter();
        headers.extend(further.map(|(name, value)| ((*name).into(), (*value).to_owned())));
        HttpRequest {
            method: sent.method,
            path: sent.path.to_owned(),
            headers,
            body: sent.body.clone().map(|body| body.into_bytes().into()),
        }
    }
}

/// Returns the error of a request that cannot be sent. Of all that is in it only the key is the person's.
fn unsendable(_: CallError) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        "the key has control characters in it",
    )
}

/// Returns the message of an error body of any dialect, as one printable line.
pub(crate) fn error_message(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let message = error.get("message").unwrap_or(error).as_str()?;
    let param = error.get("param").and_then(Value::as_str);
    // Of a file that was sent.
    let line = param.filter(|param| param.starts_with("line "));
    let place = line.map_or_else(String::new, |line| format!("{line}: "));
    Some(printable(&format!("{place}{message}")))
}
