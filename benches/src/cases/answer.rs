//! Exchanges from the client's request to the bytes of its answer, through every machine.

use std::hint::black_box;
use std::time::Duration;

use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::api::{ROUTES, Route};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::keys::{Caller, digest};
use mcp_local_provider_core::hub::{Admission, Ask, Hello, Hub, HubOut, Ticket};
use mcp_local_provider_core::id::{ExchangeId, Ids, LinkId};
use mcp_local_provider_core::invocation::Needs;
use mcp_local_provider_core::link::{Link, LinkConfig, LinkOut};
use mcp_local_provider_core::mailbox::{Batch, Mailbox};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;

use super::{BUDGET, CHUNKS, One, chunk_frame};
use crate::Error;
use crate::script::{Script, WHOLE};

/// All machines, with one agent.
#[derive(Debug)]
struct Provider {
    hub: Hub,
    hub_out: HubOut,
    link: Link<()>,
    link_out: LinkOut,
    caller: Caller,
    ids: Ids,
    batch: Batch,
    reply: Reply,
}

/// An exchange that the agent has been asked to answer.
#[derive(Debug)]
struct Open {
    id: ExchangeId,
    exchange: Exchange,
    info: Box<RequestInfo>,
    ticket: Ticket,
    mailbox: One,
}

const NOW: Instant = Instant::from_micros(1);

impl Provider {
    fn new() -> Result<Self, Error> {
        let mut config = HubConfig::default();
        config.limits.requests_per_minute = u32::MAX;
        config.limits.tokens_per_minute = u32::MAX;
        config.limits.burst = u32::MAX;
        let mut hub = Hub::new(config, [7; 32], NOW, Duration::from_secs(1_790_000_000));
        let mut hub_out = HubOut::default();
        let link_id: LinkId = hub.connect(
            NOW,
            Hello {
                token: None,
                dialled: None,
            },
            &mut hub_out,
        )?;
        let mut link = Link::new(link_id, &LinkConfig::default(), NOW);
        let mut link_out = LinkOut::new();
        let mut nobody = One(Mailbox::new(BUDGET));
        let register = r#"{"type":"register","agent_id":"bench","models":["bench"]}"#;
        link.handle_message(
            NOW,
            websocket::decode(register, BUDGET)?,
            &mut link_out,
            &mut nobody,
        );
        for notice in link_out.notices.drain(..) {
            hub.handle_notice(NOW, link_id, notice, &mut hub_out);
        }
        for (_, command) in hub_out.commands.drain(..) {
            link.handle_command(NOW, command, &mut link_out, &mut nobody);
        }
        let caller = hub.keys().authenticate(None, [127, 0, 0, 1].into())?;
        Ok(Self {
            hub,
            hub_out,
            link,
            link_out,
            caller,
            ids: Ids::new(7),
            batch: Batch::new(),
            reply: Reply::default(),
        })
    }

    /// A request comes, is admitted, and is sent to the agent.
    fn open(&mut self, route: &'static Route, body: &str) -> Result<Open, Error> {
        let Self {
            hub,
            link,
            link_out,
            ..
        } = self;
        let id = self.ids.next();
        let form = route.form().ok_or("no agent answers this route")?;
        let (mut exchange, intent) = Exchange::parse(
            hub.config(),
            hub.wall(),
            id,
            form,
            NOW,
            body.as_bytes().to_vec(),
        )?;
        let info = Box::new(RequestInfo {
            key: Some(self.caller.name.clone()),
            bytes_in: body.len() as u64,
            prompt: Some(digest(intent.request.prompt().as_bytes())),
            ..RequestInfo::new(id, NOW, self.caller.address, route.name)
        });
        let ask = Ask {
            model: intent.request.model(),
            session: None,
            prompts: intent.prompts(),
            tokens: intent.tokens,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        let Admission::Granted(ticket) = hub.admit(NOW, &self.caller, &ask)? else {
            return Err("the exchange has to wait".into());
        };
        exchange.start(NOW, &ticket);
        let invoke = ticket.invoke(id, intent.request.into(), PromptIndex::default());
        link.open(NOW, invoke, (), link_out)
            .map_err(|(closed, ())| closed)?;
        while let Some(message) = link_out.pop_message() {
            black_box(websocket::encode(&message, &hub.wall()));
        }
        Ok(Open {
            id,
            exchange,
            info,
            ticket,
            mailbox: One(Mailbox::new(BUDGET)),
        })
    }

    /// A frame of the agent comes and what it brings is written. The answer is whether it was the last.
    fn frame(&mut self, open: &mut Open, frame: &str) -> Result<Option<Flow>, Error> {
        let message = websocket::decode(black_box(frame), BUDGET)?;
        self.link
            .handle_message(NOW, message, &mut self.link_out, &mut open.mailbox);
        open.mailbox.0.drain(&mut self.batch);
        for delivery in &self.batch {
            match open
                .exchange
                .handle_delivery(NOW, &delivery, &mut self.reply)
            {
                Flow::Continue => {}
                flow => return Ok(Some(flow)),
            }
        }
        Ok(None)
    }

    /// The account of an exchange that has ended.
    fn settle(&mut self, open: Open, flow: Option<Flow>) -> Result<(), Error> {
        let Some(Flow::Done(outcome)) = flow else {
            return Err(format!("the exchange ended with {flow:?}").into());
        };
        self.hub.conclude(
            NOW,
            open.info,
            Some(open.ticket),
            &outcome,
            &mut self.hub_out,
        );
        self.hub_out.records.clear();
        self.reply = Reply::default();
        Ok(())
    }
}

/// One open stream, whose chunks come alone: each is written before the next is there.
#[derive(Debug)]
pub struct Stream {
    provider: Provider,
    open: Open,
    frames: Vec<String>,
    written: usize,
}

impl Stream {
    /// A stream of the route of that name, whose first chunk has been written.
    ///
    /// # Errors
    /// Fails when a machine refuses what it should take.
    pub fn new(name: &str) -> Result<Self, Error> {
        let route = ROUTES.named(name).ok_or("there is no such route")?;
        let mut provider = Provider::new()?;
        let mut open = provider.open(route, &Script::stream(200, 1).request_body())?;
        let first = chunk_frame(open.id, 0);
        provider.frame(&mut open, &first)?;
        let frames = (1..=CHUNKS)
            .map(|index| chunk_frame(open.id, index))
            .collect();
        provider.reply.body.clear();
        Ok(Self {
            provider,
            open,
            frames,
            written: 0,
        })
    }

