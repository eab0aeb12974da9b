//! The rounds of one request to an integration: its tools run here, at most ten times; those of the caller go to the caller.

use super::set::IntegrationSet;
use crate::definition::Integration;
use crate::failure::Failure;
use crate::json::{ObjectWriter, array, compact, quoted};
use crate::need::{Body, Need, NeedId, Outcome};
use crate::run::{Out, ToolResult, ToolRun, text_of, told};
use mcp_local_provider_core::invocation::{Finish, Usage};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Answers of the model to one request.
const ROUNDS: u8 = 10;
/// Calls of one answer that run.
const CALLS: usize = 16;
/// Bytes of tools' results that are sent back to the model in all.
const RESULTS: usize = 4 << 20;
/// Bits of a need's number that are the run's own; the others say which run.
const OWN: u32 = 12;

/// Request of the caller.
#[derive(Clone, Copy)]
pub struct AskedWith<'a> {
    /// A JSON array of messages, as OpenAI's chat completions have them.
    pub messages: &'a str,
    /// A JSON array of the caller's tools, in the same form.
    pub tools: Option<&'a str>,
    /// A JSON object of parameters, which stand in the place of those of the integration.
    pub parameters: Option<&'a str>,
    /// The name by which the program knows the model; that of the definition where there is none.
    pub model: Option<&'a str>,
    /// True for one that cuts the answer at the stop sequences of `parameters` itself, to know which one was met.
    pub cuts: bool,
}

impl fmt::Debug for AskedWith<'_> {
    /// Without the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedWith")
    }
}

/// A call of a tool that a model wants.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The model's id of it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Arguments, as JSON.
    pub arguments: String,
}

impl fmt::Debug for ToolCall {
    /// Without the arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolCall({})", self.name)
    }
}

/// One whole answer of the model.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Its text.
    pub text: String,
    /// The tools that it calls.
    pub calls: Vec<ToolCall>,
    /// Reason for its end, where it is known.
    pub finish: Option<Finish>,
    /// Tokens that it used, where they are known.
    pub usage: Option<Usage>,
}

impl fmt::Debug for Said {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Said({:?})", self.calls)
    }
}

/// Next thing to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Turn {
    /// Needs are open.
    Working,
    /// Ask the model with this body of a chat completion, and hand its answer to [`Rounds::handle_said`].
    Ask(String),
    /// It is over: this is the answer. Its calls are of the caller's tools.
    Deliver {
        /// The text, and the calls of the caller's tools.
        said: Said,
        /// Reason for the end: `Length` too where the model would have called on.
        finish: Finish,
    },
    /// It is over without an answer.
    Failed(Failure),
}

impl fmt::Debug for Turn {
    /// Without what is said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Working => "Working",
            Self::Ask(_) => "Ask",
            Self::Deliver { .. } => "Deliver",
            Self::Failed(_) => "Failed",
        })
    }
}

/// States of a tool's run within a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToolStatus {
    /// It has begun.
    Running,
    /// It went well.
    Ok,
    /// It failed.
    Error,
}

/// A tool began or ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolEvent {
    /// Its name in the registry.
    pub name: Box<str>,
    /// Its state now.
    pub status: ToolStatus,
}

/// Things to do, and what happened to tools. The caller takes and clears them.
#[derive(Debug, Default)]
pub struct RoundsOut {
    /// Needs to end and to begin.
    pub needs: Out,
    /// Tools that began or ended. Each that ended counts as a run, by [`Registry::ran`](crate::Registry::ran).
    pub tools: Vec<ToolEvent>,
}

#[derive(Debug)]
struct Running {
    run: ToolRun,
    /// Bits of its needs that are not its own.
    base: u32,
    /// Place of its call.
    place: usize,
}

/// One request to an integration. Call [`Rounds::start`] once, then do what each [`Turn`] says.
#[derive(Debug)]
pub struct Rounds {
    set: IntegrationSet,
    /// Messages, each as JSON.
    messages: Vec<String>,
    /// Tools of the caller and of the integration, each as JSON.
    tools: Vec<String>,
    parameters: BTreeMap<String, String>,
    model: Box<str>,
    usage: Usage,
    depth: u8,
    round: u8,
    resources: Vec<Option<String>>,
    running: Vec<Running>,
    /// Calls of this round: ids, with results once they are there.
    calls: Vec<(String, Option<String>)>,
    runs: u32,
    bytes: usize,
    is_over: bool,
}

