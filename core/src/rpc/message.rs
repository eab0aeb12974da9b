//! One message, read as tolerantly as programs write it.

use crate::text::{Cursor, JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// `Parse error`.
pub const PARSE_ERROR: i64 = -32700;
/// `Invalid Request`.
pub const INVALID_REQUEST: i64 = -32600;
/// `Method not found`.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// `Invalid params`.
pub const INVALID_PARAMS: i64 = -32602;
/// `Internal error`.
pub const INTERNAL_ERROR: i64 = -32603;

/// One message, borrowed from its text.
#[derive(Clone, Debug)]
pub enum Message<'t> {
    /// It wants an answer.
    Request {
        /// A number, a string, or what else its writer saw fit; sent back as it came.
        id: JsonValue<'t>,
        /// The request itself.
        call: Call<'t>,
    },
    /// It wants none.
    Notification(Call<'t>),
    /// The answer to a request.
    Response {
        /// Of the request, as the answerer wrote it. [`Peer::take`](super::Peer::take) takes it.
        id: JsonValue<'t>,
        /// `None` is `null`.
        outcome: Result<Option<JsonValue<'t>>, RpcError<'t>>,
    },
}

/// Method and parameters of a request or notification.
#[derive(Clone, Debug)]
pub struct Call<'t> {
    /// Name of the method.
    pub method: Cow<'t, str>,
    /// An object or an array; `None` when it is absent or `null`.
    pub params: Option<JsonValue<'t>>,
    /// `_meta` of the parameters, as the Model Context Protocol has it.
    pub meta: Option<JsonValue<'t>>,
    /// `progressToken` in that.
    pub progress_token: Option<JsonValue<'t>>,
}

/// The `error` of a response.
#[derive(Clone, Copy, Default, Debug)]
pub struct RpcError<'t> {
    /// Number of the error; 0 when there is none.
    pub code: i64,
    /// For people.
    pub message: JsonStr<'t>,
    /// Any value.
    pub data: Option<JsonValue<'t>>,
}

/// Kinds of text that is no JSON-RPC message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAMessage {
    /// Something that a program prints; nothing is lost.
    Noise,
    /// A message that was cut or mixed with another: something is lost.
    Damaged,
}

impl NotAMessage {
    /// The kind of a text that is no message.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        match memchr::memmem::find(text, b"\"jsonrpc\"") {
            Some(_) => Self::Damaged,
            None => Self::Noise,
        }
    }
}

/// Members of a message, found in one pass.
#[derive(Default)]
struct Members<'t> {
    id: Option<JsonValue<'t>>,
    method: Option<JsonValue<'t>>,
    params: Option<JsonValue<'t>>,
    meta: Option<JsonValue<'t>>,
    result: Option<JsonValue<'t>>,
    error: Option<JsonValue<'t>>,
}

impl<'t> Members<'t> {
    /// Takes an object. `None` when it is none, or names a member twice that is looked at.
    fn take(cursor: &mut Cursor<'t>) -> Option<Self> {
        let mut members = Self::default();
        cursor.object(|cursor, name| {
            let place = match &*name.decode() {
                "params" => {
                    let (params, meta) = params(cursor)?;
                    members.meta = meta;
                    return put(&mut members.params, params);
                }
                "method" => &mut members.method,
                "id" => &mut members.id,
                "result" => &mut members.result,
                "error" => &mut members.error,
                _ => {
                    cursor.value()?;
                    return Some(());
                }
            };
            put(place, JsonValue::skipped(cursor.value()?))
        })?;
        Some(members)
    }

    fn message(self) -> Option<Message<'t>> {
        let some = |value: Option<JsonValue<'t>>| value.filter(|value| !value.is_null());
        let call = |method: Cow<'t, str>| Call {
            method,
            params: some(self.params),
            meta: self.meta,
            progress_token: self.meta.and_then(|meta| meta.member("progressToken")),
        };
        let method = self.method.and_then(JsonValue::text);
        Some(match (method, some(self.id)) {
            (Some(method), Some(id)) => Message::Request {
                id,
                call: call(method),
            },
            (Some(method), None) => Message::Notification(call(method)),
            (None, Some(id)) => Message::Response {
                id,
                outcome: match some(self.error) {
                    Some(error) => Err(RpcError::read(error)),
                    None => Ok(some(self.result)),
                },
            },
            // An error about a message that the other side could not read has a null id.
            (None, None) => return None,
        })
    }
}

/// Fills a place once: who names a member twice may mean either.
fn put<'t>(place: &mut Option<JsonValue<'t>>, value: JsonValue<'t>) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// The names of an object's members, each of which may stand there once: of two with one name, programs that read the same text
/// differ in the one that they take.
#[derive(Default)]
struct Names<'t> {
    few: [Option<Cow<'t, str>>; 6],
    more: BTreeSet<Cow<'t, str>>,
}

