//! A list of a server, which it gives page by page.

use super::failure::{Failure, result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::{METHOD_NOT_FOUND, Message};
use mcp_local_provider_core::text::JsonValue;

/// A list of a server, which it gives page by page.
pub(super) struct List {
    method: &'static str,
    /// Member of the result that has the items.
    member: &'static str,
    /// Member of the answer.
    pub(super) told: &'static str,
    /// A server that does not know the method has none.
    may_lack: bool,
    pub(super) items: Vec<Box<str>>,
    /// Cursor of the next page, as JSON.
    cursor: Option<Box<str>>,
}

impl List {
    /// Makes a list of which nothing is read.
    pub(super) const fn new(
        method: &'static str,
        member: &'static str,
        told: &'static str,
    ) -> Self {
        Self {
            method,
            member,
            told,
            may_lack: false,
            items: Vec::new(),
            cursor: None,
        }
    }

    /// Makes a list that is empty where the server does not know the method.
    pub(super) fn or_none(self) -> Self {
        Self {
            may_lack: true,
            ..self
        }
    }

    /// The request for the next page, with its parameters.
    pub(super) fn request(&self) -> (&'static str, String) {
        let params = match &self.cursor {
            Some(cursor) => format!("{{\"cursor\":{cursor}}}"),
            None => "{}".into(),
        };
        (self.method, params)
    }

    /// Takes the items that were read.
    pub(super) fn drain(&mut self) -> Vec<Box<str>> {
        core::mem::take(&mut self.items)
    }

    /// Adds the page that was asked for. Returns true when it is the last one. `room` is the number of bytes that may still come.
    ///
    /// # Errors
    /// It is an error or no such page, or the pages are too long or go in a circle.
    pub(super) fn take(&mut self, answer: &str, room: &mut usize) -> Result<bool, Failure> {
        if self.may_lack && lacks(answer) {
            self.cursor = None;
            return Ok(true);
        }
        let result = result(answer)?;
        let items = result.member(self.member);
        let items = items.filter(|items| items.get().starts_with('['));
        let Some(items) = items else {
            let why = format!(
                "the server's answer to {} has no `{}`",
                self.method, self.member
            );
            return Err(Failure::bad_answer(&why));
        };
        let next = result
            .member("nextCursor")
            .filter(|next| !next.is_null())
            .map(JsonValue::get);
        if next.is_some() && next == self.cursor.as_deref() {
            let why = format!("the server's pages of {} go in a circle", self.method);
            return Err(Failure::bad_answer(&why));
        }
        let taken = items.get().len() + next.map_or(0, str::len);
        match room.checked_sub(taken) {
            Some(left) => *room = left,
            None => {
                let why = format!(
                    "the server's pages of {} are longer together than one message may be (gateway.message_bytes)",
                    self.method
                );
                return Err(Failure::bad_answer(&why));
            }
        }
        let items = items.elements().into_iter();
        self.items.extend(items.map(|item| item.get().into()));
        self.cursor = next.map(Box::from);
        Ok(next.is_none())
    }
}

/// True for the answer of a server that does not know the method.
fn lacks(answer: &str) -> bool {
    matches!(
        Message::read(answer),
        Ok(Message::Response { outcome: Err(error), .. }) if error.code == METHOD_NOT_FOUND
    )
}
