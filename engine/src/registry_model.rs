//! Integrations as models: an exchange whose answer the rounds of an integration give.

use super::Engine;
use super::account::Account;
use super::ask::refuse;
use super::asking::Asked;
use super::inbound::Inbound;
use super::registry_handle::RegistryHandle;
use super::registry_rounds::{Delivered, Origin, Rounding, Step as Looked, Told, refusal_of};
use super::request::Step;
use super::running::{Polled, Respond, Running};
use mcp_local_provider_core::agents::upstream;
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::Outcome;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::invocation::{Delivery, Delta, End, ToolCallDelta};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::text::{JsonStr, JsonValue, escaped};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{AskedWith, IntegrationSet};
use std::sync::Arc;
use std::task::Waker;

/// An exchange that an integration answers.
struct IntegrationAnswer {
    engine: Arc<Engine>,
    cell: RegistryHandle,
    caller: Caller,
    set: IntegrationSet,
    exchange: Exchange,
    asked: Asked,
    prompt: PromptIndex,
    rounding: Rounding,
}

/// Begins the answer of the integration that is the model `model`.
#[inline(never)]
pub(super) fn start(
    inbound: Inbound,
    mut exchange: Exchange,
    asked: Asked,
    caller: &Caller,
    model: &str,
) -> Step {
    let engine = inbound.account.engine().clone();
    let begun = engine.registry().map(|cell| {
        let set = cell.integration(model).map_err(refusal_of)?;
        let prompt = PromptIndex::default();
        let rounding = rounding(&engine, cell, caller, &set, &asked, prompt)?;
        Ok((cell.clone(), set, rounding))
    });
    let off = || Err(Refusal::new(Code::ModelNotFound, "the registry is off"));
    let (cell, set, rounding) = match begun.unwrap_or_else(off) {
        Ok(begun) => begun,
        Err(refusal) => return Step::Answer(refuse(inbound, exchange, &refusal)),
    };
    exchange.start_rounds(engine.now(), model);
    let answer = IntegrationAnswer {
        caller: caller.clone(),
        prompt: PromptIndex::default(),
        engine,
        cell,
        set,
        exchange,
        asked,
        rounding,
    };
    Step::Running(Running::new(Box::new(answer), inbound))
}

/// The rounds for one prompt of a request.
fn rounding(
    engine: &Arc<Engine>,
    cell: &RegistryHandle,
    caller: &Caller,
    set: &IntegrationSet,
    asked: &Asked,
    prompt: PromptIndex,
) -> Result<Rounding, Refusal> {
    let body = upstream::as_chat(&asked.request, prompt, "")?;
    let body = std::str::from_utf8(&body).unwrap_or_default();
    let read = JsonValue::read(body);
    let member = |name| {
        let value = read.and_then(|it| it.member(name));
        value.filter(|it| !it.is_null()).map(JsonValue::get)
    };
    let asked_with = AskedWith {
        messages: member("messages").unwrap_or("[]"),
        tools: member("tools"),
        parameters: Some(body),
        model: None,
        cuts: true,
    };
    let origin = Origin {
        engine: engine.clone(),
        cell: cell.clone(),
        caller: caller.clone(),
        carried: asked.carried.clone(),
        depth: asked.depth,
    };
    Rounding::new(origin, set.clone(), asked_with)
}

impl IntegrationAnswer {
    /// Gives the calls of the caller's tools, and the end.
    fn deliver(&mut self, now: Instant, delivered: &Delivered, reply: &mut Reply) -> Flow {
        let calls = delivered.said.calls.iter();
        let texts: Vec<_> = calls
            .map(|call| {
                (
                    escaped(&call.id),
                    escaped(&call.name),
                    escaped(&call.arguments),
                )
            })
            .collect();
        let pieces = (0..)
            .zip(&texts)
            .map(|(index, (id, name, arguments))| ToolCallDelta {
                index,
                id: JsonStr::from_escaped(id),
                name: JsonStr::from_escaped(name),
                arguments: JsonStr::from_escaped(arguments),
            });
        let delta = Delta {
            tool_calls: pieces.collect(),
            ..Delta::default()
        };
        let flow = self
            .exchange
            .handle_delivery(now, &Delivery::Delta(delta), reply);
        if flow != Flow::Continue {
            return flow;
        }
        let end = End {
            finish: delivered.finish,
            usage: Some(delivered.usage),
        };
        self.exchange
            .handle_delivery(now, &Delivery::End(end), reply)
    }

    /// Asks for the next prompt.
    fn next(&mut self) -> Result<(), Refusal> {
        self.prompt = PromptIndex(self.prompt.0 + 1);
        self.rounding = rounding(
            &self.engine,
            &self.cell,
            &self.caller,
            &self.set,
            &self.asked,
            self.prompt,
        )?;
        Ok(())
    }

    fn ended(&mut self, outcome: Outcome) -> Polled {
        self.rounding.cancel();
        if let Some(conversation) = self.exchange.conversation() {
            self.engine.keep(self.asked.owner, conversation);
        }
        Polled::Ended(outcome)
    }
}

impl Respond for IntegrationAnswer {
    fn poll(
        &mut self,
        _now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        loop {
            let now = self.engine.clock();
            self.exchange.awaits_others();
            let mut flow = self.exchange.handle_timeout(now, reply);
            let mut pending = true;
            if flow == Flow::Continue {
                let exchange = &mut self.exchange;
                let looked = self.rounding.look(now, waker, &mut |told| {
                    if let (Told::Delta(delta), Flow::Continue) = (told, flow) {
                        let delivery = Delivery::Delta(delta.clone());
                        flow = exchange.handle_delivery(now, &delivery, reply);
                    }
                });
                match looked {
                    Looked::Pending => {}
                    Looked::Again => pending = false,
                    Looked::Ended(delivered) if flow == Flow::Continue => {
                        (flow, pending) = (self.deliver(now, &delivered, reply), false);
                    }
                    Looked::Ended(_) => pending = false,
                    Looked::Failed(refusal) if flow == Flow::Continue => {
                        let outcome = self.exchange.refuse(now, &refusal, reply);
                        return self.ended(outcome);
                    }
                    Looked::Failed(_) => pending = false,
                }
            }
            match flow {
                Flow::Continue => {}
                Flow::Next(_) => {
                    if let Err(refusal) = self.next() {
                        let outcome = self.exchange.refuse(now, &refusal, reply);
                        return self.ended(outcome);
                    }
                    continue;
                }
                Flow::Done(outcome) | Flow::Cancel(_, outcome) => return self.ended(outcome),
            }
            // Before more is read the client takes what there is.
            let ready = reply.head.is_some() || !reply.body.is_empty();
            if ready && (pending || reply.body.len() > STEP) {
                return Polled::Ready;
            }
            if pending {
                let exchange = self.exchange.poll_timeout().map(|timeout| timeout.at);
                let own = self.rounding.poll_timeout(now);
                return Polled::Until(exchange.into_iter().chain(own).min());
            }
        }
    }

    fn client_gone(&mut self, now: Instant, _account: &mut Account) -> Outcome {
        self.rounding.cancel();
        match self.exchange.handle_client_gone(now) {
            Flow::Done(outcome) | Flow::Cancel(_, outcome) => outcome,
            Flow::Continue | Flow::Next(_) => Outcome::left(),
        }
    }

    fn unread(&self) -> usize {
        self.rounding.held()
    }
}
