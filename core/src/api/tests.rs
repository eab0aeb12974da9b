//! Routes are found by method and path, and refused where there is none.
#![allow(clippy::unwrap_used, clippy::panic)]

mod keyless;

use super::*;
use crate::config::Limits;
use crate::exchange::Reply;
use crate::hub::{Hub, HubOut};
use crate::id::Ids;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn every_route_answers_under_its_names() {
    for (method, target, name, key, parameter) in [
        (
            "POST",
            "/v1/chat/completions",
            "POST /v1/chat/completions",
            None,
            None,
        ),
        (
            "POST",
            "/chat/completions?beta=true",
            "POST /v1/chat/completions",
            None,
            None,
        ),
        (
            "POST",
            "/k/mlp-1/v1/chat/completions",
            "POST /v1/chat/completions",
            Some("mlp-1"),
            None,
        ),
        (
            "POST",
            "/k/mlp-1/api/chat",
            "POST /api/chat",
            Some("mlp-1"),
            None,
        ),
        ("POST", "/v1/api/chat", "POST /api/chat", None, None),
        (
            "POST",
            "/v1/messages?beta=true",
            "POST /v1/messages",
            None,
            None,
        ),
        (
            "POST",
            "/v1/messages/count_tokens?beta=true",
            "POST /v1/messages/count_tokens",
            None,
            None,
        ),
        (
            "POST",
            "/v1/completions",
            "POST /v1/completions",
            None,
            None,
        ),
        ("POST", "/completions", "POST /v1/completions", None, None),
        (
            "POST",
            "/v1/fim/completions",
            "POST /v1/fim/completions",
            None,
            None,
        ),
        (
            "POST",
            "/api/v0/chat/completions",
            "POST /v1/chat/completions",
            None,
            None,
        ),
        (
            "GET",
            "/api/v0/models/a/b",
            "GET /api/v0/models/{id}",
            None,
            Some(("id", "a/b")),
        ),
        ("POST", "/v1/embeddings", "POST /v1/embeddings", None, None),
        ("POST", "/api/embed", "POST /api/embed", None, None),
        (
            "POST",
            "/api/embeddings",
            "POST /api/embeddings",
            None,
            None,
        ),
        ("POST", "/v1/responses", "POST /v1/responses", None, None),
        ("GET", "/v1/models/", "GET /v1/models", None, None),
        (
            "GET",
            "/v1/models//",
            "GET /v1/models/{id}",
            None,
            Some(("id", "")),
        ),
        (
            "GET",
            "/v1/models/a%2Fb/c:latest",
            "GET /v1/models/{id}",
            None,
            Some(("id", "a/b/c:latest")),
        ),
        ("GET", "/health/deep", "GET /health/deep", None, None),
        ("GET", "/metrics", "GET /metrics", None, None),
        ("GET", "/metrics.json", "GET /metrics.json", None, None),
        ("GET", "/stats", "GET /stats", None, None),
        ("HEAD", "/", "GET /", None, None),
        ("GET", "/k/mlp-1/", "GET /", Some("mlp-1"), None),
        ("GET", "/k/mlp-1", "GET /", Some("mlp-1"), None),
        ("GET", "/v1/", "GET /", None, None),
        ("HEAD", "/api/version", "GET /api/version", None, None),
        (
            "GET",
            "/control/sessions/s-1",
            "GET /control/sessions/{id}",
            None,
            Some(("id", "s-1")),
        ),
        ("POST", "/control/deny", "POST /control/deny", None, None),
        (
            "DELETE",
            "/api/delete",
            "/api/{push,create,copy,delete}",
            None,
            None,
        ),
        (
            "DELETE",
            "/agents/mine/mcp/5d41",
            "/agents/{agent}/mcp/{server}",
            None,
            Some(("agent", "mine")),
        ),
        (
            "DELETE",
            "/agents/mine/mcp/5d41",
            "/agents/{agent}/mcp/{server}",
            None,
            Some(("server", "5d41")),
        ),
        ("OPTIONS", "/v1/models", "OPTIONS", None, None),
        (
            "GET",
            "/k/a%2Fb%2B%25%3d/v1/models",
            "GET /v1/models",
            Some("a/b+%="),
            None,
        ),
    ] {
        let found = ROUTES
            .find(method, target)
            .unwrap_or_else(|(_, refusal)| panic!("{target}: {refusal}"));
        let path_key = found.path_key.as_deref();
        assert_eq!((found.route.name, path_key), (name, key), "{target}");
        if let Some((parameter, value)) = parameter {
            assert_eq!(found.parameters.get(parameter).as_deref(), Some(value));
            let owned = found.parameters.into_owned();
            assert_eq!(owned.get(parameter).as_deref(), Some(value));
            assert_eq!(owned.get("other"), None);
        }
    }
}

