//! The lists of upstreams' models, read again and again as one piece of background work.

use crate::background::Background;
use crate::engine::Engine;
use crate::http_client::{Call, Part};
use crate::upstream_calls::trouble;
use crate::upstreams::Upstream;
use event_listener::EventListener;
use mcp_local_provider_core::Backoff;
use mcp_local_provider_core::agents::upstream::{Fault, ModelList, Reading, ResponseHead, Trouble};
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Longest list, in bytes.
const BYTES: usize = 16 << 20;
/// Bounds of the pause after a list that could not be read.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Reads the list of each upstream when it is due.
pub(super) struct ModelLists {
    engine: Arc<Engine>,
    lists: Vec<Listing>,
    stop: EventListener,
}

/// The list of one upstream.
struct Listing {
    upstream: Arc<Upstream>,
    state: State,
    backoff: Backoff,
    /// What came of the body.
    body: Vec<u8>,
}

enum State {
    /// It is read again then.
    Pausing(Instant),
    /// A page is on its way; its status, once that is there; the end of the time for it.
    Reading(Box<Call>, ModelList, Option<u16>, Instant),
}

impl fmt::Debug for ModelLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelLists({})", self.lists.len())
    }
}

impl ModelLists {
    pub(super) fn new(engine: Arc<Engine>, upstreams: Vec<Arc<Upstream>>) -> Self {
        let stop = engine.listen_for_stop();
        let now = engine.clock();
        let listing = |upstream| Listing {
            upstream,
            state: State::Pausing(now),
            backoff: Backoff::new(engine.chance(), PAUSES.0, PAUSES.1),
            body: Vec::new(),
        };
        Self {
            lists: upstreams.into_iter().map(listing).collect(),
            engine,
            stop,
        }
    }
}

impl Background for ModelLists {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let stop = Pin::new(&mut self.stop).poll(&mut Context::from_waker(waker));
        if self.engine.is_stopped() || stop.is_ready() {
            return Poll::Ready(());
        }
        for list in &mut self.lists {
            list.poll(&self.engine, waker);
        }
        Poll::Pending
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.lists.iter().filter_map(Listing::poll_timeout).min()
    }
}

impl Listing {
    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Pausing(until) => Some(*until),
            State::Reading(call, _, _, until) => {
                call.poll_timeout().into_iter().chain([*until]).min()
            }
        }
    }

    fn poll(&mut self, engine: &Arc<Engine>, waker: &Waker) {
        loop {
            let now = engine.clock();
            match &mut self.state {
                State::Pausing(until) if *until > now => return,
                State::Pausing(_) => self.ask(engine, ModelList::new(self.upstream.api)),
                State::Reading(call, _, status, until) => {
                    let polled = call.poll(now, waker, &mut self.body);
                    let trouble = match polled {
                        Poll::Pending if *until > now => return,
                        Poll::Pending => Trouble::new(Fault::Timeout, "it does not answer"),
                        Poll::Ready(Ok(Part::Head(head))) => {
                            *status = Some(head.status());
                            continue;
                        }
                        Poll::Ready(Ok(Part::Body)) if self.body.len() <= BYTES => continue,
                        Poll::Ready(Ok(Part::Body)) => {
                            Trouble::new(Fault::Protocol, "the list is longer than 16 MiB")
                        }
                        Poll::Ready(Ok(Part::End)) => match self.take_page(engine) {
                            Ok(()) => continue,
                            Err(trouble) => trouble,
                        },
                        Poll::Ready(Err(error)) => trouble(&error, status.is_some()),
                    };
                    self.failed(engine, trouble);
                }
            }
        }
    }

    /// Asks for the next page.
    fn ask(&mut self, engine: &Arc<Engine>, list: ModelList) {
        self.body.clear();
        let mut headers = vec![("accept", "application/json".to_owned())];
        headers.extend(self.upstream.api.version_header());
        let upstream = &self.upstream;
        match upstream.call(engine, &list.path(), headers, None, None) {
            Ok(call) => {
                let until = engine.clock() + upstream.connect_timeout.saturating_mul(2);
                self.state = State::Reading(Box::new(call), list, None, until);
            }
            Err(error) => self.failed(engine, trouble(&error, false)),
        }
    }

    /// A page is there.
    fn take_page(&mut self, engine: &Arc<Engine>) -> Result<(), Trouble> {
        let body = std::mem::take(&mut self.body);
        let State::Reading(_, list, status, _) = &mut self.state else {
            return Ok(());
        };
        let status = status.unwrap_or_default();
        if status != 200 {
            return Err(refused(status, &body));
        }
        let mut list = list.clone();
        if list.take(&body)? {
            self.ask(engine, list);
            return Ok(());
        }
        let (link, models) = (self.upstream.link, list.into_names());
        tracing::debug!(upstream = %self.upstream.name, models = models.len(), "listed");
        engine.hub(|hub, now, out| hub.upstream_models(now, link, &models, out));
        self.backoff.reset();
        self.state = State::Pausing(engine.clock() + self.upstream.models_ttl);
        Ok(())
    }

    fn failed(&mut self, engine: &Engine, trouble: Trouble) {
        let upstream = &self.upstream;
        let why = upstream.clean(trouble).message;
        let link = upstream.link;
        tracing::warn!(upstream = %upstream.name, "its list of models cannot be read: {why}");
        engine.hub(|hub, now, out| hub.upstream_unlisted(now, link, &why, out));
        let pause = self.backoff.pause().min(upstream.models_ttl);
        // Never at once: the pause may be nothing.
        let pause = pause.max(Duration::from_millis(100));
        self.state = State::Pausing(engine.clock() + pause);
    }
}

/// The failure that an error status tells.
pub(super) fn refused(status: u16, body: &[u8]) -> Trouble {
    Reading::refused(
        &ResponseHead {
            status,
            content_type: None,
            content_encoding: None,
            retry_after: None,
        },
        body,
    )
}
