//! Calls of upstreams: how they begin, and the ways in which they fail.

use crate::config::Upstream as Settings;
use crate::engine::Engine;
use crate::http_client::{Call, CallError, CallTimes, HttpRequest};
use crate::model_lists::ModelLists;
use crate::upstreams::{Upstream, Upstreams, VIA};
use bytes::Bytes;
use mcp_local_provider_core::agents::upstream::{self, Fault, Trouble, takes};
use mcp_local_provider_core::hub::upstreams::UpstreamTerms;
use mcp_local_provider_core::id::LinkId;
use std::borrow::Cow;
use std::sync::Arc;

impl Upstream {
    /// Begins a call of it.
    pub(super) fn call(
        &self,
        engine: &Arc<Engine>,
        path: &str,
        headers: Vec<(&'static str, String)>,
        body: Option<Vec<u8>>,
        via: Option<&str>,
    ) -> Result<Call, CallError> {
        let headers = headers
            .into_iter()
            .map(|(name, value)| (Cow::Borrowed(name), value));
        let mut headers: Vec<_> = headers.collect();
        if let Some(key) = &self.key {
            let (name, value) = upstream::authorization(self.api, key);
            headers.push((Cow::Borrowed(name), value));
        }
        let instance = &engine.upstreams().instance;
        let via = match via {
            Some(via) => format!("{via},{instance}"),
            None => instance.clone(),
        };
        headers.push((Cow::Borrowed(VIA), via));
        headers.push((
            Cow::Borrowed("user-agent"),
            concat!("mcp-local-provider/", env!("CARGO_PKG_VERSION")).to_owned(),
        ));
        let timeouts = &engine.config().timeouts;
        let times = CallTimes {
            connect: self.connect_timeout,
            // The exchange has these times itself.
            answer: timeouts.total,
            progress: timeouts.total,
        };
        let request = HttpRequest {
            method: match body {
                Some(_) => "POST",
                None => "GET",
            },
            path: format!("{}{path}", self.base),
            headers,
            body: body.map(Bytes::from),
        };
        engine
            .http_client()
            .call(engine.clock(), self.route.clone(), request, times)
    }
}

/// The failure of a call. `answered` once a byte of the response came.
pub(super) fn trouble(error: &CallError, answered: bool) -> Trouble {
    let fault = match error {
        CallError::Unreachable(_) | CallError::Broken(_) => Fault::Connection,
        // It was closed before it said anything, or in the middle.
        CallError::Answer(_) if !answered => Fault::Connection,
        CallError::Answer(_) | CallError::Request(_) | CallError::Failed => Fault::Protocol,
        CallError::Timeout(_) => Fault::Timeout,
        CallError::Memory(_) => Fault::Memory,
    };
    Trouble::new(fault, error.to_string())
}

impl Engine {
    /// Adds servers of models that are asked in their own APIs. To be called once, after [`Engine::set_proxies`]. One whose
    /// address cannot be asked is left out, and the log says so.
    pub fn ask_upstreams(self: &Arc<Self>, all: &[Settings]) {
        let mut upstreams = Upstreams::new(&self.seed);
        if all.is_empty() {
            return;
        }
        for settings in all {
            let terms = UpstreamTerms {
                name: settings.name.clone(),
                supports: takes(settings.api),
                models: settings.models.clone(),
                concurrency: settings.concurrency,
                requests_per_minute: settings.requests_per_minute,
                tokens_per_minute: settings.tokens_per_minute,
                circuit: settings.circuit,
                patience: settings.connect_timeout,
            };
            let upstream = &settings.name;
            // The address is read first, so that nobody waits for the models of one that cannot be asked.
            if let Err(why) = Upstream::new(settings, self.proxies(), LinkId(0)) {
                tracing::error!(%upstream, "this upstream is left out: {why}");
                continue;
            }
            let link = match self.hub(|hub, now, out| hub.add_upstream(now, &terms, out)) {
                Ok(link) => link,
                Err(refusal) => {
                    tracing::error!(%upstream, "this upstream is left out: {refusal}");
                    continue;
                }
            };
            if let Ok(upstream) = Upstream::new(settings, self.proxies(), link) {
                upstreams.by_link.insert(link, Arc::new(upstream));
            }
        }
        let mut listed: Vec<_> = upstreams.by_link.values().cloned().collect();
        listed.retain(|upstream| upstream.is_listed);
        // A second call is a fault of the host, and changes nothing.
        let _ = self.upstreams.set(upstreams);
        if !listed.is_empty() {
            let lists = ModelLists::new(self.clone(), listed);
            self.outside().spawn(Box::new(lists));
        }
    }

    /// The servers of models that are asked in their own APIs.
    pub(super) fn upstreams(&self) -> &Upstreams {
        self.upstreams.get_or_init(|| Upstreams::new(&self.seed))
    }
}
