//! Needs of the registry's runs and reads, served: a server is asked over HTTP, a command runs, a file is read, a model or a tool of the
//! gateway is asked as a client would ask it.

use super::Engine;
use super::ask;
use super::mcp_rest;
use super::registry_cell::RegistryCell;
use super::registry_handle::RegistryHandle;
use super::request::Step;
use super::running::{Progress, Running};
use crate::background::Background;
use crate::http_client::{Call, CallError, CallTimes, HttpRequest, Part};
use crate::promise::{Promised, promise};
use crate::registry::{CommandCall, CommandEnd, CommandHandle, FileRead, NotRead, NotRun};
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{
    ANSWER_BYTES, AskNeed, CallNeed, CommandNeed, Exit, FetchId, HttpAnswer, HttpNeed, Need,
    NeedId, Out, Outcome, ReaderId,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Time for a connection to a server.
const CONNECT: Duration = Duration::from_secs(10);
/// Time without progress after which a server is given up. A run's own time ends it before.
const PROGRESS: Duration = Duration::from_secs(300);
/// What this program calls itself.
const USER_AGENT: &str = concat!("mcp-local-provider/", env!("CARGO_PKG_VERSION"));

/// One need that is being served. Dropping it ends what was begun for it.
pub(super) enum Served {
    /// A server is asked.
    Http(Box<Asked>),
    /// A command runs, or a file is read.
    Told {
        /// Its outcome.
        outcome: Promised<Outcome>,
        /// Ends the command when it is dropped.
        _command: Option<CommandHandle>,
    },
    /// A model is asked.
    Model(Inner),
    /// A tool of the gateway is called.
    Tool(Inner),
    /// A resource of the registry is read.
    Read(Reader),
    /// It has ended already.
    Ended(Option<Outcome>),
}

/// A read, until it is dropped.
pub(super) struct Reader {
    cell: RegistryHandle,
    id: ReaderId,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.cell.leave(self.id);
    }
}

/// A request of the program's own, which is handled as a client's.
pub(super) enum Inner {
    /// Its answer, with the status.
    Whole(u16, Vec<u8>),
    /// Its answer comes.
    Running(Box<Running>, u16),
}

impl Inner {
    fn new(step: Step) -> Self {
        match step {
            Step::Answer(answer) => Self::Whole(answer.head.status(), answer.body),
            Step::Running(running) => Self::Running(running, 0),
            // Neither is what such a request becomes.
            Step::Body(_) | Step::Report(_) => Self::Whole(500, Vec::new()),
        }
    }

    /// The whole answer with its status.
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        until: &mut Option<Instant>,
    ) -> Option<(u16, Vec<u8>)> {
        match self {
            Self::Whole(status, body) => Some((*status, std::mem::take(body))),
            Self::Running(running, status) => loop {
                if let Some(head) = running.take_head() {
                    *status = head.status();
                }
                if running.has_ended() {
                    return Some((*status, std::mem::take(running.body())));
                }
                match running.poll(now, waker) {
                    Progress::Ready => {}
                    Progress::Until(at) => {
                        *until = at;
                        return None;
                    }
                }
            },
        }
    }
}

/// All needs of a run. Dropping them ends what was begun.
#[derive(Default)]
pub(super) struct Needs {
    open: BTreeMap<NeedId, Served>,
    /// Written by the run.
    pub(super) out: Out,
}

impl Needs {
    /// Ends and begins what the run says, as its caller.
    pub(super) fn carry_out(
        &mut self,
        engine: &Arc<Engine>,
        cell: &RegistryHandle,
        caller: &Caller,
    ) {
        for id in self.out.end.drain(..) {
            self.open.remove(&id);
        }
        for (id, need) in self.out.start.drain(..) {
            let served = Served::begin(engine, cell, Some(caller), need);
            self.open.insert(id, served);
        }
    }

