//! The items of a response as they come: how they begin, grow and end.

use super::{Open, Place, ResponseEncoder};
use crate::dialect::AnsweredCall;
use crate::dialect::responses::events::{
    COMPLETED, IN_PROGRESS, Item, Kind, Output, Said, write_index, write_summary,
};
use crate::wire::Records;
use alloc::vec::Vec;

impl ResponseEncoder {
    /// Ends the items to which nothing can be added any more, and begins a new one.
    pub(super) fn begin_item(&mut self, item: Item, out: &mut Records<'_>) -> usize {
        self.end_items(COMPLETED, AnsweredCall::is_complete, out);
        let index = self.output.len();
        let status = IN_PROGRESS;
        self.output.push(Output { item, status });
        self.item("response.output_item.added", index, out);
        index
    }

    fn end_item(&mut self, index: usize, status: &'static str, out: &mut Records<'_>) {
        if let Some(output) = self.output.get_mut(index) {
            output.status = status;
        }
        self.item("response.output_item.done", index, out);
    }

    pub(super) fn end_items(
        &mut self,
        status: &'static str,
        is_over: impl Fn(&AnsweredCall) -> bool,
        out: &mut Records<'_>,
    ) {
        let last = self.output.len().saturating_sub(1);
        match self.open.take() {
            None => {}
            Some(Open::Reasoning) => {
                self.end_summary(last, out);
                self.end_item(last, status, out);
            }
            Some(Open::Said(kind)) => {
                self.end_part(last, kind, out);
                self.end_item(last, status, out);
            }
        }
        for at in 0..self.calls.len() {
            if let (Some(call), Some(Place::Open(index))) =
                (self.calls.get(at), self.places.get(at))
                && is_over(call)
            {
                let index = *index;
                self.end_call(at, index, status, out);
            }
        }
    }

    fn end_summary(&mut self, index: usize, out: &mut Records<'_>) {
        const FIELDS: &[u8] = b"\"summary_index\":0,";
        let text = |encoder: &Self, out: &mut Vec<u8>, write: fn(&[u8], &mut Vec<u8>)| {
            out.extend_from_slice(FIELDS);
            if let Some(Output {
                item: Item::Reasoning(text),
                ..
            }) = encoder.output.get(index)
            {
                write(text, out);
            }
        };
        let name = "response.reasoning_summary_text.done";
        self.detail(name, index, out, |encoder, out| {
            text(encoder, out, |text, out| write_string("text", text, out));
        });
        let name = "response.reasoning_summary_part.done";
        self.detail(name, index, out, |encoder, out| {
            text(encoder, out, |text, out| {
                out.extend_from_slice(b"\"part\":");
                write_summary(text, out);
            });
        });
    }

    /// Ends the last part of the message at `index`.
    fn end_part(&mut self, index: usize, kind: Kind, out: &mut Records<'_>) {
        let part = |encoder: &Self, out: &mut Vec<u8>, write: &dyn Fn(&Said, &mut Vec<u8>)| {
            if let Some(Output {
                item: Item::Message(parts),
                ..
            }) = encoder.output.get(index)
                && let Some(part) = parts.last()
            {
                write_content_index(parts.len().saturating_sub(1), out);
                write(part, out);
            }
        };
        self.detail(kind.done(), index, out, |encoder, out| {
            part(encoder, out, &|part, out| {
                write_string(kind.field(), &part.text, out);
                out.extend_from_slice(kind.extra());
            });
        });
        self.detail("response.content_part.done", index, out, |encoder, out| {
            part(encoder, out, &|part, out| {
                out.extend_from_slice(b"\"part\":");
                part.write(out);
            });
        });
    }