impl<'t> Names<'t> {
    fn take(&mut self, name: JsonStr<'t>) -> Option<()> {
        let name = name.decode();
        for place in &mut self.few {
            match place {
                Some(known) if *known == name => return None,
                Some(_) => {}
                None => {
                    *place = Some(name);
                    return Some(());
                }
            }
        }
        self.more.insert(name).then_some(())
    }

    /// Looks at the names of an object in another.
    fn of(value: JsonValue<'t>) -> Option<()> {
        if !value.get().starts_with('{') {
            return Some(());
        }
        let mut names = Self::default();
        value.cursor().object(|cursor, name| {
            cursor.value()?;
            names.take(name)
        })
    }
}

/// The parameters, and `_meta` in them. `None` too where they name a member twice, or what tells their receiver does: `_meta`, and
/// `ref` of a completion.
fn params<'t>(cursor: &mut Cursor<'t>) -> Option<(JsonValue<'t>, Option<JsonValue<'t>>)> {
    if cursor.next() != Some(&b'{') {
        return Some((JsonValue::skipped(cursor.value()?), None));
    }
    let mut meta = None;
    let mut names = Names::default();
    let text = cursor.taken(|cursor| {
        cursor.object(|cursor, name| {
            let value = JsonValue::skipped(cursor.value()?);
            names.take(name)?;
            if name.is("_meta") {
                meta = Some(value);
                return Names::of(value);
            }
            if name.is("ref") {
                return Names::of(value);
            }
            Some(())
        })
    })?;
    Some((JsonValue::skipped(text), meta))
}

impl<'t> Message<'t> {
    /// Reads one message.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &'t str) -> Result<Self, NotAMessage> {
        let mut cursor = Cursor::new(text);
        let message = Members::take(&mut cursor).and_then(|members| {
            cursor.end()?;
            members.message()
        });
        message.ok_or_else(|| NotAMessage::of(text.as_bytes()))
    }

    /// Reads one line, as [`Lines`](super::Lines) cut it.
    ///
    /// # Errors
    /// It is no message.
    pub fn read_line(line: &'t [u8]) -> Result<Self, NotAMessage> {
        let text = core::str::from_utf8(line).map_err(|_| NotAMessage::of(line))?;
        Self::read(text)
    }
}

/// Reads one message, or each of a batch in its order, and gives each with its own text. An empty batch is no message.
pub fn read_each<'t>(
    text: &'t str,
    mut message: impl FnMut(&'t str, Result<Message<'t>, NotAMessage>),
) {
    let mut cursor = Cursor::new(text);
    cursor.blanks();
    if cursor.next() != Some(&b'[') {
        return message(text, Message::read(text));
    }
    // A batch that does not end is damaged as a whole: whoever wrote it believes that all of it is read.
    let mut batch = Vec::new();
    let whole = cursor
        .array(|cursor| {
            batch.push(cursor.value()?);
            Some(())
        })
        .and_then(|()| cursor.end());
    if whole.is_none() || batch.is_empty() {
        return message(text, Err(NotAMessage::of(text.as_bytes())));
    }
    batch
        .into_iter()
        .for_each(|one| message(one, Message::read(one)));
}

