//! Programs on this machine that ask without a key where they look for an Ollama, and all others, who may not.

use super::*;
use crate::config::{Area, Key, Role};
use crate::error::Code;
use crate::hub::keys::{Authority, digest};

/// A request, as it is where nothing else is said: of a program on this machine, for the list of models, without a key.
struct Asking {
    method: &'static str,
    target: &'static str,
    host: &'static str,
    origin: Option<&'static str>,
    fetch_site: Option<&'static str>,
    bearer: Option<&'static str>,
    peer: [u8; 4],
    forwarded_for: Option<&'static str>,
    listener: Listener,
}

const LOCAL: Asking = Asking {
    method: "GET",
    target: "/v1/models",
    host: "127.0.0.1:11434",
    origin: None,
    fetch_site: None,
    bearer: None,
    peer: [127, 0, 0, 1],
    forwarded_for: None,
    listener: Listener::Ollama,
};

fn config() -> HubConfig {
    let key = |name: &str, role| Key::new(name, digest(name.as_bytes()), role);
    HubConfig {
        keys: alloc::vec![
            key("editor", Role::Client),
            key("bridge", Role::Bridge),
            key("operator", Role::Operator)
        ],
        auth_required: true,
        ..HubConfig::default()
    }
}

impl Asking {
    /// The permission that it gets.
    fn ask(&self, config: &HubConfig) -> Result<Option<Authority>, Refusal> {
        let authorization = self.bearer.map(|key| alloc::format!("Bearer {key}"));
        let head = Head {
            method: self.method,
            target: self.target,
            host: Some(self.host),
            origin: self.origin,
            fetch_site: self.fetch_site,
            authorization: authorization.as_deref(),
            api_key: None,
            accept: None,
            user_agent: None,
            agent: None,
            address: self.peer.into(),
            forwarding: Forwarding {
                x_forwarded_for: self.forwarded_for,
                forwarded: None,
                is_there: self.forwarded_for.is_some(),
            },
        };
        accept(config, &Keys::new(config), self.listener, &head)
            .map(|accepted| accepted.caller.map(|caller| caller.authority))
            .map_err(|denied| denied.refusal)
    }

    fn status(&self) -> u16 {
        self.ask(&config())
            .map_or_else(|refusal| refusal.status(), |_| 200)
    }
}

#[test]
fn a_program_on_this_machine_needs_no_key_where_it_looks_for_an_ollama() {
    for (method, target) in [
        ("GET", "/v1/models"),
        ("GET", "/models"),
        ("GET", "/api/tags"),
        ("GET", "/api/version"),
        ("GET", "/api/ps"),
        ("POST", "/api/show"),
        ("POST", "/api/chat"),
        ("POST", "/api/generate"),
        ("POST", "/api/embed"),
        ("POST", "/api/pull"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/k/whatever/api/chat"),
        ("GET", "/api/v0/models"),
    ] {
        for bearer in [None, Some("noop"), Some("ollama")] {
            let asking = Asking {
                method,
                target,
                bearer,
                ..LOCAL
            };
            let authority = asking.ask(&config()).unwrap();
            assert_eq!(authority, Some(Authority::Local), "{target} {bearer:?}");
            let elsewhere = Asking {
                listener: Listener::All,
                ..asking
            };
            assert_eq!(elsewhere.status(), 401, "{target} {bearer:?}");
        }
    }
}

#[test]
fn who_is_not_local_needs_a_key_there_too() {
    for (asking, status) in [
        (LOCAL, 200),
        (
            Asking {
                host: "localhost:11434",
                ..LOCAL
            },
            200,
        ),
        // A peer on another machine, one behind a proxy that nobody has named, and one that asks for another name.
        (
            Asking {
                peer: [192, 168, 1, 9],
                ..LOCAL
            },
            401,
        ),
        (
            Asking {
                forwarded_for: Some("203.0.113.7"),
                ..LOCAL
            },
            401,
        ),
        (
            Asking {
                forwarded_for: Some("127.0.0.1"),
                ..LOCAL
            },
            401,
        ),
        (
            Asking {
                host: "192.168.1.4:11434",
                ..LOCAL
            },
            401,
        ),
        // DNS rebinding.
        (
            Asking {
                host: "evil.example:11434",
                ..LOCAL
            },
            403,
        ),
    ] {
        for bearer in [None, Some("noop")] {
            let asking = Asking { bearer, ..asking };
            assert_eq!(asking.status(), status, "{} {:?}", asking.host, asking.peer);
        }
    }
    let trusted = HubConfig {
        trusted_proxies: alloc::vec!["127.0.0.1".parse().unwrap()],
        ..config()
    };
    let behind = |address| Asking {
        forwarded_for: Some(address),
        peer: [127, 0, 0, 1],
        ..LOCAL
    };
    let refused = behind("203.0.113.7").ask(&trusted).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidKey);
    assert!(
        refused.message().contains("not through a proxy"),
        "{refused}"
    );
}

