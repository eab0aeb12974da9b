//! The HTTP client above pipes: calls, the pool of idle pipes, and tunnels through a proxy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::audit::Audit;
use mcp_local_provider_engine::http_client::{
    Call, CallError, CallTimes, HttpClient, HttpRequest, Part, Wait,
};
use mcp_local_provider_engine::pipe::Pipe;
use mcp_local_provider_engine::pool::{LOOK, Pool, PoolLimits};
use mcp_local_provider_engine::proxy::{Origin, PipeTimes, Proxies, Route};
use mcp_local_provider_engine::tunnel::Tunnel;
use mcp_local_provider_engine::{Engine, Housekeeper, Outside};
use mcp_local_provider_tests::fuzz_targets::http_client;
use mcp_local_provider_tests::scripted_pipe::{Opener, Server, Step};
use proptest::prelude::*;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

const NOW: Instant = Instant::from_micros(1);

const TIMES: CallTimes = CallTimes {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(5),
    progress: Duration::from_secs(3),
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn origin(url: &str) -> Origin {
    Origin::of(&url.parse().unwrap()).unwrap()
}

fn direct(url: &str) -> Route {
    Route::to(origin(url), &Proxies::default()).unwrap()
}

fn proxied(url: &str) -> Route {
    let proxies = Proxies::of(|name| (name == "ALL_PROXY").then(|| "user:secret@p".to_owned()));
    Route::to(origin(url), &proxies).unwrap()
}

fn request(method: &'static str, body: Option<&str>) -> HttpRequest {
    HttpRequest {
        method,
        path: "/v1/x?y".to_owned(),
        headers: vec![("authorization".into(), "Bearer k".to_owned())],
        body: body.map(|body| body.to_owned().into()),
    }
}

/// A client, and who opens its pipes.
struct Bench {
    opener: Arc<Opener>,
    pool: Arc<Pool>,
    client: HttpClient,
}

impl Bench {
    fn new() -> Self {
        let opener = Arc::new(Opener::default());
        let pool = Arc::new(Pool::default());
        Self {
            client: HttpClient::new(opener.clone(), pool.clone()),
            opener,
            pool,
        }
    }

    fn serve(&self, steps: impl IntoIterator<Item = Step>) -> Server {
        let server = Server::new(steps);
        self.opener.add(&server);
        server
    }

    fn call(&self, route: Route, request: HttpRequest) -> Call {
        self.client.call(NOW, route, request, TIMES).unwrap()
    }

    /// Makes a call to its end.
    fn get(&self, route: &Route) -> Result<(u16, String), String> {
        whole(&mut self.call(route.clone(), request("GET", None)))
    }

    fn idle(&self, route: &Route) -> bool {
        match self.pool.take(NOW, route) {
            Some(pipe) => {
                self.pool.put(NOW, route.clone(), pipe);
                true
            }
            None => false,
        }
    }
}

fn poll(call: &mut Call, now: Instant, into: &mut Vec<u8>) -> Poll<Result<Part, CallError>> {
    call.poll(now, Waker::noop(), into)
}

/// Status and body of an answer; `pending` where it does not end.
fn whole(call: &mut Call) -> Result<(u16, String), String> {
    let (mut status, mut body) = (0, Vec::new());
    // Each step of a script is one poll at most.
    for _ in 0..100 {
        match poll(call, NOW, &mut body) {
            Poll::Ready(Ok(Part::Head(head))) => status = head.status(),
            Poll::Ready(Ok(Part::Body)) | Poll::Pending => {}
            Poll::Ready(Ok(Part::End)) => return Ok((status, String::from_utf8(body).unwrap())),
            Poll::Ready(Err(error)) => {
                let again = poll(call, NOW, &mut body);
                assert!(
                    matches!(again, Poll::Ready(Err(CallError::Failed))),
                    "{again:?}"
                );
                return Err(error.to_string());
            }
        }
    }
    Err("pending".to_owned())
}

fn hi() -> Result<(u16, String), String> {
    Ok((200, "hi".to_owned()))
}

fn cut() -> Result<(u16, String), String> {
    Err("the answer ends too early".to_owned())
}

#[test]
fn a_call_sends_its_request_and_the_next_one_goes_on_the_same_pipe() {
    let bench = Bench::new();
    let server = bench.serve([Step::Pending, Step::bytes(OK)]);
    let route = direct("http://a.example:81/");
    let mut call = bench.call(route.clone(), request("POST", Some("{}")));
    assert!(!format!("{:?}{call:?}", request("POST", Some("{}"))).contains("Bearer"));
    assert_eq!(whole(&mut call), hi());
    let post = "POST /v1/x?y HTTP/1.1\r\nhost: a.example:81\r\nauthorization: Bearer k\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(server.written(), post);
    server.then(Step::bytes(OK));
    // The bytes are there before the call, so the pipe is not taken: nobody asked for them.
    bench.serve([Step::bytes(OK)]);
    assert_eq!(bench.get(&route), hi());
    assert!(server.is_closed());
    assert_eq!(
        bench.opener.opened(),
        ["tcp a.example:81", "tcp a.example:81"]
    );

    let mut call = bench.call(route.clone(), request("GET", None));
    assert!(poll(&mut call, NOW, &mut Vec::new()).is_pending());
    drop(call);
    assert_eq!(bench.opener.opened(), [""; 0], "the idle pipe was taken");
    assert!(!bench.idle(&route), "and is closed with its call");
}

#[test]
fn a_pipe_goes_back_where_the_server_waits_for_more() {
    for (answer, goes_back) in [
        (OK, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!", false),
    ] {
        let bench = Bench::new();
        let server = bench.serve([Step::bytes(answer)]);
        let route = direct("http://a.example/");
        bench.get(&route).unwrap();
        assert_eq!(bench.idle(&route), goes_back, "{answer:?}");
        assert_eq!(server.is_closed(), !goes_back, "{answer:?}");
        assert!(
            !bench.idle(&direct("https://a.example:80/")),
            "another route"
        );
        assert!(!bench.idle(&proxied("http://a.example/")), "another route");
    }
    // An answer that is dropped before its end.
    let bench = Bench::new();
    let server = bench.serve([Step::bytes(OK)]);
    let route = direct("http://a.example/");
    let mut call = bench.call(route.clone(), request("GET", None));
    assert!(matches!(
        poll(&mut call, NOW, &mut Vec::new()),
        Poll::Ready(Ok(Part::Head(_)))
    ));
    drop(call);
    assert!(server.is_closed() && !bench.idle(&route));
}

#[test]
fn an_idle_pipe_that_turns_out_closed_is_replaced_once() {
    let broken = || Step::Fail(ErrorKind::ConnectionReset);
    for (method, body, ends, fresh, expected) in [
        ("GET", None, Step::End, true, hi()),
        ("GET", None, broken(), true, hi()),
        ("DELETE", None, Step::End, true, hi()),
        ("POST", Some("{}"), Step::End, true, cut()),
        (
            "POST",
            Some("{}"),
            broken(),
            true,
            Err("the connection broke: connection reset".to_owned()),
        ),
        ("GET", None, Step::bytes("HTTP/1.1 2"), true, cut()),
        (
            "GET",
            None,
            Step::End,
            false,
            Err("it cannot be reached: connection refused".to_owned()),
        ),
    ] {
        let bench = Bench::new();
        let server = bench.serve([Step::bytes(OK)]);
        let route = direct("http://a.example/");
        bench.get(&route).unwrap();
        let mut call = bench.call(route.clone(), request(method, body));
        assert!(poll(&mut call, NOW, &mut Vec::new()).is_pending());
        server.then(ends.clone());
        server.then(Step::End);
        if fresh {
            bench.serve([Step::bytes(OK)]);
        }
        assert_eq!(whole(&mut call), expected, "{method} {ends:?}");
    }
    // A POST of which nothing was written may be repeated.
    let bench = Bench::new();
    let server = bench.serve([Step::bytes(OK)]);
    let route = direct("http://a.example/");
    bench.get(&route).unwrap();
    let mut call = bench.call(route, request("POST", Some("{}")));
    server.refuse_writes(ErrorKind::BrokenPipe);
    server.then(Step::Fail(ErrorKind::BrokenPipe));
    let fresh = bench.serve([Step::bytes(OK)]);
    assert_eq!(whole(&mut call), hi());
    assert!(fresh.written().ends_with("\r\n\r\n{}"));
}

#[test]
fn an_answer_may_come_before_the_request_was_sent() {
    const REFUSED: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let refused = || Ok((413, "no".to_owned()));
    let route = direct("http://a.example/");
    let long = "x".repeat(100_000);
    let begun = |bench: &Bench| {
        let server = bench.serve([]);
        server.take_in_all(20_000);
        let mut call = bench.call(route.clone(), request("POST", Some(&long)));
        assert!(poll(&mut call, NOW, &mut Vec::new()).is_pending());
        (server, call)
    };
    // The rest goes out beside the answer, and the pipe is kept.
    let bench = Bench::new();
    let (server, mut call) = begun(&bench);
    server.then(Step::bytes(&OK[..OK.len() - 1]));
    let head = poll(&mut call, NOW, &mut Vec::new());
    assert!(matches!(head, Poll::Ready(Ok(Part::Head(_)))), "{head:?}");
    server.take_in_all(usize::MAX);
    server.then(Step::bytes("i"));
    assert_eq!(whole(&mut call).unwrap().1, "hi");
    assert!(server.written().ends_with(&long));
    assert!(bench.idle(&route));
    // The server takes no more; the answer is read, and nothing goes back.
    let bench = Bench::new();
    let (server, mut call) = begun(&bench);
    server.then(Step::bytes(REFUSED));
    assert_eq!(whole(&mut call), refused());
    assert!(server.is_closed());
    // The same where the write fails.
    let bench = Bench::new();
    let (server, mut call) = begun(&bench);
    server.refuse_writes(ErrorKind::BrokenPipe);
    server.then(Step::bytes(REFUSED));
    assert_eq!(whole(&mut call), refused());
    assert!(server.is_closed());
    // Without an answer, the write that failed is told.
    let bench = Bench::new();
    let (server, mut call) = begun(&bench);
    server.refuse_writes(ErrorKind::BrokenPipe);
    server.then(Step::End);
    let broken = "the connection broke: broken pipe".to_owned();
    assert_eq!(whole(&mut call), Err(broken));
}

#[test]
fn an_answer_that_is_cut_is_an_error() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let bench = Bench::new();
        bench.serve(
            [Step::bytes(answer), Step::End]
                .into_iter()
                .skip(usize::from(answer.is_empty())),
        );
        assert_eq!(bench.get(&direct("http://a.example/")), cut(), "{answer:?}");
    }
    let bench = Bench::new();
    bench.serve([Step::bytes("SSH-2.0-x\r\n")]);
    let told = bench.get(&direct("http://a.example/")).unwrap_err();
    assert_eq!(told, "the answer is not HTTP/1");
    let told = bench.get(&direct("http://a.example/")).unwrap_err();
    assert_eq!(told, "it cannot be reached: connection refused");
    let bench = Bench::new();
    bench.serve([Step::bytes("HTTP/1.1 200 OK\r\n\r\nhi"), Step::End]);
    assert_eq!(
        bench.get(&direct("http://a.example/")),
        hi(),
        "its end ends it"
    );
    let wrong = HttpRequest {
        path: ".evil.example/".to_owned(),
        ..request("GET", None)
    };
    let refused = bench
        .client
        .call(NOW, proxied("http://a.example/"), wrong, TIMES);
    assert!(matches!(refused, Err(CallError::Request(_))));
    let wrong = HttpRequest {
        headers: vec![("x".into(), "a\r\nb: c".to_owned())],
        ..request("GET", None)
    };
    let refused = bench
        .client
        .call(NOW, direct("http://a.example/"), wrong, TIMES);
    let told = refused.unwrap_err().to_string();
    assert_eq!(
        told,
        "the header \"x\" cannot be sent: its name or value is not allowed"
    );
}

