//! Requests that a process without sessions answers in several rounds: it says what it wants to know, the client is asked, and the
//! request is sent again with the answers.

use super::{Delivery, Open, Out, Server};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::{Json, Message, one_line};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Rounds of one request.
const ROUNDS: u32 = 32;

/// Error code for a question that the client has not said it can answer.
const MISSING_CAPABILITY: i64 = -32021;

/// Questions that a process may ask, with the capability that a client must have declared.
const METHODS: [(&str, &str); 3] = [
    ("sampling/createMessage", "sampling"),
    ("elicitation/create", "elicitation"),
    ("roots/list", "roots"),
];

/// A client's request that may be sent more than once.
pub(super) struct Rounds {
    /// The request as it was before it was sent.
    line: String,
    is_read: bool,
    count: u32,
    step: Step,
}

enum Step {
    /// The process has the request, under this number.
    Sent(u64),
    /// The client is asked.
    Asking {
        /// To be sent back, as JSON.
        state: Option<Box<str>>,
        /// Results of the client, by the escaped names of its questions.
        answers: BTreeMap<Box<str>, Option<Box<str>>>,
    },
}

impl Rounds {
    /// Keeps a request whose method may have several rounds.
    pub(super) fn of(method: &str, number: u64, line: &str) -> Option<Self> {
        let is_read = method == "resources/read";
        let may_ask = is_read || matches!(method, "tools/call" | "prompts/get");
        may_ask.then(|| Self {
            line: line.into(),
            is_read,
            count: 0,
            step: Step::Sent(number),
        })
    }

    /// The number under which the process has the request; `None` while the client is asked.
    pub(super) const fn sent(&self) -> Option<u64> {
        match self.step {
            Step::Sent(number) => Some(number),
            Step::Asking { .. } => None,
        }
    }

    /// True for `resources/read`.
    pub(super) const fn is_read(&self) -> bool {
        self.is_read
    }
}

/// Questions to the client that are open, by their numbers.
#[derive(Default)]
pub(super) struct Questions {
    last: u64,
    /// The request that the question belongs to, and what is asked for.
    open: BTreeMap<u64, (u64, Box<str>)>,
}

impl Questions {
    fn put(&mut self, call: u64, name: &str) -> u64 {
        self.last += 1;
        self.open.insert(self.last, (call, name.into()));
        self.last
    }

    /// Takes the questions of a request back.
    pub(super) fn end(&mut self, call: u64) -> Vec<u64> {
        let all = self.open.iter();
        let own = all.filter(|(_, (of, _))| *of == call);
        let own: Vec<u64> = own.map(|(number, _)| *number).collect();
        for number in &own {
            self.open.remove(number);
        }
        own
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

/// A question as the process has put it.
struct Wanted<'r> {
    name: &'r str,
    method: &'static str,
    params: Option<JsonValue<'r>>,
}

/// Reads what a result asks for.
fn wanted<'r>(result: JsonValue<'r>) -> Result<Vec<(Wanted<'r>, &'static str)>, &'static str> {
    let requests = result.member("inputRequests").map(JsonValue::members);
    let requests = requests.unwrap_or_default().into_iter();
    requests
        .map(|(name, request)| {
            let method = request.member("method").and_then(JsonValue::text);
            let known = METHODS.into_iter();
            let mut known = known.filter(|(known, _)| method.as_deref() == Some(*known));
            let (method, capability) = known
                .next()
                .ok_or("a question that no client can be asked")?;
            let params = request.member("params").filter(|params| !params.is_null());
            let name = name.as_escaped();
            Ok((
                Wanted {
                    name,
                    method,
                    params,
                },
                capability,
            ))
        })
        .collect()
}

