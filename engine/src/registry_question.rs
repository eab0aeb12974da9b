//! One round of an integration: its model is asked, as a client of this program would ask it, or in a call of a server of the
//! integration's own.

use super::Engine;
use super::ask;
use super::request::Step;
use super::running::{Progress, Running};
use super::upstream_calls::trouble;
use super::upstreams::{Carried, Upstream};
use crate::http_client::{Call, Part};
use mcp_local_provider_core::agents::upstream::{
    self, Api, ClientHeaders, Reading, ResponseHead, Trouble,
};
use mcp_local_provider_core::dialect::openai;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{EVENT_STREAM, Exchange};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::invocation::{Delivery, Failure, Usage};
use mcp_local_provider_core::request::{PromptIndex, Request};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Those who ask, and for whom.
pub(super) struct Asking {
    pub(super) engine: Arc<Engine>,
    /// For the model: may ask what the integration names.
    pub(super) caller: Caller,
    /// Headers of the client's request, by which a circle of upstreams is found.
    pub(super) carried: Option<Box<Carried>>,
    /// Runs that the request is within.
    pub(super) depth: u8,
    /// A server of the integration's own.
    pub(super) own: Option<Arc<Upstream>>,
    /// The server's own name for its model.
    pub(super) model: Box<str>,
}

/// A model that is being asked. Dropping it tells whoever answers that nobody waits any more.
pub(super) enum Question {
    /// In an exchange of this program.
    Here(Box<Here>),
    /// At a server of the integration's own.
    There(Box<There>),
}

/// Result of a look at a question.
pub(super) enum Looked {
    /// There is nothing more.
    Pending,
    /// Something was done.
    Again,
    /// The answer is over; its end was delivered.
    Over,
    /// There is none.
    Failed(Refusal),
}

impl Question {
    /// Asks with the body of a chat that is streamed.
    pub(super) fn begin(asking: &Asking, body: String) -> Result<Self, Refusal> {
        match &asking.own {
            Some(own) => There::begin(asking, own, body).map(Self::There),
            None => Here::begin(asking, body).map(Self::Here),
        }
    }

    /// Goes on with it once.
    pub(super) fn look(
        &mut self,
        now: Instant,
        waker: &Waker,
        deliver: &mut dyn FnMut(&Delivery<'_>),
    ) -> Looked {
        match self {
            Self::Here(here) => here.look(now, waker, deliver),
            Self::There(there) => there.look(now, waker, deliver),
        }
    }

    /// When to look again though nobody woke its task.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Here(here) => here.until,
            Self::There(there) => there.call.poll_timeout(),
        }
    }
}

/// Reads the body of a chat, as a request to a server has it.
fn read(engine: &Engine, body: String) -> Result<(Request, u64), Refusal> {
    let (_, intent) = Exchange::parse(
        &engine.config(),
        engine.wall(),
        engine.next_id(),
        &openai::CHAT,
        engine.now(),
        body.into_bytes(),
    )?;
    Ok((intent.request, intent.tokens))
}

/// An exchange of this program.
pub(super) struct Here {
    running: Option<Box<Running>>,
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
    reading: Reading,
    until: Option<Instant>,
}

impl Here {
    fn begin(asking: &Asking, body: String) -> Result<Box<Self>, Refusal> {
        let engine = &asking.engine;
        let (request, _) = read(engine, body.clone())?;
        let limit = engine.config().limits.answer_bytes;
        let mut here = Box::new(Self {
            running: None,
            status: 0,
            retry_after: None,
            body: Vec::new(),
            reading: Reading::new(Api::Custom, &request, limit),
            until: None,
        });
        let within = ask::Within {
            depth: asking.depth,
            carried: asking.carried.clone(),
        };
        match ask::ask_for(engine, &asking.caller, body.into_bytes(), within) {
            Step::Running(running) => here.running = Some(running),
            Step::Answer(answer) => {
                here.take_head(&answer.head);
                here.body = answer.body;
            }
            // Neither is what such a request becomes.
            Step::Body(_) | Step::Report(_) => here.status = 500,
        }
        Ok(here)
    }

    fn take_head(&mut self, head: &super::answer::Head) {
        self.status = head.status();
        head.headers(|name, value| {
            if name == "retry-after" {
                let seconds = std::str::from_utf8(value).ok();
                let seconds = seconds.and_then(|it| it.parse().ok());
                self.retry_after = seconds.map(Duration::from_secs);
            }
        });
        if self.status == 200 {
            // Its own head is one that can be read.
            let _ = self.reading.head(&ResponseHead {
                status: 200,
                content_type: Some(EVENT_STREAM),
                content_encoding: None,
                retry_after: None,
            });
        }
    }

