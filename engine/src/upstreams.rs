//! Upstreams as the engine keeps them: where each is, and what it is shown.

use crate::config::Upstream as Settings;
use crate::proxy::{Origin, Proxies, Route};
use event_listener::Event;
use mcp_local_provider_core::agents::upstream::{Api, ClientHeaders, Trouble};
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::id::LinkId;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tungstenite::http::Uri;

/// The header that names the instances of this program through which a request has come, each with a comma before the next.
pub(super) const VIA: &str = "x-mcp-local-provider-via";

/// Beginning of a key that nobody can use, in bytes.
const SHOWN: usize = 4;

/// Instances through which a request may come.
const HOPS: usize = 8;

/// Time for a connection to a server that no configuration names.
const CONNECT: Duration = Duration::from_secs(10);

/// The upstreams of an engine.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) by_link: HashMap<LinkId, Arc<Upstream>>,
    /// This instance's name for [`VIA`].
    pub(super) instance: String,
}

impl Upstreams {
    /// None, with a name that is made of the engine's secret.
    pub(super) fn new(seed: &[u8]) -> Self {
        let mut secret = seed.to_vec();
        secret.extend_from_slice(b"instance");
        let name = digest(&secret);
        let name = name.iter().take(8);
        Self {
            by_link: HashMap::new(),
            instance: name.fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
        }
    }

    /// The upstream that a ticket names, if it is one.
    pub(super) fn get(&self, link: LinkId) -> Option<&Arc<Upstream>> {
        self.by_link.get(&link)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_link.is_empty()
    }

    /// Has all open answers look what has happened.
    pub(super) fn tell(&self) {
        for upstream in self.by_link.values() {
            upstream.news.notify(usize::MAX);
        }
    }

    /// True for a request that has come through this instance before, or through too many.
    pub(super) fn is_loop(&self, via: &str) -> bool {
        let mut names = via.split(',').map(str::trim);
        via.split(',').count() > HOPS || names.any(|name| name == self.instance)
    }
}

/// Headers of a client's request that an upstream is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    anthropic_version: Option<String>,
    anthropic_beta: Option<String>,
    openai_beta: Option<String>,
    via: Option<String>,
}

/// The same, as the request has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CarriedHeaders<'h> {
    pub(super) own: ClientHeaders<'h>,
    pub(super) via: Option<&'h str>,
}

impl CarriedHeaders<'_> {
    pub(super) fn to_owned(self) -> Carried {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Carried {
            anthropic_version: owned(self.own.anthropic_version),
            anthropic_beta: owned(self.own.anthropic_beta),
            openai_beta: owned(self.own.openai_beta),
            via: owned(self.via),
        }
    }
}

impl Carried {
    /// The instances through which it has come.
    pub(super) fn via(&self) -> Option<&str> {
        self.via.as_deref()
    }

    pub(super) fn headers(&self) -> ClientHeaders<'_> {
        ClientHeaders {
            anthropic_version: self.anthropic_version.as_deref(),
            anthropic_beta: self.anthropic_beta.as_deref(),
            openai_beta: self.openai_beta.as_deref(),
        }
    }
}

/// One upstream.
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) api: Api,
    pub(super) link: LinkId,
    pub(super) retries: u32,
    pub(super) models_ttl: Duration,
    /// True when its own list names its models.
    pub(super) is_listed: bool,
    pub(super) connect_timeout: Duration,
    pub(super) route: Route,
    /// Path of the base address, without a slash at its end.
    pub(super) base: String,
    pub(super) key: Option<String>,
    /// Tells its open answers that its session has changed, or that the time of a drain is over.
    pub(super) news: Event,
}

impl fmt::Debug for Upstream {
    /// Without the key, which the address may hold too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.name)
    }
}

impl Upstream {
    pub(super) fn new(
        settings: &Settings,
        proxies: &Proxies,
        link: LinkId,
    ) -> Result<Self, Cow<'static, str>> {
        let uri: Uri = settings.url.parse().map_err(|_| "its address is no URL")?;
        let scheme = uri.scheme_str();
        let origin = Origin::of(&uri).filter(|_| matches!(scheme, Some("http" | "https")));
        let origin = origin.ok_or("its address is none of http or https")?;
        let route = Route::to(origin, proxies);
        Ok(Self {
            name: settings.name.clone(),
            api: settings.api,
            link,
            retries: settings.retries,
            models_ttl: settings.models_ttl,
            is_listed: settings.models.is_empty(),
            connect_timeout: settings.connect_timeout,
            route: route.map_err(|error| error.to_string())?,
            base: uri.path().trim_end_matches('/').to_owned(),
            key: settings.key.clone(),
            news: Event::new(),
        })
    }

    /// A server that no configuration names: an integration's own. `base` is the path of its address.
    pub(super) fn at(
        name: String,
        api: Api,
        route: Route,
        base: &str,
        key: Option<String>,
    ) -> Self {
        Self {
            name,
            api,
            link: LinkId(0),
            retries: 0,
            models_ttl: Duration::ZERO,
            is_listed: false,
            connect_timeout: CONNECT,
            route,
            base: base.trim_end_matches('/').to_owned(),
            key,
            news: Event::new(),
        }
    }

    /// Takes the key out of what a server said, which may echo it.
    pub(super) fn scrubbed<'t>(&self, text: &'t str) -> Cow<'t, str> {
        const STAND_IN: &str = "[the key]";
        let Some(key) = self.key.as_deref().filter(|key| !key.is_empty()) else {
            return text.into();
        };
        let mut text = match text.contains(key) {
            true => Cow::Owned(text.replace(key, STAND_IN)),
            false => Cow::Borrowed(text),
        };
        // A long message is cut, and the key may be cut with it.
        let begins = |end: &usize| key.get(..*end).is_some_and(|part| text.ends_with(part));
        if let Some(end) = (SHOWN..key.len()).rev().find(begins) {
            let kept = text.len() - end;
            let text = text.to_mut();
            text.truncate(kept);
            text.push_str(STAND_IN);
        }
        text
    }

    /// Takes the key out of a failure.
    pub(super) fn clean(&self, mut trouble: Trouble) -> Trouble {
        trouble.message = self.scrubbed(&trouble.message).into_owned();
        trouble.param = trouble
            .param
            .map(|param| self.scrubbed(&param).into_owned());
        trouble
    }
}
