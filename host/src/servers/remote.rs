//! A server that is not started here: by a WebSocket, or over HTTP, where its machine with the calls that it makes is one piece of
//! background work.

use crate::config::Gateway;
use event_listener::EventListener;
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::ResponseHead;
use mcp_local_provider_engine::dial;
use mcp_local_provider_engine::gateway::{Child, Exit, Work};
use mcp_local_provider_engine::http_client::{
    Call, CallError, CallTimes, HttpClient, HttpRequest, Part, Wait,
};
use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use mcp_local_provider_engine::{Background, Engine, SocketServer};
use mcp_local_provider_mcp::remote::{
    Act, Bounds, ExchangeId, Fault, Form, Head, Heard, Remote, Request,
};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tungstenite::http::Uri;

/// Lines that wait in the machine. The others stay where they are counted and bounded.
const LINES: usize = 16;

/// What this program calls itself.
const USER_AGENT: &str = concat!("mcp-local-provider/", env!("CARGO_PKG_VERSION"));

/// A server that is not started here.
#[derive(Clone)]
pub(crate) struct RemoteServer {
    /// `http://host:port/path`, or with `https:`, `ws:` or `wss:`.
    pub(crate) url: String,
    /// Names and values of further headers, which may be secrets.
    pub(crate) headers: Vec<(String, String)>,
    /// The way to it.
    pub(crate) way: Way,
}

/// Ways to a server that is not started here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// HTTP, in this form.
    Http(Form),
    /// Streamable HTTP, or HTTP+SSE where the server does not know that.
    Unsaid,
    /// A WebSocket.
    Socket,
}

impl RemoteServer {
    /// The work that keeps the connection of `child` to it.
    pub(super) fn task(
        self,
        child: Child,
        engine: &Arc<Engine>,
        config: &Gateway,
    ) -> Box<dyn Background> {
        match self.way {
            Way::Http(form) => Box::new(RemoteTask::new(child, engine.clone(), self, form, config)),
            Way::Unsaid => {
                let form = Form::Streamable;
                Box::new(RemoteTask::new(child, engine.clone(), self, form, config))
            }
            Way::Socket => {
                let target = dial::Target {
                    frame_bytes: config.message_bytes,
                    connect_timeout: config.processes.start,
                    headers: self.headers,
                    ..dial::Target::new(engine, self.url, None)
                };
                Box::new(SocketServer::new(child, engine.clone(), target))
            }
        }
    }
}

impl fmt::Debug for RemoteServer {
    /// Without the headers, and without the query, which may hold secrets too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split(['?', '#']).next();
        write!(f, "RemoteServer({})", url.unwrap_or_default())
    }
}

/// Address of a server, and the way to it.
struct Target {
    route: Route,
    /// Path and query.
    path: String,
}

impl Target {
    fn of(url: &str, proxies: &Proxies) -> Result<Self, String> {
        let wrong = "it has an address that is none";
        let uri: Uri = url.parse().map_err(|_| wrong.to_owned())?;
        let origin = Origin::of(&uri).ok_or(wrong)?;
        let route = Route::to(origin, proxies);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            route: route.map_err(|error| format!("it cannot be reached: {error}"))?,
            path: path.to_owned(),
        })
    }

    /// The path and query of a place that the server has named: a URL of its own, a path, or a name beside that of the address.
    fn path_of(&self, place: &str) -> Option<String> {
        let folder = match place.chars().next()? {
            '/' if place.starts_with("//") => return None,
            '/' => "",
            _ if place.contains("://") => {
                let uri: Uri = place.parse().ok()?;
                let is_own = Origin::of(&uri)? == self.route.origin;
                return Some(uri.path_and_query()?.as_str().to_owned()).filter(|_| is_own);
            }
            '?' => self.path.split('?').next()?,
            _ => self.path.split('?').next()?.rsplit_once('/')?.0,
        };
        let between = if place.starts_with(['/', '?']) {
            ""
        } else {
            "/"
        };
        let uri: Uri = format!("{folder}{between}{place}").parse().ok()?;
        Some(uri.path_and_query()?.as_str().to_owned())
    }
}

/// One connection to a remote server, with all that follow on it.
struct RemoteTask {
    child: Child,
    engine: Arc<Engine>,
    client: HttpClient,
    server: RemoteServer,
    target: Result<Target, String>,
    machine: Remote,
    /// Time for a connection, and for what is told to be taken.
    connect: Duration,
    /// Time for an answer, and for each silence in it.
    longest: Duration,
    acts: Vec<Act>,
    calls: BTreeMap<ExchangeId, Open>,
    work: Work,
    /// Memory of what waits and of what has come.
    share: Share,
    /// It was told to end.
    ending: bool,
    stop: EventListener,
}

/// A call on its way.
struct Open {
    call: Call,
    is_sent: bool,
}

impl fmt::Debug for RemoteTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteTask({:?}, {:?})", self.server, self.machine)
    }
}

