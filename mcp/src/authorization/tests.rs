#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::url::Url;
use super::*;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::ToString;
use core::time::Duration;
use mcp_local_provider_core::api::query_value;
use proptest::prelude::*;

const SERVER: &str = "https://far.example/mcp";
const NOW: Duration = Duration::from_secs(1_000);

fn settings() -> Settings {
    Settings {
        server: SERVER.to_owned(),
        preset: None,
        metadata_document: None,
        scope: None,
        more_scope: None,
        redirect_uri: "http://127.0.0.1:7/callback".to_owned(),
        known: None,
    }
}

fn begin(settings: Settings) -> Login {
    Login::new(settings, &[[1; 32], [2; 32]]).unwrap()
}

fn asked(login: &Login) -> Request {
    match login.step() {
        Step::Ask(request) => request,
        other => panic!("{other:?}"),
    }
}

fn visited(login: &Login) -> String {
    match login.step() {
        Step::Visit(url) => url,
        other => panic!("{other:?}"),
    }
}

fn done(login: &Login) -> Credentials {
    match login.step() {
        Step::Done(credentials) => *credentials,
        other => panic!("{other:?}"),
    }
}

fn answer(login: Login, status: u16, body: &str) -> Result<Login, String> {
    let answer = Answer {
        status,
        challenge: None,
        body: body.as_bytes(),
    };
    login.handle_answer(answer, NOW).map_err(|error| error.0)
}

fn challenged(login: Login, header: &str) -> Result<Login, String> {
    let challenge = Challenge::read([header]);
    let answer = Answer {
        status: 401,
        challenge: challenge.as_ref(),
        body: b"",
    };
    login.handle_answer(answer, NOW).map_err(|error| error.0)
}

fn returned(login: Login, query: &str) -> Result<(Login, Returned), String> {
    let target = format!("/callback?{query}");
    login.handle_return(&target).map_err(|error| error.0)
}

const RESOURCE: &str = r#"{"resource":"https://far.example/mcp","authorization_servers":["https://as.example/t"],"scopes_supported":["read","list"]}"#;

fn issuer(more: &str) -> String {
    format!(
        r#"{{"issuer":"https://as.example/t","authorization_endpoint":"https://as.example/authorize?t=1","token_endpoint":"https://as.example/token","code_challenge_methods_supported":["plain","S256"]{more}}}"#
    )
}

const REGISTERS: &str = r#","registration_endpoint":"https://as.example/register","revocation_endpoint":"https://as.example/revoke","scopes_supported":["offline_access"]"#;

/// A login at whose end the authorization server has said `issuer`.
fn known_to(settings: Settings, issuer: &str) -> Result<Login, String> {
    let login = challenged(begin(settings), "Bearer")?;
    let login = answer(login, 200, RESOURCE)?;
    answer(login, 200, issuer)
}

/// The state in an address for a browser.
fn state(url: &str) -> String {
    query_value(url, "state").unwrap().into_owned()
}

const TOKENS: &str = r#"{"access_token":"a1","token_type":"bearer","expires_in":60,"refresh_token":"r1","scope":"read"}"#;

