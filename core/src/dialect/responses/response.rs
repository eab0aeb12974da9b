//! Answers of the Responses API: a response, and the events that tell it item by item.

mod output;

use crate::dialect::responses::events::{
    COMPLETED, IN_PROGRESS, INCOMPLETE, Item, Kind, Output, Said, Sequence, write_head,
    write_index, write_usage,
};
use crate::dialect::{Answer, AnsweredCall, Encoder, Opening, Timing};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::{Finish, Usage};
use crate::text;
use crate::time::Instant;
use crate::wire::Records;
use alloc::vec::Vec;
use core::fmt;

/// Charge of one item beside its text, in bytes.
const OVERHEAD: usize = 256;

/// Writes a response, streamed or whole.
///
/// Items follow one another: reasoning and messages end where something else begins, a call ends where its arguments are
/// complete and something else begins. Every text is kept, because the events that end a part, an item and the response
/// repeat it.
pub(super) struct ResponseEncoder {
    /// The request's settings, which the response repeats.
    settings: Vec<u8>,
    /// Bytes that a response starts with.
    head: Vec<u8>,
    exchange: Option<ExchangeId>,
    sequence: Sequence,
    output: Vec<Output>,
    /// Kind of the last item, when text can be added to it.
    open: Option<Open>,
    /// Bytes behind the number of a delta of that text.
    delta: Vec<u8>,
    /// Bytes of all text in the output.
    held: usize,
    calls: Vec<AnsweredCall>,
    /// Place of each call in the output.
    places: Vec<Place>,
    /// The items of the conversation so far, when it is to be kept.
    conversation: Option<Vec<u8>>,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Reasoning,
    Said(Kind),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The call's name is not known yet.
    Waiting,
    Open(usize),
    Closed,
}

/// The end of a response.
struct End<'e> {
    status: &'static str,
    /// The reason of an incomplete response.
    reason: Option<&'static str>,
    /// Code and message of a failed response.
    error: Option<(Code, &'e str)>,
    usage: Option<Usage>,
}

impl fmt::Debug for ResponseEncoder {
    /// Text is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseEncoder({} items)", self.output.len())
    }
}

impl ResponseEncoder {
    /// `settings` are fields of an object, each with a comma behind it; `conversation` the elements of a list.
    pub(super) fn new(settings: Vec<u8>, conversation: Option<Vec<u8>>) -> Self {
        Self {
            settings,
            head: Vec::new(),
            exchange: None,
            sequence: Sequence::default(),
            output: Vec::new(),
            open: None,
            delta: Vec::new(),
            held: 0,
            calls: Vec::new(),
            places: Vec::new(),
            conversation,
            ended: false,
        }
    }

    fn prepare(&mut self, opening: &Opening<'_>) {
        self.exchange = Some(opening.id);
        self.head.clear();
        write_head(opening, &mut self.head);
    }

