//! Results of `sampling/createMessage`, and its errors, as messages of an agent.

use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::{Delta, End, Failure, Finish, ToolCallDelta};
use crate::link::{Answer, Ending, FromAgent, Id};
use crate::text::{JsonValue, escaped};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The person, or the client's rules, did not permit the request.
const REJECTED: i64 = -1;

/// Longest message of a client that is passed on, in bytes.
const MESSAGE_LEN: usize = 4096;

/// Reads the result of a client and gives it as the whole answer to an exchange. A result that says nothing that a model can say is
/// the client's fault, and fails the exchange.
pub fn answer(id: ExchangeId, result: JsonValue<'_>, say: &mut dyn FnMut(FromAgent<'_>)) {
    let blocks = match result.member("content") {
        Some(content) if content.get().starts_with('[') => content.elements(),
        Some(content) => Vec::from([content]),
        None => Vec::new(),
    };
    let mut content = String::new();
    let (mut calls, mut other) = (Vec::new(), None);
    for block in &blocks {
        let string = |name| {
            let member = block.member(name).and_then(JsonValue::as_str);
            member.unwrap_or_default()
        };
        match string("type").as_escaped() {
            "text" => content.push_str(string("text").as_escaped()),
            "tool_use" => {
                let input = block.member("input").map_or("{}", JsonValue::get);
                calls.push((string("id"), string("name"), escaped(input)));
            }
            kind => other = Some(kind),
        }
    }
    let is_nothing = content.is_empty() && calls.is_empty();
    if blocks.is_empty() || (is_nothing && other.is_some()) {
        let message = match other {
            Some(kind) => {
                format!("the MCP client answered with a block of type {kind}, and with no text")
            }
            None => "the MCP client's result has no content".into(),
        };
        return fail(id, Code::AgentFault, message, say);
    }
    let delta = Delta {
        content: crate::text::JsonStr::from_escaped(&content),
        tool_calls: (0..)
            .zip(&calls)
            .map(|(index, (id, name, arguments))| ToolCallDelta {
                index,
                id: *id,
                name: *name,
                arguments: crate::text::JsonStr::from_escaped(arguments),
            })
            .collect(),
        ..Delta::default()
    };
    let reason = result.member("stopReason").and_then(JsonValue::text);
    let finish = match reason.as_deref() {
        Some("maxTokens") => Finish::Length,
        Some("refusal" | "contentFilter") => Finish::ContentFilter,
        // Clients may have reasons of their own, and need not give any.
        _ if !calls.is_empty() => Finish::ToolCalls,
        _ => Finish::Stop,
    };
    say(FromAgent::Result(Answer {
        id: Id::Ours(id),
        delta,
        vectors: Vec::new(),
        ending: Ending::End(End {
            finish,
            usage: None,
        }),
    }));
}

/// Gives the error with which a client has answered as the end of an exchange.
pub fn failure(id: ExchangeId, code: i64, message: &str, say: &mut dyn FnMut(FromAgent<'_>)) {
    let mut end = message.len().min(MESSAGE_LEN);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let words = message.get(..end).unwrap_or_default().trim();
    let words = match words {
        "" => format!("the MCP client answered with error {code}"),
        words => words.into(),
    };
    let code = match code {
        REJECTED => Code::AgentRefused,
        _ => Code::AgentError,
    };
    fail(id, code, words, say);
}

fn fail(id: ExchangeId, code: Code, message: String, say: &mut dyn FnMut(FromAgent<'_>)) {
    say(FromAgent::Error {
        id: Some(Id::Ours(id)),
        failure: Failure {
            code,
            message: Cow::Owned(message),
            retry_after: None,
        },
    });
}
