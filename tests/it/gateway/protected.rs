//! A server behind OAuth 2.1, with the authorization server that gives tokens for it: each request to `/mcp` with the right token goes
//! on to a gateway. It is held to the standards by the official packages (`tests/mcp`); here it breaks when a test says so.

use super::client::KEY;
use serde_json::json;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// State of the server, which a test changes.
#[derive(Default)]
pub struct State {
    /// Tokens that were given.
    issued: u32,
    /// The token that is right; none where that was taken back.
    pub access: String,
    /// The token that gets another one.
    pub refresh: String,
    /// Tokens up to this one permit too little, for want of a scope.
    pub too_little: u32,
    /// It gives no token for another one any more.
    pub refuses: bool,
    /// Requests of each path, and their bodies.
    pub heard: Vec<(String, String)>,
}

impl State {
    /// The bodies that came to a path.
    pub fn heard(&self, path: &str) -> Vec<String> {
        let heard = self.heard.iter().filter(|(own, _)| own == path);
        heard.map(|(_, body)| body.clone()).collect()
    }

    fn issue(&mut self) -> String {
        self.issued += 1;
        self.access = format!("access-secret-{}", self.issued);
        self.refresh = format!("refresh-secret-{}", self.issued);
        let (access, refresh) = (&self.access, &self.refresh);
        json!({ "access_token": access, "token_type": "Bearer", "expires_in": 3600, "refresh_token": refresh, "scope": "tools" })
            .to_string()
    }
}

/// The server.
pub struct Protected {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Protected {
    /// One before the server `suite` of the gateway at `behind`.
    pub fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let own = state.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = own.clone();
                thread::spawn(move || serve(&socket, address, behind, &state));
            }
        });
        Self { address, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The token that is right has ended.
    pub fn expire(&self) {
        self.state().access.clear();
    }
}

/// A value of a query or form, as it stands there.
fn value(text: &str, name: &str) -> String {
    let mut pairs = text.split(['?', '&']).filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(own, _)| *own == name);
    found.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// Answers one request. A connection that breaks is one that the client has left.
fn serve(socket: &TcpStream, own: SocketAddr, behind: SocketAddr, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let mut named = head.iter().filter_map(|line| line.split_once(": "));
        named.find_map(|(own, value)| own.eq_ignore_ascii_case(name).then(|| value.to_owned()))
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8(body).unwrap();
    let target = head[0].split(' ').nth(1).unwrap().to_owned();
    let path = target.split('?').next().unwrap();
    let base = format!("http://{own}");
    let mut locked = state.lock().unwrap();
    locked.heard.push((path.to_owned(), text.clone()));
    let (status, more, answer) = match path {
        "/mcp" => {
            let token = header("authorization").unwrap_or_default();
            let number = token.strip_prefix("Bearer access-secret-").and_then(|number| number.parse().ok());
            let is_right = number.is_some_and(|number: u32| number <= locked.issued) && !locked.access.is_empty();
            let is_newest = number == Some(locked.issued);
            let permits = number > Some(locked.too_little);
            // For a test that looks at what tokens permit they stay right when others are given.
            let has_token = is_right && (is_newest || locked.too_little > 0);
            drop(locked);
            let about = format!("resource_metadata=\"{base}/.well-known/oauth-protected-resource/mcp\"");
            match (has_token, permits) {
                (true, true) => return forward(socket, behind, &head, &text).ok(),
                (true, false) => {
                    let challenge =
                        format!("WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"files:write\", {about}\r\n");
                    ("403 Forbidden", challenge, String::new())
                }
                (false, _) => {
                    let challenge = format!("WWW-Authenticate: Bearer error=\"invalid_token\", {about}\r\n");
                    ("401 Unauthorized", challenge, String::new())
                }
            }
        }
        "/.well-known/oauth-protected-resource/mcp" => {
            let document = json!({ "resource": format!("{base}/mcp"), "authorization_servers": [base], "scopes_supported": ["tools"] });
            ("200 OK", String::new(), document.to_string())
        }
        "/.well-known/oauth-authorization-server" => {
            let place = |name: &str| format!("{base}/{name}");
            let document = json!({
                "issuer": base,
                "authorization_endpoint": place("authorize"),
                "token_endpoint": place("token"),
                "registration_endpoint": place("register"),
                "revocation_endpoint": place("revoke"),
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            });
            ("200 OK", String::new(), document.to_string())
        }
        "/register" => ("201 Created", String::new(), json!({ "client_id": "this-program" }).to_string()),
        // Nobody is asked: the person consents.
        "/authorize" => {
            let back = value(&target, "redirect_uri").replace("%3A", ":").replace("%2F", "/");
            let state = value(&target, "state");
            let issuer = base.replace(':', "%3A").replace('/', "%2F");
            let location = format!("Location: {back}?code=the-code&state={state}&iss={issuer}\r\n");
            ("302 Found", location, String::new())
        }
        "/token" => {
            let is_right = match &*value(&text, "grant_type") {
                "authorization_code" => value(&text, "code") == "the-code" && !value(&text, "code_verifier").is_empty(),
                _ => value(&text, "refresh_token") == locked.refresh,
            };
            if is_right && !locked.refuses {
                ("200 OK", String::new(), locked.issue())
            } else {
                ("400 Bad Request", String::new(), json!({ "error": "invalid_grant" }).to_string())
            }
        }
        "/revoke" => ("200 OK", String::new(), String::new()),
        _ => ("404 Not Found", String::new(), String::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    let mut socket = socket;
    socket.write_all(format!("{head}{answer}").as_bytes()).ok()
}

/// Passes a request on with the key of the gateway behind, and its answer back.
fn forward(mut socket: &TcpStream, behind: SocketAddr, head: &[String], body: &str) -> io::Result<()> {
    let mut far = TcpStream::connect(behind)?;
    let method = head[0].split(' ').next().unwrap();
    write!(far, "{method} /servers/suite/mcp HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n")?;
    for line in head.iter().skip(1) {
        let name = line.split(':').next().unwrap();
        if !["authorization", "connection"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
            write!(far, "{line}\r\n")?;
        }
    }
    write!(far, "\r\n{body}")?;
    // A client that leaves is one that leaves the gateway behind.
    let (leaving, gone) = (socket.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let mut leaving = leaving;
        let _ = io::copy(&mut leaving, &mut io::sink());
        let _ = gone.shutdown(Shutdown::Both);
    });
    io::copy(&mut far, &mut socket)?;
    socket.shutdown(Shutdown::Both)
}
