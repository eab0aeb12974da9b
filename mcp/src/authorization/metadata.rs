//! Documents of a server and its authorization server about themselves (RFC 9728, RFC 8414, OpenID Connect Discovery).

use super::NotAuthorized;
use super::credentials::ClientAuthentication;
use super::document::{Document, wrong};
use super::url::Url;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const RESOURCE: &str = "resource metadata";
const ISSUER: &str = "authorization server's metadata";

/// The places of a server's own document, in the order in which they are asked.
pub(super) fn resource_places(server: &Url<'_>) -> Vec<String> {
    let name = "oauth-protected-resource";
    let path = server.path.trim_end_matches('/');
    let mut places = Vec::from([server.well_known(name, path)]);
    if !path.is_empty() {
        places.push(server.well_known(name, ""));
    }
    places
}

/// A server as it says.
#[derive(Debug)]
pub(super) struct Resource {
    /// Its name in requests for tokens.
    pub(super) name: String,
    /// The first of its authorization servers.
    pub(super) issuer: String,
    /// All scopes that it knows.
    pub(super) scope: Option<String>,
}

impl Resource {
    /// Reads the document of the server at `server`. `None` where the answer is no such document.
    ///
    /// # Errors
    /// When it is that of another server, or sends this program where it must not go.
    pub(super) fn read(body: &[u8], server: &Url<'_>) -> Result<Option<Self>, NotAuthorized> {
        let wrong = |why: &str| wrong(RESOURCE, why);
        let Some(document) = Document::read(body) else {
            return Ok(None);
        };
        let Some(issuer) = document
            .texts("authorization_servers")
            .and_then(|all| all.into_iter().next())
        else {
            return Ok(None);
        };
        let name = document.text("resource");
        let name = name.ok_or_else(|| wrong("it names no `resource`"))?;
        if !Url::read(&name).is_some_and(|named| named.covers(server)) {
            let why = format!("it is about another server, `{name}`");
            return Err(wrong(&why));
        }
        checked(&issuer, server, RESOURCE, "authorization_servers")?;
        let scopes = document.texts("scopes_supported");
        let scopes = scopes.filter(|scopes| !scopes.is_empty());
        Ok(Some(Self {
            name,
            issuer,
            scope: scopes.map(|scopes| scopes.join(" ")),
        }))
    }
}

/// The places of an authorization server's document, in the order in which they are asked.
pub(super) fn issuer_places(issuer: &Url<'_>) -> Vec<String> {
    let (oauth, openid) = ("oauth-authorization-server", "openid-configuration");
    let path = issuer.path.trim_end_matches('/');
    let mut places = Vec::from([
        issuer.well_known(oauth, path),
        issuer.well_known(openid, path),
    ]);
    if !path.is_empty() {
        places.push(format!("{}{path}/.well-known/{openid}", issuer.origin));
    }
    places
}

/// An authorization server as it says.
#[derive(Debug)]
pub(super) struct Issuer {
    /// Its name.
    pub(super) name: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) registration_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    /// A client's ways to prove who it is; those of RFC 8414 when it does not say.
    methods: Option<Vec<String>>,
    /// Clients may be named by the address of a document.
    pub(super) takes_documents: bool,
    /// Its answers to a browser name it.
    pub(super) says_itself: bool,
    /// Tokens that renew others are to be asked for.
    pub(super) has_offline_access: bool,
}

impl Issuer {
    /// Reads the document of the authorization server `issuer`. `None` where the answer is no such document.
    ///
    /// # Errors
    /// When it is that of another one, or cannot do what MCP wants, or sends this program where it must not go.
    pub(super) fn read(
        body: &[u8],
        issuer: &str,
        server: &Url<'_>,
    ) -> Result<Option<Self>, NotAuthorized> {
        let wrong = |why: &str| wrong(ISSUER, why);
        let Some(document) = Document::read(body) else {
            return Ok(None);
        };
        let Some(name) = document.text("issuer") else {
            return Ok(None);
        };
        if !is_same(&name, issuer) {
            let why = format!("it is that of `{name}`, and not of `{issuer}`");
            return Err(wrong(&why));
        }
        let methods = document.texts("code_challenge_methods_supported");
        if !methods.is_some_and(|all| all.iter().any(|method| method == "S256")) {
            return Err(wrong(
                "it does not name PKCE with S256, without which a code could be stolen",
            ));
        }
        let endpoint = |name: &str| {
            let endpoint = document.text(name);
            let endpoint = endpoint.map(|endpoint| {
                checked(&endpoint, server, ISSUER, name)?;
                Ok(endpoint)
            });
            endpoint.transpose()
        };
        let needed = |name: &str| {
            let missing = || wrong(&format!("it names no `{name}`"));
            endpoint(name)?.ok_or_else(missing)
        };
        let scopes = document.texts("scopes_supported").unwrap_or_default();
        Ok(Some(Self {
            authorization_endpoint: needed("authorization_endpoint")?,
            token_endpoint: needed("token_endpoint")?,
            registration_endpoint: endpoint("registration_endpoint")?,
            revocation_endpoint: endpoint("revocation_endpoint")?,
            methods: document.texts("token_endpoint_auth_methods_supported"),
            takes_documents: document.is("client_id_metadata_document_supported"),
            says_itself: document.is("authorization_response_iss_parameter_supported"),
            has_offline_access: scopes.iter().any(|scope| scope == "offline_access"),
            name,
        }))
    }

    /// The way in which a client with a secret proves who it is.
    pub(super) fn authentication(&self) -> ClientAuthentication {
        let takes = |name: &str| {
            let methods = self.methods.as_ref();
            methods.is_some_and(|methods| methods.iter().any(|method| method == name))
        };
        if takes("client_secret_post") && !takes("client_secret_basic") {
            ClientAuthentication::Post
        } else {
            ClientAuthentication::Basic
        }
    }
}

/// True for two names of one authorization server. They are compared as texts; that a name without a path may end in `/` is all
/// that RFC 3986, section 6.2.3, lets differ here, and official packages write it both ways.
fn is_same(one: &str, other: &str) -> bool {
    let bare = |name: &'_ str| Url::read(name).filter(|url| url.path == "/").is_some();
    let without = |name: &str| {
        name.strip_suffix('/')
            .filter(|_| bare(name))
            .map(String::from)
    };
    let normal = |name: &str| without(name).unwrap_or_else(|| String::from(name));
    normal(one) == normal(other)
}

/// Checks an address that another server has named in `member` of its document `what`.
fn checked(address: &str, server: &Url<'_>, what: &str, member: &str) -> Result<(), NotAuthorized> {
    match Url::read(address) {
        Some(url) if url.is_open_to(server) => Ok(()),
        Some(_) | None => {
            let why = format!(
                "`{member}` has `{address}`, which is no `https` address of another machine"
            );
            Err(wrong(what, &why))
        }
    }
}