#[test]
fn each_wait_has_its_longest_time() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let table: [(usize, &[&str], Duration, Wait); 4] = [
        (0, &[], TIMES.connect, Wait::Connect),
        (30, &[], TIMES.progress, Wait::Send),
        (
            usize::MAX,
            &["HTTP/1.1 100 C\r\n\r\nHTTP"],
            TIMES.answer,
            Wait::Answer,
        ),
        (usize::MAX, &[head, "hi"], TIMES.progress, Wait::Body),
    ];
    for (room, answer, limit, expected) in table {
        let bench = Bench::new();
        let server = bench.serve([]);
        server.take_in_all(room);
        let long = "x".repeat(100_000);
        let mut call = bench.call(direct("http://a.example/"), request("POST", Some(&long)));
        assert_eq!(call.poll_timeout(), None);
        let mut now = NOW;
        let mut step = |call: &mut Call, after: Duration| {
            now = now + after;
            let mut polled = poll(call, now, &mut Vec::new());
            while matches!(polled, Poll::Ready(Ok(_))) {
                polled = poll(call, now, &mut Vec::new());
            }
            polled
        };
        for bytes in answer {
            assert!(step(&mut call, Duration::ZERO).is_pending());
            // Progress of a body begins the wait anew, that of a head does not.
            server.then(Step::bytes(bytes));
        }
        assert!(step(&mut call, Duration::ZERO).is_pending());
        assert!(call.poll_timeout().is_some());
        assert!(step(&mut call, limit - Duration::from_micros(1)).is_pending());
        let late = step(&mut call, Duration::from_micros(1));
        match late {
            Poll::Ready(Err(CallError::Timeout(wait))) => assert_eq!(wait, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
        assert!(server.is_closed());
        assert_eq!(call.poll_timeout(), None);
    }
}

#[test]
fn an_answer_that_nobody_takes_stays_with_the_server() {
    let bench = Bench::new();
    let body = "x".repeat(1 << 20);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    bench.serve([Step::bytes(answer)]);
    let mut call = bench.call(direct("http://a.example/"), request("GET", None));
    let mut seen = 0;
    loop {
        let mut into = Vec::new();
        match poll(&mut call, NOW, &mut into) {
            Poll::Ready(Ok(Part::End)) => break,
            Poll::Ready(Ok(Part::Head(_) | Part::Body)) => {}
            other => panic!("{other:?}"),
        }
        assert!(into.len() <= 16 << 10, "{}", into.len());
        seen += into.len();
    }
    assert_eq!(seen, 1 << 20);
}

#[test]
fn a_proxy_is_asked_for_a_url_or_for_a_tunnel() {
    let bench = Bench::new();
    let server = bench.serve([Step::bytes(OK)]);
    let route = proxied("http://a.example/");
    assert_eq!(bench.get(&route), hi());
    assert_eq!(bench.opener.opened(), ["tcp p:1080"]);
    assert_eq!(
        server.written(),
        "GET http://a.example/v1/x?y HTTP/1.1\r\nhost: a.example\r\nauthorization: Bearer k\r\n\
         proxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
    );
    assert!(bench.idle(&route) && !bench.idle(&direct("http://a.example/")));

    let established = "HTTP/1.1 200 Connection established\r\n\r\n";
    let server = bench.serve([
        Step::Pending,
        Step::bytes(established),
        Step::Pending,
        Step::bytes(OK),
    ]);
    assert_eq!(bench.get(&proxied("https://a.example/")), hi());
    assert_eq!(bench.opener.opened(), ["tcp p:1080", "tls a.example"]);
    assert_eq!(
        server.written(),
        "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\nproxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n\
         GET /v1/x?y HTTP/1.1\r\nhost: a.example\r\nauthorization: Bearer k\r\n\r\n"
    );
    // A WebSocket needs a tunnel in any case.
    let server = bench.serve([]);
    let times = PipeTimes {
        connect: TIMES.connect,
        write: TIMES.progress,
    };
    let tunnel = proxied("ws://a.example/").open_through(&*bench.opener, times);
    assert!(tunnel.unwrap().poll_write(Waker::noop(), b"x").is_pending());
    assert!(
        server
            .written()
            .starts_with("CONNECT a.example:80 HTTP/1.1\r\n")
    );
}

#[test]
fn a_proxy_that_opens_no_tunnel_says_why() {
    for (answer, told) in [
        (
            "HTTP/1.1 407 P\r\nContent-Length: 0\r\n\r\n",
            "the proxy answered 407: check the name and the password in its URL",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "the proxy answered 502 instead of opening a tunnel",
        ),
        (
            "HTTP/1.1 2",
            "the proxy cannot be used: the answer ends too early",
        ),
        (
            "+OK\r\n",
            "the proxy cannot be used: the answer is not HTTP/1",
        ),
    ] {
        let bench = Bench::new();
        bench.serve([Step::bytes(answer), Step::End]);
        let error = bench.get(&proxied("https://a.example/")).unwrap_err();
        assert_eq!(error, format!("it cannot be reached: {told}"));
    }
}

#[test]
fn a_tunnel_gives_what_came_with_its_opening() {
    let server = Server::sending("HTTP/1.1 200 OK\r\n\r\nfirst");
    let route = proxied("wss://a.example/");
    let mut tunnel = Tunnel::new(
        server.pipe(),
        &route.origin,
        &route.proxy.unwrap(),
        &Budget::new(usize::MAX),
    );
    assert!(!format!("{tunnel:?}").contains("Basic"));
    let mut into = Vec::new();
    let mut read = |most| match tunnel.poll_read(Waker::noop(), &mut into, most) {
        Poll::Ready(count) => count.unwrap(),
        Poll::Pending => 0,
    };
    assert_eq!((read(3), read(9), read(9)), (3, 2, 0));
    server.then(Step::bytes("more"));
    assert_eq!(read(9), 4);
    assert_eq!(into, b"firstmore");
}

/// Counts how often the housekeeper is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_idle_pipe_on_which_something_happens_is_closed() {
    let woken = Arc::new(Woken::default());
    let housekeeper = Waker::from(woken.clone());
    let limits = PoolLimits::default();
    let look = NOW + LOOK;
    for happens in [
        Step::End,
        Step::bytes("x"),
        Step::Fail(ErrorKind::ConnectionReset),
    ] {
        let pool = Pool::new(limits);
        let (server, other) = (Server::new([]), Server::new([]));
        assert_eq!(pool.poll(NOW, &housekeeper), None);
        let before = woken.0.load(Ordering::Relaxed);
        pool.put(NOW, direct("http://a/"), server.pipe());
        assert_eq!(woken.0.load(Ordering::Relaxed), before + 1);
        assert_eq!(pool.poll(NOW, &housekeeper), Some(look));
        // The next look is known.
        pool.put(NOW, direct("http://a/"), other.pipe());
        assert_eq!(woken.0.load(Ordering::Relaxed), before + 1);
        server.then(happens);
        assert_eq!(pool.poll(look, &housekeeper), Some(look + LOOK));
        assert!(server.is_closed() && !other.is_closed());
        // Before the housekeeper has looked, nobody gets it either.
        other.then(Step::End);
        assert!(pool.take(look, &direct("http://a/")).is_none());
        assert!(other.is_closed());
        assert_eq!(pool.poll(look + LOOK, &housekeeper), None);
    }
    // A pipe that was woken for nothing stays.
    let pool = Pool::new(limits);
    let server = Server::new([]);
    pool.put(NOW, direct("http://a/"), server.pipe());
    server.then(Step::Pending);
    assert_eq!(pool.poll(look, &housekeeper), Some(look + LOOK));
    assert!(!server.is_closed());
    assert_eq!(pool.poll(NOW + limits.idle, &housekeeper), None);
    assert!(server.is_closed());
}