impl Rounds {
    /// Makes the machine. `depth` says how many runs it is within, as [`AskNeed::depth`](crate::AskNeed::depth) does.
    ///
    /// # Errors
    /// A part of what the caller asks with is no array, or no object.
    pub fn new(mut set: IntegrationSet, asked: AskedWith<'_>, depth: u8) -> Result<Self, Failure> {
        let list = |json: &str, name: &str| {
            let value = JsonValue::read(json).filter(|it| it.get().starts_with('['));
            let value = value.ok_or_else(|| crate::json::must_be(name, "an array"))?;
            let elements = value.elements().into_iter();
            Ok::<_, Failure>(elements.map(|it| compact(it.get())).collect::<Vec<_>>())
        };
        let mut tools = match asked.tools {
            Some(tools) => list(tools, "tools")?,
            None => Vec::new(),
        };
        // A tool of the caller stands in the place of one of the same name here.
        for tool in &tools {
            let name = JsonValue::read(tool).and_then(|it| it.path(&["function", "name"])?.text());
            if let Some(name) = name {
                set.tools.remove(&*name);
            }
        }
        for (shown, tool) in &set.tools {
            let listed = JsonValue::read(&tool.root.listed);
            let member = |name| listed.and_then(|it| it.member(name)).map(JsonValue::get);
            let mut function = ObjectWriter::new();
            function.text("name", shown);
            if let Some(description) = member("description") {
                function.json("description", description);
            }
            function.json("parameters", member("inputSchema").unwrap_or("{}"));
            let function = function.finish();
            tools.push(format!("{{\"type\":\"function\",\"function\":{function}}}"));
        }
        let mut parameters = BTreeMap::new();
        for json in [set.integration.parameters.as_deref(), asked.parameters] {
            let value = json.and_then(JsonValue::read);
            for (name, value) in value.into_iter().flat_map(|it| it.members()) {
                parameters.insert(name.decode().into_owned(), compact(value.get()));
            }
        }
        for name in ["model", "messages", "tools", "stream", "stream_options"] {
            parameters.remove(name);
        }
        let stop = asked
            .parameters
            .and_then(|json| JsonValue::read(json)?.member("stop"));
        if asked.cuts && stop.is_some() {
            parameters.remove("stop");
        }
        let resources = set.integration.shown_resources().len();
        Ok(Self {
            messages: list(asked.messages, "messages")?,
            tools,
            parameters,
            model: asked.model.unwrap_or(&set.integration.model).into(),
            usage: Usage::default(),
            depth,
            round: 0,
            resources: vec![None; resources],
            running: Vec::new(),
            calls: Vec::new(),
            runs: 0,
            bytes: 0,
            is_over: false,
            set,
        })
    }

    /// The integration.
    #[must_use]
    pub const fn integration(&self) -> &Arc<Integration> {
        &self.set.integration
    }