#[test]
fn what_is_not_there_is_refused_in_the_dialect_of_its_neighbours() {
    for (method, target, dialect, status) in [
        ("GET", "/v1/chat/completions", Dialect::OpenAi, 405),
        ("DELETE", "/api/tags", Dialect::Ollama, 405),
        ("GET", "/v1/messages", Dialect::Anthropic, 405),
        ("POST", "/v1/messages/batches", Dialect::Anthropic, 404),
        ("GET", "/api/nothing", Dialect::Ollama, 404),
        ("GET", "/api/v0/nothing", Dialect::OpenAi, 404),
        ("GET", "/nothing", Dialect::OpenAi, 404),
        ("GET", "/v2/models", Dialect::OpenAi, 404),
        ("GET", "/v1models", Dialect::OpenAi, 404),
        ("POST", "/v1/v1/messages", Dialect::Anthropic, 404),
        ("OPTIONS", "/nothing", Dialect::OpenAi, 404),
    ] {
        let (of, refusal) = ROUTES.find(method, target).unwrap_err();
        assert_eq!((of, refusal.status()), (dialect, status), "{target}");
    }
}

#[test]
fn a_path_that_is_nearly_right_is_told_the_right_one() {
    for (target, nearest) in [
        ("/v1/v1/chat/completions", Some("POST /v1/chat/completions")),
        ("/chat/completion", Some("POST /v1/chat/completions")),
        (
            "/v1/chat/completions/v1/chat/completions",
            Some("POST /v1/chat/completions"),
        ),
        ("/openai/v1/models", Some("GET /v1/models")),
        ("/api/v1/models", Some("GET /v1/models")),
        ("/v2/models", Some("GET /v1/models")),
        ("/v1models", Some("GET /v1/models")),
        ("/anthropic/v1/messages", Some("POST /v1/messages")),
        ("/v1/mesages", Some("POST /v1/messages")),
        ("/tags", Some("GET /api/tags")),
        ("/api/api/tags", Some("GET /api/tags")),
        ("/api/tag", Some("GET /api/tags")),
        ("/proxy/v1/models/a/b", Some("GET /v1/models/{id}")),
        ("/", None),
        ("/ab", None),
        ("/foo/", None),
        ("/api/nothing", None),
        ("/v1/files", None),
    ] {
        let Err((_, refusal)) = ROUTES.find("BREW", target) else {
            panic!("{target} was found");
        };
        let told = refusal.message().split_once("; the nearest is `");
        assert_eq!(
            told.map(|(_, name)| name.trim_end_matches('`')),
            nearest,
            "{target}"
        );
    }
}

#[test]
fn a_method_that_is_not_taken_is_told_which_ones_are() {
    for (method, target, text, allow) in [
        ("GET", "/v1/chat/completions", "POST", "POST, OPTIONS"),
        ("DELETE", "/api/tags", "GET or HEAD", "GET, HEAD, OPTIONS"),
        (
            "GET",
            "/api/delete",
            "DELETE or POST",
            "DELETE, POST, OPTIONS",
        ),
        ("POST", "/agent", "GET", "GET, OPTIONS"),
        (
            "PUT",
            "/agents/a/mcp/b",
            "POST or GET or DELETE",
            "POST, GET, DELETE, OPTIONS",
        ),
    ] {
        let (dialect, refusal) = ROUTES.find(method, target).unwrap_err();
        assert_eq!(refusal.message(), alloc::format!("`{target}` takes {text}"));
        let mut reply = Reply::default();
        reply.refuse(Ids::new(1).next(), dialect, &refusal);
        let mut sent = Vec::new();
        reply.head.unwrap().headers(|name, value| {
            if name == "allow" {
                sent.push(String::from_utf8(value.to_vec()).unwrap());
            }
        });
        assert_eq!(sent, [allow], "{method} {target}");
    }
}

