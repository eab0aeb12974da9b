//! `limits.memory` over all queues together: mailboxes, frames for agents, JSON-RPC lines, pipes of children and to servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_core::budget::{Budget, STEP};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::exchange::Exchange;
use mcp_local_provider_core::id::{Authority, Ids, LinkId, SessionId};
use mcp_local_provider_core::invocation::{Delivery, Delta, InvokeForm};
use mcp_local_provider_core::link::{Invoke, Link, LinkConfig, LinkOut, Permits};
use mcp_local_provider_core::mailbox::{Batch, Mailbox};
use mcp_local_provider_core::request::{PromptIndex, Request};
use mcp_local_provider_core::rpc::{Outbox, OutboxLimits};
use mcp_local_provider_core::text::JsonStr;
use mcp_local_provider_core::time::{Instant, WallClock};
use mcp_local_provider_engine::http_client::{Call, CallError, CallTimes, HttpClient, HttpRequest};
use mcp_local_provider_engine::pipe::Buffer;
use mcp_local_provider_engine::pool::Pool;
use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use mcp_local_provider_engine::tls::{MEMORY, Tls, TlsError, Trust};
use mcp_local_provider_process::{Framing, Launch, Process, ProcessWaker, Supervision};
use mcp_local_provider_tests::certificates;
use mcp_local_provider_tests::form;
use mcp_local_provider_tests::memory_pipe::{Fault, MemoryPipe, pipe};
use mcp_local_provider_tests::scripted_pipe::{Opener, Server, Step};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Bytes of the line that a child begins and does not end.
const BEGUN: usize = 50_000;

/// Queues of each kind.
struct Queues {
    budget: Budget,
    mailboxes: [Mailbox; 2],
    lines: [Outbox; 2],
    frames: Frames,
    child: Option<Process>,
    waker: Arc<ProcessWaker>,
    pipes: Pipes,
}

/// Connections to servers.
struct Pipes {
    budget: Budget,
    /// As a WebSocket and a tunnel have them.
    buffer: Buffer,
    /// A call whose answer has begun, and its server.
    call: Option<(Call, Server)>,
    tls: Vec<Tls<MemoryPipe>>,
    pool: Arc<Pool>,
}

/// What a server sends that never ends the head of its answer.
const ENDLESS: &str = "x: y\r\n";

