//! One call of the HTTP client, whatever the server sends.

use crate::scripted_pipe::{Opener, Server, Step};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::http_client::{CallTimes, HttpClient, HttpRequest, Part};
use mcp_local_provider_engine::pool::Pool;
use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvResponseResult, SendRequestResult};
use ureq_proto::http::Request;

const NOW: Instant = Instant::from_micros(1);

/// However the bytes are cut on their way, the same answer comes out of them, and the pipe is kept or not. An answer that is
/// whole is the one that another codec reads; one that is cut is never whole.
///
/// The first byte has the method and the end of the connection, the second the size of the pieces. The rest is what the server
/// sends.
pub fn http_client(data: &[u8]) {
    let [choice, size, bytes @ ..] = data else {
        return;
    };
    let is_head = choice & 1 == 1;
    let method = match (is_head, choice & 2) {
        (true, _) => "HEAD",
        (false, 0) => "GET",
        (false, _) => "POST",
    };
    let end = match choice >> 2 & 3 {
        0 | 1 => Some(Step::End),
        2 => Some(Step::Fail(ErrorKind::ConnectionReset)),
        _ => None,
    };
    let whole = call(method, bytes, bytes.len().max(1), false, end.clone());
    for (size, pending) in [(1, false), (1 + usize::from(*size % 61), true)] {
        let pieces = call(method, bytes, size, pending, end.clone());
        assert_eq!(pieces.end, whole.end, "in pieces of {size} bytes");
        assert_eq!(pieces.status, whole.status, "in pieces of {size} bytes");
        assert_eq!(pieces.is_kept, whole.is_kept, "in pieces of {size} bytes");
        if whole.end == Ended::Whole {
            assert_eq!(pieces.body, whole.body, "in pieces of {size} bytes");
        }
    }
    if whole.end == Ended::Whole {
        compare(is_head, bytes, &whole);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Whole,
    /// The server is silent, and more is awaited.
    Waits,
    Failed(String),
}

#[derive(Debug)]
struct Seen {
    status: Option<u16>,
    body: Vec<u8>,
    end: Ended,
    /// The pipe went back to the pool, and can be taken from it.
    is_kept: bool,
}

/// Makes a call of a server that sends `bytes` in pieces of that size.
fn call(method: &'static str, bytes: &[u8], size: usize, pending: bool, end: Option<Step>) -> Seen {
    let mut steps = Vec::new();
    for piece in bytes.chunks(size) {
        if pending {
            steps.push(Step::Pending);
        }
        steps.push(Step::bytes(piece));
    }
    steps.extend(end);
    let limit = steps.len() + bytes.len() + 9;
    let (opener, pool) = (Arc::new(Opener::default()), Arc::new(Pool::default()));
    opener.add(&Server::new(steps));
    let origin = Origin::of(&"http://a.example/".parse().unwrap()).unwrap();
    let route = Route::to(origin, &Proxies::default()).unwrap();
    let request = HttpRequest {
        method,
        path: "/".to_owned(),
        headers: Vec::new(),
        body: (method == "POST").then(|| "{}".to_owned().into()),
    };
    let times = CallTimes {
        connect: Duration::from_secs(1),
        answer: Duration::from_secs(1),
        progress: Duration::from_secs(1),
    };
    let client = HttpClient::new(opener, pool.clone());
    let mut call = client.call(NOW, route.clone(), request, times).unwrap();
    let (mut status, mut body) = (None, Vec::new());
    let mut end = Ended::Waits;
    for _ in 0..limit {
        let before = body.len();
        match call.poll(NOW, Waker::noop(), &mut body) {
            Poll::Pending => {}
            Poll::Ready(Ok(Part::Head(head))) => {
                assert!(status.is_none(), "a second head");
                assert!((200..1000).contains(&head.status()));
                status = Some(head.status());
            }
            Poll::Ready(Ok(Part::Body)) => assert!(body.len() > before && status.is_some()),
            Poll::Ready(Ok(Part::End)) => {
                end = Ended::Whole;
                break;
            }
            Poll::Ready(Err(error)) => {
                end = Ended::Failed(error.to_string());
                break;
            }
        }
    }
    drop(call);
    // What is left over may come later.
    for _ in 0..limit {
        if let Some(pipe) = pool.take(NOW, &route) {
            pool.put(NOW, route.clone(), pipe);
        }
    }
    Seen {
        status,
        body,
        end,
        is_kept: pool.take(NOW, &route).is_some(),
    }
}

/// Holds an answer that was read whole against `ureq-proto`.
fn compare(is_head: bool, bytes: &[u8], seen: &Seen) {
    let (status, body) = match other(is_head, bytes) {
        Ok(read) => read,
        Err(error) => {
            // It takes no line of more than 20 bytes before a chunk, no header in a `100 Continue` and no wrong length in another
            // interim response, and no wrong length of a body that is not there.
            let has_interim = bytes.windows(12).any(|part| {
                &part[5..7] == b"1."
                    && &part[8..10] == b" 1"
                    && part[10..].iter().all(u8::is_ascii_digit)
            });
            let has_body = !is_head && !matches!(seen.status, Some(204 | 304));
            let is_known = bytes.contains(&b';') || has_interim || !has_body;
            assert!(is_known, "the other codec refuses the answer: {error}");
            return;
        }
    };
    assert_eq!(Some(status), seen.status, "the status");
    assert_eq!(body, seen.body, "the body");
}

fn other(is_head: bool, bytes: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let told = |error: ureq_proto::Error| error.to_string();
    let request = Request::builder().method(if is_head { "HEAD" } else { "GET" });
    let request = request.uri("http://a.example/").body(()).unwrap();
    let mut call = Call::new(request).map_err(told)?.proceed();
    call.write(&mut [0; 512]).map_err(told)?;
    let mut call: Call<RecvResponse> = match call.proceed().map_err(told)? {
        Some(SendRequestResult::RecvResponse(call)) => call,
        _ => return Err("it does not want the answer".to_owned()),
    };
    let mut rest = bytes;
    let status = loop {
        let (used, response) = call.try_response(rest, false).map_err(told)?;
        rest = &rest[used..];
        match response {
            Some(response) => break response.status().as_u16(),
            None if used == 0 => return Err("it waits for more of the head".to_owned()),
            None => {}
        }
    };
    let mut body = Vec::new();
    if let Some(RecvResponseResult::RecvBody(mut call)) = call.proceed() {
        read_body(&mut call, rest, &mut body)?;
    }
    Ok((status, body))
}

fn read_body(call: &mut Call<RecvBody>, mut rest: &[u8], body: &mut Vec<u8>) -> Result<(), String> {
    let mut piece = [0; 4096];
    loop {
        let read = call.read(rest, &mut piece);
        let (used, given) = read.map_err(|error| error.to_string())?;
        body.extend_from_slice(&piece[..given]);
        rest = &rest[used..];
        if (used, given) == (0, 0) {
            // A body that the end of the connection ends may be over at any time.
            return match call.can_proceed() {
                true => Ok(()),
                false => Err("it waits for more of the body".to_owned()),
            };
        }
    }
}