    /// `"item_id":…,"output_index":…,`
    fn write_place(&self, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"item_id\":\"");
        if let Some(output) = self.output.get(index) {
            output.item.write_id(self.exchange, index, out);
        }
        out.extend_from_slice(b"\",\"output_index\":");
        write_index(index, out);
        out.push(b',');
    }

    fn write_item(&self, index: usize, output: &Output, out: &mut Vec<u8>) {
        let (exchange, status) = (self.exchange, output.status);
        output.item.write(exchange, index, status, &self.calls, out);
    }

    fn write_response(&self, end: &End<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.settings);
        out.extend_from_slice(b"\"status\":\"");
        out.extend_from_slice(end.status.as_bytes());
        out.extend_from_slice(b"\",\"error\":");
        match end.error {
            None => out.extend_from_slice(b"null"),
            Some((code, message)) => {
                out.extend_from_slice(b"{\"code\":\"");
                out.extend_from_slice(error_code(code).as_bytes());
                out.extend_from_slice(b"\",\"message\":\"");
                text::escape_into(out, message);
                out.extend_from_slice(b"\"}");
            }
        }
        out.extend_from_slice(b",\"incomplete_details\":");
        match end.reason {
            None => out.extend_from_slice(b"null"),
            Some(reason) => {
                out.extend_from_slice(b"{\"reason\":\"");
                out.extend_from_slice(reason.as_bytes());
                out.extend_from_slice(b"\"}");
            }
        }
        out.extend_from_slice(b",\"output\":[");
        for (index, output) in self.output.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.write_item(index, output, out);
        }
        out.extend_from_slice(b"],");
        write_usage(end.usage, out);
        out.push(b'}');
    }

    /// An event that shows the response.
    fn response(&mut self, name: &'static str, end: &End<'_>, out: &mut Records<'_>) {
        let record = self.sequence.begin(name, out);
        record.extend_from_slice(b"\"response\":");
        self.write_response(end, record);
        record.push(b'}');
        out.end();
    }

    /// An event that shows an item.
    fn item(&mut self, name: &'static str, index: usize, out: &mut Records<'_>) {
        let record = self.sequence.begin(name, out);
        record.extend_from_slice(b"\"output_index\":");
        write_index(index, record);
        record.extend_from_slice(b",\"item\":");
        if let Some(output) = self.output.get(index) {
            self.write_item(index, output, record);
        }
        record.push(b'}');
        out.end();
    }

    /// An event of one place in the output, whose other fields `fields` appends.
    fn detail(
        &mut self,
        name: &'static str,
        index: usize,
        out: &mut Records<'_>,
        fields: impl FnOnce(&Self, &mut Vec<u8>),
    ) {
        let record = self.sequence.begin(name, out);
        self.write_place(index, record);
        fields(self, record);
        record.push(b'}');
        out.end();
    }

    fn refused(&self) -> bool {
        self.output.iter().any(|output| match &output.item {
            Item::Message(parts) => parts.iter().any(|part| part.kind == Kind::Refusal),
            Item::Reasoning(_) | Item::Call(_) => false,
        })
    }

    fn how_ended(&self, finish: Finish, usage: Usage) -> End<'static> {
        let reason = match finish {
            Finish::Length => Some("max_output_tokens"),
            // With its reason told it is an answer.
            Finish::ContentFilter => (!self.refused()).then_some("content_filter"),
            Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls => None,
        };
        End {
            status: if reason.is_some() {
                INCOMPLETE
            } else {
                COMPLETED
            },
            reason,
            error: None,
            usage: Some(usage),
        }
    }
}

/// The reference's name for what went wrong; clients repeat a `server_error`.
const fn error_code(code: Code) -> &'static str {
    match code {
        Code::RateLimited => "rate_limit_exceeded",
        Code::ContextLength => "context_length_exceeded",
        Code::InvalidRequest => "invalid_prompt",
        Code::TooLarge
        | Code::RequestTimeout
        | Code::InvalidKey
        | Code::RoleDenied
        | Code::ScopeDenied
        | Code::OriginDenied
        | Code::SessionDenied
        | Code::ModelNotFound
        | Code::SessionNotFound
        | Code::ResponseNotFound
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::Conflict
        | Code::Disabled
        | Code::NoAgent
        | Code::Overloaded
        | Code::Draining
        | Code::AgentLost
        | Code::AgentFault
        | Code::AgentError
        | Code::AgentTimeout
        | Code::AgentRefused
        | Code::SlowClient
        | Code::AnswerTooLarge
        | Code::SessionEnded
        | Code::LoopDetected
        | Code::NotImplemented
        | Code::Internal => "server_error",
    }
}

impl Encoder for ResponseEncoder {
    fn open(&mut self, opening: &Opening<'_>, out: &mut Records<'_>) {
        self.prepare(opening);
        let begun = End {
            status: IN_PROGRESS,
            reason: None,
            error: None,
            usage: None,
        };
        self.response("response.created", &begun, out);
        self.response("response.in_progress", &begun, out);
    }

    #[inline]
    fn content(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.said(Kind::Text, text, out);
    }

    fn reasoning(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        // Nothing is no item.
        if text.is_empty() {
            return;
        }
        if self.open != Some(Open::Reasoning) {
            self.begin_reasoning(out);
        }
        if let Some(Output {
            item: Item::Reasoning(all),
            ..
        }) = self.output.last_mut()
        {
            all.extend_from_slice(text);
            self.held += text.len();
        }
        let name = "response.reasoning_summary_text.delta";
        let record = self.sequence.begin(name, out);
        record.extend_from_slice(&self.delta);
        record.extend_from_slice(text);
        record.extend_from_slice(b"\"}");
        out.end();
    }

