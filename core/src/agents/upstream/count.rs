//! The count of a prompt's tokens, which an Anthropic server tells.

use super::trouble::{Fault, Trouble};
use super::{Api, Call, ClientHeaders, anthropic_request, headers, native};
use crate::error::Refusal;
use crate::invocation::ParameterSet;
use crate::request::{BodyForm, Request};
use crate::text::JsonValue;

/// True for a request for a count that a server of the API can be asked for.
#[must_use]
pub fn counts_tokens(api: Api, request: &Request) -> bool {
    let form = request.as_sent().map(|(form, _)| form);
    api == Api::Anthropic && form == Some(BodyForm::AnthropicCount)
}

/// Writes what is said to an Anthropic server to have the tokens of a request counted.
///
/// # Errors
/// 400 that names the field which the API has no form for.
pub fn count_tokens(
    request: &Request,
    model: &str,
    of_client: ClientHeaders<'_>,
) -> Result<Call, Refusal> {
    let (body, is_own) = match native::count(request, model) {
        Some(body) => (body, true),
        None => {
            let invocation = request.invocation();
            (anthropic_request::counted(&invocation, model)?, false)
        }
    };
    Ok(Call {
        path: "/v1/messages/count_tokens",
        headers: headers(Api::Anthropic, false, of_client, is_own),
        body,
        ignored: ParameterSet::EMPTY,
    })
}

/// Reads the body of the answer with status 200.
///
/// # Errors
/// It is none.
pub fn counted(body: &[u8]) -> Result<u64, Trouble> {
    let text = core::str::from_utf8(body).unwrap_or_default();
    let count = JsonValue::read(text).and_then(|it| it.member("input_tokens")?.whole());
    count.ok_or_else(|| Trouble::new(Fault::Protocol, "the answer has no input_tokens"))
}

/// True when the client hears of a count that failed: its own request is wrong, or it goes in a circle. In the place of any
/// other the client gets the estimate, since not every server of the API counts.
#[must_use]
pub const fn is_told(trouble: &Trouble) -> bool {
    trouble.is_of_client() || matches!(trouble.fault, Fault::Loop)
}
