//! Checks of upstreams: each is connected to as a request would, and asked for its list of models with its key.

use super::{Findings, Health};
use crate::config::{Loaded, Secret, Upstream, UpstreamKind};
use crate::connected;
use crate::printable::printable;
use mcp_local_provider_core::agents::upstream::{ModelList, authorization};
use mcp_local_provider_engine::http_client::HttpRequest;
use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use mcp_local_provider_engine::tls::Trust;
use std::borrow::Cow;
use std::io::Read;
use std::time::Duration;

/// Subject of the findings.
const SUBJECT: &str = "upstream";
/// Time that a server may take for each part of its list.
const ANSWER: Duration = Duration::from_secs(10);
/// Size in bytes above which a list is not read further.
const MAX_LIST_BYTES: u64 = 8 << 20;
/// The program's part in a connection that fails.
const AFTER: &str = "until it can be used, requests go to its `fallback` or get an error";
/// Models of a list that are told by name, at most.
const TOLD: usize = 3;

/// Asks each upstream for its models. Its key is there, else the configuration would have been refused.
pub(super) fn examine(loaded: &Loaded, findings: &mut Findings) {
    let config = &loaded.config;
    let trust = Trust::new(config.tls.ca_file.clone());
    let proxies = loaded.environment.proxies();
    for upstream in &config.upstreams {
        let name = upstream.known_as();
        let key = match &upstream.key {
            Some(key) => format!("{name} has its key from {}", shown(key)),
            None => format!("{name} is asked without a key"),
        };
        findings.add(Health::Ok, SUBJECT, key);
        let (health, text) = match ask(upstream, &proxies, &trust) {
            Ok(text) => (Health::Ok, text),
            Err(text) => (Health::Warn, text),
        };
        findings.add(health, SUBJECT, format!("{name} {text}"));
    }
}

fn shown(key: &Secret) -> String {
    if key.is_literal() {
        "the configuration itself".to_owned()
    } else {
        printable(&key.place())
    }
}

/// Connects to an upstream, and reads its list of models. The text of the finding, without the upstream's name.
fn ask(upstream: &Upstream, proxies: &Proxies, trust: &Trust) -> Result<String, String> {
    let url = upstream.url.as_deref().unwrap_or_default();
    if asks_proxy(url, proxies) {
        // A request would give the proxy the whole URL; a tunnel to this port may not be allowed.
        return Ok("is asked by a proxy without TLS; its list of models was not read".to_owned());
    }
    let connected = connected::open(url, proxies, trust, AFTER, ANSWER)?;
    let text = connected.text.clone();
    let list = ModelList::new(upstream.kind.api());
    let path = format!("{}{}", path_of(url), list.path());
    let request = HttpRequest {
        method: "GET",
        path: path.clone(),
        headers: headers(upstream),
        body: None,
    };
    let read = connected.ask(request).and_then(|mut answer| {
        let mut body = Vec::new();
        answer
            .by_ref()
            .take(MAX_LIST_BYTES)
            .read_to_end(&mut body)?;
        Ok((answer.status, body))
    });
    let (status, body) = read.map_err(|error| {
        format!("{text}, but its list of models at {path} cannot be read: {error}; {AFTER}")
    })?;
    let told = match status {
        200 => return listed(upstream, list, &path, &body).map(|list| format!("{text}; {list}")),
        401 | 403 if upstream.key.is_some() => {
            format!("refuses the key (status {status}); give a valid one as `key`")
        }
        401 | 403 => format!("wants a key (status {status}); give it as `key: \"env:NAME\"`"),
        300..=399 => {
            format!(
                "redirects (status {status}), which is not followed; give the final address as `url`"
            )
        }
        404 | 405 | 501 if !upstream.models.is_empty() => {
            return Ok(format!(
                "{text}; it has no list of models (status {status}), and the configuration names them"
            ));
        }
        404 | 405 | 501 => format!(
            "has no list of models at {path} (status {status}); name them in `models`, or give another `url`"
        ),
        _ => format!("answers its list of models with status {status}; {AFTER}"),
    };
    Err(told)
}

