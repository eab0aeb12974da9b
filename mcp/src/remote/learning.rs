//! Headers that repeat arguments (see [`mirrored`](crate::mirrored)): lists of tools that pass are read for them, and a call that is
//! refused for its headers is sent again once the list of tools was read anew.

use super::exchange::{Exchange, Purpose};
use super::posted::{Asked, Posted, Role};
use super::{Act, Hear, Heard, Remote};
use crate::catalogue::Edits;
use crate::envelope::untracked;
use crate::mirrored::next_page;
use crate::refusal::Reason;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::{Json, Message};
use mcp_local_provider_core::text::JsonValue;

/// A call that was refused for its headers.
#[derive(Debug)]
pub(super) struct Mismatched {
    asked: Asked,
    line: String,
    /// The server's, as JSON.
    error: String,
    /// Pages of the list that were read.
    pages: u32,
}

impl Mismatched {
    /// The server's error, as JSON.
    pub(super) fn error(&self) -> &str {
        &self.error
    }
}

impl Remote {
    /// True when a call is refused for headers that may be different once the tools are known.
    pub(super) fn is_mismatch(asked: &Asked, error: Option<&str>) -> bool {
        let code = error
            .and_then(JsonValue::read)
            .and_then(|error| error.member("code"));
        asked.is_stateless
            && asked.role == (Role::Call { again: false })
            && code.is_some_and(|code| code.get().parse() == Ok(Reason::HeaderMismatch.code()))
    }

    /// Asks for the tools, to send a call again behind them.
    pub(super) fn learn_for(&mut self, asked: Asked, line: &str, error: &str, out: &mut Vec<Act>) {
        let number = asked.number;
        let call = Mismatched {
            asked,
            line: line.to_string(),
            error: error.to_string(),
            pages: 0,
        };
        self.mismatched.insert(number, call);
        self.ask_for_tools(number, None, out);
    }

    fn ask_for_tools(&mut self, number: u64, cursor: Option<&str>, out: &mut Vec<Act>) {
        let Some(call) = self.mismatched.get(&number) else {
            return;
        };
        let meta = JsonValue::read(&call.line).and_then(|call| call.path(&["params", "_meta"]));
        let mut json = Json::request(number, "tools/list");
        if let Some(cursor) = cursor {
            json.member("cursor").raw(cursor);
        }
        json.member("_meta").raw(&untracked(meta));
        let line = json.end_params().trim_end().to_string();
        let Some(posted) = Posted::read(&line, &self.tools) else {
            return;
        };
        let asked = Asked {
            role: Role::Learn,
            ..call.asked.clone()
        };
        let purpose = Purpose::Ask {
            asked,
            line: line.clone(),
            is_answered: false,
        };
        let exchange = Exchange::new(purpose, String::new(), self.bounds.retry);
        self.send(exchange, Some(line), posted.headers, out);
    }

    /// Takes the answer to a request. Returns the text that is passed on in its place; `None` where nobody is told of it.
    pub(super) fn take_tools<'t>(
        &mut self,
        asked: &Asked,
        text: &'t str,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) -> Option<Cow<'t, str>> {
        let result = match Message::read(text) {
            Ok(Message::Response { outcome, .. }) => outcome.ok().flatten(),
            Ok(Message::Request { .. } | Message::Notification(_)) | Err(_) => None,
        };
        let invalid = result
            .map(|result| self.tools.learn(result))
            .unwrap_or_default();
        if asked.role == Role::Tools {
            return Some(without(text, result, &invalid, hear));
        }
        let number = asked.number;
        let Some(result) = result else {
            let error = JsonValue::read(text).and_then(|all| all.member("error"));
            self.pass_error(asked, error.map_or("null", JsonValue::get), hear);
            return None;
        };
        let mut call = self.mismatched.remove(&number)?;
        call.pages += 1;
        if let Some(next) = next_page(result, call.pages) {
            self.mismatched.insert(number, call);
            self.ask_for_tools(number, Some(next), out);
        } else if let Some(mut posted) = Posted::read(&call.line, &self.tools) {
            posted.again();
            self.post(posted, out);
        }
        None
    }
}

/// A list of tools without those whose definitions are invalid.
fn without<'t>(
    text: &'t str,
    result: Option<JsonValue<'t>>,
    invalid: &[(JsonValue<'t>, &'static str)],
    hear: &mut Hear<'_>,
) -> Cow<'t, str> {
    let tools = result.and_then(|result| result.member("tools"));
    let Some(tools) = tools.filter(|_| !invalid.is_empty()) else {
        return Cow::Borrowed(text);
    };
    for (tool, why) in invalid {
        let name = tool.member("name").and_then(JsonValue::text);
        hear(Heard::LeftOut {
            tool: name.as_deref().unwrap_or_default(),
            why,
        });
    }
    let is_valid = |tool: &JsonValue<'_>| {
        let at = tool.get().as_ptr();
        !invalid.iter().any(|(other, _)| other.get().as_ptr() == at)
    };
    let valid = tools.elements().into_iter().filter(is_valid);
    let valid: Vec<&str> = valid.map(JsonValue::get).collect();
    let mut edits = Edits::default();
    edits.put(tools, format!("[{}]", valid.join(",")));
    Cow::Owned(edits.applied(text))
}