    /// Tokens of all answers up to now.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// True while tools run or resources are read, and the model waits.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        !self.is_over && (!self.calls.is_empty() || self.resources.iter().any(Option::is_none))
    }

    /// Begins it.
    pub fn start(&mut self, out: &mut RoundsOut) -> Turn {
        let uris = self.set.integration.shown_resources();
        for (at, uri) in (0..).zip(uris) {
            let need = Need::Read(uri.to_string());
            out.needs.start.push((NeedId(at), need));
        }
        if uris.is_empty() {
            self.begin_with_system();
            return Turn::Ask(self.body());
        }
        Turn::Working
    }

    /// Puts the message of the system before all others.
    fn begin_with_system(&mut self) {
        let system = self.set.integration.system.as_deref().map(str::to_owned);
        let uris = self.set.integration.shown_resources().iter();
        let resources = uris.zip(&self.resources).filter_map(|(uri, text)| {
            let text = text.as_ref()?;
            Some(format!("{uri}\n{text}"))
        });
        let parts: Vec<String> = system.into_iter().chain(resources).collect();
        if !parts.is_empty() {
            let content = quoted(&parts.join("\n\n"));
            let message = format!("{{\"role\":\"system\",\"content\":{content}}}");
            self.messages.insert(0, message);
        }
        self.resources.clear();
    }

    /// The body of the next question. Its answer is streamed, so that the caller hears of it as it comes.
    fn body(&self) -> String {
        let mut body = ObjectWriter::new();
        body.text("model", &self.model);
        body.json("stream", "true");
        body.json("stream_options", "{\"include_usage\":true}");
        body.json("messages", &array(&self.messages));
        if !self.tools.is_empty() {
            body.json("tools", &array(&self.tools));
        }
        for (name, value) in &self.parameters {
            body.json(name, value);
        }
        body.finish()
    }

    /// Takes an answer of the model.
    pub fn handle_said(&mut self, now: Instant, mut said: Said, out: &mut RoundsOut) -> Turn {
        if self.is_over || !self.calls.is_empty() {
            return Turn::Working;
        }
        self.round += 1;
        let used = said.usage.unwrap_or_default();
        let all = &mut self.usage;
        all.prompt_tokens = all.prompt_tokens.saturating_add(used.prompt_tokens);
        all.completion_tokens = all.completion_tokens.saturating_add(used.completion_tokens);
        all.estimated |= used.estimated || said.usage.is_none();
        let (own, others): (Vec<ToolCall>, Vec<ToolCall>) = said
            .calls
            .drain(..)
            .partition(|call| self.set.tools.contains_key(&call.name));
        let is_cut = others.is_empty() && !own.is_empty() && self.round >= ROUNDS;
        if own.is_empty() || !others.is_empty() || is_cut {
            // Where the model calls tools of both, those of the caller go first; it may call the others again.
            self.is_over = true;
            let finish = match (is_cut, others.is_empty(), said.finish) {
                (true, _, _) => Finish::Length,
                (false, false, _) => Finish::ToolCalls,
                (false, true, None | Some(Finish::ToolCalls)) => Finish::Stop,
                (false, true, Some(finish)) => finish,
            };
            let calls = others;
            let said = Said { calls, ..said };
            return Turn::Deliver { said, finish };
        }
        // The call that was asked for is made, and the model may answer.
        self.parameters
            .retain(|name, value| name != "tool_choice" || !self.set.forces(value));
        let calls = own.iter().map(|call| {
            let mut function = ObjectWriter::new();
            function.text("name", &call.name);
            function.text("arguments", &call.arguments);
            let mut shown = ObjectWriter::new();
            shown.text("id", &call.id).text("type", "function");
            shown.json("function", &function.finish()).finish()
        });
        let calls = array(calls);
        let mut message = ObjectWriter::new();
        message
            .text("role", "assistant")
            .text("content", &said.text);
        self.messages
            .push(message.json("tool_calls", &calls).finish());
        for (place, call) in own.into_iter().enumerate() {
            self.calls.push((call.id.clone(), None));
            self.call(place, &call, now, out);
        }
        self.next()
    }

    /// Begins the run of one call, or notes why not.
    fn call(&mut self, place: usize, call: &ToolCall, now: Instant, out: &mut RoundsOut) {
        let Some(set) = self.set.tools.get(&call.name).cloned() else {
            return;
        };
        let name: Box<str> = set.name().into();
        let event = |status| ToolEvent {
            name: name.clone(),
            status,
        };
        let run = if place >= CALLS {
            Err(Failure::wrong(format!(
                "{CALLS} tools run at once; call it again"
            )))
        } else {
            let text = match call.arguments.trim() {
                "" => "{}",
                text => text,
            };
            let json = JsonValue::read(text);
            let json = json.ok_or_else(|| Failure::wrong("the arguments are no JSON"));
            let arguments = json.and_then(|json| crate::json::to_value(json, "arguments"));
            arguments.and_then(|arguments| ToolRun::new(set, arguments, None, self.depth))
        };
        let mut run = match run {
            Ok(run) => run,
            Err(failure) => {
                out.tools.push(event(ToolStatus::Error));
                let text = told(failure);
                self.note(place, text);
                return;
            }
        };
        out.tools.push(event(ToolStatus::Running));
        self.runs += 1;
        let base = self.runs << OWN;
        let mut needs = Out::default();
        let ended = run.start(now, &mut needs);
        move_needs(base, needs, &mut out.needs);
        match ended {
            None => self.running.push(Running { run, base, place }),
            Some(ended) => self.ended(place, &name, ended, out),
        }
    }

    /// Notes the end of a call.
    fn ended(
        &mut self,
        place: usize,
        name: &str,
        ended: Result<ToolResult, Failure>,
        out: &mut RoundsOut,
    ) {
        let (status, text) = match ended {
            Ok(result) => {
                let texts = text_of(&result.content);
                // What is no text is told as the blocks that it is.
                let plain = result
                    .content
                    .iter()
                    .all(|it| it.starts_with("{\"type\":\"text\""));
                let text = if plain { texts } else { array(&result.content) };
                match result.is_error {
                    true => (ToolStatus::Error, text),
                    false => (ToolStatus::Ok, text),
                }
            }
            Err(failure) => (ToolStatus::Error, told(failure)),
        };
        let name = name.into();
        out.tools.push(ToolEvent { name, status });
        self.note(place, text);
    }

    fn note(&mut self, place: usize, text: String) {
        let text = match self.bytes + text.len() > RESULTS {
            true => format!("the results of this answer's tools are over {RESULTS} bytes"),
            false => text,
        };
        self.bytes += text.len();
        if let Some((_, result)) = self.calls.get_mut(place) {
            *result = Some(text);
        }
    }

    /// Asks again once every call has its result.
    fn next(&mut self) -> Turn {
        if self.calls.iter().any(|(_, result)| result.is_none()) {
            return Turn::Working;
        }
        for (id, result) in self.calls.drain(..) {
            let mut message = ObjectWriter::new();
            message.text("role", "tool").text("tool_call_id", &id);
            message.text("content", &result.unwrap_or_default());
            self.messages.push(message.finish());
        }
        Turn::Ask(self.body())
    }

    /// Takes what came of a need.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        id: NeedId,
        outcome: Outcome,
        out: &mut RoundsOut,
    ) -> Turn {
        if self.is_over {
            return Turn::Working;
        }
        let base = (id.0 >> OWN) << OWN;
        if base == 0 {
            return self.take_resource(id, outcome, out);
        }
        let Some(at) = self.running.iter().position(|it| it.base == base) else {
            return Turn::Working;
        };
        let mut needs = Out::default();
        let own = NeedId(id.0 - base);
        let ended = self
            .running
            .get_mut(at)
            .and_then(|it| it.run.handle_outcome(now, own, outcome, &mut needs));
        move_needs(base, needs, &mut out.needs);
        match ended {
            Some(ended) => self.over(at, ended, out),
            None => Turn::Working,
        }
    }

    fn over(&mut self, at: usize, ended: Result<ToolResult, Failure>, out: &mut RoundsOut) -> Turn {
        let running = self.running.swap_remove(at);
        let name = running.run.tool().to_owned();
        self.ended(running.place, &name, ended, out);
        self.next()
    }

    fn take_resource(&mut self, id: NeedId, outcome: Outcome, out: &mut RoundsOut) -> Turn {
        let at = usize::try_from(id.0).unwrap_or(usize::MAX);
        if !self.resources.get(at).is_some_and(Option::is_none) {
            return Turn::Working;
        }
        let failure = match outcome {
            Outcome::Read(Ok(contents)) => {
                let text = match &contents.body {
                    Body::Text(text) => text.to_string(),
                    Body::Bytes(_) => format!("({}, no text)", contents.mime_type),
                };
                if let Some(slot) = self.resources.get_mut(at) {
                    *slot = Some(text);
                }
                if self.resources.iter().any(Option::is_none) {
                    return Turn::Working;
                }
                self.begin_with_system();
                return Turn::Ask(self.body());
            }
            Outcome::Read(Err(failure)) => failure,
            Outcome::TimedOut => Failure::timeout("a resource did not come in time"),
            Outcome::Failed(_)
            | Outcome::Http(_)
            | Outcome::Exited { .. }
            | Outcome::Said(_)
            | Outcome::Called(_)
            | Outcome::File(_)
            | Outcome::TooLarge => Failure::bad_answer("a resource cannot be read"),
        };
        if let Some(slot) = self.resources.get_mut(at) {
            *slot = Some(String::new());
        }
        self.cancel(out);
        Turn::Failed(failure)
    }

    /// Ends what has taken too long.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut RoundsOut) -> Turn {
        let mut turn = Turn::Working;
        let mut at = 0;
        while let Some(running) = self.running.get_mut(at) {
            let mut needs = Out::default();
            let ended = running.run.handle_timeout(now, &mut needs);
            move_needs(running.base, needs, &mut out.needs);
            match ended {
                Some(ended) => turn = self.over(at, ended, out),
                None => at += 1,
            }
        }
        turn
    }

    /// Returns when to call [`Rounds::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.running
            .iter()
            .filter_map(|it| it.run.poll_timeout())
            .min()
    }

    /// Ends it: the caller left, or the model failed. It may be called again.
    pub fn cancel(&mut self, out: &mut RoundsOut) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        for (at, _) in (0..).zip(&self.resources).filter(|(_, it)| it.is_none()) {
            out.needs.end.push(NeedId(at));
        }
        for mut running in self.running.drain(..) {
            let mut needs = Out::default();
            running.run.cancel(&mut needs);
            move_needs(running.base, needs, &mut out.needs);
        }
    }
}

/// Gives the needs of one run numbers that no other run has.
fn move_needs(base: u32, from: Out, to: &mut Out) {
    let own = |id: NeedId| NeedId(base | id.0);
    to.end.extend(from.end.into_iter().map(own));
    let start = from.start.into_iter();
    to.start.extend(start.map(|(id, need)| (own(id), need)));
}

#[cfg(test)]
#[path = "rounds_tests.rs"]
mod tests;
