//! The tokens of one server, the client that they were given to, and the requests that these make of the authorization server.

use super::document::{Document, error_code, refusal};
use super::url::{push_encoded, push_parameter};
use super::{Answer, Headers, NotAuthorized, Request};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;
use data_encoding::BASE64;
use mcp_local_provider_core::text::escaped;

/// Longest token that is kept, in bytes.
const TOKEN_BYTES: usize = 16 << 10;

/// Ways in which a client proves to an authorization server who it is (RFC 7591, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// It has no secret.
    None,
    /// The secret is in the header `Authorization`.
    Basic,
    /// The secret is in the form.
    Post,
}

impl ClientAuthentication {
    const ALL: [Self; 3] = [Self::None, Self::Basic, Self::Post];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }

    /// The way of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// This program as an authorization server knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name there.
    pub id: String,
    /// Its secret there.
    pub secret: Option<String>,
    /// Its way to prove that it has that.
    pub authentication: ClientAuthentication,
    /// The address that a browser comes back to.
    pub redirect_uri: String,
    /// True where it registered itself.
    pub is_registered: bool,
    /// The end of its secret, in seconds since 1970.
    pub ends_at: Option<u64>,
}

impl fmt::Debug for Client {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.id)
    }
}

impl Client {
    /// A request for tokens: `form` with what says who asks.
    pub(super) fn ask(&self, url: &str, mut form: String) -> Request {
        let mut headers = Headers::from([
            ("accept".into(), "application/json".to_owned()),
            (
                "content-type".into(),
                "application/x-www-form-urlencoded".to_owned(),
            ),
        ]);
        let secret = self.secret.as_deref().unwrap_or_default();
        match self.authentication {
            ClientAuthentication::None => push_parameter(&mut form, "client_id", &self.id),
            ClientAuthentication::Post => {
                push_parameter(&mut form, "client_id", &self.id);
                push_parameter(&mut form, "client_secret", secret);
            }
            ClientAuthentication::Basic => {
                let mut pair = String::new();
                push_encoded(&mut pair, &self.id);
                pair.push(':');
                push_encoded(&mut pair, secret);
                let value = format!("Basic {}", BASE64.encode(pair.as_bytes()));
                headers.push(("authorization".into(), value));
            }
        }
        Request {
            method: "POST",
            url: url.to_owned(),
            headers,
            body: Some(form),
            is_for_server: false,
        }
    }
}

/// Tokens (RFC 6749, section 5.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The token of each request to the server.
    pub access: String,
    /// The token that gets others when that has ended.
    pub refresh: Option<String>,
    /// The end of `access`, in seconds since 1970; `None` when nobody says.
    pub ends_at: Option<u64>,
    /// The scopes that were given, with blanks between them.
    pub scope: Option<String>,
}

impl fmt::Debug for Tokens {
    /// Without the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens(until {:?}, {:?})", self.ends_at, self.scope)
    }
}

impl Tokens {
    /// Reads an answer at `now`, since 1970. Scopes that it does not name are those that were asked for.
    pub(super) fn read(
        body: &[u8],
        asked: Option<&str>,
        now: Duration,
    ) -> Result<Self, &'static str> {
        let document = Document::read(body).ok_or("it is no JSON object")?;
        let access = document
            .text("access_token")
            .ok_or("it has no `access_token`")?;
        let is_bearer = document
            .text("token_type")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !is_bearer {
            return Err("its `token_type` is not `Bearer`");
        }
        let fits = |token: &str| {
            token.len() <= TOKEN_BYTES && token.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
        };
        if !fits(&access) {
            return Err("its `access_token` cannot stand in a header");
        }
        let ends = document.whole("expires_in");
        Ok(Self {
            access,
            refresh: document
                .text("refresh_token")
                .filter(|token| token.len() <= TOKEN_BYTES),
            ends_at: ends.map(|seconds| now.as_secs().saturating_add(seconds)),
            scope: document.text("scope").or_else(|| asked.map(str::to_owned)),
        })
    }
}

/// The reason for which tokens were not renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRenewed {
    /// The authorization server gives none any more: a person has to log in again.
    Refused(NotAuthorized),
    /// It does not do so now.
    Failed(NotAuthorized),
}

/// All that is kept of a login at one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The address of the server, to which alone the tokens go.
    pub server: String,
    /// Its name at the authorization server.
    pub resource: String,
    /// The name of the authorization server, to which alone the client is known.
    pub issuer: String,
    /// The address at which tokens are asked for.
    pub token_endpoint: String,
    /// The address at which they are given back.
    pub revocation_endpoint: Option<String>,
    /// This program there.
    pub client: Client,
    /// The tokens.
    pub tokens: Tokens,
}