    /// What came of one of them, once.
    pub(super) fn poll(&mut self, now: Instant, waker: &Waker) -> Option<(NeedId, Outcome)> {
        let mut open = self.open.iter_mut();
        let ended = open.find_map(|(id, served)| Some((*id, served.poll(now, waker)?)));
        if let Some((id, _)) = &ended {
            self.open.remove(id);
        }
        ended
    }

    /// When to poll them again though nobody woke their task.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let open = self.open.values();
        open.filter_map(|it| it.poll_timeout(now)).min()
    }
}

impl Served {
    /// Begins to serve a need of `caller`.
    pub(super) fn begin(
        engine: &Arc<Engine>,
        cell: &RegistryHandle,
        caller: Option<&Caller>,
        need: Need,
    ) -> Self {
        match (need, caller) {
            (Need::Http(need), _) => Asked::begin(engine, cell, need, ANSWER_BYTES),
            (Need::Command(need), _) => command(cell, need),
            (Need::File(path), _) => file(cell, path),
            (Need::Read(uri), _) => read(engine, cell, &uri, false),
            (Need::Ask(need), Some(caller)) => Self::Model(ask(engine, caller, &need)),
            (Need::Call(need), Some(caller)) => Self::Tool(call(engine, caller, &need)),
            (Need::Ask(_) | Need::Call(_), None) => {
                Self::Ended(Some(Outcome::Failed("nobody asks for it".to_owned())))
            }
        }
    }

    /// Begins to read a resource whose copy may be old.
    pub(super) fn look(engine: &Arc<Engine>, cell: &RegistryHandle, uri: &str) -> Self {
        read(engine, cell, uri, true)
    }

    /// What came of it, once.
    pub(super) fn poll(&mut self, now: Instant, waker: &Waker) -> Option<Outcome> {
        let mut until = None;
        match self {
            Self::Http(asked) => asked.poll(now, waker),
            Self::Told { outcome, .. } => match outcome.poll(waker) {
                Poll::Pending => None,
                Poll::Ready(outcome) => Some(outcome.unwrap_or_else(no_thread)),
            },
            Self::Model(inner) => inner
                .poll(now, waker, &mut until)
                .map(|(status, body)| said(status, &body)),
            Self::Tool(inner) => inner
                .poll(now, waker, &mut until)
                .map(|(status, body)| called(status, &body)),
            Self::Read(reader) => {
                let end = reader.cell.poll_read(reader.id, waker);
                end.map(Outcome::Read)
            }
            Self::Ended(outcome) => outcome.take(),
        }
    }

    /// When to poll it again though nobody woke its task.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Http(asked) => asked.call.poll_timeout(),
            // Its own deadlines are the exchange's or the session's; they are looked at often enough.
            Self::Model(Inner::Running(..)) | Self::Tool(Inner::Running(..)) => {
                Some(now + Duration::from_secs(1))
            }
            Self::Told { .. } | Self::Model(_) | Self::Tool(_) | Self::Read(_) | Self::Ended(_) => {
                None
            }
        }
    }
}

/// A server that is asked over HTTP.
pub(super) struct Asked {
    call: Call,
    answer: HttpAnswer,
    most: usize,
    share: Share,
}

impl Asked {
    fn begin(engine: &Arc<Engine>, cell: &RegistryCell, need: HttpNeed, most: usize) -> Served {
        let failed = |why: String| Served::Ended(Some(Outcome::Failed(why)));
        let (target, path) = match cell.hosts().url(&need.url) {
            Ok(found) => found,
            Err(refused) => return failed(refused.0),
        };
        let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        let Some(method) = methods.into_iter().find(|it| **it == *need.method) else {
            return failed(format!("`{}` is no method that can be sent", need.method));
        };
        let own = need.headers.into_iter();
        let own = own.map(|(name, value)| (name.to_ascii_lowercase().into(), value));
        let mut headers: Vec<(_, String)> = own.collect();
        if !headers.iter().any(|(name, _)| *name == "user-agent") {
            headers.push(("user-agent".into(), USER_AGENT.to_owned()));
        }
        let request = HttpRequest {
            method,
            path,
            headers,
            body: need.body.map(|body| body.into_bytes().into()),
        };
        let times = CallTimes {
            connect: CONNECT,
            answer: PROGRESS,
            progress: PROGRESS,
        };
        let call = engine
            .http_client()
            .call(engine.clock(), target.route(), request, times);
        match call {
            Ok(call) => Served::Http(Box::new(Self {
                call,
                answer: HttpAnswer::default(),
                most,
                share: engine.budget().share(),
            })),
            Err(error) => failed(format!("the server cannot be asked: {error}")),
        }
    }

