//! `GET /openapi.json` and `GET /docs`: the routes, made from their table.

use super::ROUTES as ALL;
use super::answered::{Answered, Input};
use super::route::{Access, Handler, Responder, Route, Socket};
use crate::config::Role;
use crate::dialect::Dialect;
use crate::error::Refusal;
use crate::exchange::JSON;
use crate::hub::lists::Lists;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// `Content-Type` of a page.
pub(super) const HTML: &str = "text/html; charset=utf-8";

pub(super) const ROUTES: &[Route] = &[
    Route::read("GET /openapi.json", &["/openapi.json"], description)
        .for_roles_from_afar(&[Role::Operator]),
    Route::read("GET /docs", &["/docs"], page).for_roles_from_afar(&[Role::Operator]),
];

/// The description up to its paths.
const HEAD: &str = concat!(
    r#"{"openapi":"3.1.0","info":{"title":"MCP Local Provider","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","summary":"Agents as local models, for programs that speak the OpenAI, Ollama or Anthropic API, and MCP servers over HTTP.","#,
    r#""description":"Each path answers with and without `/v1` before it, and under `/k/KEY/…` for clients without a field for a key. "#,
    r#"At the address of `listen.ollama` programs on this machine need no key for what the role `client` may do with models, unless "#,
    r#"`listen.ollama_auth` is `required`."},"servers":[{"url":"/"}],"paths":{"#,
);

/// The description after its paths: what every operation refers to. Responses have the names of [`tag`].
const TAIL: &str = concat!(
    r#"},"components":{"securitySchemes":{"bearer":{"type":"http","scheme":"bearer"},"#,
    r#""header":{"type":"apiKey","in":"header","name":"x-api-key"}},"requestBodies":{"#,
    r#""Any":{"required":true,"content":{"application/json":{"schema":{"type":"object"}}}},"#,
    r#""Asked":{"required":true,"content":{"application/json":{"schema":{"type":"object","properties":{"#,
    r#""model":{"type":["string","null"]},"stream":{"type":["boolean","null"]}}}}}}},"responses":{"#,
    r#""Answer":{"description":"The answer."},"#,
    r##""OpenAI":{"description":"Refused or failed.","content":{"application/json":{"schema":{"$ref":"#/components/schemas/OpenAI"}}}},"##,
    r##""Ollama":{"description":"Refused or failed.","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Ollama"}}}},"##,
    r##""Anthropic":{"description":"Refused or failed.","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Anthropic"}}}},"##,
    r##""MCP":{"description":"Refused or failed.","content":{"application/json":{"schema":{"$ref":"#/components/schemas/MCP"}}}},"##,
    r##""REST":{"description":"Refused or failed.","content":{"application/json":{"schema":{"$ref":"#/components/schemas/REST"}}}},"##,
    r##""Tool":{"description":"Refused or failed.","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Tool"}}}}},"##,
    r#""schemas":{"OpenAI":{"type":"object","required":["error"],"properties":{"error":{"type":"object","properties":{"#,
    r#""message":{"type":"string"},"type":{"type":"string"},"param":{"type":["string","null"]},"code":{"type":["string","null"]}}}}},"#,
    r#""Ollama":{"type":"object","required":["error"],"properties":{"error":{"type":"string"}}},"#,
    r#""Anthropic":{"type":"object","required":["error"],"properties":{"type":{"const":"error"},"error":{"type":"object","properties":{"#,
    r#""type":{"type":"string"},"message":{"type":"string"}}},"request_id":{"type":"string"}}},"#,
    r#""REST":{"type":"object","required":["error"],"properties":{"error":{"type":"object","required":["message","type","param","code"],"#,
    r#""properties":{"message":{"type":"string"},"type":{"type":"string"},"param":{"type":["string","null"]},"code":{"type":["string","null"]},"data":{}}}}},"#,
    r#""Tool":{"type":"object","required":["detail"],"properties":{"detail":{"type":"object","required":["message"],"properties":{"#,
    r#""message":{"type":"string"},"data":{}}}}},"#,
    r#""MCP":{"type":"object","required":["jsonrpc","error"],"properties":{"jsonrpc":{"const":"2.0"},"id":{"type":["string","number","null"]},"#,
    r#""error":{"type":"object","required":["code","message"],"properties":{"code":{"type":"integer"},"message":{"type":"string"},"#,
    r#""data":{"type":"object","properties":{"reason":{"type":"string"},"server":{"type":"string"},"retry_after":{"type":"integer"}}}}}}}}}}"#,
);

/// OpenAPI 3.1. It is put together as text: the names of routes and roles need no escape.
fn description(_: &Lists, _: &Input<'_>) -> Result<Answered, Refusal> {
    let mut paths: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for route in ALL.iter() {
        for path in route.paths {
            let members = paths.entry(path).or_insert_with(|| parameters(path));
            let operations = route.methods.iter();
            members.extend(operations.map(|method| operation(route, method, path)));
        }
    }
    let item = |(path, members): (&&str, &Vec<String>)| {
        let members = members.join(",");
        format!(r#""{path}":{{{members}}}"#)
    };
    let items: Vec<String> = paths.iter().map(item).collect();
    let text = [HEAD, &items.join(","), TAIL].concat();
    Ok(Answered::Bytes(JSON, text.into_bytes()))
}

/// Names the API family of a route.
const fn tag(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "OpenAI",
        Dialect::Ollama => "Ollama",
        Dialect::Anthropic => "Anthropic",
        Dialect::Mcp => "MCP",
        Dialect::Rest => "REST",
        Dialect::Tool => "Tool",
    }
}