impl Background for RemoteTask {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let is_stopped = self.engine.is_stopped()
            || Pin::new(&mut self.stop)
                .poll(&mut Context::from_waker(waker))
                .is_ready();
        if is_stopped {
            return Poll::Ready(());
        }
        loop {
            let mut moves = self.take(waker);
            moves |= self.carry_out();
            moves |= self.read(waker);
            let now = self.now();
            if self.machine.poll_timeout().is_some_and(|at| at <= now) {
                self.call(|machine, acts, hear| machine.handle_timeout(now, acts, hear));
                moves = true;
            }
            if self.work.ended {
                return Poll::Ready(());
            }
            let lines = self.work.lines.iter().map(String::len).sum::<usize>();
            // What is beyond the budget is for those who hold most of it to give back.
            let _within = self.share.hold(lines + self.machine.memory());
            if !moves {
                return Poll::Pending;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.calls.values();
        let calls = calls.filter_map(|open| open.call.poll_timeout());
        let own = [self.work.until, self.machine.poll_timeout()];
        calls.chain(own.into_iter().flatten()).min()
    }
}

impl RemoteTask {
    /// Makes the connection of `child` to a server, with the times and bounds of `config`.
    fn new(
        child: Child,
        engine: Arc<Engine>,
        server: RemoteServer,
        form: Form,
        config: &Gateway,
    ) -> Self {
        let bounds = Bounds {
            message_bytes: config.message_bytes,
            retry: config.timeouts.retry,
            falls_back: server.way == Way::Unsaid,
        };
        Self {
            client: engine.http_client(),
            target: Target::of(&server.url, engine.proxies()),
            machine: Remote::new(child.server().clone(), form, bounds),
            connect: config.processes.start,
            longest: config.timeouts.request_max,
            server,
            child,
            acts: Vec::new(),
            calls: BTreeMap::new(),
            work: Work::default(),
            share: engine.budget().share(),
            ending: false,
            stop: engine.listen_for_stop(),
            engine,
        }
    }

    fn now(&self) -> Instant {
        self.engine.clock()
    }

