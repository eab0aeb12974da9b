//! An exchange that an upstream answers. The request's own task or thread owns the call: it reads when the client takes more,
//! and a client that leaves closes the connection.

use super::account::Account;
use super::asking::{Asked, Failed};
use super::engine::Engine;
use super::running::Polled;
use super::upstream_calls::trouble;
use super::upstreams::Upstream;
use crate::http_client::{Call, Part};
use event_listener::EventListener;
use mcp_local_provider_core::Backoff;
use mcp_local_provider_core::agents::upstream::{self, Fault, Reading, ResponseHead, Trouble};
use mcp_local_provider_core::budget::{STEP, Share};
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::hub::upstreams::own_name;
use mcp_local_provider_core::hub::{Outcome, Ticket};
use mcp_local_provider_core::invocation::{Delivery, Failure};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::time::Instant;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bounds of the pause before another attempt.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// Longest pause that an upstream may ask for; one that wants a longer one is not asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of one step of the answer that are made ready for the client at once.
const ROOM: usize = 512;

/// See the module's documentation.
pub(super) struct UpstreamAnswer {
    engine: Arc<Engine>,
    upstream: Arc<Upstream>,
    exchange: Exchange,
    /// Digest of the key that asks, for the conversation that is kept.
    owner: Option<Digest>,
    /// The request, while the upstream or somebody else may have to be asked.
    asked: Option<Asked>,
    /// The upstream's own name for the model.
    model: String,
    prompt: PromptIndex,
    attempt: Attempt,
    /// Further attempts that are allowed.
    left: u32,
    /// The failure after which it pauses.
    before: Option<Trouble>,
    backoff: Backoff,
    /// Bytes of the answer's body, on their way from the call to the reading.
    bytes: Vec<u8>,
    /// Memory of what the reading holds.
    share: Share,
    /// Hears of the end of a drain or of its session, and who is woken then.
    news: Option<(EventListener, Waker)>,
}

enum Attempt {
    /// The call, and the reading of its answer.
    Calling(Box<(Call, Reading)>),
    /// It is called again then.
    Pausing(Instant),
    /// Nothing more is asked.
    Over,
}

/// What became of one look at the call.
enum Looked {
    /// There is nothing more.
    Pending,
    /// Something was done.
    Again(Flow),
    /// It failed before the first byte of the answer.
    Failed(Trouble),
}

impl UpstreamAnswer {
    /// Begins to ask the upstream that a ticket names, with the exchange started.
    pub(super) fn start(
        engine: Arc<Engine>,
        upstream: Arc<Upstream>,
        exchange: Exchange,
        ticket: &Ticket,
        asked: Asked,
    ) -> Box<Self> {
        let model = own_name(&upstream.name, &ticket.model).unwrap_or(&ticket.model);
        Box::new(Self {
            model: model.to_owned(),
            left: upstream.retries,
            before: None,
            backoff: Backoff::new(engine.chance(), PAUSES.0, PAUSES.1),
            prompt: PromptIndex::default(),
            attempt: Attempt::Pausing(engine.clock()),
            bytes: Vec::new(),
            share: engine.budget().share(),
            news: None,
            engine,
            upstream,
            exchange,
            owner: asked.owner,
            asked: Some(asked),
        })
    }

    /// The exchange and the request, for another to answer.
    pub(super) fn into_parts(self) -> Option<(Exchange, Asked)> {
        Some((self.exchange, self.asked?))
    }

    /// The request, while the upstream or somebody else may have to be asked.
    pub(super) const fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// The failure of the attempt before, if others have found meanwhile that the upstream is to be left alone.
    fn gives_up(&mut self, account: &Account) -> Option<Trouble> {
        let trouble = self.before.take()?;
        let ticket = account.ticket()?;
        let is_left_alone = self
            .engine
            .hub(|hub, _, _| hub.is_upstream_left_alone(ticket));
        is_left_alone.then_some(trouble)
    }

    /// Asks for the prompt of now.
    fn call(&mut self) -> Result<(), Failed> {
        let (upstream, Some(asked)) = (&self.upstream, &self.asked) else {
            // It has answered, so that nothing is left to be asked.
            self.attempt = Attempt::Over;
            return Ok(());
        };
        let carried = asked.carried.as_deref();
        let headers = carried.map_or_else(Default::default, |carried| carried.headers());
        let written = upstream::call(
            upstream.api,
            &asked.request,
            self.prompt,
            &self.model,
            headers,
        );
        // The server's API has no form for it, which no further attempt changes.
        let written = written.map_err(|refusal| Failed::Request(Box::new(refusal)))?;
        self.exchange.ignores(written.ignored);
        let via = carried.and_then(|carried| carried.via());
        let call = upstream.call(
            &self.engine,
            written.path,
            written.headers,
            Some(written.body),
            via,
        );
        let call = call.map_err(|error| Failed::Trouble(trouble(&error, false)))?;
        let limit = self.engine.config().limits.answer_bytes;
        let reading = Reading::new(upstream.api, &asked.request, limit);
        self.attempt = Attempt::Calling(Box::new((call, reading)));
        if !asked.request.is_streamed() {
            self.exchange.comes_whole();
        }
        Ok(())
    }