#[test]
fn an_image_of_a_page_needs_a_key_though_it_names_no_origin() {
    for (site, status) in [
        ("cross-site", 401),
        ("same-site", 401),
        ("same-origin", 401),
        ("none", 200),
    ] {
        let fetch_site = Some(site);
        let asking = Asking {
            fetch_site,
            ..LOCAL
        };
        assert_eq!(asking.status(), status, "{site}");
        // The page of a desktop program.
        let origin = Some("vscode-file://vscode-app");
        let asking = Asking { origin, ..asking };
        assert_eq!(asking.status(), 200, "{site}");
    }
}

#[test]
fn a_page_in_a_browser_needs_a_key_and_a_desktop_program_none() {
    for (origin, status) in [
        ("app://obsidian.md", 200),
        ("vscode-file://vscode-app", 200),
        ("vscode-webview://0a1b", 200),
        ("tauri://localhost", 200),
        ("file://", 200),
        ("http://localhost:3000", 401),
        ("http://127.0.0.1:11434", 401),
        ("chrome-extension://abcdef", 401),
        ("moz-extension://abcdef", 401),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
    ] {
        for bearer in [None, Some("noop")] {
            let asking = Asking {
                origin: Some(origin),
                bearer,
                ..LOCAL
            };
            assert_eq!(asking.status(), status, "{origin}");
        }
        let keyed = Asking {
            origin: Some(origin),
            bearer: Some("editor"),
            ..LOCAL
        };
        assert_eq!(keyed.status(), if status == 403 { 403 } else { 200 });
    }
    // Every page may call, but with a key.
    let open = HubConfig {
        allowed_origins: alloc::vec!["*".into()],
        ..config()
    };
    for origin in ["https://evil.example", "null", ""] {
        let asking = Asking {
            origin: Some(origin),
            ..LOCAL
        };
        assert_eq!(asking.ask(&open).unwrap_err().status(), 401, "{origin}");
    }
}

#[test]
fn without_a_key_it_is_a_client_of_models_and_a_key_keeps_its_role() {
    let refused = |asking: Asking| asking.ask(&config()).unwrap_err();
    for (method, target) in [
        ("GET", "/control/sessions"),
        ("POST", "/control/register"),
        ("POST", "/control/approve"),
        ("GET", "/health/deep"),
    ] {
        let refusal = refused(Asking {
            method,
            target,
            ..LOCAL
        });
        assert_eq!(refusal.code(), Code::RoleDenied, "{target}");
        assert!(refusal.message().contains("without a key"), "{refusal}");
    }
    let caller = Keys::new(&config()).local([127, 0, 0, 1].into()).unwrap();
    assert!(caller.require_area(Area::Models).is_ok());
    for area in [Area::Mcp, Area::Registry] {
        let refusal = caller.require_area(area).unwrap_err();
        assert_eq!(refusal.code(), Code::ScopeDenied);
        assert!(refusal.message().contains(area.as_str()), "{refusal}");
    }
    let operator = Asking {
        target: "/control/sessions",
        bearer: Some("operator"),
        ..LOCAL
    };
    let authority = operator.ask(&config()).unwrap();
    assert!(matches!(authority, Some(Authority::Key(_))));
}

#[test]
fn where_a_key_is_required_of_all_none_is_left_out() {
    let required = HubConfig {
        ollama_auth_required: true,
        ..config()
    };
    for bearer in [None, Some("noop")] {
        let asking = Asking { bearer, ..LOCAL };
        let refusal = asking.ask(&required).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidKey);
    }
    // What began before is worth nothing either.
    let caller = Keys::new(&config()).local([127, 0, 0, 1].into()).unwrap();
    assert!(Keys::new(&config()).confirm(&caller).is_ok());
    let refusal = Keys::new(&required).confirm(&caller).unwrap_err();
    assert_eq!(refusal.status(), 401);
    assert!(refusal.message().contains("a key is required"), "{refusal}");
    // Where nobody needs a key, nobody needs one here.
    let open = HubConfig {
        auth_required: false,
        ..required
    };
    assert_eq!(LOCAL.ask(&open).unwrap(), Some(Authority::Anyone));
}