    /// Calls the machine, and tells the gateway what it hears.
    fn call(&mut self, call: impl FnOnce(&mut Remote, &mut Vec<Act>, &mut dyn FnMut(Heard<'_>))) {
        let (child, ending) = (&self.child, self.ending);
        call(
            &mut self.machine,
            &mut self.acts,
            &mut |heard| match heard {
                Heard::Line(line) => child.handle_line(line),
                Heard::Unanswered(number, refusal) => child.handle_unanswered(number, refusal),
                Heard::NotTaken(number, line) => child.handle_not_taken(number, line),
                Heard::LeftOut { tool, why } => {
                    let server = &**child.server();
                    tracing::warn!(
                        server,
                        tool,
                        "a tool is left out of the list, because {why}"
                    );
                }
                Heard::Ended(exit, why) => {
                    let server = &**child.server();
                    if ending {
                        tracing::debug!(server, "the connection has ended: {why}");
                    } else {
                        tracing::warn!(server, "the connection has ended: {why}");
                    }
                    child.handle_exited(exit, why);
                }
            },
        );
    }

    /// Takes orders and lines. True when there were any.
    fn take(&mut self, waker: &Waker) -> bool {
        self.child.take(waker, &mut self.work);
        let orders = std::mem::take(&mut self.work.orders);
        let mut moves = !orders.is_empty();
        for order in orders {
            self.obey(order);
        }
        while self.machine.waiting() < LINES
            && let Some(line) = self.work.lines.pop_front()
        {
            self.machine.push_line(&line, &mut self.acts);
            moves = true;
        }
        moves
    }

    fn obey(&mut self, order: Order) {
        self.ending = order != Order::Spawn;
        match order {
            Order::Spawn => match &self.target {
                Ok(_) => {
                    tracing::debug!(server = &**self.child.server(), "connects to a server");
                    self.machine.open(&mut self.acts);
                    self.child.handle_started(None);
                }
                Err(why) => self.child.handle_exited(Exit::NotStarted, why),
            },
            Order::CloseInput => self.call(|machine, acts, hear| machine.close(acts, hear)),
            // It is on its way.
            Order::Terminate => {}
            Order::Kill => self.call(|machine, acts, hear| machine.kill(acts, hear)),
        }
    }

    /// Makes the calls that the machine wants. True when there were any.
    fn carry_out(&mut self) -> bool {
        let acts = std::mem::take(&mut self.acts);
        let moves = !acts.is_empty();
        for act in acts {
            match act {
                Act::Send(id, request) => match self.begin(request) {
                    Ok(call) => {
                        let is_sent = false;
                        self.calls.insert(id, Open { call, is_sent });
                    }
                    Err((fault, why)) => self.fail(id, fault, &why),
                },
                Act::Drop(id) => {
                    self.calls.remove(&id);
                }
            }
        }
        moves
    }

    fn begin(&self, request: Request) -> Result<Call, (Fault, String)> {
        let unreachable = |why: String| (Fault::Unreachable, why);
        let target = self
            .target
            .as_ref()
            .map_err(|why| unreachable(why.clone()))?;
        let path = match &request.place {
            None => target.path.clone(),
            Some(place) => target.path_of(place).ok_or_else(|| {
                unreachable("it names an address for messages that is not its own".to_owned())
            })?,
        };
        let own = self.server.headers.iter();
        let own = own.map(|(name, value)| (name.clone().into(), value.clone()));
        let agent = ("user-agent".into(), USER_AGENT.to_owned());
        let times = CallTimes {
            connect: self.connect,
            // The machine of the server knows when an answer is late.
            answer: if request.waits {
                self.longest
            } else {
                self.connect
            },
            progress: self.longest,
        };
        let request = HttpRequest {
            method: request.method,
            path,
            headers: [agent]
                .into_iter()
                .chain(request.headers)
                .chain(own)
                .collect(),
            body: request.body.map(|body| body.into_bytes().into()),
        };
        let call = self
            .client
            .call(self.now(), target.route.clone(), request, times);
        call.map_err(|error| told(&error))
    }

    /// Reads what has come. True when there was anything.
    fn read(&mut self, waker: &Waker) -> bool {
        let mut moves = false;
        let mut body = Vec::new();
        let ids: Vec<ExchangeId> = self.calls.keys().copied().collect();
        for id in ids {
            let now = self.now();
            // One that was read before it may have dropped it.
            if self
                .acts
                .iter()
                .any(|act| matches!(act, Act::Drop(other) if *other == id))
            {
                continue;
            }
            let Some(open) = self.calls.get_mut(&id) else {
                continue;
            };
            let part = open.call.poll(now, waker, &mut body);
            if !open.is_sent && open.call.is_sent() {
                open.is_sent = true;
                moves = true;
                self.machine.handle_sent(id, &mut self.acts);
            }
            let Poll::Ready(part) = part else {
                continue;
            };
            moves = true;
            match part {
                Ok(Part::Head(head)) => self.call(|machine, acts, hear| {
                    machine.handle_head(now, id, &head_of(&head), acts, hear);
                }),
                Ok(Part::Body) => {
                    self.call(|machine, acts, hear| {
                        machine.handle_body(now, id, &body, acts, hear);
                    });
                    body.clear();
                }
                Ok(Part::End) => {
                    self.calls.remove(&id);
                    self.call(|machine, acts, hear| machine.handle_end(now, id, acts, hear));
                }
                Err(error) => {
                    let (fault, why) = told(&error);
                    self.fail(id, fault, &why);
                }
            }
        }
        moves
    }

    fn fail(&mut self, id: ExchangeId, fault: Fault, why: &str) {
        self.calls.remove(&id);
        let now = self.now();
        self.call(|machine, acts, hear| machine.handle_fault(now, id, fault, why, acts, hear));
    }
}

fn head_of(head: &ResponseHead) -> Head<'_> {
    let text = |name| std::str::from_utf8(head.header(name)?).ok();
    Head {
        status: head.status(),
        content_type: text("content-type"),
        session: text("mcp-session-id"),
    }
}

/// The kind of an error, and a sentence that begins with "it".
fn told(error: &CallError) -> (Fault, String) {
    match error {
        CallError::Unreachable(_) | CallError::Timeout(Wait::Connect) => {
            (Fault::Unreachable, error.to_string())
        }
        CallError::Request(_) | CallError::Memory(_) => {
            (Fault::Unreachable, format!("it cannot be asked: {error}"))
        }
        CallError::Timeout(Wait::Send | Wait::Answer | Wait::Body) => {
            (Fault::Broken, error.to_string())
        }
        CallError::Broken(_) | CallError::Answer(_) | CallError::Failed => {
            (Fault::Broken, format!("it cannot be used: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_are_posted_to_the_server_itself_alone() {
        let target = |url: &str| Target::of(url, &Proxies::default()).unwrap();
        let far = target("https://far.example/api/sse?key=1");
        for (place, path) in [
            ("/messages?id=7", Some("/messages?id=7")),
            ("messages?id=7", Some("/api/messages?id=7")),
            ("?id=7", Some("/api/sse?id=7")),
            ("https://far.example/m?x=1", Some("/m?x=1")),
            ("https://FAR.example:443/m", Some("/m")),
            ("https://far.example:8443/m", None),
            ("http://far.example/m", None),
            ("https://evil.example/m", None),
            ("//evil.example/m", None),
            ("https://far.example@evil.example/m", None),
            ("/a b", None),
            ("", None),
        ] {
            assert_eq!(far.path_of(place).as_deref(), path, "{place}");
        }
        assert_eq!(target("http://a/").path_of("m").as_deref(), Some("/m"));
    }
}