    /// Every chunk from its frame to the client's bytes. It can be done once, because the agent's
    /// chunks are numbered.
    ///
    /// # Errors
    /// Fails when a chunk is not written.
    pub fn run(&mut self) -> Result<(), Error> {
        for frame in &self.frames {
            if self.provider.frame(&mut self.open, frame)?.is_some() {
                return Err("the stream ended".into());
            }
            let body = black_box(&mut self.provider.reply.body);
            self.written += usize::from(!body.is_empty());
            body.clear();
        }
        if self.written == CHUNKS {
            Ok(())
        } else {
            Err("a chunk was not written".into())
        }
    }
}

/// Whole answers, one exchange after the other.
#[derive(Debug)]
pub struct Answers {
    provider: Provider,
    route: &'static Route,
    body: String,
}

impl Answers {
    /// Answers of the route of that name.
    ///
    /// # Errors
    /// Fails when a machine refuses what it should take.
    pub fn new(name: &str) -> Result<Self, Error> {
        let route = ROUTES.named(name).ok_or("there is no such route")?;
        let body = Script::whole().request_body();
        let mut answers = Self {
            provider: Provider::new()?,
            route,
            body,
        };
        answers.once()?;
        Ok(answers)
    }

    /// Request, admission, invocation, answer and account, [`CHUNKS`] times.
    ///
    /// # Errors
    /// Fails when an exchange does not end as it should.
    pub fn run(&mut self) -> Result<(), Error> {
        (0..CHUNKS).try_for_each(|_| self.once())
    }

    fn once(&mut self) -> Result<(), Error> {
        let mut open = self.provider.open(self.route, black_box(&self.body))?;
        let frame = format!(
            r#"{{"type":"model_result","id":"{}","status":"ok","result":{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{WHOLE}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":100,"completion_tokens":64,"total_tokens":164}}}}}}"#,
            open.id
        );
        let flow = self.provider.frame(&mut open, &frame)?;
        black_box(&self.provider.reply.body);
        self.provider.settle(open, flow)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_chunk_is_written_in_the_form_of_its_endpoint() {
        for (endpoint, form) in [
            ("POST /v1/chat/completions", "data: {"),
            ("POST /api/chat", "{"),
        ] {
            let mut stream = Stream::new(endpoint).unwrap();
            let frame = stream.frames.remove(0);
            stream.provider.frame(&mut stream.open, &frame).unwrap();
            let body = String::from_utf8(std::mem::take(&mut stream.provider.reply.body)).unwrap();
            assert!(body.starts_with(form), "{body}");
            stream.frames.push(chunk_frame(stream.open.id, CHUNKS + 1));
            stream.run().unwrap();
        }
    }

    #[test]
    fn every_whole_answer_completes() {
        for endpoint in ["POST /v1/chat/completions", "POST /api/chat"] {
            let mut answers = Answers::new(endpoint).unwrap();
            answers.run().unwrap();
            assert_eq!(answers.provider.hub.metrics().completed, 1 + CHUNKS as u64);
        }
    }
}