impl Credentials {
    /// Returns the value of the header `Authorization`, which is a secret.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.tokens.access)
    }

    /// Returns the request for other tokens; `None` where only a login gets them.
    #[must_use]
    pub fn renewal(&self) -> Option<Request> {
        let refresh = self.tokens.refresh.as_deref()?;
        let mut form = String::from("grant_type=refresh_token");
        push_parameter(&mut form, "refresh_token", refresh);
        push_parameter(&mut form, "resource", &self.resource);
        Some(self.client.ask(&self.token_endpoint, form))
    }

    /// Takes the answer to [`Credentials::renewal`] at `now`, since 1970. A token for the next renewal stays where none is given.
    ///
    /// # Errors
    /// When there are no tokens in it.
    pub fn renewed(&self, answer: Answer<'_>, now: Duration) -> Result<Self, NotRenewed> {
        let told = || {
            let refusal = refusal(answer.status, answer.body);
            NotAuthorized(format!("its tokens were not renewed: {refusal}"))
        };
        match answer.status {
            200 => {}
            408 | 429 => return Err(NotRenewed::Failed(told())),
            400..500 => {
                let is_passing =
                    error_code(answer.body).as_deref() == Some("temporarily_unavailable");
                let kind = if is_passing {
                    NotRenewed::Failed
                } else {
                    NotRenewed::Refused
                };
                return Err(kind(told()));
            }
            _ => return Err(NotRenewed::Failed(told())),
        }
        let tokens = Tokens::read(answer.body, self.tokens.scope.as_deref(), now);
        let mut tokens = tokens.map_err(|why| {
            let why = format!("its tokens were not renewed, as the answer cannot be used: {why}");
            NotRenewed::Failed(NotAuthorized(why))
        })?;
        if tokens.refresh.is_none() {
            tokens.refresh.clone_from(&self.tokens.refresh);
        }
        Ok(Self {
            tokens,
            ..self.clone()
        })
    }

    /// Returns the request that gives the tokens back; `None` where the authorization server takes none.
    #[must_use]
    pub fn revocation(&self) -> Option<Request> {
        let endpoint = self.revocation_endpoint.as_deref()?;
        let (token, kind) = match &self.tokens.refresh {
            Some(refresh) => (refresh, "refresh_token"),
            None => (&self.tokens.access, "access_token"),
        };
        let mut form = String::new();
        push_parameter(&mut form, "token", token);
        push_parameter(&mut form, "token_type_hint", kind);
        Some(self.client.ask(endpoint, form))
    }

    /// Writes them as a JSON object, which is a secret.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (client, tokens) = (&self.client, &self.tokens);
        let mut own = Object::new();
        own.text("server", Some(&self.server));
        own.text("resource", Some(&self.resource));
        own.text("issuer", Some(&self.issuer));
        own.text("token_endpoint", Some(&self.token_endpoint));
        own.text("revocation_endpoint", self.revocation_endpoint.as_deref());
        let mut of_client = Object::new();
        of_client.text("client_id", Some(&client.id));
        of_client.text("client_secret", client.secret.as_deref());
        of_client.text(
            "token_endpoint_auth_method",
            Some(client.authentication.name()),
        );
        of_client.text("redirect_uri", Some(&client.redirect_uri));
        of_client.raw("registered", client.is_registered);
        if let Some(ends_at) = client.ends_at {
            of_client.raw("client_secret_expires_at", ends_at);
        }
        own.raw("client", of_client.end());
        own.text("access_token", Some(&tokens.access));
        own.text("refresh_token", tokens.refresh.as_deref());
        if let Some(ends_at) = tokens.ends_at {
            own.raw("expires_at", ends_at);
        }
        own.text("scope", tokens.scope.as_deref());
        own.end()
    }

    /// Reads what [`Credentials::to_json`] wrote; `None` where it is something else.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Self> {
        let document = Document::read(json)?;
        let client = document.object("client")?;
        let way = client.text("token_endpoint_auth_method")?;
        Some(Self {
            server: document.text("server")?,
            resource: document.text("resource")?,
            issuer: document.text("issuer")?,
            token_endpoint: document.text("token_endpoint")?,
            revocation_endpoint: document.text("revocation_endpoint"),
            client: Client {
                id: client.text("client_id")?,
                secret: client.text("client_secret"),
                authentication: ClientAuthentication::named(&way)?,
                redirect_uri: client.text("redirect_uri")?,
                is_registered: client.is("registered"),
                ends_at: client.whole("client_secret_expires_at"),
            },
            tokens: Tokens {
                access: document.text("access_token")?,
                refresh: document.text("refresh_token"),
                ends_at: document.whole("expires_at"),
                scope: document.text("scope"),
            },
        })
    }
}

/// A JSON object on its way.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::from("{"))
    }

    /// Adds a text where there is one.
    fn text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.raw(name, format_args!("\"{}\"", escaped(text)));
        }
    }

    /// Adds a value that is JSON.
    fn raw(&mut self, name: &str, value: impl fmt::Display) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        self.0.push_str(&format!("{comma}\"{name}\":{value}"));
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