    fn poll(&mut self, now: Instant, waker: &Waker) -> Option<Outcome> {
        loop {
            let part = match self.call.poll(now, waker, &mut self.answer.body) {
                Poll::Pending => return None,
                Poll::Ready(part) => part,
            };
            match part {
                Ok(Part::Head(head)) => {
                    let text = |name| std::str::from_utf8(head.header(name)?).ok();
                    self.answer.status = head.status();
                    self.answer.content_type = text("content-type").map(str::to_owned);
                    self.answer.etag = text("etag").map(str::to_owned);
                }
                Ok(Part::Body) => {
                    if self.answer.body.len() > self.most {
                        return Some(Outcome::TooLarge);
                    }
                    if !self.share.hold(self.answer.body.capacity()) {
                        let why = "there is no memory left for the answer (limits.memory)";
                        return Some(Outcome::Failed(why.to_owned()));
                    }
                }
                Ok(Part::End) => return Some(Outcome::Http(std::mem::take(&mut self.answer))),
                Err(CallError::Timeout(_)) => return Some(Outcome::TimedOut),
                Err(error) => {
                    return Some(Outcome::Failed(format!(
                        "the server does not answer: {error}"
                    )));
                }
            }
        }
    }
}

/// The outcome of what was dropped without one.
fn no_thread() -> Outcome {
    Outcome::Failed("the system gives no thread for it; ask again later".to_owned())
}

fn command(cell: &RegistryCell, need: CommandNeed) -> Served {
    let mut argv = need.argv.into_iter();
    let program = argv.next().unwrap_or_default();
    let call = CommandCall {
        name: program.clone(),
        program,
        arguments: argv.collect(),
        environment: need
            .env
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
        input: need.stdin.map(String::into_bytes).unwrap_or_default(),
        output_bytes: ANSWER_BYTES,
    };
    let (promise, outcome) = promise();
    let handle = cell
        .commands
        .run(call, Box::new(move |ended| promise.keep(exited(ended))));
    Served::Told {
        outcome,
        _command: Some(handle),
    }
}

fn exited(ended: Result<CommandEnd, NotRun>) -> Outcome {
    match ended {
        Err(not_run) => Outcome::Failed(not_run.to_string()),
        Ok(end) if end.is_cut => Outcome::TooLarge,
        Ok(end) => match end.code {
            Some(code) => Outcome::Exited {
                exit: Exit::Code(code.into()),
                stdout: end.output,
                stderr: end.errors.into_bytes(),
            },
            None => Outcome::Failed("the command closed its output, and was ended".to_owned()),
        },
    }
}

fn file(cell: &RegistryCell, path: String) -> Served {
    let (promise, outcome) = promise();
    let most = cell.resource_bytes();
    let done = Box::new(move |read: Result<FileRead, NotRead>| {
        promise.keep(match read {
            Ok(read) => Outcome::File(read.bytes),
            Err(NotRead::TooLarge { .. }) => Outcome::TooLarge,
            Err(
                error @ (NotRead::Refused(_)
                | NotRead::Missing(_)
                | NotRead::TooMany
                | NotRead::Memory(_)
                | NotRead::Failed(_)),
            ) => Outcome::Failed(error.to_string()),
        });
    });
    cell.files.read(PathBuf::from(path), most, done);
    Served::Told {
        outcome,
        _command: None,
    }
}

