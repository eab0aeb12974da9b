//! Questions of this program's own commands to an MCP server, as an MCP client asks them: a server that the command starts for
//! itself, or one of the running program.

mod running;
mod started;

pub(crate) use running::RunningServer;
pub(crate) use started::StartedServer;

use crate::control::ControlError;
use crate::printable::printable;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_mcp::revision::Revision;
use serde_json::{Value, json};
use std::io;

/// Pages of a list of tools that are asked for.
const MAX_PAGES: usize = 1000;

/// The reason for which there is no result, as a sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoResult {
    /// The server's own error.
    #[error("the MCP server answers with the error {code}: {message}")]
    Refused {
        /// The number of the error.
        code: i64,
        /// Its message, as one printable line.
        message: String,
    },
    /// There is no server to ask, or it gives no answer.
    #[error("{0}")]
    NoAnswer(String),
    /// The running program cannot be asked.
    #[error(transparent)]
    Program(#[from] ControlError),
    /// The process cannot be waited for.
    #[error("the MCP server cannot be asked: {0}")]
    System(#[from] io::Error),
}

/// A server that answers requests.
pub(crate) trait Server {
    /// Asks for the result of a method, and waits for it. `params` is a JSON object. The result is JSON, as the server wrote it.
    ///
    /// # Errors
    /// See [`NoResult`].
    fn ask(&mut self, method: &str, params: &str) -> Result<String, NoResult>;
}

/// Returns all tools of a server, as it sent them.
///
/// # Errors
/// See [`NoResult`].
pub(crate) fn tools(server: &mut dyn Server) -> Result<Vec<Value>, NoResult> {
    let mut tools = Vec::new();
    let mut params = json!({});
    for _ in 0..MAX_PAGES {
        let page = server.ask("tools/list", &params.to_string())?;
        let mut page: Value = serde_json::from_str(&page).unwrap_or_default();
        let Some(Value::Array(listed)) = page.get_mut("tools").map(Value::take) else {
            let message = "its answer to `tools/list` has no list of tools";
            return Err(NoResult::NoAnswer(message.to_owned()));
        };
        tools.extend(listed);
        match page.get("nextCursor") {
            Some(cursor @ Value::String(_)) => params = json!({ "cursor": cursor }),
            _ => return Ok(tools),
        }
    }
    Err(NoResult::NoAnswer(format!(
        "its list of tools has more than {MAX_PAGES} pages"
    )))
}

/// Returns the parameters of `initialize`.
fn hello() -> Value {
    let [.., newest] = Revision::ALL;
    json!({
        "protocolVersion": newest.as_str(),
        "capabilities": {},
        "clientInfo": { "name": "mcp-local-provider", "version": env!("CARGO_PKG_VERSION") },
    })
}

/// Returns a request as JSON-RPC has it. `params` is a JSON object.
fn request(id: u64, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// Returns the result in an answer.
fn result_of(answer: &str) -> Result<String, NoResult> {
    match Message::read(answer) {
        Ok(Message::Response {
            outcome: Ok(result),
            ..
        }) => Ok(result.map_or("null", JsonValue::get).to_owned()),
        Ok(Message::Response {
            outcome: Err(error),
            ..
        }) => Err(NoResult::Refused {
            code: error.code,
            message: printable(&error.message.decode()),
        }),
        Ok(Message::Request { .. } | Message::Notification(_)) | Err(_) => Err(NoResult::NoAnswer(
            "what the MCP server sent is no answer".to_owned(),
        )),
    }
}
