//! `GET /openapi.json` and `GET /docs`: the routes, made from their table.

use super::ROUTES as ALL;
use super::answered::{Answered, Input};
use super::route::{Access, Handler, Route};
use crate::config::Role;
use crate::dialect::Dialect;
use crate::error::Refusal;
use crate::hub::lists::Lists;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::{Map, Value, json};

/// `Content-Type` of a page.
pub(super) const HTML: &str = "text/html; charset=utf-8";

pub(super) const ROUTES: &[Route] = &[
    Route::read("GET /openapi.json", &["/openapi.json"], description)
        .for_roles_from_afar(&[Role::Operator]),
    Route::read("GET /docs", &["/docs"], page).for_roles_from_afar(&[Role::Operator]),
];

/// OpenAPI 3.1.
fn description(_: &Lists, _: &Input<'_>) -> Result<Answered, Refusal> {
    let mut paths: Map<String, Value> = Map::new();
    for route in ALL.iter() {
        for path in route.paths {
            let item = paths
                .entry(String::from(*path))
                .or_insert_with(|| json!({}));
            let Some(item) = item.as_object_mut() else {
                continue;
            };
            let parameters = parameters(path);
            if !parameters.is_empty() {
                item.insert("parameters".into(), Value::Array(parameters));
            }
            for method in route.methods {
                item.insert(method.to_ascii_lowercase(), operation(route, method, path));
            }
        }
    }
    Ok(Answered::ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "MCP Local Provider",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Agents as local models, for programs that speak the OpenAI, Ollama or Anthropic API.",
            "description": "Each path answers with and without `/v1` before it, and under `/k/KEY/…` for clients without a field for a key. At the address of `listen.ollama` programs on this machine need no key for what the role `client` may do with models, unless `listen.ollama_auth` is `required`.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "header": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
            "schemas": {
                tag(Dialect::OpenAi): error(json!({
                    "error": { "type": "object", "properties": {
                        "message": { "type": "string" },
                        "type": { "type": "string" },
                        "param": { "type": ["string", "null"] },
                        "code": { "type": ["string", "null"] },
                    } },
                })),
                tag(Dialect::Ollama): error(json!({ "error": { "type": "string" } })),
                tag(Dialect::Anthropic): error(json!({
                    "type": { "const": "error" },
                    "error": { "type": "object", "properties": {
                        "type": { "type": "string" },
                        "message": { "type": "string" },
                    } },
                    "request_id": { "type": "string" },
                })),
            },
        },
    })))
}

fn error(properties: Value) -> Value {
    json!({ "type": "object", "required": ["error"], "properties": properties })
}

/// Names the API family of a route.
const fn tag(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "OpenAI",
        Dialect::Ollama => "Ollama",
        Dialect::Anthropic => "Anthropic",
    }
}

/// The parameters of a path; the last one may hold slashes.
fn parameters(path: &str) -> Vec<Value> {
    let mut names = path.split('{').skip(1);
    let mut parameters = Vec::new();
    while let Some((name, _)) = names.next().and_then(|rest| rest.split_once('}')) {
        parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string" },
        }));
    }
    parameters
}

/// The roles that may use a route, and whether programs on this machine may without a key.
const fn roles(route: &Route) -> (&'static [Role], bool) {
    match route.access {
        Access::Open => (&[], true),
        Access::Roles(roles) => (roles, false),
        Access::RolesFromAfar(roles) => (roles, true),
    }
}

fn operation(route: &Route, method: &str, path: &str) -> Value {
    let (roles, keyless) = roles(route);
    let mut security = Vec::new();
    if keyless {
        security.push(json!({}));
    }
    if !roles.is_empty() {
        security.extend([json!({ "bearer": [] }), json!({ "header": [] })]);
    }
    let mut operation = json!({
        "operationId": format!("{method} {path}"),
        "summary": summary(route),
        "tags": [tag(route.dialect)],
        "security": security,
        "x-roles": roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "The answer." },
            "default": {
                "description": "Refused or failed.",
                "content": { "application/json": {
                    "schema": { "$ref": format!("#/components/schemas/{}", tag(route.dialect)) },
                } },
            },
        },
    });
    if route.body
        && method != "GET"
        && let Some(fields) = operation.as_object_mut()
    {
        let schema = match route.form() {
            Some(_) => json!({ "type": "object", "properties": {
                "model": { "type": ["string", "null"] },
                "stream": { "type": ["boolean", "null"] },
            } }),
            None => json!({ "type": "object" }),
        };
        fields.insert(
            "requestBody".into(),
            json!({ "required": true, "content": { "application/json": { "schema": schema } } }),
        );
    }
    operation
}

/// Says what a route does.
fn summary(route: &Route) -> &'static str {
    match route.handler {
        Handler::Ask(_) => "An agent answers.",
        Handler::Read(_) => "Reads a list or a state.",
        Handler::Change(_) => "Changes a session.",
        Handler::Report(_) => "Tells how the program does.",
        Handler::Order(_) => "Reloads or stops the program.",
        Handler::Respond(_) => "The tools of a caller, for the agent that answers it.",
        Handler::Upgrade => "An agent connects by a WebSocket.",
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