/// All that a route needs: a row and a function.
const ONE_MORE: &[Route] = &[Route::read(
    "GET /v1/echo/{word}/twice",
    &["/v1/echo/{word}/twice"],
    |_, input| {
        let word = input.parameters.get("word").unwrap_or_default();
        Ok(Answered::ok(json!([word, word])))
    },
)];

#[test]
fn a_route_is_one_row_and_one_function() {
    let routes = Routes::with(&[exchanges::ROUTES, ONE_MORE]);
    let (now, mut out) = (Instant::ZERO, HubOut::default());
    let mut hub = Hub::new(HubConfig::default(), [7; 32], now, Duration::ZERO);
    hub.drain(now, &mut out);
    let found = routes.find("HEAD", "/echo/hello/twice").unwrap();
    let Handler::Read(read) = found.route.handler else {
        panic!("the route reads");
    };
    let input = Input {
        now,
        caller: None,
        local: true,
        page_at: None,
        links: status::LinkTotals::default(),
        parameters: &found.parameters,
        limits: &Limits::default(),
        body: &[],
    };
    let mut reply = Reply::default();
    let answered = read(&hub.lists(), &input).unwrap();
    answered.write(Ids::new(1).next(), &mut reply);
    assert_eq!(reply.body, br#"["hello","hello"]"#);
    assert_eq!(routes.iter().count(), exchanges::ROUTES.len() + 1);
    assert!(Listener::All.serves(found.route) && !Listener::Reports.serves(found.route));
    for (target, status) in [("/v1/echo/hello", 404), ("/v1/echo/a/b/twice", 404)] {
        let (dialect, refusal) = routes.find("GET", target).unwrap_err();
        assert_eq!((dialect, refusal.status()), (Dialect::OpenAi, status));
    }
    let (_, refusal) = routes.find("POST", "/v1/echo/hello/twice").unwrap_err();
    assert_eq!(refusal.allowed(), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn the_listener_for_reports_serves_health_and_metrics_alone() {
    let served = ROUTES
        .iter()
        .filter(|route| Listener::Reports.serves(route));
    let names: Vec<&str> = served.map(|route| route.name).collect();
    let reports = [
        "GET /health",
        "GET /health/deep",
        "GET /metrics",
        "GET /metrics.json",
        "GET /stats",
    ];
    assert_eq!(names, reports);
}

#[test]
fn strangers_learn_from_health_whether_the_program_serves_and_no_more() {
    let now = Instant::from_micros(1_000);
    let mut hub = Hub::new(HubConfig::default(), [7; 32], now, Duration::ZERO);
    let found = ROUTES.find("GET", "/health").unwrap();
    let Handler::Read(read) = found.route.handler else {
        panic!("the route reads");
    };
    let lists = hub.lists();
    let told = |local| {
        let input = Input {
            now,
            caller: None,
            local,
            page_at: None,
            links: status::LinkTotals {
                up: 1,
                mailboxes: 3,
                streams: 2,
                ..status::LinkTotals::default()
            },
            parameters: &found.parameters,
            limits: &Limits::default(),
            body: &[],
        };
        match read(&lists, &input).unwrap() {
            Answered::Json(200, value) => value,
            other => panic!("{other:?}"),
        }
    };
    let timestamp = lists.wall.rfc3339(now);
    assert_eq!(
        told(false),
        json!({ "status": "healthy", "timestamp": timestamp })
    );
    assert_eq!(
        told(true).get("mcp_connection"),
        Some(
            &json!({ "status": "connected", "last_ping": null, "messages_sent": 0, "messages_received": 0,
                "pending_requests": 1, "active_streams": 2 })
        )
    );
}

#[test]
fn the_description_has_every_method_of_every_path_and_the_page_has_them_too() {
    let mut hub = Hub::new(HubConfig::default(), [7; 32], Instant::ZERO, Duration::ZERO);
    let lists = hub.lists();
    let read = |target| {
        let found = ROUTES.find("GET", target).unwrap();
        let Handler::Read(read) = found.route.handler else {
            panic!("the route reads");
        };
        let input = Input {
            now: Instant::ZERO,
            caller: None,
            local: true,
            page_at: None,
            links: status::LinkTotals::default(),
            parameters: &found.parameters,
            limits: &Limits::default(),
            body: &[],
        };
        read(&lists, &input).unwrap()
    };
    let Answered::Bytes("application/json", told) = read("/openapi.json") else {
        panic!("it is JSON");
    };
    let told: Value = serde_json::from_slice(&told).unwrap();
    // Each reference leads to a part of it.
    let mut within = vec![&told];
    while let Some(value) = within.pop() {
        if let Some(reference) = value.get("$ref") {
            let reference = reference.as_str().unwrap();
            assert!(told.pointer(&reference[1..]).is_some(), "{reference}");
        }
        within.extend(
            value
                .as_object()
                .into_iter()
                .flat_map(|object| object.values()),
        );
        within.extend(value.as_array().into_iter().flatten());
    }
    let Answered::Bytes("text/html; charset=utf-8", page) = read("/docs") else {
        panic!("it is a page");
    };
    let page = String::from_utf8(page).unwrap();
    assert_eq!(told.pointer("/openapi"), Some(&json!("3.1.0")));
    let mut ids = Vec::new();
    for route in ROUTES.iter() {
        for path in route.paths {
            let escaped = path.replace('/', "~1");
            for method in route.methods {
                let method = method.to_ascii_lowercase();
                let at = alloc::format!("/paths/{escaped}/{method}");
                let operation = told.pointer(&at).unwrap_or_else(|| panic!("{at}"));
                let id = operation.pointer("/operationId").unwrap().clone();
                assert!(!ids.contains(&id), "{id}");
                ids.push(id);
                let asks = operation.pointer("/requestBody").is_some();
                assert_eq!(asks, route.body && method != "get", "{at}");
            }
            assert!(page.contains(path), "{path}");
        }
    }
}

#[test]
fn a_row_that_wants_a_parameter_of_the_query_is_preferred_where_that_is_given() {
    for (target, name) in [
        ("/messages?session_id=x", "POST /messages"),
        ("/v1/messages?a=b&sessionId=x", "POST /messages"),
        ("/v1/messages?session%5fid", "POST /messages"),
        ("/v1/messages?beta=session_id", "POST /v1/messages"),
        ("/messages", "POST /v1/messages"),
    ] {
        let found = ROUTES.find("POST", target).unwrap();
        assert_eq!(found.route.name, name, "{target}");
    }
    assert_eq!(query_value("/a?b=1%202&b=3&c", "b").unwrap(), "1 2");
    assert_eq!(query_value("/a?b=1&c", "c").unwrap(), "");
    assert_eq!(query_value("/b=1", "b"), None);
}

#[test]
fn no_two_rows_take_the_same_method_of_a_path() {
    let mut taken = Vec::new();
    for route in ROUTES.iter() {
        for path in route.paths {
            for method in route.methods {
                let place = (route::bare(path), method, route.query);
                assert!(!taken.contains(&place), "{method} {path}");
                taken.push(place);
            }
            assert!(
                route.body || !matches!(route.handler, Handler::Ask(_) | Handler::Change(_)),
                "{path}"
            );
        }
    }
}

proptest! {
    #[test]
    fn any_target_is_found_or_refused(method in "[A-Z]{0,7}", target in "(/|v1|api|models|chat|%2|%2F|[a-z]|\\PC){0,24}") {
        match ROUTES.find(&method, &target) {
            Ok(found) => {
                let _ = found.parameters.get("id");
            }
            Err((_, refusal)) => prop_assert!(matches!(refusal.status(), 404 | 405)),
        }
    }
}