/// The parameters of a path, as a member of it; none where it has none.
fn parameters(path: &str) -> Vec<String> {
    let names = path.split('{').skip(1);
    let names = names.filter_map(|rest| rest.split_once('}'));
    let each = names.map(|(name, _)| {
        format!(r#"{{"name":"{name}","in":"path","required":true,"schema":{{"type":"string"}}}}"#)
    });
    let each: Vec<String> = each.collect();
    let all = (!each.is_empty()).then(|| format!(r#""parameters":[{}]"#, each.join(",")));
    all.into_iter().collect()
}

/// The roles that may use a route, and whether programs on this machine may without a key.
const fn roles(route: &Route) -> (&'static [Role], bool) {
    match route.access {
        Access::Open => (&[], true),
        Access::Roles(roles) => (roles, false),
        Access::RolesFromAfar(roles) => (roles, true),
    }
}

/// One method of a path, as a member of it.
fn operation(route: &Route, method: &str, path: &str) -> String {
    let (roles, keyless) = roles(route);
    let security = match (keyless, roles.is_empty()) {
        (true, true) => "{}",
        (true, false) => r#"{},{"bearer":[]},{"header":[]}"#,
        (false, true) => "",
        (false, false) => r#"{"bearer":[]},{"header":[]}"#,
    };
    let roles = roles.iter().map(|role| format!(r#""{}""#, role.as_str()));
    let roles = roles.collect::<Vec<_>>().join(",");
    let body = if !route.body || method == "GET" {
        ""
    } else if route.form().is_some() {
        r##""requestBody":{"$ref":"#/components/requestBodies/Asked"},"##
    } else {
        r##""requestBody":{"$ref":"#/components/requestBodies/Any"},"##
    };
    let member = method.to_ascii_lowercase();
    let (summary, tag) = (summary(route), tag(route.dialect));
    format!(
        r##""{member}":{{"operationId":"{method} {path}","summary":"{summary}","tags":["{tag}"],"security":[{security}],"x-roles":[{roles}],{body}"responses":{{"200":{{"$ref":"#/components/responses/Answer"}},"default":{{"$ref":"#/components/responses/{tag}"}}}}}}"##
    )
}

/// Says what a route does.
fn summary(route: &Route) -> &'static str {
    match route.handler {
        Handler::Ask(_) => "An agent answers.",
        Handler::Read(_) => "Reads a list or a state.",
        Handler::Change(_) => "Changes a session.",
        Handler::Report(_) => "Tells how the program does.",
        Handler::Order(_) => "Reloads or stops the program.",
        Handler::Respond(Responder::CallerTools) => {
            "The tools of a caller, for the agent that answers it."
        }
        Handler::Respond(Responder::McpAgent) => {
            "An MCP client with `sampling` answers as a model: Streamable HTTP."
        }
        Handler::Respond(Responder::Mcp) => "MCP servers by Streamable HTTP.",
        Handler::Respond(Responder::McpSse) => {
            "MCP servers by HTTP+SSE: opens a session and is its stream."
        }
        Handler::Respond(Responder::McpEvents) => "What a session of MCP tells, as events.",
        Handler::Respond(Responder::McpMessages) => "Takes a message of a session of HTTP+SSE.",
        Handler::Respond(Responder::Rest(task)) => task.summary(),
        Handler::Respond(Responder::Registry(task)) => task.summary(),
        Handler::Respond(Responder::Logs) => "The latest lines of the log.",
        Handler::Respond(Responder::Completion(task)) => task.summary(),
        Handler::Respond(Responder::TestPage) => "Tries MCP servers out: a page for people.",
        Handler::Upgrade(Socket::Agent) => "An agent connects by a WebSocket.",
        Handler::Upgrade(Socket::Completion) => "Completions by a WebSocket.",
        Handler::Upgrade(Socket::Mcp) => "MCP servers by a WebSocket.",
        Handler::Preflight => "A browser asks whether it may.",
    }
}

/// The same as a page that needs nothing else.
fn page(_: &Lists, _: &Input<'_>) -> Result<Answered, Refusal> {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>MCP Local Provider: routes</title>\
         <style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;margin:2em auto;max-width:60em;padding:0 1em}\
         table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3em .6em;border-bottom:1px solid #8884}\
         code{white-space:nowrap}</style><h1>Routes</h1><p>Each path answers with and without <code>/v1</code> before it, and under \
         <code>/k/KEY/…</code> for clients without a field for a key. At the address of <code>listen.ollama</code> programs on this machine need no key for what the role client may do. <a href=\"openapi.json\">OpenAPI 3.1</a></p>\
         <table><tr><th>Route<th>Does<th>API<th>For",
    );
    for route in ALL.iter() {
        let (roles, keyless) = roles(route);
        let mut who: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        if keyless {
            who.push(if roles.is_empty() {
                "everyone"
            } else {
                "programs on this machine"
            });
        }
        for path in route.paths {
            page.push_str(&format!(
                "<tr><td><code>{} {path}</code><td>{}<td>{}<td>{}",
                route.methods.join(", "),
                summary(route),
                tag(route.dialect),
                who.join(", ")
            ));
        }
    }
    page.push_str("</table></html>");
    Ok(Answered::Bytes(HTML, page.into_bytes()))
}
