//! A server that is not started here: by a WebSocket, or over HTTP, where its machine with the calls that it makes is one piece of
//! background work.

use super::target::Target;
use crate::authorization::{Authorization, Renewal, Used};
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
use mcp_local_provider_engine::tls::IS_BUILT_IN;
use mcp_local_provider_engine::{Background, Engine, SocketServer};
use mcp_local_provider_mcp::authorization::Challenge;
use mcp_local_provider_mcp::remote::{
    Act, Bounds, ExchangeId, Fault, Form, Head, Heard, Remote, Request,
};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

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
    /// The login there, which the headers have no place for.
    pub(crate) authorization: Option<Arc<Authorization>>,
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
    /// The login there. A program without TLS has none, and nothing of what follows from one.
    fn login(&self) -> Option<Arc<Authorization>> {
        self.authorization.clone().filter(|_| IS_BUILT_IN)
    }

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
    /// Requests whose token was refused.
    held: BTreeMap<ExchangeId, Held>,
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
    /// The same request, for another token; `None` where that was sent already, or there is no login.
    again: Option<Sent>,
}

/// A request and the token that it was sent with.
struct Sent {
    /// Without the token.
    request: HttpRequest,
    token: Option<String>,
    times: CallTimes,
}

impl Sent {
    /// The bytes of memory that it takes.
    fn memory(&self) -> usize {
        self.request.body.as_ref().map_or(0, |body| body.len())
    }
}

impl Open {
    const fn new(call: Call, again: Option<Sent>) -> Self {
        let is_sent = false;
        Self {
            call,
            is_sent,
            again,
        }
    }
}

/// A request that waits for another token.
struct Held {
    sent: Sent,
    /// The head of the answer that refused it.
    head: ResponseHead,
    renewal: EventListener,
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
            moves |= self.take_renewed(waker);
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
            let open = self.calls.values().filter_map(|open| open.again.as_ref());
            let again = open.chain(self.held.values().map(|held| &held.sent));
            let again = again.map(Sent::memory).sum::<usize>();
            // What is beyond the budget is for those who hold most of it to give back.
            let _within = self.share.hold(lines + again + self.machine.memory());
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
            takes_logins: server.login().is_some(),
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
            held: BTreeMap::new(),
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
                    if let Some(authorization) = self.server.login() {
                        // A person may have logged in since the connection before.
                        authorization.reload();
                    }
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
                    Ok(open) => {
                        self.calls.insert(id, open);
                    }
                    Err((fault, why)) => self.fail(id, fault, &why),
                },
                Act::Drop(id) => {
                    self.calls.remove(&id);
                    self.held.remove(&id);
                }
            }
        }
        moves
    }

    /// Begins a request of the machine.
    fn begin(&self, request: Request) -> Result<Open, (Fault, String)> {
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
        let headers = [agent].into_iter().chain(request.headers).chain(own);
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
            headers: headers.collect(),
            body: request.body.map(|body| body.into_bytes().into()),
        };
        let Some(authorization) = self.server.login() else {
            let call = self.call_with(target, request, None, times)?;
            return Ok(Open::new(call, None));
        };
        let token = authorization.token();
        let call = self.call_with(target, request.clone(), token.as_deref(), times)?;
        let sent = Sent {
            request,
            token,
            times,
        };
        Ok(Open::new(call, Some(sent)))
    }

    /// Sends a request, with a token where there is one.
    fn call_with(
        &self,
        target: &Target,
        mut request: HttpRequest,
        token: Option<&str>,
        times: CallTimes,
    ) -> Result<Call, (Fault, String)> {
        let header = token.map(|token| ("authorization".into(), token.to_owned()));
        request.headers.extend(header);
        let call = self
            .client
            .call(self.now(), target.route.clone(), request, times);
        call.map_err(|error| told(&error))
    }

    /// Goes on with requests whose token was refused, and for which there is another one now, or none. True when there were any.
    fn take_renewed(&mut self, waker: &Waker) -> bool {
        let mut context = Context::from_waker(waker);
        let mut is_over =
            |held: &mut Held| Pin::new(&mut held.renewal).poll(&mut context).is_ready();
        let held = self.held.iter_mut();
        let over = held.filter_map(|(id, held)| is_over(held).then_some(*id));
        let over: Vec<ExchangeId> = over.collect();
        let moves = !over.is_empty();
        for id in over {
            let login = self.server.login();
            let (Some(held), Some(login)) = (self.held.remove(&id), login) else {
                continue;
            };
            let renewal = login.renewed(held.sent.token.as_deref());
            self.renew(id, renewal, held.sent, held.head);
        }
        moves
    }

    /// Goes on with a request whose token was refused with this head.
    fn renew(&mut self, id: ExchangeId, renewal: Renewal, sent: Sent, head: ResponseHead) {
        match renewal {
            Renewal::Token(token) => self.send_again(id, sent, &token),
            Renewal::Wait(renewal) => {
                let held = Held {
                    sent,
                    head,
                    renewal,
                };
                self.held.insert(id, held);
            }
            Renewal::None => {
                self.pass_head(id, &head);
                let now = self.now();
                self.call(|machine, acts, hear| machine.handle_end(now, id, acts, hear));
            }
        }
    }

    /// Sends a request for the second and last time.
    fn send_again(&mut self, id: ExchangeId, sent: Sent, token: &str) {
        let Ok(target) = &self.target else { return };
        match self.call_with(target, sent.request, Some(token), sent.times) {
            Ok(call) => {
                self.calls.insert(id, Open::new(call, None));
            }
            Err((fault, why)) => self.fail(id, fault, &why),
        }
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
                Ok(Part::Head(head)) => self.handle_head(id, head),
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

    /// The head of an answer has come. A request whose token was refused may be sent once more.
    fn handle_head(&mut self, id: ExchangeId, head: ResponseHead) {
        let used = match head.status() {
            401 => Used::Refused,
            403 if challenge_in(&head).is_some_and(|challenge| challenge.wants_scope()) => {
                Used::PermitsTooLittle
            }
            _ => return self.pass_head(id, &head),
        };
        let again = self.calls.get_mut(&id).and_then(|open| open.again.take());
        match (again, self.server.login()) {
            (Some(sent), Some(login)) => {
                self.calls.remove(&id);
                let renewal = login.renew(sent.token.as_deref(), used);
                self.renew(id, renewal, sent, head);
            }
            (Some(_) | None, _) => self.pass_head(id, &head),
        }
    }

    /// Tells the machine of the head of an answer.
    fn pass_head(&mut self, id: ExchangeId, head: &ResponseHead) {
        let challenge = challenge_in(head);
        let (now, head) = (self.now(), head_of(head, challenge.as_ref()));
        self.call(|machine, acts, hear| machine.handle_head(now, id, &head, acts, hear));
    }

    fn fail(&mut self, id: ExchangeId, fault: Fault, why: &str) {
        self.calls.remove(&id);
        let now = self.now();
        self.call(|machine, acts, hear| machine.handle_fault(now, id, fault, why, acts, hear));
    }
}

fn challenge_in(head: &ResponseHead) -> Option<Challenge> {
    let named = head.headers();
    let named = named.filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
    Challenge::read(named.filter_map(|(_, value)| std::str::from_utf8(value).ok()))
}

fn head_of<'h>(head: &'h ResponseHead, challenge: Option<&'h Challenge>) -> Head<'h> {
    let text = |name| std::str::from_utf8(head.header(name)?).ok();
    Head {
        status: head.status(),
        content_type: text("content-type"),
        session: text("mcp-session-id"),
        challenge,
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
