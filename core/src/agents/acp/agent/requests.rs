//! Requests of an agent to its client. Everything is answered; nothing is allowed but the caller's own tools.

use super::states::State;
use super::{Agent, Context};
use crate::agents::acp::ports::Event;
use crate::agents::acp::update::{list, path, shown, text};
use crate::rpc::{Json, METHOD_NOT_FOUND};
use crate::text::JsonValue;
use alloc::string::String;

/// The answer that neither allows nor rejects.
const CANCELLED: &str = "{\"outcome\":{\"outcome\":\"cancelled\"}}";

impl Agent {
    pub(super) fn asked(
        &mut self,
        context: &mut Context<'_>,
        id: JsonValue<'_>,
        method: &str,
        params: Option<JsonValue<'_>>,
    ) {
        let line = if method == "session/request_permission" {
            let tool = path(params, &["toolCall"]);
            let own = self.is_own_tool(params, tool);
            if !own {
                self.counters.permissions_refused += 1;
                let kind = text(path(tool, &["kind"])).unwrap_or_default();
                context
                    .out
                    .events
                    .push(Event::PermissionRefused { kind: shown(&kind) });
            }
            Json::result(
                id,
                &choose(params, if own { "allow_once" } else { "reject_once" }),
            )
        } else {
            context.out.events.push(Event::RequestRefused {
                method: shown(method),
            });
            Json::error(
                id,
                METHOD_NOT_FOUND,
                "this client offers no files, no terminals and no extensions",
            )
        };
        context.out.lines.push(line);
        self.is_stuffed(context);
    }

    /// True when the permission is for a tool of the caller.
    fn is_own_tool(&self, params: Option<JsonValue<'_>>, tool: Option<JsonValue<'_>>) -> bool {
        let session = text(path(params, &["sessionId"]))
            .and_then(|name| self.pool.named(&name))
            .and_then(|key| self.pool.get(key));
        session.is_some_and(|session| {
            matches!(session.state, State::Prompting | State::Parked) && session.is_own(tool)
        })
    }
}

/// The option of this kind, where that is offered. What would be remembered is never chosen, neither way.
fn choose(params: Option<JsonValue<'_>>, wanted: &str) -> String {
    let options = list(path(params, &["options"]));
    let chosen = options.into_iter().find_map(|option| {
        let kind = text(path(Some(option), &["kind"]))?;
        (kind == wanted)
            .then(|| text(path(Some(option), &["optionId"])))
            .flatten()
    });
    match chosen {
        Some(option) => {
            let mut json = Json::new();
            json.raw("{\"outcome\":{\"outcome\":\"selected\",\"optionId\":");
            json.string(&option);
            json.raw("}}");
            json.finish()
        }
        None => CANCELLED.into(),
    }
}