    /// Goes on. `Err` when the upstream has failed before the first byte of its answer and is not asked again.
    pub(super) fn poll(
        &mut self,
        waker: &Waker,
        account: &Account,
        reply: &mut Reply,
    ) -> Result<Polled, Failed> {
        reply.body.reserve(ROOM);
        loop {
            let now = self.engine.clock();
            if let Attempt::Pausing(until) = self.attempt
                && until <= now
                && let Some(trouble) = self.gives_up(account)
            {
                self.attempt = Attempt::Over;
                return Err(Failed::Trouble(trouble));
            }
            if let Attempt::Pausing(until) = self.attempt
                && until <= now
                && let Err(failed) = self.call()
            {
                match failed {
                    Failed::Request(_) | Failed::Agent(_) => return Err(failed),
                    Failed::Trouble(trouble) => self.failed(now, account, trouble)?,
                }
                continue;
            }
            if self.exchange.is_late(now) {
                self.attempt = Attempt::Over;
                // The server has said why it is not asked: it owes nothing while it is left alone.
                if let Some(trouble) = self.before.take() {
                    return Err(Failed::Trouble(trouble));
                }
                let trouble = Trouble::new(
                    Fault::Timeout,
                    "it sent nothing in time (timeouts.first_chunk)",
                );
                self.left = 0;
                self.failed(now, account, trouble)?;
            }
            let mut flow = self.exchange.handle_timeout(now, reply);
            let mut pending = true;
            if flow == Flow::Continue {
                match self.look(now, waker, reply) {
                    // All that has come in time was read.
                    Looked::Pending => {
                        if let Some(failure) = self.hears(waker, account) {
                            self.attempt = Attempt::Over;
                            flow = self.exchange.handle_delivery(
                                now,
                                &Delivery::Failed(failure),
                                reply,
                            );
                        }
                    }
                    Looked::Again(next) => (flow, pending) = (next, false),
                    Looked::Failed(trouble) => {
                        self.failed(now, account, trouble)?;
                        continue;
                    }
                }
            }
            match flow {
                Flow::Continue => self.let_go(),
                Flow::Next(_) => {
                    self.prompt = PromptIndex(self.prompt.0 + 1);
                    self.attempt = Attempt::Pausing(now);
                    self.left = 0;
                    continue;
                }
                Flow::Done(outcome) | Flow::Cancel(_, outcome) => {
                    return Ok(Polled::Ended(self.ended(now, waker, outcome)));
                }
            }
            // A whole answer grows unseen. Before more is read the client takes what there is.
            let ready = reply.head.is_some() || !reply.body.is_empty();
            if ready && (pending || reply.body.len() > STEP) {
                return Ok(Polled::Ready);
            }
            if pending {
                return Ok(Polled::Until(self.poll_timeout()));
            }
        }
    }

    /// A large prompt takes no memory while its answer runs: nobody is asked again once that has begun, but for a next prompt.
    fn let_go(&mut self) {
        let is_last = |asked: &mut Asked| self.prompt.0 + 1 >= asked.request.prompts();
        if self.exchange.has_begun() && matches!(self.attempt, Attempt::Calling(_)) {
            self.asked.take_if(is_last);
        }
    }