/// Appends `text` with other values in the place of some that were read from it, which come in their order. Everything else
/// stays byte for byte.
pub fn replace(out: &mut String, text: &str, with: &[(JsonValue<'_>, &str)]) {
    let mut done = 0;
    for (old, new) in with {
        let offset = old
            .get()
            .as_ptr()
            .addr()
            .checked_sub(text.as_ptr().addr())
            .filter(|start| start.saturating_add(old.get().len()) <= text.len());
        let Some(before) = offset.and_then(|start| text.get(done..start)) else {
            continue;
        };
        out.push_str(before);
        out.push_str(new);
        done += before.len() + old.get().len();
    }
    out.push_str(text.get(done..).unwrap_or_default());
}

impl<'t> RpcError<'t> {
    fn read(error: JsonValue<'t>) -> Self {
        let data = error.member("data");
        Self {
            code: error.member("code").map_or(0, whole),
            message: error
                .member("message")
                .and_then(JsonValue::as_str)
                .unwrap_or_default(),
            data: data.filter(|data| !data.is_null()),
        }
    }
}

/// A number, also one that was written as a string.
fn whole(value: JsonValue<'_>) -> i64 {
    value.get().trim_matches('"').parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match Message::read(text) {
            Ok(Message::Request { id, call }) => format!(
                "request {} {} {} {}",
                id.get(),
                call.method,
                call.params.map_or("-", JsonValue::get),
                call.progress_token.map_or("-", JsonValue::get)
            ),
            Ok(Message::Notification(call)) => format!(
                "notification {} {}",
                call.method,
                call.params.map_or("-", JsonValue::get)
            ),
            Ok(Message::Response { id, outcome }) => match outcome {
                Ok(result) => format!("result {} {}", id.get(), result.map_or("-", JsonValue::get)),
                Err(error) => format!(
                    "error {} {} {} {}",
                    id.get(),
                    error.code,
                    error.message.decode(),
                    error.data.map_or("-", JsonValue::get)
                ),
            },
            Err(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn every_kind_of_message_is_read() {
        for (text, read) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"b":[1],"_meta":{"progressToken":"t"}}}"#,
                r#"request 1 a {"b":[1],"_meta":{"progressToken":"t"}} "t""#,
            ),
            (
                r#" { "params" : [ ] , "method" : "a\/b" , "id" : "x" } "#,
                r#"request "x" a/b [ ] -"#,
            ),
            (
                r#"{"method":"a","params":null,"id":null}"#,
                "notification a -",
            ),
            (r#"{"id":"7","result":null}"#, r#"result "7" -"#),
            (r#"{"id":7,"result":{},"error":null}"#, "result 7 {}"),
            (
                r#"{"id":7,"error":{"code":"-3","message":"x\ny","data":[]}}"#,
                "error 7 -3 x\ny []",
            ),
            (r#"{"id":7,"error":"what"}"#, "error 7 0  -"),
            (r#"{"\u0069d":1,"\u006dethod":"a"}"#, "request 1 a - -"),
            (r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, "Damaged"),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#, "Damaged"),
            (
                r#"{"jsonrpc":"2.0","method":"a","params":{"b":1,"\u0062":2}}"#,
                "Damaged",
            ),
            (
                r#"{"jsonrpc":"2.0","method":"a","params":{"_meta":{"b":1,"b":2}}}"#,
                "Damaged",
            ),
            (
                r#"{"jsonrpc":"2.0","method":"a","params":{"ref":{"b":1,"b":2}}}"#,
                "Damaged",
            ),
            (
                r#"{"method":"a","params":{"a":{"b":1,"b":2},"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1}}"#,
                r#"notification a {"a":{"b":1,"b":2},"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"a","params":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"g":2}}"#,
                "Damaged",
            ),
            (r#"{"jsonrpc":"2.0","method":"a"}{"#, "Damaged"),
            (r#"Listening on {"port":1}"#, "Noise"),
            ("[]", "Noise"),
            ("", "Noise"),
        ] {
            assert_eq!(shown(text), read, "{text}");
        }
        assert_eq!(
            Message::read_line(b"{\"jsonrpc\":\xff}").unwrap_err(),
            NotAMessage::Damaged
        );
    }

    #[test]
    fn a_batch_is_read_message_by_message() {
        let kinds = |text: &str| {
            let mut kinds = Vec::new();
            read_each(text, |_, message| {
                kinds.push(match message {
                    Ok(Message::Request { .. }) => "request",
                    Ok(Message::Notification(_)) => "notification",
                    Ok(Message::Response { .. }) => "response",
                    Err(_) => "none",
                });
            });
            kinds
        };
        let batch = r#" [{"id":1,"method":"a"}, {"method":"b"} ,{"id":1,"result":1},5]"#;
        assert_eq!(
            kinds(batch),
            ["request", "notification", "response", "none"]
        );
        assert_eq!(kinds(r#"{"method":"b"}"#), ["notification"]);
        for broken in ["[]", r#"[{"method":"b"}"#, r#"[{"method":"b"}]]"#] {
            assert_eq!(kinds(broken), ["none"], "{broken}");
        }
    }

    proptest! {
        /// Ids of both types, and a token, change their place without a trace in the rest.
        #[test]
        fn what_is_replaced_changes_and_nothing_else(
            blank in "[ \t]{0,2}", id in "[1-9][0-9]{0,3}|\"([a-z]|\\\\n){0,4}\"", token in "[1-9][0-9]{0,3}|\"[a-z]{0,4}\"",
            new in "[1-9][0-9]{0,8}|\"[a-z]{0,12}\"", newer in "[1-9][0-9]{0,8}", turned in any::<bool>(),
        ) {
            let write = |id: &str, token: &str| {
                let id = format!("{blank}\"id\":{blank}{id}{blank}");
                let call = format!("\"method\":\"m\",\"params\":{{\"x\":1e400,\"_meta\":{{\"progressToken\":{token}}},\"y\":\"\\u0000\"}}");
                if turned { format!("{{{call},{id}}}") } else { format!("{{{id},{call}}}") }
            };
            let text = write(&id, &token);
            let Ok(Message::Request { id, call }) = Message::read(&text) else { panic!("{text}") };
            let token = call.progress_token.unwrap();
            let places = if turned { [(token, &*newer), (id, &*new)] } else { [(id, &*new), (token, &*newer)] };
            let mut out = String::new();
            replace(&mut out, &text, &places);
            prop_assert_eq!(out, write(&new, &newer));
        }
    }
}