    fn refusal(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.said(Kind::Refusal, text, out);
    }

    fn tool_call(
        &mut self,
        _now: Instant,
        index: u32,
        id: &[u8],
        name: &[u8],
        arguments: &[u8],
        out: &mut Records<'_>,
    ) {
        let at = AnsweredCall::find(&mut self.calls, index, id, name);
        self.places.resize(self.calls.len(), Place::Waiting);
        let (Some(call), Some(place)) = (self.calls.get_mut(at), self.places.get(at)) else {
            return;
        };
        match *place {
            Place::Closed => {}
            Place::Open(index) => {
                call.take(id, name, arguments);
                self.arguments(index, arguments, out);
            }
            Place::Waiting => {
                call.take(id, name, arguments);
                if !call.name.is_empty() {
                    self.begin_call(at, out);
                }
            }
        }
    }

    fn end(
        &mut self,
        _now: Instant,
        finish: Finish,
        usage: Usage,
        _timing: &Timing,
        out: &mut Records<'_>,
    ) {
        for at in 0..self.calls.len() {
            if self.places.get(at) == Some(&Place::Waiting) {
                self.begin_call(at, out);
            }
            if let (Some(call), Some(Place::Open(index))) =
                (self.calls.get(at), self.places.get(at))
                && !call.argued()
            {
                let index = *index;
                self.arguments(index, b"{}", out);
            }
        }
        let end = self.how_ended(finish, usage);
        self.end_items(end.status, |_| true, out);
        let name = match end.status {
            COMPLETED => "response.completed",
            _ => "response.incomplete",
        };
        self.response(name, &end, out);
        self.ended = true;
    }

    fn keep_alive(&mut self, _now: Instant, out: &mut Records<'_>) {
        out.comment("keep-alive");
    }

    fn failed(&mut self, _now: Instant, code: Code, message: &str, out: &mut Records<'_>) {
        for output in &mut self.output {
            if output.status == IN_PROGRESS {
                output.status = INCOMPLETE;
            }
        }
        let end = End {
            status: "failed",
            reason: None,
            error: Some((code, message)),
            usage: None,
        };
        self.response("response.failed", &end, out);
    }

    fn whole(
        &mut self,
        opening: &Opening<'_>,
        answer: &Answer,
        finish: Finish,
        usage: Usage,
        _timing: &Timing,
        out: &mut Vec<u8>,
    ) {
        self.prepare(opening);
        let mut items = Vec::new();
        if !answer.reasoning.is_empty() {
            items.push(Item::Reasoning(answer.reasoning.clone()));
        }
        let parts: Vec<Said> = [
            (Kind::Text, &answer.content),
            (Kind::Refusal, &answer.refusal),
        ]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(kind, text)| Said {
            kind,
            text: text.clone(),
        })
        .collect();
        if !parts.is_empty() {
            items.push(Item::Message(parts));
        }
        items.extend((0..answer.tool_calls.len()).map(Item::Call));
        self.calls.clone_from(&answer.tool_calls);
        let output = |item| Output {
            item,
            status: COMPLETED,
        };
        self.output = items.into_iter().map(output).collect();
        let end = self.how_ended(finish, usage);
        if let Some(last) = self.output.last_mut() {
            last.status = end.status;
        }
        self.write_response(&end, out);
        self.ended = true;
    }

    fn held(&self) -> usize {
        self.held + self.output.len() * OVERHEAD + AnsweredCall::held(&self.calls)
    }

    fn conversation(&mut self) -> Option<Vec<u8>> {
        if !self.ended {
            return None;
        }
        let items = self.conversation.take()?;
        let mut list = Vec::with_capacity(items.len() + self.held + 2);
        list.push(b'[');
        list.extend_from_slice(&items);
        for (index, output) in self.output.iter().enumerate() {
            let continues = match &output.item {
                Item::Reasoning(_) => false,
                Item::Message(_) => true,
                // A call without a name cannot be answered, and would not be read again.
                Item::Call(at) => self
                    .calls
                    .get(*at)
                    .is_some_and(|call| !call.name.is_empty()),
            };
            if !continues {
                continue;
            }
            if list.len() > 1 {
                list.push(b',');
            }
            self.write_item(index, output, &mut list);
        }
        list.push(b']');
        Some(list)
    }
}