    /// Why the answer ends now, though the upstream has said nothing. Else `waker` is woken when there is news.
    fn hears(&mut self, waker: &Waker, account: &Account) -> Option<Failure<'static>> {
        loop {
            match &mut self.news {
                Some((news, known)) if known.will_wake(waker) => {
                    if Pin::new(news)
                        .poll(&mut Context::from_waker(waker))
                        .is_pending()
                    {
                        // What has happened before is found below.
                        break;
                    }
                    self.news = None;
                }
                Some(_) | None => self.news = Some((self.upstream.news.listen(), waker.clone())),
            }
        }
        let fails = |code, message: &'static str| {
            Some(Failure {
                code,
                message: message.into(),
                retry_after: None,
            })
        };
        if self.engine.farewell.is_up() {
            return fails(
                Code::Draining,
                "the provider is shutting down, and the answer did not end in time (timeouts.drain)",
            );
        }
        if account
            .ticket()
            .is_some_and(|ticket| !ticket.permit.holds())
        {
            return fails(Code::SessionEnded, "the session of the upstream has ended");
        }
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let exchange = self.exchange.poll_timeout().map(|timeout| timeout.at);
        let attempt = match &self.attempt {
            Attempt::Calling(calling) => calling.0.poll_timeout(),
            Attempt::Pausing(until) => Some(*until),
            Attempt::Over => None,
        };
        exchange.into_iter().chain(attempt).min()
    }

    /// Looks at the call once.
    fn look(&mut self, now: Instant, waker: &Waker, reply: &mut Reply) -> Looked {
        let Attempt::Calling(calling) = &mut self.attempt else {
            return Looked::Pending;
        };
        let (call, reading) = &mut **calling;
        let part = match call.poll(now, waker, &mut self.bytes) {
            Poll::Pending => return Looked::Pending,
            Poll::Ready(part) => part,
        };
        let (exchange, upstream) = (&mut self.exchange, &self.upstream);
        let mut flow = Flow::Continue;
        let mut deliver = |delivery: &Delivery<'_>| {
            if flow != Flow::Continue {
                return;
            }
            flow = match delivery {
                Delivery::Failed(failure) => {
                    let failure = Failure {
                        code: failure.code,
                        message: upstream.scrubbed(&failure.message),
                        retry_after: failure.retry_after,
                    };
                    exchange.handle_delivery(now, &Delivery::Failed(failure), reply)
                }
                Delivery::Delta(_) | Delivery::Embedding(_) | Delivery::End(_) => {
                    exchange.handle_delivery(now, delivery, reply)
                }
            };
        };
        let is_cut = part.is_err() && reading.has_succeeded();
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
            self.attempt = Attempt::Over;
            if is_cut {
                // It has begun to answer, and the work would be done twice. The client has seen nothing, so that a fallback may.
                self.left = 0;
            }
            return Looked::Failed(trouble);
        }
        if flow == Flow::Continue && !self.share.hold(reading.held()) {
            self.attempt = Attempt::Over;
            let failure = Failure {
                code: Code::Overloaded,
                message: "there is no memory left for the answer (limits.memory)".into(),
                retry_after: None,
            };
            flow = self
                .exchange
                .handle_delivery(now, &Delivery::Failed(failure), reply);
        }
        Looked::Again(flow)
    }

    /// An attempt has failed before the first byte: pauses before the next one, or gives up.
    fn failed(&mut self, now: Instant, account: &Account, trouble: Trouble) -> Result<(), Failed> {
        self.attempt = Attempt::Over;
        self.share.hold(0);
        let trouble = self.upstream.clean(trouble);
        let is_open = trouble.is_outage()
            && account.ticket().is_some_and(|ticket| {
                self.engine
                    .hub(|hub, now, out| hub.upstream_failed(now, ticket, out))
            });
        tracing::debug!(
            request_id = %account.id(),
            upstream = %self.upstream.name,
            fault = ?trouble.fault,
            status = trouble.status,
            left = self.left,
            "an attempt failed"
        );
        let pause = self.backoff.pause();
        let pause = trouble.retry_after.map_or(pause, |wanted| wanted + pause);
        if !trouble.is_transient() || self.left == 0 || is_open || pause > LONGEST_PAUSE {
            return Err(Failed::Trouble(trouble));
        }
        self.left -= 1;
        self.before = Some(trouble);
        self.attempt = Attempt::Pausing(now + pause);
        Ok(())
    }

    /// Tells the client that the upstream has failed and nobody else answers.
    pub(super) fn fail(&mut self, now: Instant, failed: &Failed, reply: &mut Reply) -> Outcome {
        let refusal = match failed {
            Failed::Request(refusal) => (**refusal).clone(),
            Failed::Trouble(trouble) => trouble.refusal(&self.upstream.name),
            // That is no upstream's.
            Failed::Agent(failure) => Refusal::new(failure.code, failure.message.to_string()),
        };
        self.exchange.refuse(now, &refusal, reply)
    }

    fn ended(&mut self, now: Instant, waker: &Waker, outcome: Outcome) -> Outcome {
        // The end of the body is mostly there: its connection can serve another call then.
        if let Attempt::Calling(calling) = &mut self.attempt {
            for _ in 0..4 {
                match calling.0.poll(now, waker, &mut self.bytes) {
                    Poll::Ready(Ok(Part::Body | Part::Head(_))) => self.bytes.clear(),
                    Poll::Ready(Ok(Part::End) | Err(_)) | Poll::Pending => break,
                }
            }
        }
        self.attempt = Attempt::Over;
        if let Some(conversation) = self.exchange.conversation() {
            self.engine.keep(self.owner, conversation);
        }
        outcome
    }

    /// The client left: the connection is closed.
    pub(super) fn client_gone(&mut self, now: Instant) -> Outcome {
        self.attempt = Attempt::Over;
        match self.exchange.handle_client_gone(now) {
            Flow::Done(outcome) | Flow::Cancel(_, outcome) => outcome,
            Flow::Continue | Flow::Next(_) => Outcome::left(),
        }
    }

    /// Bytes that wait for the client.
    pub(super) fn unread(&self) -> usize {
        match &self.attempt {
            Attempt::Calling(calling) => calling.1.held().saturating_add(calling.0.memory()),
            Attempt::Pausing(_) | Attempt::Over => 0,
        }
    }
}