impl Pipes {
    fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            buffer: Buffer::new(budget),
            call: None,
            tls: Vec::new(),
            pool: Arc::default(),
        }
    }

    fn read(&mut self, bytes: usize) {
        let server = Server::sending("x".repeat(bytes));
        let mut pipe = server.pipe();
        let mut left = bytes;
        while left > 0 {
            match self.buffer.poll_fill(&mut *pipe, Waker::noop()) {
                Poll::Ready(Ok(count)) => left -= count,
                Poll::Ready(Err(error)) => {
                    assert_eq!(error.to_string(), "limits.memory is used up");
                    assert!(self.buffer.unread().len() >= STEP, "so much is free");
                    return;
                }
                Poll::Pending => panic!("there are {left} bytes left"),
            }
        }
    }

    fn ask(&mut self, bytes: usize) {
        let server = Server::sending("HTTP/1.1 200 OK\r\n");
        let opener = Opener::within(self.budget.clone());
        opener.add(&server);
        let origin = Origin::of(&"http://a.example/".parse().unwrap()).unwrap();
        let route = Route::to(origin, &Proxies::default()).unwrap();
        let request = HttpRequest {
            method: "POST",
            path: "/".to_owned(),
            headers: Vec::new(),
            body: Some("x".repeat(bytes).into()),
        };
        let times = CallTimes {
            connect: Duration::from_secs(1),
            answer: Duration::from_secs(1),
            progress: Duration::from_secs(1),
        };
        self.call = None;
        let client = HttpClient::new(Arc::new(opener), self.pool.clone());
        let left = self.budget.left();
        match client.call(Instant::from_micros(1), route, request, times) {
            Ok(call) => self.call = Some((call, server)),
            Err(error @ CallError::Memory(_)) => {
                assert_eq!(error.to_string(), "limits.memory is used up");
                assert!(bytes + 2 * STEP > left, "{bytes} of {left}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn answer(&mut self, bytes: usize) {
        let Some((call, server)) = &mut self.call else {
            return self.ask(bytes);
        };
        server.then(Step::bytes(ENDLESS.repeat(bytes / ENDLESS.len())));
        match call.poll(Instant::from_micros(1), Waker::noop(), &mut Vec::new()) {
            Poll::Pending => {}
            Poll::Ready(Err(CallError::Memory(_) | CallError::Answer(_))) => self.call = None,
            Poll::Ready(other) => panic!("{other:?}"),
        }
    }

    fn encrypt(&mut self) {
        static TRUST: OnceLock<Trust> = OnceLock::new();
        let trust =
            TRUST.get_or_init(|| Trust::only(vec![certificates::Authority::new().root().clone()]));
        let (near, _) = pipe(Fault::None, &[]);
        let left = self.budget.left();
        match Tls::new(near, "a.test", trust, &self.budget) {
            Ok(tls) => self.tls.push(tls),
            Err(error) => {
                assert_eq!(error, TlsError::Memory);
                assert!(left < MEMORY + STEP);
            }
        }
    }

    fn sizes(&self) -> [usize; 3] {
        let call = self.call.as_ref().map_or(0, |(call, _)| call.memory());
        [self.buffer.capacity(), call, self.tls.len() * MEMORY]
    }
}

/// The frames for one agent.
struct Frames {
    link: Link<()>,
    out: LinkOut,
    ids: Ids,
    /// Cost of what was taken and is not written.
    writing: usize,
}

impl Frames {
    fn new(budget: &Budget) -> Self {
        Self {
            link: Link::new(LinkId(1), &LinkConfig::default(), Instant::from_micros(1)),
            out: LinkOut::sharing(budget.share()),
            ids: Ids::new(1),
            writing: 0,
        }
    }

    fn ask(&mut self, bytes: usize) {
        let id = self.ids.next();
        let invoke = Invoke {
            id,
            permit: Permits::default().issue(SessionId::new("s-1").unwrap(), Authority::Anyone),
            label: "echo".into(),
            model: "echo".into(),
            form: InvokeForm::Nested,
            request: request(bytes).into(),
            prompt: PromptIndex::default(),
        };
        let opened = self
            .link
            .open(Instant::from_micros(1), invoke, (), &mut self.out);
        opened.expect("a link takes frames within its own limit");
    }
}

fn request(bytes: usize) -> Request {
    let now = Instant::from_micros(1);
    let body = format!(
        r#"{{"model":"echo","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(bytes)
    );
    let config = HubConfig::default();
    let wall = WallClock::new(now, Duration::from_secs(1_767_225_600));
    let (id, form) = (Ids::new(2).next(), form("POST /v1/chat/completions"));
    let asked = Exchange::parse(&config, wall, id, form, now, body.into_bytes());
    asked.unwrap().1.request
}

impl Queues {
    fn new(limit: usize) -> Self {
        let budget = Budget::new(limit);
        Self {
            mailboxes: [0; 2].map(|_| Mailbox::new(1 << 20).sharing(budget.share())),
            lines: [0; 2].map(|_| Outbox::new(OutboxLimits::default()).sharing(budget.share())),
            frames: Frames::new(&budget),
            child: None,
            waker: ProcessWaker::new().unwrap(),
            pipes: Pipes::new(&budget),
            budget,
        }
    }

    /// Starts a child that reads nothing and has begun a line.
    fn start(&mut self) {
        let launch = Launch {
            name: "test".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec![
                "-c".into(),
                format!("head -c {BEGUN} /dev/zero; exec sleep 600").into(),
            ],
            environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
            working_directory: "/".into(),
            supervisor: None,
            supervision: Supervision::default(),
            output: Framing::Lines(1 << 20),
            input_bytes: 1 << 20,
            budget: Some(self.budget.clone()),
        };
        let begun = self.budget.taken() + BEGUN.next_multiple_of(STEP);
        let child = self.child.insert(Process::start(&launch).unwrap());
        while self.budget.taken() < begun {
            child.turn(&self.waker, None, |_| {}).unwrap();
        }
    }

    /// New work comes, or an answer to old work.
    fn grow(&mut self, kind: u8, bytes: usize) {
        let text = "x".repeat(bytes);
        let which = usize::from(kind % 2);
        match kind {
            0 | 1 => {
                let content = JsonStr::from_escaped(&text);
                let delta = Delta {
                    content,
                    ..Delta::default()
                };
                let _ = self.mailboxes[which].push(&Delivery::Delta(delta));
            }
            2 | 3 => self.lines[which].push(text),
            4 => self.frames.ask(bytes),
            5..9 => {
                match kind {
                    5 => self.pipes.read(bytes),
                    6 => self.pipes.ask(bytes),
                    7 => self.pipes.answer(bytes),
                    _ => self.pipes.encrypt(),
                }
                // They wait or are refused before the memory is used up.
                assert!(!self.budget.is_used_up(), "{kind}: {:?}", self.budget);
            }
            _ => match &mut self.child {
                None => self.start(),
                Some(child) => {
                    let _ = child.push_line(text.as_bytes());
                }
            },
        }
    }

    /// Somebody reads, or goes away.
    fn shrink(&mut self, kind: u8) {
        let which = usize::from(kind % 2);
        match kind {
            0 | 1 => {
                let _ = self.mailboxes[which].drain(&mut Batch::new());
            }
            2 | 3 => drop(self.lines[which].pop()),
            4 => {
                // All that was taken before is written then.
                self.frames.writing = self.frames.out.queued_bytes;
                self.frames.out.take_messages(&mut VecDeque::new());
            }
            5 => {
                self.frames.out.written();
                self.frames.writing = 0;
            }
            6 => {
                if let Some(child) = &mut self.child {
                    self.waker.wake();
                    child.turn(&self.waker, None, |_| {}).unwrap();
                }
            }
            7 => {
                let half = self.pipes.buffer.unread().len() / 2;
                self.pipes.buffer.take(half);
            }
            8 => self.pipes.buffer.take(usize::MAX),
            9 => self.pipes.call = None,
            10 => drop(self.pipes.tls.pop()),
            _ => self.child = None,
        }
    }

    fn sizes(&self) -> [usize; 9] {
        let frames = self.frames.out.queued_bytes + self.frames.writing;
        let child = self.child.as_ref();
        let [buffer, call, tls] = self.pipes.sizes();
        [
            self.mailboxes[0].unread(),
            self.mailboxes[1].unread(),
            self.lines[0].charged(),
            self.lines[1].charged(),
            frames,
            child.map_or(0, |child| BEGUN + child.waiting_bytes()),
            buffer,
            call,
            tls,
        ]
    }

    fn held(&self) -> usize {
        self.sizes().iter().sum()
    }

    /// Whoever holds most gives way, until the memory suffices.
    fn relieve(&mut self) {
        while self.budget.is_used_up() {
            let sizes = self.sizes();
            let most = (0..sizes.len()).max_by_key(|at| sizes[*at]).unwrap();
            match most {
                0 | 1 => {
                    let share = self.budget.share();
                    assert!(self.mailboxes[most].cut(), "it holds no more than its end");
                    // The next request.
                    self.mailboxes[most] = Mailbox::new(1 << 20).sharing(share);
                }
                2 | 3 => self.lines[most - 2].clear(),
                4 => self.frames = Frames::new(&self.budget),
                5 => self.child = None,
                6 => self.pipes.buffer = Buffer::new(&self.budget),
                7 => self.pipes.call = None,
                _ => self.pipes.tls.clear(),
            }
        }
    }
}

#[test]
fn a_request_that_finds_no_memory_closes_the_idle_pipes_and_is_refused_by_name() {
    let idle = Server::new([]);
    let pool = Arc::new(Pool::default());
    let mut pipes = Pipes::new(&Budget::new(30_000));
    pipes.pool = pool.clone();
    let origin = Origin::of(&"http://b.example/".parse().unwrap()).unwrap();
    let route = Route::to(origin, &Proxies::default()).unwrap();
    pool.put(Instant::from_micros(1), route, idle.pipe());
    pipes.ask(10_000);
    assert!(pipes.call.is_some() && !idle.is_closed());
    pipes.ask(40_000);
    assert!(pipes.call.is_none() && idle.is_closed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_memory_of_all_queues_stays_within_its_limit_and_is_given_back(
        limit in 100_000..400_000_usize,
        steps in proptest::collection::vec((any::<bool>(), 0..12_u8, 0..40_000_usize), 0..60),
    ) {
        let mut queues = Queues::new(limit);
        let budget = queues.budget.clone();
        for (grows, kind, bytes) in steps {
            if grows {
                queues.grow(kind, bytes);
            } else {
                queues.shrink(kind);
            }
            // Every queue counts what it holds, and nothing else counts. The child has two pipes, the call two buffers.
            let (held, steps) = (queues.held(), 10 * STEP);
            prop_assert!(budget.taken() <= held + steps, "{} for {held}", budget.taken());
            prop_assert!(budget.taken() + steps >= held, "{} for {held}", budget.taken());
            queues.relieve();
            prop_assert!(budget.taken() <= limit, "{budget:?}");
        }
        drop(queues);
        prop_assert_eq!(budget.taken(), 0);
    }
}