/// A clock that is set by hand.
struct Hand(AtomicUsize);

impl Outside for Hand {
    fn now(&self) -> Instant {
        NOW + Duration::from_secs(self.0.load(Ordering::Relaxed) as u64)
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn the_housekeeper_closes_what_is_idle_for_long() {
    let hand = Arc::new(Hand(AtomicUsize::new(0)));
    let engine = Engine::new(HubConfig::default(), [7; 32], hand.clone(), Audit::off());
    let mut housekeeper = Housekeeper::new(engine.clone());
    assert_eq!(housekeeper.poll(Waker::noop()), None);
    let server = Server::new([]);
    engine.pool().put(NOW, direct("http://a/"), server.pipe());
    let idle = PoolLimits::default().idle;
    assert_eq!(housekeeper.poll(Waker::noop()), Some(NOW + LOOK));
    hand.0.store(59, Ordering::Relaxed);
    assert_eq!(housekeeper.poll(Waker::noop()), Some(NOW + idle));
    assert!(!server.is_closed());
    hand.0.store(60, Ordering::Relaxed);
    assert_eq!(housekeeper.poll(Waker::noop()), None);
    assert!(server.is_closed());
}

/// Answers of each framing.
const ANSWERS: &[&str] = &[
    OK,
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 1\r\n\r\n1",
];

proptest! {
    /// Never more than the limits, never a pipe of another route, never one on which something has happened or that was idle for
    /// too long; and of the others none is lost but for a limit.
    #[test]
    fn the_pool_keeps_its_limits(
        per_route in 0..3_usize,
        all in 0..5_usize,
        events in prop::collection::vec((0..5_u8, 0..3_usize, 0..20_u64), 0..60),
    ) {
        let idle = Duration::from_secs(30);
        let pool = Pool::new(PoolLimits { route: per_route, all, idle });
        let routes = [direct("http://a/"), direct("https://a:80/"), proxied("http://a.example/")];
        let mut now = NOW;
        // Servers by route, with the time of their last use and whether they are silent; those that were closed are left out.
        let mut servers: Vec<(usize, Server, Instant, bool)> = Vec::new();
        for (event, which, amount) in events {
            match event {
                0 | 1 => {
                    let server = Server::new([]);
                    pool.put(now, routes[which].clone(), server.pipe());
                    servers.push((which, server, now, true));
                }
                2 => {
                    if let Some(pipe) = pool.take(now, &routes[which]) {
                        drop(pipe);
                        let closed = |(_, server, _, _): &&(usize, Server, Instant, bool)| server.is_closed();
                        let taken: Vec<_> = servers.iter().filter(closed).collect();
                        let own = |of: &&&(usize, Server, Instant, bool)| of.0 == which && of.3 && now.since(of.2) < idle;
                        prop_assert_eq!(taken.iter().filter(own).count(), 1, "a good pipe of its own");
                    }
                }
                3 => {
                    // A look is due.
                    now = now + LOOK.max(Duration::from_secs(amount));
                    pool.poll(now, Waker::noop());
                    for (_, server, used, silent) in &servers {
                        prop_assert!(server.is_closed() || (now.since(*used) < idle && *silent));
                    }
                }
                _ => {
                    let count = servers.len().max(1);
                    if let Some(server) = servers.get_mut(which % count) {
                        server.1.then(if amount % 2 == 0 { Step::End } else { Step::bytes("x") });
                        server.3 = false;
                    }
                }
            }
            servers.retain(|(_, server, _, _)| !server.is_closed());
            prop_assert!(servers.len() <= all);
            for which in 0..routes.len() {
                prop_assert!(servers.iter().filter(|server| server.0 == which).count() <= per_route);
            }
        }
    }

    /// The questions that the fuzzer asks of any bytes, asked of bytes near to answers.
    #[test]
    fn a_call_reads_the_same_in_any_split_with_any_damage(
        start: (u8, u8),
        answer in prop::sample::select(ANSWERS),
        damage in prop::collection::vec((0..150_usize, prop::sample::select(&b"\r\n 05:;cH\0"[..])), 0..3),
        kept in 0..200_usize,
    ) {
        let mut data = vec![start.0, start.1];
        data.extend_from_slice(answer.as_bytes());
        for (place, byte) in damage {
            if let Some(at) = data.get_mut(2 + place) {
                *at = byte;
            }
        }
        data.truncate(2 + kept);
        http_client(&data);
    }
}
