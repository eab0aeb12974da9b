//! `mcp login` and `mcp logout`: tokens for an MCP server whose authorization server gives them to a person with a browser.

use super::Failure;
use crate::authorization::{Asking, Callback, KeptLogin};
use crate::browser;
use crate::config::{Loaded, McpOauth, McpServer, Secret};
use crate::printable::printable;
use crate::process::own_program;
use mcp_local_provider_engine::tls::{IS_BUILT_IN, TlsError};
use mcp_local_provider_mcp::authorization::{
    Credentials, Login, NotAuthorized, Preset, Returned, Settings, Step,
};
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time that a person may take in the browser.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A server that takes logins, and where its login is kept.
struct Place<'l> {
    name: &'l str,
    server: &'l McpServer,
    url: &'l str,
    kept: KeptLogin,
    asking: Asking,
}

impl<'l> Place<'l> {
    fn find(loaded: &'l Loaded, name: &str) -> Result<Self, Failure> {
        let config = &loaded.config;
        let mut offered = config.mcp_servers.offered();
        let shown = printable(name);
        let Some((name, server)) = offered.find(|(own, _)| *own == name) else {
            let message = format!(
                "there is no MCP server `{shown}`; `mcp list` shows those of the configuration"
            );
            return Err(Failure(message));
        };
        let Some(url) = server.url.as_deref() else {
            let message = format!(
                "the MCP server `{shown}` is started here, and takes no login; what it needs is in its `env`"
            );
            return Err(Failure(message));
        };
        if !server.takes_logins() {
            let message = format!(
                "the MCP server `{shown}` is reached by a WebSocket, or has a header `Authorization` in the configuration; a login would \
                 change nothing"
            );
            return Err(Failure(message));
        }
        Ok(Self {
            name,
            server,
            url,
            kept: KeptLogin::new(&config.data_dir, name),
            asking: Asking::new(loaded.environment.proxies(), config.tls.ca_file.clone()),
        })
    }

    /// An error about the server.
    fn failure(&self, why: &str) -> Failure {
        Failure(format!(
            "the MCP server `{}`: {}",
            self.name,
            printable(why)
        ))
    }

    /// The login that is kept, where it is one at this address. What cannot be read is as good as none.
    fn known(&self) -> Option<Credentials> {
        let kept = self.kept.read().ok().flatten();
        kept.filter(|kept| kept.server == self.url)
    }
}

/// Logs in: opens the browser and waits until it comes back.
pub(super) fn login(
    loaded: &Loaded,
    name: &str,
    more_scope: Option<&str>,
    opens_browser: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if !IS_BUILT_IN {
        return Err(TlsError::NotBuiltIn.into());
    }
    let place = Place::find(loaded, name)?;
    let known = place.known();
    let oauth = place.server.oauth.clone().unwrap_or_default();
    let callback = open_callback(&oauth, known.as_ref())?;
    let mut random = [[0; 32]; 2];
    for part in &mut random {
        getrandom::fill(part)?;
    }
    let settings = Settings {
        server: place.url.to_owned(),
        redirect_uri: callback.uri(),
        preset: oauth.client_id.map(|id| Preset {
            id,
            secret: oauth
                .client_secret
                .as_ref()
                .and_then(Secret::text)
                .map(str::to_owned),
        }),
        metadata_document: oauth.client_metadata_url,
        scope: oauth.scope,
        more_scope: more_scope.map(str::to_owned),
        known,
    };
    let headers = place.server.sent_headers();
    let wrong = |NotAuthorized(why): NotAuthorized| place.failure(&why);
    let mut login = Login::new(settings, &random).map_err(wrong)?;
    let mut callback = Some(callback);
    loop {
        match login.step() {
            Step::Ask(request) => {
                let received = place.asking.ask(request, &headers);
                let received = received.map_err(|why| place.failure(&why))?;
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                login = login.handle_answer(received.told(), now).map_err(wrong)?;
            }
            Step::Visit(url) => {
                let (sender, visits) = channel();
                if let Some(callback) = callback.take() {
                    callback.serve(sender.clone())?;
                }
                show(&url, opens_browser, sender, out)?;
                login = wait(login, &visits, out)?.map_err(wrong)?;
            }
            Step::Done(credentials) => {
                let path = place.kept.path().display();
                let kept = place.kept.write(&credentials);
                kept.map_err(|error| Failure(format!("{path} cannot be written: {error}")))?;
                return Ok(tell(&place, &credentials, out)?);
            }
        }
    }
}

