//! A request without a session for servers under one address: its parts, each of which one server has.

use super::Engine;
use super::gateway::{Client, RequestCell, unknown_server};
use super::mcp_stateless::begin;
use mcp_local_provider_core::hub::keys::{Caller, Keys};
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::mirrored::Given;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::stateless::{Ending, Part, PartId, Several, Step, Wanted};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

/// A request with the parts of it that are open. Dropping it takes them back.
pub(super) struct Joined {
    engine: Arc<Engine>,
    client: Client,
    caller: Caller,
    /// In the order of the address.
    servers: Vec<Arc<str>>,
    /// Headers that are held against the arguments of a call.
    given: Option<Given>,
    machine: Several,
    parts: BTreeMap<PartId, Arc<RequestCell>>,
}

impl Joined {
    pub(super) fn new(
        engine: Arc<Engine>,
        (client, caller): (Client, Caller),
        servers: Vec<Arc<str>>,
        (machine, given): (Several, Option<Given>),
    ) -> Self {
        Self {
            engine,
            client,
            caller,
            servers,
            given,
            machine,
            parts: BTreeMap::new(),
        }
    }

    /// Ends the answer to a request that listens.
    pub(super) fn end_listening(&mut self) {
        self.machine.handle_over();
    }

    /// Fails the parts for servers that the caller may not use by these keys.
    pub(super) fn uphold(&self, keys: &Keys) {
        self.parts.values().for_each(|cell| cell.uphold(keys));
    }

    /// Takes what there is for the client. `waker` is woken when there is more.
    pub(super) fn take(&mut self, now: Instant, waker: &Waker) -> Step {
        loop {
            let mut step = self.machine.take(now);
            let new = self.machine.take_parts();
            if step.ending.is_some() {
                return step;
            }
            let begins = !new.is_empty();
            for part in new {
                match self.begin(&part) {
                    Ok(cell) => {
                        self.parts.insert(part.id, cell);
                    }
                    Err(refusal) => self.machine.handle_refused(now, part.id, &refusal),
                }
            }
            let (has_moved, until) = self.turn(now, waker);
            let mut further = self.machine.take(now);
            step.messages.append(&mut further.messages);
            let is_over = further.ending.is_some();
            if is_over || !(begins || has_moved) || !step.messages.is_empty() {
                return Step {
                    messages: step.messages,
                    until: [until, further.until].into_iter().flatten().min(),
                    ending: further.ending,
                };
            }
        }
    }

    /// Asks each part how far it is. Returns whether one has ended, and when to ask again.
    fn turn(&mut self, now: Instant, waker: &Waker) -> (bool, Option<Instant>) {
        let (mut has_ended, mut until) = (false, None);
        let parts: Vec<_> = self
            .parts
            .iter()
            .map(|(id, it)| (*id, it.clone()))
            .collect();
        for (id, cell) in parts {
            let mut step = cell.machine.lock().take(now, waker);
            until = [until, step.until].into_iter().flatten().min();
            if let Some(ending) = &step.ending {
                has_ended = true;
                self.parts.remove(&id);
                let gateway = self.engine.gateway();
                match (ending, gateway) {
                    (Ending::Questions, Some(gateway)) => {
                        step.ending = Some(Ending::Answer {
                            status: 200,
                            text: gateway.suspend(now, &cell),
                            retry_after: None,
                        });
                    }
                    (Ending::Answer { .. } | Ending::Cut, Some(gateway)) => {
                        gateway.finish(&self.engine, &cell);
                    }
                    (Ending::Answer { .. } | Ending::Questions | Ending::Cut, None) => {}
                }
            }
            self.machine.handle_step(now, id, step);
        }
        (has_ended, until)
    }

    fn begin(&self, part: &Part) -> Result<Arc<RequestCell>, Refusal> {
        let (Ok(Message::Request { id, call }), Some(server)) =
            (Message::read(&part.text), self.servers.get(part.at))
        else {
            let message = "the request has no form that a server takes";
            return Err(Refusal::new(Reason::BadRequest, message));
        };
        // The request may be older than a reload of the keys.
        let keys = self.engine.policy().keys;
        if !keys.uphold_server(self.caller.authority, server) {
            return Err(unknown_server());
        }
        let mut wanted = Wanted::read_part(id, &call)?;
        wanted.given.clone_from(&self.given);
        begin(
            &self.engine,
            (&self.client, &self.caller),
            server,
            (&wanted, &part.text),
        )
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(gateway) = self.engine.gateway() {
            for cell in self.parts.values() {
                gateway.finish(&self.engine, cell);
            }
        }
    }
}