/// True for a server without TLS for which the environment names a proxy.
fn asks_proxy(url: &str, proxies: &Proxies) -> bool {
    let origin = url.parse().ok().and_then(|uri| Origin::of(&uri));
    let route = origin.and_then(|origin| Route::to(origin, proxies).ok());
    route.is_some_and(|route| route.asks_proxy())
}

/// Returns the path of an address without a `/` at its end, which the configuration has cut.
fn path_of(url: &str) -> &str {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    place
        .find('/')
        .and_then(|at| place.get(at..))
        .unwrap_or_default()
}

fn headers(upstream: &Upstream) -> Vec<(Cow<'static, str>, String)> {
    let mut headers = vec![("accept".into(), "application/json".to_owned())];
    let key = upstream.key.as_ref().and_then(Secret::text);
    if upstream.kind == UpstreamKind::Anthropic {
        headers.push(("anthropic-version".into(), "2023-06-01".to_owned()));
    }
    let api = upstream.kind.api();
    headers.extend(key.map(|key| {
        let (name, value) = authorization(api, key);
        (name.into(), value)
    }));
    headers
}

/// Tells the models of a list, or those of the configuration that are not in it.
fn listed(
    upstream: &Upstream,
    mut list: ModelList,
    path: &str,
    body: &[u8],
) -> Result<String, String> {
    let more = list.take(body).map_err(|_| {
        format!(
            "answers at {path} with something else than a list of models; give another `url` or `kind`"
        )
    })?;
    let names = list.into_names();
    // Of Ollama's names the tag `latest` may be left out.
    let has = |model: &String| {
        names
            .iter()
            .any(|name| name == model || name.strip_suffix(":latest") == Some(model))
    };
    let missing = upstream.models.iter().filter(|model| !has(model));
    let missing: Vec<String> = missing
        .map(|model| format!("`{}`", printable(model)))
        .collect();
    if !more && !missing.is_empty() {
        return Err(format!(
            "does not have {} in its list of models; correct `models`",
            missing.join(", ")
        ));
    }
    if names.is_empty() {
        return Err("has no model; add one there".to_owned());
    }
    let mut told: Vec<String> = names
        .iter()
        .take(TOLD)
        .map(|name| printable(name))
        .collect();
    if names.len() > TOLD {
        told.push("…".to_owned());
    }
    let many = if more { "more than " } else { "" };
    Ok(format!(
        "models: {many}{} ({})",
        names.len(),
        told.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{Environment, load_text};
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    const KEY: &str = "swordfish-swordfish";

    /// Findings about an upstream that gives `answer` to one request, and the head of that request.
    fn asked(keys: &str, answer: &str) -> (Vec<(Health, String)>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = answer.to_owned();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = String::new();
            for line in BufReader::new(socket.try_clone().unwrap()).lines() {
                let line = line.unwrap();
                if line.is_empty() {
                    break;
                }
                head.push_str(&line.to_ascii_lowercase());
                head.push('\n');
            }
            socket.write_all(answer.as_bytes()).unwrap();
            head
        });
        let text = format!("upstreams: [{{ {keys}, url: 'http://{address}/v1/' }}]");
        let variables = [("K".to_owned(), KEY.to_owned())];
        let environment = Environment::new(
            variables
                .into_iter()
                .chain([("XDG_DATA_HOME".to_owned(), "/nowhere".to_owned())]),
        );
        let loaded = load_text("c.yaml", &text, &environment).unwrap();
        let mut findings = Findings::default();
        examine(&loaded, &mut findings);
        let findings = findings.0.into_iter();
        let findings: Vec<_> = findings
            .map(|finding| (finding.health, finding.text))
            .collect();
        assert!(!format!("{findings:?}").contains(KEY), "{findings:?}");
        (findings, server.join().unwrap())
    }

    fn response(status: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn a_list_is_asked_for_in_the_api_of_the_server_and_told() {
        let list = r#"{"data":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]}"#;
        let (findings, head) = asked("kind: custom, key: 'env:K'", &response("200 OK", list));
        assert!(head.starts_with("get /v1/models http/1.1\n"), "{head}");
        assert!(
            head.contains(&format!("authorization: bearer {KEY}\n")),
            "{head}"
        );
        assert_eq!(
            findings,
            [
                (Health::Ok, "custom has its key from env:K".to_owned()),
                (
                    Health::Ok,
                    "custom accepts connections; models: 4 (a, b, c, …)".to_owned()
                ),
            ]
        );
        let (findings, head) = asked("kind: anthropic, key: 'env:K'", &response("200 OK", list));
        assert!(
            head.starts_with("get /v1/models?limit=1000 http/1.1\n"),
            "{head}"
        );
        assert!(head.contains(&format!("x-api-key: {KEY}\n")), "{head}");
        assert!(head.contains("anthropic-version: 2023-06-01\n"), "{head}");
        assert_eq!(findings.last().unwrap().0, Health::Ok);
        let list = r#"{"models":[{"name":"llama3:latest"}]}"#;
        let (findings, head) = asked("kind: ollama, models: [llama3]", &response("200 OK", list));
        assert!(head.starts_with("get /api/tags http/1.1\n"), "{head}");
        assert!(!head.contains("authorization"), "{head}");
        assert_eq!(
            findings,
            [
                (Health::Ok, "ollama is asked without a key".to_owned()),
                (
                    Health::Ok,
                    "ollama accepts connections; models: 1 (llama3)".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn an_answer_without_a_list_is_told_with_what_to_do() {
        let with_key = "kind: custom, key: 'env:K'";
        for (keys, answer, expected) in [
            (
                with_key,
                response("401 Unauthorized", "no swordfish-swordfish here"),
                "custom refuses the key (status 401); give a valid one as `key`",
            ),
            (
                "kind: custom",
                response("403 Forbidden", ""),
                "custom wants a key (status 403); give it as `key: \"env:NAME\"`",
            ),
            (
                with_key,
                response("301 Moved Permanently", ""),
                "custom redirects (status 301), which is not followed; give the final address as `url`",
            ),
            (
                with_key,
                response("404 Not Found", ""),
                "custom has no list of models at /v1/models (status 404); name them in `models`, or give another `url`",
            ),
            (
                with_key,
                response("503 Service Unavailable", ""),
                "custom answers its list of models with status 503; until it can be used, requests go to its `fallback` or get an error",
            ),
            (
                with_key,
                response("200 OK", "<html>"),
                "custom answers at /v1/models with something else than a list of models; give another `url` or `kind`",
            ),
            (
                "kind: custom, models: [a, b]",
                response("200 OK", r#"{"data":[{"id":"a"}]}"#),
                "custom does not have `b` in its list of models; correct `models`",
            ),
            (
                with_key,
                response("200 OK", r#"{"data":[]}"#),
                "custom has no model; add one there",
            ),
            (
                with_key,
                "nonsense\r\n\r\n".to_owned(),
                "custom accepts connections, but its list of models at /v1/models cannot be read: ",
            ),
        ] {
            let (findings, _) = asked(keys, &answer);
            let (health, text) = findings.last().unwrap();
            assert_eq!(*health, Health::Warn, "{text}");
            assert!(text.starts_with(expected), "{text}");
        }
        let (findings, _) = asked("kind: custom, models: [a]", &response("404 Not Found", ""));
        let (health, text) = findings.last().unwrap();
        assert_eq!(*health, Health::Ok, "{text}");
        assert!(text.ends_with("and the configuration names them"), "{text}");
    }

    #[test]
    fn an_upstream_that_is_not_there_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A connection's own port belongs to it, and accepts none, whatever other tests do.
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address = client.local_addr().unwrap();
        let text = format!("data_dir: /d\nupstreams: ['llama=http://{address}/v1']");
        let loaded = load_text("c.yaml", &text, &Environment::new([])).unwrap();
        let mut findings = Findings::default();
        examine(&loaded, &mut findings);
        let last = findings.0.last().unwrap();
        assert_eq!(last.health, Health::Warn);
        let expected = format!("llama does not accept connections at {address} (");
        assert!(last.text.starts_with(&expected), "{}", last.text);
    }
}