    fn end_call(&mut self, at: usize, index: usize, status: &'static str, out: &mut Records<'_>) {
        let name = "response.function_call_arguments.done";
        self.detail(name, index, out, |encoder, out| {
            if let Some(call) = encoder.calls.get(at) {
                write_string("name", &call.name, out);
                out.push(b',');
                write_string("arguments", call.arguments_or_empty(), out);
            }
        });
        self.end_item(index, status, out);
        if let Some(place) = self.places.get_mut(at) {
            *place = Place::Closed;
        }
    }

    pub(super) fn begin_reasoning(&mut self, out: &mut Records<'_>) {
        let index = self.begin_item(Item::Reasoning(Vec::new()), out);
        let name = "response.reasoning_summary_part.added";
        self.detail(name, index, out, |_, out| {
            out.extend_from_slice(b"\"summary_index\":0,\"part\":");
            write_summary(b"", out);
        });
        self.open = Some(Open::Reasoning);
        let mut delta = core::mem::take(&mut self.delta);
        delta.clear();
        self.write_place(index, &mut delta);
        delta.extend_from_slice(b"\"summary_index\":0,\"delta\":\"");
        self.delta = delta;
    }

    /// Begins a part of a message, which is a new one unless the last item is a message that goes on.
    fn begin_said(&mut self, kind: Kind, out: &mut Records<'_>) {
        let index = match self.open {
            Some(Open::Said(before)) => {
                let last = self.output.len().saturating_sub(1);
                self.end_part(last, before, out);
                last
            }
            _ => self.begin_item(Item::Message(Vec::new()), out),
        };
        let mut content_index = 0;
        if let Some(Output {
            item: Item::Message(parts),
            ..
        }) = self.output.get_mut(index)
        {
            content_index = parts.len();
            parts.push(Said::new(kind));
        }
        self.detail("response.content_part.added", index, out, |_, out| {
            write_content_index(content_index, out);
            out.extend_from_slice(b"\"part\":");
            Said::new(kind).write(out);
        });
        self.open = Some(Open::Said(kind));
        let mut delta = core::mem::take(&mut self.delta);
        delta.clear();
        self.write_place(index, &mut delta);
        write_content_index(content_index, &mut delta);
        delta.extend_from_slice(b"\"delta\":\"");
        self.delta = delta;
    }

    /// More of what the model says.
    #[inline]
    pub(super) fn said(&mut self, kind: Kind, text: &[u8], out: &mut Records<'_>) {
        if text.is_empty() {
            return;
        }
        if self.open != Some(Open::Said(kind)) {
            self.begin_said(kind, out);
        }
        if let Some(Output {
            item: Item::Message(parts),
            ..
        }) = self.output.last_mut()
            && let Some(part) = parts.last_mut()
        {
            part.text.extend_from_slice(text);
            self.held += text.len();
        }
        let record = self.sequence.begin(kind.delta(), out);
        record.reserve(self.delta.len() + text.len() + 32);
        record.extend_from_slice(&self.delta);
        record.extend_from_slice(text);
        record.push(b'"');
        record.extend_from_slice(kind.extra());
        record.push(b'}');
        out.end();
    }

    pub(super) fn begin_call(&mut self, at: usize, out: &mut Records<'_>) {
        let index = self.begin_item(Item::Call(at), out);
        if let Some(place) = self.places.get_mut(at) {
            *place = Place::Open(index);
        }
        let arguments = match self.calls.get(at) {
            Some(call) => call.arguments.clone(),
            None => return,
        };
        self.arguments(index, &arguments, out);
    }

    /// A piece of a call's arguments.
    pub(super) fn arguments(&mut self, index: usize, arguments: &[u8], out: &mut Records<'_>) {
        if !arguments.is_empty() {
            let name = "response.function_call_arguments.delta";
            self.detail(name, index, out, |_, out| {
                write_string("delta", arguments, out);
            });
        }
    }
}

/// `"content_index":…,`
fn write_content_index(index: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"content_index\":");
    write_index(index, out);
    out.push(b',');
}

/// A field whose text is escaped.
fn write_string(key: &str, text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(text);
    out.push(b'"');
}
