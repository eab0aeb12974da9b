//! `subscriptions/listen`: one request in which a process without sessions tells what has changed.

use super::{Delivery, Open, Out, Server};
use crate::envelope;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::{Call, INTERNAL_ERROR, Json, RpcError};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Lists whose changes are told, with the names in what is asked for.
const LISTS: [(&str, &str); 3] = [
    ("tools", "toolsListChanged"),
    ("prompts", "promptsListChanged"),
    ("resources", "resourcesListChanged"),
];

/// Requests to listen that are open. Each asks for all; the latest that the process has acknowledged counts.
#[derive(Default)]
pub(super) struct Listening {
    /// With the client's requests that wait until the process has acknowledged it.
    open: BTreeMap<u64, Vec<u64>>,
    acknowledged: Option<u64>,
}

impl Listening {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// True while the process tells what changes.
    pub(super) const fn is_told(&self) -> bool {
        self.acknowledged.is_some()
    }

    /// Forgets a client's request. False when it waits for nothing here.
    pub(super) fn leave(&mut self, call: u64) -> bool {
        let mut waits = self.open.values_mut();
        let found = waits.find_map(|waits| {
            let at = waits.iter().position(|other| *other == call)?;
            Some(waits.swap_remove(at))
        });
        found.is_some()
    }
}

impl<T: Clone> Server<T> {
    /// Asks a new process for all that the one before told.
    pub(super) fn listen(&mut self, out: &mut Out) {
        if self.is_raising() {
            self.ask_to_listen(Vec::new(), out);
        }
    }

    /// Listens for other resources than before. False when the client's request has nothing to wait for.
    pub(super) fn listen_for(&mut self, call: u64, out: &mut Out) -> bool {
        self.ask_to_listen([call].into(), out)
    }

    fn ask_to_listen(&mut self, waits: Vec<u64>, out: &mut Out) -> bool {
        let lists = LISTS.into_iter();
        let lists = lists.filter(|(kind, _)| self.raising.offers(&[kind, "listChanged"]));
        let lists: Vec<&str> = lists.map(|(_, name)| name).collect();
        if lists.is_empty() && self.subscriptions.is_empty() {
            self.stop_listening(|_| true, out);
            return false;
        }
        let number = self.peer.expect(Open::Listen, None);
        let mut json = Json::request(number, "subscriptions/listen");
        json.member("notifications").raw("{");
        for name in lists {
            json.member(name).raw("true");
        }
        if !self.subscriptions.is_empty() {
            json.member("resourceSubscriptions").raw("[");
            for (at, uri) in self.subscriptions.keys().enumerate() {
                json.raw(if at == 0 { "" } else { "," });
                json.raw(uri);
            }
            json.raw("]");
        }
        json.raw("}");
        json.member("_meta").raw("{");
        json.raw(self.raising.client());
        json.raw("}");
        out.lines.push(json.end_params());
        self.raising.listening.open.insert(number, waits);
        true
    }

    /// Takes requests to listen back.
    fn stop_listening(&mut self, which: impl Fn(u64) -> bool, out: &mut Out) {
        let open = self.raising.listening.open.keys().copied();
        let over: Vec<u64> = open.filter(|number| which(*number)).collect();
        for number in over {
            self.raising.listening.open.remove(&number);
            self.peer.cancel(number);
            let mut json = Json::notification("notifications/cancelled");
            json.member("requestId")
                .raw(itoa::Buffer::new().format(number));
            out.lines.push(json.end_params());
        }
    }

    /// Takes a notification that has to do with listening. False when it has not.
    pub(super) fn take_of_listen(
        &mut self,
        now: Instant,
        text: &str,
        call: &Call<'_>,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) -> bool {
        let of = envelope::subscription(call);
        match (&*call.method, of) {
            ("notifications/subscriptions/acknowledged", Some(number)) => {
                self.handle_acknowledged(now, number, out);
            }
            ("notifications/subscriptions/acknowledged", None) => {}
            // The process asks nothing, so this is the end of a request to listen.
            ("notifications/cancelled", _) => {
                let number = call
                    .params
                    .and_then(|params| params.member("requestId")?.whole());
                if let Some(number) = number
                    && let Some(Open::Listen) = self.peer.get(number)
                {
                    self.peer.cancel(number);
                    self.handle_listen_ended(now, number, Ok(None));
                }
            }
            (method, Some(number)) => {
                // What an older one tells, the latest tells too.
                if self.raising.listening.acknowledged == Some(number) {
                    let text = &envelope::untagged(text);
                    // It is about the server, and no caller's.
                    let callers = Vec::new();
                    deliver(Delivery::Notified {
                        text,
                        method,
                        callers,
                    });
                }
            }
            (_, None) => return false,
        }
        true
    }

    fn handle_acknowledged(&mut self, now: Instant, number: u64, out: &mut Out) {
        let listening = &mut self.raising.listening;
        if !listening.open.contains_key(&number) {
            return;
        }
        listening.acknowledged = Some(number);
        // What has changed before, nobody has told.
        self.lists.clear();
        let listening = &mut self.raising.listening;
        let heard = listening.open.range_mut(..=number);
        let heard: Vec<u64> = heard
            .flat_map(|(_, waits)| core::mem::take(waits))
            .collect();
        self.stop_listening(|other| other < number, out);
        for call in heard {
            self.answer_own(now, call, Ok("{}"));
        }
    }

    /// The process does not tell any more what has changed.
    pub(super) fn handle_listen_ended(
        &mut self,
        now: Instant,
        number: u64,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        let listening = &mut self.raising.listening;
        if listening.acknowledged == Some(number) {
            listening.acknowledged = None;
            self.lists.clear();
        }
        let listening = &mut self.raising.listening;
        let waits = listening.open.remove(&number).unwrap_or_default();
        let why = match &outcome {
            Ok(_) => (
                INTERNAL_ERROR,
                "the server tells no changes any more".into(),
            ),
            Err(error) => (error.code, error.message.decode()),
        };
        for call in waits {
            self.answer_own(now, call, Err((why.0, &why.1)));
        }
    }

    fn answer_own(&mut self, now: Instant, call: u64, outcome: Result<&str, (i64, &str)>) {
        let mut buffer = itoa::Buffer::new();
        let Some(id) = JsonValue::read(buffer.format(call)) else {
            return;
        };
        let text = match outcome {
            Ok(result) => Json::result(id, result),
            Err((code, why)) => Json::error(id, code, why),
        };
        self.answer_itself(now, call, text);
    }
}
