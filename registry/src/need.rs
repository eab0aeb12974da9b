//! Things that a run needs of the world outside, and what came of them.

use crate::json::ObjectWriter;
use std::fmt;
use std::sync::Arc;

/// Bytes of an answer that a run takes.
pub const ANSWER_BYTES: usize = 1 << 20;

/// One need of a run, never used twice in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NeedId(pub(crate) u32);

/// A request over HTTP. Redirects are not followed.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpNeed {
    /// Method, in capitals.
    pub method: Box<str>,
    /// The whole URL; its origin is that of the definition.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(Box<str>, String)>,
    /// The body; `None` for none.
    pub body: Option<String>,
}

/// A program to run, without a shell, until it ends.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandNeed {
    /// The absolute path of the program, and its arguments.
    pub argv: Vec<String>,
    /// Variables beside those that every child gets.
    pub env: Vec<(Box<str>, String)>,
    /// Its standard input; closed at once where there is none.
    pub stdin: Option<String>,
}

/// Shows no more than the type.
macro_rules! quiet {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            /// Without what is sent or answered.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )+};
}

quiet!(HttpNeed, CommandNeed, AskNeed, CallNeed, HttpAnswer);

/// A model to ask for one whole answer.
#[derive(Clone, PartialEq, Eq)]
pub struct AskNeed {
    /// The model.
    pub model: String,
    /// A JSON array of messages, as OpenAI's chat completions have them.
    pub messages: String,
    /// A JSON object of parameters; `None` for none.
    pub parameters: Option<String>,
    /// Runs that this one is within: a model may be an integration, whose tools are runs.
    pub depth: u8,
}

impl AskNeed {
    /// The body of a chat completion that is not streamed.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = ObjectWriter::new();
        body.text("model", &self.model);
        body.json("messages", &self.messages);
        let parameters = self.parameters.as_deref();
        let parameters = parameters.and_then(mcp_local_provider_core::text::JsonValue::read);
        for (name, value) in parameters.into_iter().flat_map(|it| it.members()) {
            body.json(&name.decode(), value.get());
        }
        body.finish()
    }
}

/// A tool of a server of the gateway to call.
#[derive(Clone, PartialEq, Eq)]
pub struct CallNeed {
    /// The server.
    pub server: String,
    /// The tool.
    pub tool: String,
    /// A JSON object of arguments.
    pub arguments: String,
}

/// One need.
#[derive(Clone, PartialEq, Eq)]
pub enum Need {
    /// A request over HTTP. Comes back as [`Outcome::Http`].
    Http(HttpNeed),
    /// A program to run. Comes back as [`Outcome::Exited`].
    Command(CommandNeed),
    /// A model to ask. Comes back as [`Outcome::Said`].
    Ask(AskNeed),
    /// A tool of a server. Comes back as [`Outcome::Called`].
    Call(CallNeed),
    /// A resource of the registry to read, by its URI. Comes back as [`Outcome::Read`].
    Read(String),
    /// A file to read, below one of the folders of the configuration. Comes back as [`Outcome::File`].
    File(String),
}

impl fmt::Debug for Need {
    /// Without what is sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http(_) => "Http",
            Self::Command(_) => "Command",
            Self::Ask(_) => "Ask",
            Self::Call(_) => "Call",
            Self::Read(_) => "Read",
            Self::File(_) => "File",
        })
    }
}

/// The end of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// One resource as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    /// Its URI.
    pub uri: Arc<str>,
    /// Its media type.
    pub mime_type: Arc<str>,
    /// Its bytes.
    pub body: Body,
    /// `ETag`, with its quotes.
    pub etag: Arc<str>,
    /// Time of its reading, as RFC 3339 has it; `None` for what the definition holds itself.
    pub fetched_at: Option<Arc<str>>,
    /// True when it was not read for this request.
    pub cached: bool,
    /// True when it is older than may be, because its origin fails.
    pub stale: bool,
}

impl fmt::Debug for Contents {
    /// Without what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} bytes)", self.body.len())
    }
}

/// Bytes of a resource.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// Text.
    Text(Arc<str>),
    /// Anything else.
    Bytes(Arc<[u8]>),
}

impl Body {
    /// Bytes that it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// True when it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Body {
    /// Without what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

/// An HTTP answer.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpAnswer {
    /// Status; one of 300 or more is a failed run.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Outcome of a need.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An HTTP server answered.
    Http(HttpAnswer),
    /// A program ended.
    Exited {
        /// Its end.
        exit: Exit,
        /// Its standard output.
        stdout: Vec<u8>,
        /// The end of its standard error.
        stderr: Vec<u8>,
    },
    /// A model answered with this text.
    Said(String),
    /// A tool answered: the `result` of `tools/call`, as JSON.
    Called(String),
    /// A resource was read, or why it was not.
    Read(Result<Contents, crate::Failure>),
    /// A file was read.
    File(Vec<u8>),
    /// It failed before there was an answer: no connection, no such program, no agent, the server's error. A sentence for people.
    Failed(String),
    /// The answer is over [`ANSWER_BYTES`], or over what a resource may have.
    TooLarge,
    /// No answer came in time.
    TimedOut,
}

impl fmt::Debug for Outcome {
    /// Without what was answered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http(_) => "Http",
            Self::Exited { .. } => "Exited",
            Self::Said(_) => "Said",
            Self::Called(_) => "Called",
            Self::Read(_) => "Read",
            Self::File(_) => "File",
            Self::Failed(_) => "Failed",
            Self::TooLarge => "TooLarge",
            Self::TimedOut => "TimedOut",
        })
    }
}
