//! What an agent asks of its client. Everything is answered, nothing is allowed.

use super::{Agent, Context};
use crate::agents::acp::ports::Event;
use crate::agents::acp::rpc::{Json, METHOD_NOT_FOUND, text};
use crate::agents::acp::update::{path, shown};
use alloc::vec::Vec;
use serde_json::value::RawValue;

/// The answer that neither allows nor rejects.
const CANCELLED: &str = "{\"outcome\":{\"outcome\":\"cancelled\"}}";

impl Agent {
    pub(super) fn asked(
        &mut self,
        context: &mut Context<'_>,
        id: &RawValue,
        method: &str,
        params: Option<&RawValue>,
    ) {
        let line = if method == "session/request_permission" {
            self.counters.permissions_refused += 1;
            let kind = text(path(params, &["toolCall", "kind"])).unwrap_or_default();
            context
                .out
                .events
                .push(Event::PermissionRefused { kind: shown(&kind) });
            Json::result(id, &self.refuse(params))
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
        self.send(context, line);
        self.is_stuffed(context);
    }

    /// `reject_once`, where that is offered. What would be remembered is never chosen, neither way.
    fn refuse(&self, params: Option<&RawValue>) -> alloc::string::String {
        let options: Vec<&RawValue> = path(params, &["options"])
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let reject = options.into_iter().find_map(|option| {
            let kind = text(path(Some(option), &["kind"]))?;
            (kind == "reject_once")
                .then(|| text(path(Some(option), &["optionId"])))
                .flatten()
        });
        match reject {
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
}
