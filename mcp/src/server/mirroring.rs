//! Calls whose headers repeat arguments (see [`mirrored`](crate::mirrored)): each is held against the tools of the process before the
//! process has it.
//!
//! The tools are asked for with the first such call, and again for one whose headers say something else, so that a call is only
//! refused by a list that is newer than it. A list that the process does not give holds nobody up.

use super::raising::Settled;
use super::{Early, Open, Out, Server};
use crate::mirrored::{Given, Tools, next_page};
use crate::refusal::Refusal;
use crate::revision::Era;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use mcp_local_provider_core::rpc::{Json, Message};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Tools of a process, as far as their calls are held against them.
#[derive(Default)]
pub(super) struct Mirroring {
    /// `None` before they were asked for, and since they have changed.
    tools: Option<Tools>,
    asking: Option<Asking>,
    /// Calls that wait for the tools.
    held: VecDeque<Early>,
}

/// A list of tools on its way.
struct Asking {
    /// Of the request for its next page.
    number: u64,
    tools: Tools,
    /// Pages that were read.
    pages: u32,
}

impl Mirroring {
    /// The tools have changed.
    pub(super) fn handle_changed(&mut self) {
        self.tools = None;
    }

    /// The process is gone. Returns the calls that wait.
    pub(super) fn forget(&mut self) -> VecDeque<Early> {
        self.tools = None;
        self.asking = None;
        core::mem::take(&mut self.held)
    }
}

impl<T: Clone> Server<T> {
    /// Gives the process a client's request, which is the line with its number, once its headers are known to say what it says.
    pub(super) fn pass_checked(&mut self, now: Instant, early: Early, line: String, out: &mut Out) {
        let is_right = match (&early.given, &self.mirroring.tools) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(tools)) if tools.is_empty() => true,
            (Some(given), Some(tools)) => mismatch(tools, &line, given).is_none(),
        };
        if is_right {
            return self.pass(now, early.number, line, out);
        }
        if let Some(Open::Call(waiting)) = self.peer.get_mut(early.number) {
            waiting.line = Some(line);
            self.mirroring.held.push_back(early);
        }
        if self.mirroring.asking.is_none() {
            self.ask_for_tools(now, (Tools::default(), 0), None, out);
        }
    }

    fn ask_for_tools(
        &mut self,
        now: Instant,
        (tools, pages): (Tools, u32),
        cursor: Option<&str>,
        out: &mut Out,
    ) {
        let number = self.peer.expect(Open::Own, Some(now + self.times.probe));
        let mut json = Json::request(number, "tools/list");
        if let Some(cursor) = cursor {
            json.member("cursor").raw(cursor);
        }
        if self.era() == Era::Stateless {
            json.member("_meta").raw("{");
            json.raw(self.raising.client());
            json.raw("}");
        }
        out.lines.push(json.end_params());
        self.mirroring.asking = Some(Asking {
            number,
            tools,
            pages,
        });
    }

    /// A request of the program itself was answered; `result` is `None` where it has failed. It may have been for tools.
    pub(super) fn handle_own_answer(
        &mut self,
        now: Instant,
        number: u64,
        result: Option<JsonValue<'_>>,
        out: &mut Out,
    ) {
        let asking = self
            .mirroring
            .asking
            .take_if(|asking| asking.number == number);
        let Some(Asking {
            mut tools, pages, ..
        }) = asking
        else {
            return;
        };
        if let Some(result) = result {
            // Those that are invalid are told of when they are listed.
            tools.learn(result);
            let pages = pages + 1;
            if let Some(next) = next_page(result, pages) {
                return self.ask_for_tools(now, (tools, pages), Some(next), out);
            }
        }
        for Early { number, given } in core::mem::take(&mut self.mirroring.held) {
            let Some(Open::Call(waiting)) = self.peer.get_mut(number) else {
                continue;
            };
            let Some(line) = waiting.line.take() else {
                continue;
            };
            let refusal = given.and_then(|given| mismatch(&tools, &line, &given));
            if let Some(refusal) = refusal {
                if let Some(Open::Call(waiting)) = self.peer.cancel(number) {
                    let failed = Box::new((waiting.to, refusal));
                    self.settled.push_back(Settled::Failed(failed));
                }
            } else {
                self.pass(now, number, line, out);
            }
        }
        self.mirroring.tools = Some(tools);
        self.weigh(now);
    }
}

/// Tells why a call, which is the line, is refused for its headers.
fn mismatch(tools: &Tools, line: &str, given: &Given) -> Option<Refusal> {
    match Message::read(line) {
        Ok(Message::Request { call, .. }) => tools.check(&call, given).err(),
        Ok(Message::Notification(_) | Message::Response { .. }) | Err(_) => None,
    }
}
