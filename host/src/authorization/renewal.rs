//! The tokens of one server while a program serves: sent with each request, and renewed once for all that were refused.

use super::{Asking, KeptLogin};
use event_listener::{Event, EventListener};
use mcp_local_provider_mcp::authorization::{Credentials, NotAuthorized, NotRenewed};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// The end of a request that was sent with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Used {
    /// The token is none, or none any more.
    Refused,
    /// It is right, and another login may give one that permits more.
    PermitsTooLittle,
}

/// The way on for a request whose token did not do.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// Send it with this value of `Authorization`, which is a secret.
    Token(String),
    /// Wait for this, and ask again.
    Wait(EventListener),
    /// There is no other token.
    None,
}

#[derive(Default)]
struct State {
    credentials: Option<Credentials>,
    /// The token that is gone for good: its authorization server gives none in its place.
    refused: Option<String>,
    is_renewing: bool,
    thread: Option<JoinHandle<()>>,
}

impl State {
    fn authorization(&self) -> Option<String> {
        self.credentials.as_ref().map(Credentials::authorization)
    }
}

/// The login at one server.
pub(crate) struct Authorization {
    server: String,
    url: String,
    kept: KeptLogin,
    asking: Asking,
    state: Mutex<State>,
    /// A renewal has ended.
    changed: Event,
}

impl fmt::Debug for Authorization {
    /// Without the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorization({})", self.server)
    }
}

impl Authorization {
    /// The login at the server of this name and address, which may be none.
    pub(crate) fn new(server: &str, url: &str, kept: KeptLogin, asking: Asking) -> Self {
        Self {
            server: server.to_owned(),
            url: url.to_owned(),
            kept,
            asking,
            state: Mutex::default(),
            changed: Event::new(),
        }
    }

    /// The address to which its tokens go.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Locks the state, which is whole even where a thread panicked: each change is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the login as it is kept now. Tokens for another address are none for this server.
    pub(crate) fn reload(&self) {
        let before = self.state().credentials.clone();
        let kept = match self.kept.read() {
            Ok(kept) => kept.filter(|kept| kept.server == self.url),
            Err(error) => {
                let path = self.kept.path().display();
                tracing::warn!(
                    server = self.server,
                    "the login in {path} cannot be read: {error}"
                );
                return;
            }
        };
        let mut state = self.state();
        // Tokens that a renewal gave meanwhile are newer.
        if !state.is_renewing && state.credentials == before {
            state.credentials = kept;
        }
    }

    /// The value of `Authorization` for a request that is sent now, which is a secret.
    pub(crate) fn token(&self) -> Option<String> {
        self.state().authorization()
    }

    /// Says what is to be done with a request for which this token did not do. The first one that asks has a refused one renewed.
    pub(crate) fn renew(self: &Arc<Self>, used: Option<&str>, end: Used) -> Renewal {
        // A person may have logged in meanwhile.
        self.reload();
        let mut state = self.state();
        if let Some(other) = self.other(&state, used) {
            return other;
        }
        let credentials = state.credentials.clone();
        let is_gone = used.is_some() && state.refused.as_deref() == used;
        let Some(credentials) = credentials.filter(|_| end == Used::Refused && !is_gone) else {
            return Renewal::None;
        };
        if credentials.renewal().is_none() {
            return Renewal::None;
        }
        let renewed = self.clone();
        let thread = std::thread::Builder::new().name(format!("renew-{}", self.server));
        match thread.spawn(move || renewed.ask(&credentials)) {
            Ok(thread) => {
                state.thread = Some(thread);
                state.is_renewing = true;
                Renewal::Wait(self.changed.listen())
            }
            Err(error) => {
                tracing::warn!(
                    server = self.server,
                    "its tokens are not renewed, as no thread starts: {error}"
                );
                Renewal::None
            }
        }
    }

    /// Says what is to be done with a request that has waited for a renewal.
    pub(crate) fn renewed(&self, used: Option<&str>) -> Renewal {
        let state = self.state();
        self.other(&state, used).unwrap_or(Renewal::None)
    }

    /// Another token than the one that was used, or the way to one that others have begun.
    fn other(&self, state: &State, used: Option<&str>) -> Option<Renewal> {
        let token = state.authorization();
        match token.filter(|token| Some(&**token) != used) {
            Some(token) => Some(Renewal::Token(token)),
            None => state
                .is_renewing
                .then(|| Renewal::Wait(self.changed.listen())),
        }
    }

    /// Renews the tokens, on a thread of its own: answers of another server may take long, and so may the disk.
    fn ask(&self, credentials: &Credentials) {
        let server = &*self.server;
        let renewed = self.exchange(credentials);
        let mut state = self.state();
        match renewed {
            Ok(kept) => {
                tracing::debug!(server, "the tokens were renewed");
                state.credentials = kept;
            }
            Err(NotRenewed::Failed(NotAuthorized(why))) => {
                tracing::warn!(server, "{why}");
            }
            Err(NotRenewed::Refused(NotAuthorized(why))) => {
                tracing::warn!(server, "{why}; `mcp login {server}` gets others");
                state.refused = Some(credentials.authorization());
            }
        }
        state.is_renewing = false;
        self.changed.notify(usize::MAX);
    }

    fn exchange(&self, credentials: &Credentials) -> Result<Option<Credentials>, NotRenewed> {
        let failed = |why: String| NotRenewed::Failed(NotAuthorized(why));
        let Some(request) = credentials.renewal() else {
            return Ok(Some(credentials.clone()));
        };
        let received = self.asking.ask(request, &[]);
        let received =
            received.map_err(|why| failed(format!("its tokens were not renewed: {why}")))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let renewed = credentials.renewed(received.told(), now)?;
        match self.kept.write_behind(credentials, &renewed) {
            Ok(kept) => Ok(kept.filter(|kept| kept.server == self.url)),
            Err(error) => {
                let path = self.kept.path().display();
                tracing::warn!(
                    server = self.server,
                    "the renewed tokens cannot be kept in {path}, and are lost when the program ends: {error}"
                );
                Ok(Some(renewed))
            }
        }
    }

    /// Waits for a renewal that is on its way: its authorization server may have taken the old tokens back already.
    pub(crate) fn join(&self) {
        let thread = self.state().thread.take();
        if let Some(thread) = thread {
            // A thread that panicked has reported so on standard error.
            let _ = thread.join();
        }
    }
}