/// Opens the port that the browser comes back to: the one of the configuration, or the one under which this program is registered,
/// if it is free.
fn open_callback(oauth: &McpOauth, known: Option<&Credentials>) -> Result<Callback, Failure> {
    if let Some(port) = oauth.callback_port {
        return Callback::open(Some(port)).map_err(|error| {
            Failure(format!(
                "port {port} of `oauth.callback_port` cannot be opened: {error}"
            ))
        });
    }
    let known = known.map(|known| known.client.redirect_uri.as_str());
    let port = known.and_then(|uri| uri.rsplit_once(':')?.1.split('/').next()?.parse().ok());
    let again = port.and_then(|port| Callback::open(Some(port)).ok());
    Ok(match again {
        Some(callback) => callback,
        None => Callback::open(None)?,
    })
}

/// Shows the address to the person, and opens it. What they type is taken for the address that the browser came back to.
fn show(
    url: &str,
    opens_browser: bool,
    visits: Sender<String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    writeln!(out, "log in with a browser at this address:\n\n{url}\n")?;
    if opens_browser {
        browser::open(&own_program()?, url)?;
    }
    if !opens_browser || io::stdin().is_terminal() {
        writeln!(
            out,
            "where the browser is on another machine, paste the address here that it cannot open in the end"
        )?;
        let read = move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if visits.send(line.trim().to_owned()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("typed".to_owned())
            .spawn(read)?;
    }
    Ok(out.flush()?)
}

/// Waits for the browser.
fn wait(
    mut login: Login,
    visits: &Receiver<String>,
    out: &mut dyn Write,
) -> Result<Result<Login, NotAuthorized>, Failure> {
    loop {
        let late = "nobody has logged in within 15 minutes; `mcp login` again, when you are there";
        let visit = visits
            .recv_timeout(PATIENCE)
            .map_err(|_| Failure(late.to_owned()))?;
        if visit.is_empty() {
            continue;
        }
        match login.handle_return(&visit) {
            Ok((login, Returned::Taken)) => return Ok(Ok(login)),
            Ok((same, Returned::Foreign)) => login = same,
            Err(error) => return Ok(Err(error)),
        }
        writeln!(
            out,
            "an address came that does not belong to this login, and was ignored"
        )?;
        out.flush()?;
    }
}

fn tell(place: &Place<'_>, credentials: &Credentials, out: &mut dyn Write) -> io::Result<()> {
    let name = place.name;
    let issuer = printable(&credentials.issuer);
    write!(out, "`{name}` is logged in at {issuer}")?;
    if let Some(scope) = &credentials.tokens.scope {
        write!(out, ", for {}", printable(scope))?;
    }
    writeln!(out, "\nkept in {}", place.kept.path().display())?;
    if credentials.tokens.refresh.is_none() {
        writeln!(
            out,
            "its tokens cannot be renewed: `mcp login {name}` again when they have ended"
        )?;
    }
    writeln!(
        out,
        "a program that runs uses it from its next connection on"
    )
}

/// Gives the tokens back, where the authorization server takes them, and removes the login.
pub(super) fn logout(loaded: &Loaded, name: &str, out: &mut dyn Write) -> Result<(), Failure> {
    if !IS_BUILT_IN {
        return Err(TlsError::NotBuiltIn.into());
    }
    let place = Place::find(loaded, name)?;
    let name = place.name;
    let kept = place.kept.read().ok().flatten();
    let path = place.kept.path().display();
    let removed = place.kept.remove();
    if !removed.map_err(|error| Failure(format!("{path} cannot be removed: {error}")))? {
        return Ok(writeln!(out, "`{name}` has no login")?);
    }
    writeln!(out, "`{name}` is logged out: {path} is gone")?;
    if let Some(kept) = kept {
        let issuer = printable(&kept.issuer);
        let refused = match kept.revocation() {
            None => Some("it takes none back".to_owned()),
            Some(request) => match place.asking.ask(request, &[]) {
                Ok(received) if received.told().status < 300 => None,
                Ok(received) => Some(format!("HTTP status {}", received.told().status)),
                Err(why) => Some(why),
            },
        };
        match refused {
            None => writeln!(out, "{issuer} has taken the tokens back")?,
            Some(why) => writeln!(
                out,
                "{issuer} still knows the tokens until they end: {}",
                printable(&why)
            )?,
        }
    }
    Ok(writeln!(
        out,
        "a program that runs uses them until its connections end"
    )?)
}
