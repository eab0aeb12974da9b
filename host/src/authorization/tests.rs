//! Logins on disk, a browser that comes back, and tokens that are renewed once for all.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Asking, Authorization, Callback, KeptLogin, Renewal, Used};
use crate::test_directory::Directory;
use event_listener::Listener;
use mcp_local_provider_engine::proxy::Proxies;
use mcp_local_provider_mcp::authorization::{Client, ClientAuthentication, Credentials, Tokens};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

const URL: &str = "http://127.0.0.1:9/mcp";

fn credentials(token_endpoint: &str, access: &str) -> Credentials {
    Credentials {
        server: URL.to_owned(),
        resource: URL.to_owned(),
        issuer: "http://127.0.0.1:9".to_owned(),
        token_endpoint: token_endpoint.to_owned(),
        revocation_endpoint: None,
        client: Client {
            id: "c".to_owned(),
            secret: None,
            authentication: ClientAuthentication::None,
            redirect_uri: "http://127.0.0.1:8/callback".to_owned(),
            is_registered: true,
            ends_at: None,
        },
        tokens: Tokens {
            access: access.to_owned(),
            refresh: Some("r".to_owned()),
            ends_at: None,
            scope: None,
        },
    }
}

/// An authorization server that answers each request with the next of these, after it was told to. Tells of each form.
fn authorization_server(
    answers: Vec<(&'static str, String)>,
    go: Receiver<()>,
) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let (sender, forms) = channel();
    thread::spawn(move || {
        for (status, body) in answers {
            let (socket, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut form = vec![0; length];
            reader.read_exact(&mut form).unwrap();
            sender.send(String::from_utf8(form).unwrap()).unwrap();
            go.recv().unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            (&socket)
                .write_all(format!("{head}{body}").as_bytes())
                .unwrap();
        }
    });
    (url, forms)
}

fn tokens(access: &str) -> (&'static str, String) {
    let body = format!(
        r#"{{"access_token":"{access}","token_type":"Bearer","refresh_token":"r-{access}"}}"#
    );
    ("200 OK", body)
}

fn login(directory: &Directory) -> (KeptLogin, Arc<Authorization>) {
    let kept = KeptLogin::new(&directory.0, "far");
    let asking = Asking::new(Proxies::default(), None);
    let authorization = Authorization::new("far", URL, kept.clone(), asking);
    (kept, Arc::new(authorization))
}

/// The end of a request with this token.
fn ended(authorization: &Arc<Authorization>, used: &str) -> Option<String> {
    let mut renewal = authorization.renew(Some(used), Used::Refused);
    loop {
        match renewal {
            Renewal::Token(token) => return Some(token),
            Renewal::None => return None,
            Renewal::Wait(listener) => {
                listener.wait();
                renewal = authorization.renewed(Some(used));
            }
        }
    }
}

#[test]
fn a_login_is_for_its_owner_and_its_server_alone() {
    let directory = Directory::new();
    let (kept, authorization) = login(&directory);
    assert_eq!(kept.read().unwrap(), None);
    assert!(!kept.remove().unwrap());
    let first = credentials("http://127.0.0.1:9/token", "a1");
    kept.write(&first).unwrap();
    assert_eq!(kept.read().unwrap(), Some(first.clone()));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(kept.path()), mode(kept.path().parent().unwrap())),
        (0o600, 0o700)
    );
    authorization.reload();
    assert_eq!(authorization.token().as_deref(), Some("Bearer a1"));
    // One who is late does not undo what has come since.
    let (second, third) = (credentials("x", "a2"), credentials("x", "a3"));
    assert_eq!(
        kept.write_behind(&second, &third).unwrap(),
        Some(first.clone())
    );
    assert_eq!(
        kept.write_behind(&first, &second).unwrap(),
        Some(second.clone())
    );
    let elsewhere = Credentials {
        server: "http://127.0.0.1:9/other".to_owned(),
        ..third
    };
    kept.write(&elsewhere).unwrap();
    authorization.reload();
    assert_eq!(authorization.token(), None);
    assert!(kept.remove().unwrap());
    assert_eq!(kept.write_behind(&elsewhere, &second).unwrap(), None);
    std::fs::write(kept.path(), "{}").unwrap();
    assert!(kept.read().is_err());
}