fn logged_in() -> Credentials {
    let login = known_to(settings(), &issuer(REGISTERS)).unwrap();
    let login = answer(login, 201, r#"{"client_id":"c1"}"#).unwrap();
    let state = state(&visited(&login));
    let (login, _) = returned(login, &format!("code=x&state={state}")).unwrap();
    done(&answer(login, 200, TOKENS).unwrap())
}

#[test]
fn a_program_that_nobody_knows_registers_and_gets_tokens() {
    let login = begin(settings());
    let probe = asked(&login);
    assert_eq!(
        (probe.method, &*probe.url, probe.is_for_server),
        ("POST", SERVER, true)
    );
    let header = r#"Basic realm="x", Bearer error="invalid_token", scope="write read", resource_metadata="https://far.example/about""#;
    let login = challenged(login, header).unwrap();
    let about = asked(&login);
    assert_eq!(
        (about.method, &*about.url, about.is_for_server),
        ("GET", "https://far.example/about", false)
    );
    let login = answer(login, 200, RESOURCE).unwrap();
    let places = "https://as.example/.well-known/oauth-authorization-server/t";
    assert_eq!(asked(&login).url, places);
    let login = answer(login, 404, "").unwrap();
    assert_eq!(
        asked(&login).url,
        "https://as.example/.well-known/openid-configuration/t"
    );
    let login = answer(login, 200, "<html>").unwrap();
    assert_eq!(
        asked(&login).url,
        "https://as.example/t/.well-known/openid-configuration"
    );
    let login = answer(login, 200, &issuer(REGISTERS)).unwrap();
    let register = asked(&login);
    assert_eq!(
        (register.method, &*register.url),
        ("POST", "https://as.example/register")
    );
    assert_eq!(
        register.body.unwrap(),
        r#"{"client_name":"MCP Local Provider","application_type":"native","redirect_uris":["http://127.0.0.1:7/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","scope":"write read offline_access"}"#
    );
    let login = answer(login, 201, r#"{"client_id":"c 1"}"#).unwrap();
    let url = visited(&login);
    assert!(
        url.starts_with("https://as.example/authorize?t=1&response_type=code&client_id=c%201&"),
        "{url}"
    );
    for (name, value) in [
        ("redirect_uri", "http://127.0.0.1:7/callback"),
        ("code_challenge_method", "S256"),
        ("resource", SERVER),
        ("scope", "write read offline_access"),
        // SHA-256 of the verifier below, by another program.
        ("code_challenge", CHALLENGE),
    ] {
        assert_eq!(query_value(&url, name).as_deref(), Some(value), "{url}");
    }
    let state = state(&url);
    // Others knock there too.
    let (login, other) = returned(login, "code=stolen&state=other").unwrap();
    assert_eq!(other, Returned::Foreign);
    let (login, own) = returned(login, &format!("code=x%2Fy&state={state}")).unwrap();
    assert_eq!(own, Returned::Taken);
    let exchange = asked(&login);
    assert_eq!(
        (exchange.method, &*exchange.url),
        ("POST", "https://as.example/token")
    );
    assert_eq!(
        exchange.body.unwrap(),
        "grant_type=authorization_code&code=x%2Fy&redirect_uri=http%3A%2F%2F127.0.0.1%3A7%2Fcallback\
         &code_verifier=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE&resource=https%3A%2F%2Ffar.example%2Fmcp&client_id=c%201"
    );
    let credentials = done(&answer(login, 200, TOKENS).unwrap());
    assert_eq!(credentials.authorization(), "Bearer a1");
    assert_eq!(credentials.tokens.ends_at, Some(1_060));
    assert_eq!(credentials.issuer, "https://as.example/t");
    assert_eq!(
        Credentials::read(credentials.to_json().as_bytes()),
        Some(credentials)
    );
}

const CHALLENGE: &str = "VtX6czP210fbQsI5QH5dpMMvTHnzXQkrE0_TWkAtnFw";

#[test]
fn a_server_is_found_without_being_named() {
    let login = challenged(begin(settings()), "Bearer").unwrap();
    assert_eq!(
        asked(&login).url,
        "https://far.example/.well-known/oauth-protected-resource/mcp"
    );
    let login = answer(login, 404, RESOURCE).unwrap();
    assert_eq!(
        asked(&login).url,
        "https://far.example/.well-known/oauth-protected-resource"
    );
    // Nothing there: the server is its own authorization server.
    let login = answer(login, 404, "").unwrap();
    assert_eq!(
        asked(&login).url,
        "https://far.example/.well-known/oauth-authorization-server"
    );
    let own = issuer(REGISTERS).replace("https://as.example/t", "https://far.example");
    let login = answer(login, 200, &own).unwrap();
    assert!(asked(&login).body.unwrap().contains("client_name"));
    // One that wants no token, and says nothing, asks for no login.
    let login = answer(begin(settings()), 400, "").unwrap();
    let login = answer(login, 404, "").unwrap();
    assert_eq!(answer(login, 404, "").unwrap_err(), "it asks for no login");
    // One that wants none for this request, and says who gives them, does.
    let login = answer(begin(settings()), 200, "").unwrap();
    let login = answer(login, 200, RESOURCE).unwrap();
    assert!(asked(&login).url.starts_with("https://as.example/"));
}

#[test]
fn a_client_of_the_configuration_or_a_document_stands_in_for_a_registration() {
    let preset = Preset {
        id: "by hand".to_owned(),
        secret: Some("s:1".to_owned()),
    };
    let by_hand = Settings {
        preset: Some(preset),
        metadata_document: Some("https://me.example/client.json".to_owned()),
        ..settings()
    };
    let takes = r#","client_id_metadata_document_supported":true"#;
    let exchange = |settings: Settings, more: &str| {
        let login = known_to(settings, &issuer(more)).unwrap();
        let url = visited(&login);
        let query = format!("code=x&state={}", state(&url));
        let (login, _) = returned(login, &query).unwrap();
        let request = asked(&login);
        let named = request
            .headers
            .iter()
            .find(|(name, _)| name == "authorization");
        let id = query_value(&url, "client_id").unwrap().into_owned();
        (
            id,
            named.map(|(_, value)| value.clone()),
            request.body.unwrap(),
        )
    };
    // `by%20hand:s%3A1`
    let basic = "Basic YnklMjBoYW5kOnMlM0Ex";
    let (id, header, form) = exchange(by_hand.clone(), &format!("{REGISTERS}{takes}"));
    assert_eq!((&*id, header.as_deref()), ("by hand", Some(basic)));
    assert!(!form.contains("client_"), "{form}");
    let post = r#","token_endpoint_auth_methods_supported":["none","client_secret_post"]"#;
    let (_, header, form) = exchange(by_hand.clone(), post);
    assert_eq!(header, None);
    assert!(
        form.ends_with("&client_id=by%20hand&client_secret=s%3A1"),
        "{form}"
    );
    let document = Settings {
        preset: None,
        ..by_hand
    };
    let (id, header, form) = exchange(document.clone(), takes);
    assert_eq!((&*id, header), ("https://me.example/client.json", None));
    assert!(
        form.ends_with("&client_id=https%3A%2F%2Fme.example%2Fclient.json"),
        "{form}"
    );
    let login = known_to(document, &issuer(REGISTERS)).unwrap();
    assert_eq!(asked(&login).url, "https://as.example/register");
    let none = known_to(settings(), &issuer("")).unwrap_err();
    assert!(
        none.contains("http://127.0.0.1:7/callback") && none.contains("oauth.client_id"),
        "{none}"
    );
}

#[test]
fn a_second_login_keeps_its_client_and_scopes_at_the_same_authorization_server_alone() {
    let known = logged_in();
    let again = Settings {
        known: Some(known.clone()),
        more_scope: Some("write".to_owned()),
        ..settings()
    };
    let url = visited(&known_to(again.clone(), &issuer(REGISTERS)).unwrap());
    assert_eq!(query_value(&url, "client_id").as_deref(), Some("c1"));
    assert_eq!(
        query_value(&url, "scope").as_deref(),
        Some("read list write offline_access")
    );
    for changed in [
        Settings {
            redirect_uri: "http://127.0.0.1:8/callback".to_owned(),
            ..again.clone()
        },
        Settings {
            known: Some(Credentials {
                issuer: "https://other.example".to_owned(),
                ..known.clone()
            }),
            ..again.clone()
        },
        Settings {
            known: Some(Credentials {
                client: Client {
                    ends_at: Some(1_000),
                    ..known.client.clone()
                },
                ..known.clone()
            }),
            ..again
        },
    ] {
        let login = known_to(changed, &issuer(REGISTERS)).unwrap();
        assert_eq!(asked(&login).url, "https://as.example/register");
    }
    let by_hand = Settings {
        preset: Some(Preset {
            id: "c1".to_owned(),
            secret: None,
        }),
        known: Some(Credentials {
            issuer: "https://other.example".to_owned(),
            ..known
        }),
        ..settings()
    };
    let moved = known_to(by_hand, &issuer(REGISTERS)).unwrap_err();
    assert!(
        moved.contains("belongs to `https://other.example`"),
        "{moved}"
    );
}

#[test]
fn what_another_server_says_is_held_to_the_standards() {
    let of_resource = |text: &str| {
        let login = challenged(begin(settings()), "Bearer").unwrap();
        answer(login, 200, text).unwrap_err()
    };
    for (from, to, expected) in [
        (SERVER, "https://other.example/mcp", "about another server"),
        (SERVER, "https://far.example/mc", "about another server"),
        (
            "https://as.example/t",
            "http://as.example/t",
            "no `https` address",
        ),
        (
            "https://as.example/t",
            "http://127.0.0.1:1",
            "no `https` address",
        ),
        (r#""resource":"#, r#""x":"#, "names no `resource`"),
    ] {
        let error = of_resource(&RESOURCE.replace(from, to));
        assert!(error.contains(expected), "{error}");
    }
    let good = issuer(REGISTERS);
    for (from, to, expected) in [
        (
            "\"https://as.example/t\"",
            "\"https://evil.example\"",
            "it is that of `https://evil.example`",
        ),
        ("\"S256\"", "\"S512\"", "PKCE"),
        ("code_challenge_methods_supported", "x", "PKCE"),
        ("\"token_endpoint", "\"x", "names no `token_endpoint`"),
        (
            "https://as.example/token",
            "http://as.example/token",
            "`token_endpoint` has",
        ),
        (
            "https://as.example/register",
            "http://localhost/register",
            "`registration_endpoint` has",
        ),
        (
            "https://as.example/authorize",
            "javascript:alert(1)//",
            "`authorization_endpoint` has",
        ),
    ] {
        let error = known_to(settings(), &good.replace(from, to)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let away = challenged(
        begin(settings()),
        r#"Bearer resource_metadata="http://10.0.0.1/x""#,
    );
    assert!(away.unwrap_err().contains("http://10.0.0.1/x"));
    let open = Login::new(
        Settings {
            server: "http://far.example/mcp".to_owned(),
            ..settings()
        },
        &[[0; 32]; 2],
    );
    assert!(open.unwrap_err().0.contains("no TLS"));
    // On this machine all of it may be here.
    let local = Settings {
        server: "http://localhost:3/mcp".to_owned(),
        ..settings()
    };
    let login = challenged(begin(local), "Bearer").unwrap();
    let text = RESOURCE.replace("https://far.example", "http://localhost:3");
    answer(
        login,
        200,
        &text.replace("https://as.example/t", "http://127.0.0.1:4"),
    )
    .unwrap();
    let nobody = known_to(settings(), "[]").and_then(|login| answer(login, 404, ""));
    let nobody = nobody.and_then(|login| answer(login, 404, "")).unwrap_err();
    assert!(nobody.contains("says nothing of itself"), "{nobody}");
}

#[test]
fn a_browser_that_comes_back_from_elsewhere_or_without_a_code_ends_the_login() {
    let login = |more: &str| {
        let login = known_to(settings(), &issuer(&format!("{REGISTERS}{more}"))).unwrap();
        let login = answer(
            login,
            200,
            r#"{"client_id":"c1","client_secret":"s","client_secret_expires_at":0}"#,
        )
        .unwrap();
        let state = state(&visited(&login));
        (login, state)
    };
    let says = r#","authorization_response_iss_parameter_supported":true"#;
    for (more, query, expected) in [
        ("", "code=x", None),
        ("", "code=x&iss=https%3A%2F%2Fas.example%2Ft", None),
        (
            "",
            "code=x&iss=https%3A%2F%2Fas.example%2Ft%2F",
            Some("was not used"),
        ),
        (says, "code=x&iss=https%3A%2F%2Fas.example%2Ft", None),
        (says, "code=x", Some("was not used")),
        (
            says,
            "error=evil&error_description=click%20me",
            Some("was not used"),
        ),
        (
            "",
            "error=access_denied&error_description=not%20today",
            Some("access_denied: not today"),
        ),
        ("", "code=", Some("it sent no code")),
    ] {
        let (login, state) = login(more);
        let result = returned(login, &format!("{query}&state={state}"));
        match expected {
            None => assert_eq!(result.unwrap().1, Returned::Taken),
            Some(expected) => {
                let error = result.unwrap_err();
                assert!(error.contains(expected), "{error}");
                assert!(!error.contains("click"), "{error}");
            }
        }
    }
}

#[test]
fn an_answer_without_tokens_says_why() {
    let exchange = |status, body: &str| {
        let login = known_to(settings(), &issuer(REGISTERS)).unwrap();
        let login = answer(login, 201, r#"{"client_id":"c1"}"#).unwrap();
        let query = format!("code=x&state={}", state(&visited(&login)));
        let (login, _) = returned(login, &query).unwrap();
        answer(login, status, body)
    };
    for (status, body, expected) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"too late"}"#,
            "gives no token: invalid_grant: too late",
        ),
        (502, "<html>", "gives no token: HTTP status 502"),
        (200, "{}", "it has no `access_token`"),
        (
            200,
            r#"{"access_token":"a","token_type":"mac"}"#,
            "is not `Bearer`",
        ),
        (
            200,
            r#"{"access_token":"a b","token_type":"Bearer"}"#,
            "cannot stand in a header",
        ),
        (
            200,
            r#"{"access_token":"a\r\nx: y","token_type":"Bearer"}"#,
            "cannot stand in a header",
        ),
    ] {
        let error = exchange(status, body).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let short = done(&exchange(200, r#"{"access_token":"a","token_type":"Bearer"}"#).unwrap());
    assert_eq!(
        (short.tokens.ends_at, short.renewal().is_none()),
        (None, true)
    );
    assert_eq!(
        short.tokens.scope.as_deref(),
        Some("read list offline_access")
    );
}

#[test]
fn tokens_are_renewed_until_the_authorization_server_refuses() {
    let credentials = logged_in();
    let request = credentials.renewal().unwrap();
    assert_eq!(request.url, "https://as.example/token");
    assert_eq!(
        request.body.unwrap(),
        "grant_type=refresh_token&refresh_token=r1&resource=https%3A%2F%2Ffar.example%2Fmcp&client_id=c1"
    );
    let renewed = |status, body: &str| {
        let answer = Answer {
            status,
            challenge: None,
            body: body.as_bytes(),
        };
        credentials.renewed(answer, NOW)
    };
    let other = renewed(
        200,
        r#"{"access_token":"a2","token_type":"Bearer","expires_in":"9"}"#,
    )
    .unwrap();
    assert_eq!(
        (&*other.tokens.access, other.tokens.refresh.as_deref()),
        ("a2", Some("r1"))
    );
    assert_eq!(
        (other.tokens.ends_at, other.tokens.scope.as_deref()),
        (Some(1_009), Some("read"))
    );
    let other = renewed(
        200,
        r#"{"access_token":"a2","token_type":"Bearer","refresh_token":"r2"}"#,
    )
    .unwrap();
    assert_eq!(other.tokens.refresh.as_deref(), Some("r2"));
    for (status, body, is_over) in [
        (400, r#"{"error":"invalid_grant"}"#, true),
        (401, "", true),
        (400, r#"{"error":"temporarily_unavailable"}"#, false),
        (429, "", false),
        (503, "", false),
        (200, "{}", false),
    ] {
        let error = renewed(status, body).unwrap_err();
        assert_eq!(
            matches!(error, NotRenewed::Refused(_)),
            is_over,
            "{error:?}"
        );
    }
    let back = credentials.revocation().unwrap();
    assert_eq!(back.url, "https://as.example/revoke");
    assert_eq!(
        back.body.unwrap(),
        "token=r1&token_type_hint=refresh_token&client_id=c1"
    );
    // No secret is shown.
    let shown = format!("{credentials:?} {:?}", credentials.renewal());
    assert!(!shown.contains("a1") && !shown.contains("r1"), "{shown}");
}

#[test]
fn challenges_are_read_as_servers_write_them() {
    let read = |headers: &[&str]| {
        let challenge = Challenge::read(headers.iter().copied())?;
        let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let parts = [
            challenge.error,
            challenge.scope,
            challenge.resource_metadata,
        ];
        Some(parts.map(text).join("|"))
    };
    for (header, expected) in [
        ("Bearer", "-|-|-"),
        ("bearer realm=x", "-|-|-"),
        (
            r#"Bearer scope="a b",error=insufficient_scope"#,
            "insufficient_scope|a b|-",
        ),
        (
            r#"Bearer Scope = "a \"b\"" , resource_metadata=https://x/y"#,
            r#"-|a "b"|https://x/y"#,
        ),
        (
            r#"Digest realm="Bearer", scope="no", Bearer scope="yes""#,
            "-|yes|-",
        ),
        (r#"Bearer scope="one", Basic scope="two""#, "-|one|-"),
        (r#"Negotiate abc==, Bearer scope="x"#, "-|x|-"),
    ] {
        assert_eq!(read(&[header]).as_deref(), Some(expected), "{header}");
    }
    assert_eq!(
        read(&["Basic realm=x", "Bearer scope=y"]).as_deref(),
        Some("-|y|-")
    );
    for none in ["", "Basic realm=\"Bearer\"", "Bearish"] {
        assert_eq!(read(&[none]), None, "{none}");
    }
}

#[test]
fn a_resource_covers_what_is_below_it() {
    for (resource, server, expected) in [
        ("https://a/mcp", "https://a/mcp", true),
        ("https://A:443", "https://a/mcp", true),
        ("https://a/", "https://a/mcp", true),
        ("https://a/mcp/", "https://a/mcp", true),
        ("https://a/mcp", "https://a/mcp/x", true),
        ("https://a/mcp", "https://a/mcpx", false),
        ("https://a/mcp/x", "https://a/mcp", false),
        ("http://a/mcp", "https://a/mcp", false),
        ("https://a:8443/mcp", "https://a/mcp", false),
        ("https://a/mcp?t=1", "https://a/mcp?t=1", true),
        ("https://a/mcp?t=2", "https://a/mcp?t=1", false),
    ] {
        let (resource, server) = (Url::read(resource).unwrap(), Url::read(server).unwrap());
        assert_eq!(
            resource.covers(&server),
            expected,
            "{resource:?} {server:?}"
        );
    }
    for none in [
        "",
        "ftp://a",
        "https://",
        "https://u@a/",
        "https://a/#x",
        "https://a b",
        "//a",
        "https://a\\@b/",
    ] {
        assert_eq!(Url::read(none), None, "{none}");
    }
    for (host, expected) in [
        ("localhost", true),
        ("LOCALHOST:80", true),
        ("127.0.0.1:1", true),
        ("127.9.9.9", true),
        ("[::1]:5", true),
        ("127.0.0.1.evil.example", false),
        ("localhost.evil.example", false),
        ("[::2]", false),
    ] {
        let url = format!("http://{host}/");
        assert_eq!(Url::read(&url).unwrap().is_loopback(), expected, "{url}");
    }
}

proptest! {
    #[test]
    fn any_header_is_read_and_any_document_is_an_error_at_most(header in ".{0,80}", body in ".{0,80}", stage in 0..4) {
        let _ = Challenge::read([&*header]);
        let _ = Url::read(&header);
        let _ = Credentials::read(body.as_bytes());
        let login = match stage {
            0 => Ok(begin(settings())),
            1 => challenged(begin(settings()), "Bearer"),
            2 => challenged(begin(settings()), "Bearer").and_then(|login| answer(login, 200, RESOURCE)),
            _ => known_to(settings(), &issuer(REGISTERS)),
        };
        let _ = answer(login.unwrap(), 200, &body);
    }

    #[test]
    fn credentials_are_kept_as_they_are(text in "[ -~\u{e9}\"\\\\]{1,20}", secret in proptest::option::of("[ -~]{1,9}"), end in proptest::option::of(0u64..9)) {
        let mut credentials = logged_in();
        credentials.client.id = text.clone();
        credentials.client.secret = secret;
        credentials.client.ends_at = end;
        credentials.tokens.refresh = None;
        credentials.tokens.scope = Some(text.to_string());
        credentials.tokens.ends_at = end;
        prop_assert_eq!(Credentials::read(credentials.to_json().as_bytes()), Some(credentials));
    }
}
