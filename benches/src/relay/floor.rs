//! The floor of the gateway: the least that any program does which relays a message between HTTP and a process. It parses one HTTP
//! head and one message, puts another id into it, and keeps nothing else: no keys, sessions, limits, times, audit or resumption.

use std::collections::HashMap;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A message of either side, as far as the floor has to know it.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a str>,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
}

/// Parameters of a message: the token that it names.
#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default, rename = "progressToken")]
    told: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default, rename = "progressToken")]
    token: Option<&'a RawValue>,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Open {
    client: usize,
    id: Box<str>,
    token: Option<Box<str>>,
    /// Its answer has begun, as a stream of events.
    streams: bool,
}

/// The open requests of all clients, by the ids that the process knows.
#[derive(Debug, Default)]
pub struct Floor {
    open: HashMap<u64, Open>,
    last: u64,
}

/// Next step after a client's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is not whole: read more.
    Part,
    /// It is so many bytes long, and its line was added.
    Request(usize),
    /// It is so many bytes long, and wants no answer; its line was added.
    Notice(usize),
}

/// Value of a header field; `None` where there is none.
fn field<'h>(head: &'h str, wanted: &str) -> Option<&'h str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
}

/// Appends `text` with `new` in the place of `old`, which is a part of it.
fn replaced(out: &mut Vec<u8>, text: &str, old: &str, new: &str) {
    let at = old.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    out.extend_from_slice(text.get(..at).unwrap_or_default().as_bytes());
    out.extend_from_slice(new.as_bytes());
    out.extend_from_slice(text.get(at + old.len()..).unwrap_or_default().as_bytes());
}

impl Floor {
    /// Takes a request of HTTP/1.1 from the start of `input`, and appends its message to `line` under an id of the floor's, with
    /// the end of the line.
    ///
    /// # Errors
    /// Fails when it is no POST of a message.
    pub fn request(
        &mut self,
        client: usize,
        input: &[u8],
        line: &mut Vec<u8>,
    ) -> Result<Taken, crate::Error> {
        let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
            return Ok(Taken::Part);
        };
        let head = std::str::from_utf8(input.get(..end).unwrap_or_default())?;
        let length: usize = field(head, "content-length").unwrap_or("0").parse()?;
        let Some(body) = input.get(end + 4..end + 4 + length) else {
            return Ok(Taken::Part);
        };
        let text = std::str::from_utf8(body)?;
        let message: Message<'_> = serde_json::from_str(text)?;
        message.method.ok_or("a client answers the floor")?;
        let whole = end + 4 + length;
        let Some(id) = message.id else {
            line.extend_from_slice(text.as_bytes());
            line.push(b'\n');
            return Ok(Taken::Notice(whole));
        };
        self.last += 1;
        let number = self.last.to_string();
        let token = message.params.and_then(|params| params.meta?.token);
        match token {
            None => replaced(line, text, id.get(), &number),
            Some(token) => {
                // The id comes first in the requests of this program.
                let (before, after) =
                    text.split_at(id.get().as_ptr().addr() - text.as_ptr().addr() + id.get().len());
                replaced(line, before, id.get(), &number);
                replaced(line, after, token.get(), &number);
            }
        }
        line.push(b'\n');
        self.open.insert(
            self.last,
            Open {
                client,
                id: id.get().into(),
                token: token.map(|token| token.get().into()),
                streams: false,
            },
        );
        Ok(Taken::Request(whole))
    }

    /// Takes a line of the process, and appends what it brings to `out`: an answer of HTTP/1.1, or an event of one. The result is
    /// the client that it is for.
    ///
    /// # Errors
    /// Fails when the line is no message, or nobody's.
    pub fn line(&mut self, line: &str, out: &mut Vec<u8>) -> Result<usize, crate::Error> {
        let message: Message<'_> = serde_json::from_str(line)?;
        if let Some(token) = message.params.and_then(|params| params.told) {
            let number: u64 = token.get().parse()?;
            let open = self.open.get_mut(&number).ok_or("a token is nobody's")?;
            if !std::mem::replace(&mut open.streams, true) {
                out.extend_from_slice(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
            }
            event(
                line,
                token.get(),
                open.token.as_deref().unwrap_or("null"),
                out,
            )?;
            return Ok(open.client);
        }
        let id = message.id.ok_or("a line has no id")?;
        let number: u64 = id.get().parse()?;
        let open = self.open.remove(&number).ok_or("an answer is nobody's")?;
        if open.streams {
            event(line, id.get(), &open.id, out)?;
            out.extend_from_slice(b"0\r\n\r\n");
        } else {
            let length = line.len() + open.id.len() - id.get().len();
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            )?;
            replaced(out, line, id.get(), &open.id);
        }
        Ok(open.client)
    }
}

/// Appends a message as an event in a chunk of HTTP.
fn event(text: &str, old: &str, new: &str, out: &mut Vec<u8>) -> Result<(), crate::Error> {
    let length = text.len() + new.len() - old.len() + "data: \n\n".len();
    write!(out, "{length:x}\r\ndata: ")?;
    replaced(out, text, old, new);
    out.extend_from_slice(b"\n\n\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn post(body: &str) -> Vec<u8> {
        let length = body.len();
        format!("POST /mcp HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn ids_and_tokens_go_there_and_back() {
        let (mut floor, mut line) = (Floor::default(), Vec::new());
        let body = r#"{"id":"a","method":"m","params":{"_meta":{"progressToken":"t"},"x":1}}"#;
        let input = post(body);
        let cut = input.get(..input.len() - 1).unwrap();
        assert_eq!(floor.request(5, cut, &mut line).unwrap(), Taken::Part);
        let taken = floor.request(5, &input, &mut line).unwrap();
        assert_eq!(taken, Taken::Request(input.len()));
        assert_eq!(
            line,
            b"{\"id\":1,\"method\":\"m\",\"params\":{\"_meta\":{\"progressToken\":1},\"x\":1}}\n"
        );
        let mut out = Vec::new();
        let told = r#"{"method":"n","params":{"progressToken":1,"progress":2}}"#;
        assert_eq!(floor.line(told, &mut out).unwrap(), 5);
        assert_eq!(floor.line(r#"{"id":1,"result":{}}"#, &mut out).unwrap(), 5);
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains(r#"data: {"method":"n","params":{"progressToken":"t","progress":2}}"#)
        );
        assert!(
            out.ends_with("data: {\"id\":\"a\",\"result\":{}}\n\n\r\n0\r\n\r\n"),
            "{out}"
        );
        assert!(
            floor
                .line(r#"{"id":1,"result":{}}"#, &mut Vec::new())
                .is_err()
        );
    }

    #[test]
    fn an_answer_without_progress_has_its_length() {
        let (mut floor, mut line, mut out) = (Floor::default(), Vec::new(), Vec::new());
        let input = post(r#"{"id":"abc","method":"m"}"#);
        floor.request(0, &input, &mut line).unwrap();
        floor.line(r#"{"id":1,"result":{}}"#, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let (head, body) = out.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"id":"abc","result":{}}"#);
        assert_eq!(
            field(head, "content-length").unwrap(),
            body.len().to_string()
        );
    }
}