impl<T: Clone> Server<T> {
    /// The process wants to know something of the client before it answers.
    pub(super) fn ask_client(
        &mut self,
        now: Instant,
        call: u64,
        result: JsonValue<'_>,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        let Some(Open::Call(waiting)) = self.peer.get_mut(call) else {
            return;
        };
        let Some(rounds) = waiting.rounds.as_deref_mut() else {
            return self.fail_one(call, "a question where it may not ask", deliver);
        };
        rounds.count += 1;
        let state = result.member("requestState");
        let asked = match wanted(result) {
            Ok(asked) if asked.is_empty() && state.is_none() => Err("a question without content"),
            Ok(_) if rounds.count > ROUNDS => Err("more questions than it may have"),
            asked => asked,
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(what) => return self.fail_one(call, what, deliver),
        };
        let names = asked.iter().map(|(wanted, _)| (wanted.name.into(), None));
        rounds.step = Step::Asking {
            state: state.map(|state| one_line(state.get()).into()),
            answers: names.collect(),
        };
        let latest = waiting.since + self.times.request_max;
        self.peer.defer(call, latest.min(now + self.times.request));
        let missing = asked
            .iter()
            .find(|(_, capability)| !self.raising.has_declared(capability));
        if let Some((wanted, capability)) = missing {
            return self.miss(now, call, wanted.method, capability);
        }
        if asked.is_empty() {
            return self.send_again(now, call, out);
        }
        for (wanted, _) in asked {
            let question = self.raising.questions.put(call, wanted.name);
            let mut json = Json::request(question, wanted.method);
            if let Some(params) = wanted.params {
                let params = params.get().trim_start_matches('{');
                json.raw(params.strip_suffix('}').unwrap_or_default());
            }
            let text = json.end_params();
            let text = text.trim_end();
            let Some(Open::Call(waiting)) = self.peer.get(call) else {
                return;
            };
            if let Ok(Message::Request { id, .. }) = Message::read(text) {
                let (of, method) = (Some(&waiting.to), wanted.method);
                deliver(Delivery::Asked {
                    of,
                    text,
                    id,
                    method,
                });
            }
        }
    }

    /// The client cannot answer what the process wants to know.
    fn miss(&mut self, now: Instant, call: u64, method: &str, capability: &str) {
        let why = format!(
            "the server asks for `{method}`, for which the client has not declared `{capability}`"
        );
        let mut json = Json::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
        json.raw(itoa::Buffer::new().format(call));
        json.raw(",\"error\":{\"code\":");
        json.raw(itoa::Buffer::new().format(MISSING_CAPABILITY));
        json.raw(",\"message\":");
        json.string(&why);
        json.raw(",\"data\":{\"requiredCapabilities\":{");
        json.member(capability).raw("{}");
        json.raw("}}}}");
        self.answer_itself(now, call, json.finish());
    }

    /// Takes a client's notification, of which a process without sessions wants none, or its answer to a question, with the
    /// question's number where that is not the `id` in it.
    pub(super) fn take_from_client(
        &mut self,
        now: Instant,
        text: &str,
        id: Option<(JsonValue<'_>, &str)>,
        out: &mut Out,
    ) {
        let Ok(Message::Response { id: inner, outcome }) = Message::read(text) else {
            return;
        };
        let question = id.map_or_else(|| inner.get(), |(_, given)| given);
        let question = question.parse::<u64>().ok();
        let question = question.and_then(|number| self.raising.questions.open.remove(&number));
        let Some((call, name)) = question else {
            return;
        };
        let Some(Open::Call(waiting)) = self.peer.get_mut(call) else {
            return;
        };
        let Some(Step::Asking { answers, .. }) =
            waiting.rounds.as_deref_mut().map(|rounds| &mut rounds.step)
        else {
            return;
        };
        match outcome {
            Ok(result) => {
                let result = result.map_or("{}", JsonValue::get);
                answers.insert(name, Some(one_line(result).into()));
                if answers.values().all(Option::is_some) {
                    self.send_again(now, call, out);
                }
            }
            Err(error) => {
                let mut json = Json::new();
                json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
                json.raw(itoa::Buffer::new().format(call));
                json.raw(",\"error\":{\"code\":");
                json.raw(itoa::Buffer::new().format(error.code));
                json.raw(",\"message\":");
                json.escaped(error.message.as_escaped());
                if let Some(data) = error.data {
                    json.member("data").raw(data.get());
                }
                json.raw("}}");
                self.answer_itself(now, call, json.finish());
            }
        }
    }

    /// Sends a request again, with all that the process wanted to know.
    fn send_again(&mut self, now: Instant, call: u64, out: &mut Out) {
        let number = self.peer.expect(Open::Round(call), None);
        let latest = match self.peer.get_mut(call) {
            Some(Open::Call(waiting)) => {
                let latest = waiting.since + self.times.request_max;
                let Some(rounds) = waiting.rounds.as_deref_mut() else {
                    return;
                };
                let step = core::mem::replace(&mut rounds.step, Step::Sent(number));
                let (state, answers) = match step {
                    Step::Asking { state, answers } => (state, answers),
                    Step::Sent(_) => (None, BTreeMap::new()),
                };
                let mut json = Json::new();
                json.raw("{");
                for (name, answer) in &answers {
                    json.member(name).raw(answer.as_deref().unwrap_or("null"));
                }
                json.raw("}");
                let responses = (!answers.is_empty()).then(|| json.finish());
                let line = core::mem::take(&mut rounds.line);
                self.send_raised(number, &line, responses.as_deref(), state.as_deref(), out);
                if let Some(Open::Call(waiting)) = self.peer.get_mut(call)
                    && let Some(rounds) = waiting.rounds.as_deref_mut()
                {
                    rounds.line = line;
                }
                latest
            }
            Some(
                Open::Handshake
                | Open::Listen
                | Open::Round(_)
                | Open::Own
                | Open::Withdrawn(_)
                | Open::Life,
            )
            | None => return,
        };
        self.peer.defer(call, latest.min(now + self.times.request));
    }
}
