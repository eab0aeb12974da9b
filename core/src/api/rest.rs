//! Routes of the MCP gateway for programs that speak REST. The engine answers them.

use super::route::{Handler, Responder, Route};
use crate::config::{Area, Role};
use crate::dialect::Dialect;

/// Requests of REST, one for each route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Opens a session.
    OpenSession,
    /// Lists the sessions of the key; an operator's all.
    ListSessions,
    /// Shows one session.
    ShowSession,
    /// Ends one session.
    EndSession,
    /// Lists what a server has, over all pages.
    Discover(Listed),
    /// Calls a tool.
    CallTool,
    /// Reads a resource.
    ReadResource,
    /// Asks for updates of a resource.
    Subscribe,
    /// Asks for none any more.
    Unsubscribe,
    /// Gets a prompt.
    GetPrompt,
    /// Calls the tool of the path, and answers with its result alone.
    Tool,
    /// Describes the tools of a server in OpenAPI.
    Description,
    /// Shows the tools of a server to people.
    Page,
    /// Lists the servers, and what their processes are at.
    Servers,
    /// Starts the processes of a server again.
    Restart,
}

/// Lists of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// Tools.
    Tools,
    /// Resources and their templates.
    Resources,
    /// Prompts.
    Prompts,
}

impl Rest {
    /// Says what the route does.
    pub(super) const fn summary(self) -> &'static str {
        match self {
            Self::OpenSession => "Opens a session with an MCP server.",
            Self::ListSessions => "Lists the sessions of the key; for an operator all.",
            Self::ShowSession => "Shows a session.",
            Self::EndSession => "Ends a session.",
            Self::Discover(Listed::Tools) => "Lists the tools of an MCP server.",
            Self::Discover(Listed::Resources) => "Lists the resources of an MCP server.",
            Self::Discover(Listed::Prompts) => "Lists the prompts of an MCP server.",
            Self::CallTool => "Calls a tool of an MCP server.",
            Self::ReadResource => "Reads a resource of an MCP server.",
            Self::Subscribe => "Asks an MCP server for updates of a resource.",
            Self::Unsubscribe => "Asks an MCP server for no updates of a resource any more.",
            Self::GetPrompt => "Gets a prompt of an MCP server.",
            Self::Tool => "Calls a tool of an MCP server, and answers with its result alone.",
            Self::Description => "Describes the tools of an MCP server in OpenAPI 3.1.",
            Self::Page => "Shows the tools of an MCP server to people.",
            Self::Servers => "Lists the MCP servers and their states.",
            Self::Restart => "Starts the processes of an MCP server again.",
        }
    }
}

const POST: &[&str] = &["POST"];
const GET: &[&str] = &["GET"];

/// Name of the route that calls a tool of an MCP server.
pub const CALL_TOOL: &str = "POST /tools/call";

pub(super) const ROUTES: &[Route] = &[
    route("POST /sessions", POST, &["/sessions"], Rest::OpenSession).with_body(),
    route("GET /sessions", GET, &["/sessions"], Rest::ListSessions)
        .for_roles(&[Role::Client, Role::Operator]),
    route(
        "GET /sessions/{id}",
        GET,
        &["/sessions/{id}"],
        Rest::ShowSession,
    )
    .for_roles(&[Role::Client, Role::Operator]),
    route(
        "DELETE /sessions/{id}",
        &["DELETE"],
        &["/sessions/{id}"],
        Rest::EndSession,
    )
    .while_draining(),
    route(
        "POST /tools/discover",
        POST,
        &["/tools/discover"],
        Rest::Discover(Listed::Tools),
    )
    .with_body(),
    route(CALL_TOOL, POST, &["/tools/call"], Rest::CallTool).with_body(),
    route(
        "POST /resources/discover",
        POST,
        &["/resources/discover"],
        Rest::Discover(Listed::Resources),
    )
    .with_body(),
    route(
        "POST /resources/read",
        POST,
        &["/resources/read"],
        Rest::ReadResource,
    )
    .with_body(),
    route(
        "POST /resources/subscribe",
        POST,
        &["/resources/subscribe"],
        Rest::Subscribe,
    )
    .with_body(),
    route(
        "POST /resources/unsubscribe",
        POST,
        &["/resources/unsubscribe"],
        Rest::Unsubscribe,
    )
    .with_body(),
    route(
        "POST /prompts/discover",
        POST,
        &["/prompts/discover"],
        Rest::Discover(Listed::Prompts),
    )
    .with_body(),
    route(
        "POST /prompts/get",
        POST,
        &["/prompts/get"],
        Rest::GetPrompt,
    )
    .with_body(),
    route(
        "POST /servers/{server}/tools/{tool}",
        POST,
        &["/servers/{server}/tools/{tool}"],
        Rest::Tool,
    )
    .with_body()
    .in_dialect(Dialect::Tool),
    route(
        "GET /servers/{server}/openapi.json",
        GET,
        &["/servers/{server}/openapi.json"],
        Rest::Description,
    ),
    route(
        "GET /servers/{server}/docs",
        GET,
        &["/servers/{server}/docs"],
        Rest::Page,
    ),
    route("GET /servers", GET, &["/servers"], Rest::Servers)
        .for_roles(&[Role::Client, Role::Operator]),
    route(
        "POST /servers/{server}/restart",
        POST,
        &["/servers/{server}/restart"],
        Rest::Restart,
    )
    .for_roles(&[Role::Operator]),
];

/// A route for keys that may use MCP servers.
const fn route(
    name: &'static str,
    methods: &'static [&'static str],
    paths: &'static [&'static str],
    task: Rest,
) -> Route {
    Route::engine(
        name,
        methods,
        paths,
        Handler::Respond(Responder::Rest(task)),
    )
    .for_roles(&[Role::Client])
    .in_area(Area::Mcp)
    .in_dialect(Dialect::Rest)
}