    fn look(
        &mut self,
        now: Instant,
        waker: &Waker,
        deliver: &mut dyn FnMut(&Delivery<'_>),
    ) -> Looked {
        let Some(running) = &mut self.running else {
            return self.over(deliver);
        };
        let progress = running.poll(now, waker);
        let (head, has_ended) = (running.take_head(), running.has_ended());
        self.body.append(running.body());
        if let Some(head) = head {
            self.take_head(&head);
        }
        if self.status == 200 && !self.body.is_empty() {
            let read = self.reading.bytes(&self.body, deliver);
            self.body.clear();
            if let Err(trouble) = read {
                return Looked::Failed(failed_here(trouble));
            }
        }
        if has_ended {
            self.running = None;
            return self.over(deliver);
        }
        match progress {
            Progress::Ready => Looked::Again,
            Progress::Until(until) => {
                self.until = until;
                Looked::Pending
            }
        }
    }

    fn over(&mut self, deliver: &mut dyn FnMut(&Delivery<'_>)) -> Looked {
        if self.status != 200 {
            return Looked::Failed(refusal(self.status, &self.body, self.retry_after));
        }
        match self.reading.end(deliver) {
            Ok(()) => Looked::Over,
            Err(trouble) => Looked::Failed(failed_here(trouble)),
        }
    }
}

/// A failure that came in a stream, before anything else did.
fn failed_here(trouble: Trouble) -> Refusal {
    Refusal::new(trouble.code(), trouble.message)
}

/// The refusal that an answer in OpenAI's form tells.
fn refusal(status: u16, body: &[u8], retry_after: Option<Duration>) -> Refusal {
    let read = std::str::from_utf8(body).ok().and_then(JsonValue::read);
    let member = |name: &str| read.and_then(|it| it.path(&["error", name])?.text());
    let code = Code::of_answer(status, member("code").as_deref());
    let message = member("message").unwrap_or("the model did not answer".into());
    let mut refusal = Refusal::new(code, message.into_owned());
    if let Some(param) = member("param") {
        refusal = refusal.at(param.into_owned());
    }
    match retry_after {
        Some(after) => refusal.retry_after(after),
        None => refusal,
    }
}

/// A call of a server of the integration's own.
pub(super) struct There {
    engine: Arc<Engine>,
    caller: Caller,
    upstream: Arc<Upstream>,
    call: Call,
    reading: Reading,
    bytes: Vec<u8>,
    charged: u64,
}

impl There {
    fn begin(
        asking: &Asking,
        upstream: &Arc<Upstream>,
        body: String,
    ) -> Result<Box<Self>, Refusal> {
        let engine = &asking.engine;
        let (request, charged) = read(engine, body)?;
        let written = upstream::call(
            upstream.api,
            &request,
            PromptIndex::default(),
            &asking.model,
            ClientHeaders::default(),
        )?;
        engine.hub(|hub, now, _| hub.charge_round(now, &asking.caller, charged))?;
        let via = asking.carried.as_deref().and_then(Carried::via);
        let call = upstream.call(
            engine,
            written.path,
            written.headers,
            Some(written.body),
            via,
        );
        let call = call.map_err(|error| {
            // Nothing was asked.
            let unused = Usage::default();
            engine.hub(|hub, now, _| hub.settle_round(now, &asking.caller, charged, unused));
            let trouble = upstream.clean(trouble(&error, false));
            trouble.refusal(&upstream.name)
        })?;
        let limit = engine.config().limits.answer_bytes;
        Ok(Box::new(Self {
            engine: engine.clone(),
            caller: asking.caller.clone(),
            upstream: upstream.clone(),
            call,
            reading: Reading::new(upstream.api, &request, limit),
            bytes: Vec::new(),
            charged,
        }))
    }

    fn look(
        &mut self,
        now: Instant,
        waker: &Waker,
        deliver: &mut dyn FnMut(&Delivery<'_>),
    ) -> Looked {
        let part = match self.call.poll(now, waker, &mut self.bytes) {
            Poll::Pending => return Looked::Pending,
            Poll::Ready(part) => part,
        };
        let (mut is_over, mut used) = (false, None);
        let upstream = &self.upstream;
        let mut deliver = |delivery: &Delivery<'_>| match delivery {
            Delivery::Failed(failure) => {
                is_over = true;
                deliver(&Delivery::Failed(Failure {
                    code: failure.code,
                    message: upstream.scrubbed(&failure.message),
                    retry_after: failure.retry_after,
                }));
            }
            Delivery::End(end) => {
                (is_over, used) = (true, end.usage);
                deliver(delivery);
            }
            Delivery::Delta(_) | Delivery::Embedding(_) => deliver(delivery),
        };
        let reading = &mut self.reading;
        let read = match part {
            Ok(Part::Head(head)) => {
                let text = |name| std::str::from_utf8(head.header(name)?).ok();
                reading.head(&ResponseHead {
                    status: head.status(),
                    content_type: text("content-type"),
                    content_encoding: text("content-encoding"),
                    retry_after: text("retry-after"),
                })
            }
            Ok(Part::Body) => reading.bytes(&self.bytes, &mut deliver),
            Ok(Part::End) => reading.end(&mut deliver),
            Err(error) => {
                let answered = reading.is_answered();
                reading.lost(trouble(&error, answered), &mut deliver)
            }
        };
        self.bytes.clear();
        if let Err(trouble) = read {
            self.settle(Usage::default());
            let trouble = self.upstream.clean(trouble);
            return Looked::Failed(trouble.refusal(&self.upstream.name));
        }
        if let Some(used) = used {
            self.settle(used);
        }
        if is_over { Looked::Over } else { Looked::Again }
    }

    fn settle(&self, used: Usage) {
        let charged = self.charged;
        self.engine
            .hub(|hub, now, _| hub.settle_round(now, &self.caller, charged, used));
    }
}