fn read(engine: &Arc<Engine>, cell: &RegistryHandle, uri: &str, anew: bool) -> Served {
    let (id, fetch) = cell.read(engine.now(), &engine.wall(), uri, anew);
    if let Some((fetch, need)) = fetch {
        engine.spawn(Box::new(Fetch::new(engine, cell, fetch, need)));
    }
    let cell = cell.clone();
    Served::Read(Reader { cell, id })
}

/// Asks a model as the caller would, for one whole answer.
fn ask(engine: &Arc<Engine>, caller: &Caller, need: &AskNeed) -> Inner {
    let within = ask::Within {
        depth: need.depth,
        carried: None,
    };
    let body = need.body().into_bytes();
    Inner::new(ask::ask_for(engine, caller, body, within))
}

fn said(status: u16, body: &[u8]) -> Outcome {
    let read = std::str::from_utf8(body).ok().and_then(JsonValue::read);
    let choices = read.and_then(|it| it.member("choices"));
    let first = choices.and_then(|it| it.elements().into_iter().next());
    let text = first.and_then(|it| it.path(&["message", "content"])?.text());
    match text {
        Some(text) if status == 200 => Outcome::Said(text.into_owned()),
        Some(_) | None => Outcome::Failed(error_of(body, "the model gave no text")),
    }
}

/// Calls a tool of the gateway as the caller would by REST.
fn call(engine: &Arc<Engine>, caller: &Caller, need: &CallNeed) -> Inner {
    let mut body = Json::new();
    body.raw("{");
    body.member("server").string(&need.server);
    body.member("tool").string(&need.tool);
    body.member("params").raw(&need.arguments);
    body.raw("}");
    Inner::new(mcp_rest::call_for(engine, caller, body.finish().as_bytes()))
}

fn called(status: u16, body: &[u8]) -> Outcome {
    let read = std::str::from_utf8(body).ok().and_then(JsonValue::read);
    let result = read.and_then(|it| it.member("result"));
    match result {
        Some(result) if status == 200 => Outcome::Called(result.get().to_owned()),
        Some(_) | None => Outcome::Failed(error_of(body, "the server gave no result")),
    }
}

/// The message of an error's body.
fn error_of(body: &[u8], otherwise: &str) -> String {
    let read = std::str::from_utf8(body).ok().and_then(JsonValue::read);
    let message = read.and_then(|it| it.path(&["error", "message"])?.text());
    message.map_or_else(|| otherwise.to_owned(), std::borrow::Cow::into_owned)
}

/// A fetch of a resource, which serves all who read it.
struct Fetch {
    engine: Arc<Engine>,
    cell: RegistryHandle,
    id: FetchId,
    served: Served,
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetch({:?})", self.id)
    }
}

impl Fetch {
    fn new(engine: &Arc<Engine>, cell: &RegistryHandle, id: FetchId, need: Need) -> Self {
        let served = match need {
            Need::Http(need) => Asked::begin(engine, cell, need, cell.resource_bytes()),
            other @ (Need::Command(_)
            | Need::Ask(_)
            | Need::Call(_)
            | Need::Read(_)
            | Need::File(_)) => Served::begin(engine, cell, None, other),
        };
        Self {
            engine: engine.clone(),
            cell: cell.clone(),
            id,
            served,
        }
    }
}

impl Background for Fetch {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let (now, wall) = (self.engine.now(), self.engine.wall());
        self.cell.handle_timeout(now, &wall);
        if !self.cell.is_wanted(self.id, waker) {
            return Poll::Ready(());
        }
        match self.served.poll(now, waker) {
            Some(outcome) => {
                self.cell.fetched(now, &wall, self.id, outcome);
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let own = self.served.poll_timeout(self.engine.clock());
        own.into_iter().chain(self.cell.poll_timeout()).min()
    }
}
