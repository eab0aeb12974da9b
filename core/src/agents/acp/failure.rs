//! Failures of an agent, in the form in which its client is told.

use super::profile::Profile;
use super::update::{path, text};
use crate::error::Code;
use crate::invocation::Failure;
use crate::rpc::RpcError;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

/// The agent wants a login (ACP's `auth_required`).
pub(super) const AUTH_REQUIRED: i64 = -32000;

/// Longest message of an agent that is passed on, in bytes.
const MESSAGE_LEN: usize = 4096;

/// The agent's own words, short enough to pass on.
pub(super) fn cut(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_LEN);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default().trim()
}

pub(super) fn failure(code: Code, message: impl Into<Cow<'static, str>>) -> Failure<'static> {
    Failure {
        code,
        message: message.into(),
        retry_after: None,
    }
}

/// The agent wants a login, and may say why.
pub(super) fn login(profile: &Profile, words: &str) -> Failure<'static> {
    let Profile { label, login, .. } = profile;
    failure(
        Code::AgentError,
        match words {
            "" => format!("{label} wants a login: {login}"),
            words => format!("{label} wants a login: {login}; its own words: {words}"),
        },
    )
}

/// An error that the agent answered a request of ours with.
pub(super) fn of_rpc(error: &RpcError<'_>, profile: &Profile) -> Failure<'static> {
    let kind = text(path(error.data, &["errorKind"])).unwrap_or_default();
    if error.code == AUTH_REQUIRED || kind.contains("auth") {
        return login(profile, &worded(&error.message.decode(), error));
    }
    let code = match error.code {
        429 => Code::RateLimited,
        503 | 529 => Code::Overloaded,
        _ if kind.contains("rate_limit") => Code::RateLimited,
        _ if kind.contains("overloaded") => Code::Overloaded,
        _ => Code::AgentError,
    };
    failure(code, worded(&error.message.decode(), error))
}

fn worded(message: &str, error: &RpcError<'_>) -> String {
    let message = cut(message);
    // Many agents say only "Internal error" and put what happened beside it.
    let details = text(path(error.data, &["details"]))
        .or_else(|| text(path(error.data, &["message"])))
        .or_else(|| text(error.data))
        .unwrap_or_default();
    match (message, cut(&details)) {
        ("", "") => format!("the agent reported error {} without a message", error.code),
        (message, "") => message.into(),
        ("", details) => details.into(),
        (message, details) => format!("{message}: {details}"),
    }
}

/// The text of an answer that is an error in disguise.
pub(super) fn hidden(answer: &str) -> Failure<'static> {
    let message = match cut(answer) {
        "" => "the agent reported an error without a message",
        message => message,
    };
    failure(Code::AgentError, String::from(message))
}