#[test]
fn a_token_that_many_have_lost_is_renewed_once() {
    let directory = Directory::new();
    let (kept, authorization) = login(&directory);
    let (go, going) = channel();
    let (url, forms) = authorization_server(vec![tokens("a2"), tokens("a3")], going);
    kept.write(&credentials(&url, "a1")).unwrap();
    authorization.reload();
    assert!(matches!(
        authorization.renew(Some("Bearer a1"), Used::Refused),
        Renewal::Wait(_)
    ));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let authorization = authorization.clone();
            thread::spawn(move || ended(&authorization, "Bearer a1"))
        })
        .collect();
    let form = forms.recv().unwrap();
    assert!(
        form.starts_with("grant_type=refresh_token&refresh_token=r&resource="),
        "{form}"
    );
    go.send(()).unwrap();
    for thread in waiting {
        assert_eq!(thread.join().unwrap().as_deref(), Some("Bearer a2"));
    }
    authorization.join();
    assert_eq!(
        kept.read().unwrap().unwrap().tokens.refresh.as_deref(),
        Some("r-a2")
    );
    // One that was sent with the token before that is sent with this one.
    assert_eq!(
        ended(&authorization, "Bearer a1").as_deref(),
        Some("Bearer a2")
    );
    go.send(()).unwrap();
    assert_eq!(
        ended(&authorization, "Bearer a2").as_deref(),
        Some("Bearer a3")
    );
    assert!(forms.recv().unwrap().contains("refresh_token=r-a2&"));
    assert!(forms.recv().is_err());
}

#[test]
fn a_token_that_is_gone_for_good_is_not_asked_for_again_until_a_person_logs_in() {
    let directory = Directory::new();
    let (kept, authorization) = login(&directory);
    let (go, going) = channel();
    let refused = ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned());
    let busy = ("503 Service Unavailable", String::new());
    let (url, forms) = authorization_server(vec![busy, refused], going);
    kept.write(&credentials(&url, "a1")).unwrap();
    authorization.reload();
    for _ in 0..2 {
        go.send(()).unwrap();
        assert_eq!(ended(&authorization, "Bearer a1"), None);
        forms.recv().unwrap();
    }
    // Nobody is asked any more: the server above is gone.
    assert!(matches!(
        authorization.renew(Some("Bearer a1"), Used::Refused),
        Renewal::None
    ));
    kept.write(&credentials(&url, "a9")).unwrap();
    assert_eq!(
        ended(&authorization, "Bearer a1").as_deref(),
        Some("Bearer a9")
    );
    // One that permits too little is not renewed: a login gives another one.
    let more = |used| authorization.renew(Some(used), Used::PermitsTooLittle);
    assert!(matches!(more("Bearer a9"), Renewal::None));
    assert!(matches!(more("Bearer a1"), Renewal::Token(token) if token == "Bearer a9"));
    // One without a token for others has none.
    let mut short = credentials(&url, "a9");
    short.tokens.refresh = None;
    kept.write(&short).unwrap();
    assert!(matches!(
        authorization.renew(Some("Bearer a9"), Used::Refused),
        Renewal::None
    ));
}

#[test]
fn a_browser_that_comes_back_is_heard_beside_connections_that_ask_nothing() {
    let callback = Callback::open(None).unwrap();
    let uri = callback.uri();
    let address = uri
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/callback")
        .unwrap();
    let address: SocketAddr = address.parse().unwrap();
    assert!(address.ip().is_loopback());
    let (sender, visits) = channel();
    callback.serve(sender).unwrap();
    let _silent = TcpStream::connect(address).unwrap();
    let visit = |target: &str| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket
            .write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(visit("/favicon.ico").starts_with("HTTP/1.1 404 "));
    let answer = visit("/callback?code=x&state=y");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("You can close this page"),
        "{answer}"
    );
    assert_eq!(visits.recv().unwrap(), "/callback?code=x&state=y");
}
