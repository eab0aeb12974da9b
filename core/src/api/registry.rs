//! Routes of the registry. The engine answers them.

use super::route::{Handler, Responder, Route};
use crate::config::{Area, Role};
use crate::dialect::Dialect;

/// Kinds of entries that have routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registered {
    /// Tools.
    Tool,
    /// Resources; where a list is meant, those without a template.
    Resource,
    /// Templates of resources.
    ResourceTemplate,
    /// Prompts.
    Prompt,
    /// Integrations.
    Integration,
}

/// Requests to the registry, one for each route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegistryTask {
    /// Lists the entries of a kind.
    List(Registered),
    /// Makes an entry, or all of an array.
    Create(Registered),
    /// Shows an entry; reads a resource.
    Show(Registered),
    /// Replaces an entry.
    Replace(Registered),
    /// Deletes an entry.
    Delete(Registered),
    /// Runs a tool.
    Execute,
    /// Makes the messages of a prompt.
    Generate,
    /// Completes an argument of a prompt.
    Complete,
    /// Writes all entries as JSON lines.
    Export,
    /// Takes the entries of an export.
    Import,
    /// Seals all secrets with another key.
    Rekey,
    /// Tells a stream, or a session of MCP, of changes of a resource.
    Subscribe,
    /// Tells a session of MCP of them no more.
    Unsubscribe,
}

impl RegistryTask {
    /// Says what the route does.
    pub(super) const fn summary(self) -> &'static str {
        match self {
            Self::List(Registered::Tool) => "Lists the tools of the registry.",
            Self::List(Registered::Resource) => "Lists the resources of the registry.",
            Self::List(Registered::ResourceTemplate) => {
                "Lists the templates of resources of the registry."
            }
            Self::List(Registered::Prompt) => "Lists the prompts of the registry.",
            Self::List(Registered::Integration) => "Lists the integrations of the registry.",
            Self::Create(Registered::Tool) => "Registers a tool, or all of an array.",
            Self::Create(Registered::Resource | Registered::ResourceTemplate) => {
                "Registers a resource or a template of resources, or all of an array."
            }
            Self::Create(Registered::Prompt) => "Registers a prompt, or all of an array.",
            Self::Create(Registered::Integration) => {
                "Registers an integration, or all of an array."
            }
            Self::Show(Registered::Tool) => "Shows a tool of the registry.",
            Self::Show(Registered::Resource | Registered::ResourceTemplate) => {
                "Reads a resource of the registry."
            }
            Self::Show(Registered::Prompt) => "Shows a prompt of the registry.",
            Self::Show(Registered::Integration) => "Shows an integration of the registry.",
            Self::Replace(Registered::Tool) => "Replaces a tool of the registry.",
            Self::Replace(Registered::Resource | Registered::ResourceTemplate) => {
                "Replaces a resource of the registry."
            }
            Self::Replace(Registered::Prompt) => "Replaces a prompt of the registry.",
            Self::Replace(Registered::Integration) => "Replaces an integration of the registry.",
            Self::Delete(Registered::Tool) => "Deletes a tool of the registry.",
            Self::Delete(Registered::Resource | Registered::ResourceTemplate) => {
                "Deletes a resource of the registry."
            }
            Self::Delete(Registered::Prompt) => "Deletes a prompt of the registry.",
            Self::Delete(Registered::Integration) => "Deletes an integration of the registry.",
            Self::Execute => "Runs a tool of the registry.",
            Self::Generate => "Makes the messages of a prompt of the registry.",
            Self::Complete => "Completes an argument of a prompt of the registry.",
            Self::Export => "All entries of the registry, one JSON text a line.",
            Self::Import => "Registers all entries of an export, or none.",
            Self::Rekey => "Seals all secrets of the registry with a new key.",
            Self::Subscribe => {
                "Tells of changes of a resource of the registry, by events or in a session of MCP."
            }
            Self::Unsubscribe => "Ends a subscription of a session of MCP.",
        }
    }

    /// Name of the path's parameter.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Show(Registered::Resource)
            | Self::Replace(Registered::Resource)
            | Self::Delete(Registered::Resource)
            | Self::Subscribe
            | Self::Unsubscribe => "uri",
            Self::Show(Registered::Integration)
            | Self::Replace(Registered::Integration)
            | Self::Delete(Registered::Integration) => "integration_id",
            Self::List(_)
            | Self::Create(_)
            | Self::Show(_)
            | Self::Replace(_)
            | Self::Delete(_)
            | Self::Execute
            | Self::Generate
            | Self::Complete
            | Self::Export
            | Self::Import
            | Self::Rekey => "name",
        }
    }
}

const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
const PUT: &[&str] = &["PUT"];
const DELETE: &[&str] = &["DELETE"];

const TOOLS: &[&str] = &["/tools", "/registry/tools"];
const TOOL: &[&str] = &["/tools/{name}", "/registry/tools/{name}"];
const RESOURCES: &[&str] = &["/resources", "/registry/resources"];
const RESOURCE: &[&str] = &["/resources/{uri}", "/registry/resources/{uri}"];
const SUBSCRIPTION: &[&str] = &[
    "/resources/{uri}/subscribe",
    "/registry/resources/{uri}/subscribe",
];
const PROMPTS: &[&str] = &["/prompts", "/registry/prompts"];
const PROMPT: &[&str] = &["/prompts/{name}", "/registry/prompts/{name}"];
const INTEGRATIONS: &[&str] = &["/integrations", "/registry/integrations"];
const INTEGRATION: &[&str] = &[
    "/integrations/{integration_id}",
    "/registry/integrations/{integration_id}",
];

pub(super) const ROUTES: &[Route] = &[
    route(
        "GET /tools",
        GET,
        TOOLS,
        RegistryTask::List(Registered::Tool),
    ),
    change(
        "POST /tools",
        POST,
        TOOLS,
        RegistryTask::Create(Registered::Tool),
    )
    .with_body(),
    route(
        "GET /tools/{name}",
        GET,
        TOOL,
        RegistryTask::Show(Registered::Tool),
    ),
    change(
        "PUT /tools/{name}",
        PUT,
        TOOL,
        RegistryTask::Replace(Registered::Tool),
    )
    .with_body(),
    change(
        "DELETE /tools/{name}",
        DELETE,
        TOOL,
        RegistryTask::Delete(Registered::Tool),
    ),
    route(
        "POST /tools/{name}/execute",
        POST,
        &["/tools/{name}/execute", "/registry/tools/{name}/execute"],
        RegistryTask::Execute,
    )
    .with_body(),
    route(
        "GET /resources",
        GET,
        RESOURCES,
        RegistryTask::List(Registered::Resource),
    ),
    route(
        "GET /resources/templates",
        GET,
        &["/resources/templates", "/registry/resources/templates"],
        RegistryTask::List(Registered::ResourceTemplate),
    ),
    change(
        "POST /resources",
        POST,
        RESOURCES,
        RegistryTask::Create(Registered::Resource),
    )
    .with_body(),
    // Before those whose `{uri}` is all that follows.
    route(
        "POST /resources/{uri}/subscribe",
        POST,
        SUBSCRIPTION,
        RegistryTask::Subscribe,
    )
    .with_body(),
    route(
        "DELETE /resources/{uri}/subscribe",
        DELETE,
        SUBSCRIPTION,
        RegistryTask::Unsubscribe,
    )
    .with_body(),
    route(
        "GET /resources/{uri}",
        GET,
        RESOURCE,
        RegistryTask::Show(Registered::Resource),
    ),
    change(
        "PUT /resources/{uri}",
        PUT,
        RESOURCE,
        RegistryTask::Replace(Registered::Resource),
    )
    .with_body(),
    change(
        "DELETE /resources/{uri}",
        DELETE,
        RESOURCE,
        RegistryTask::Delete(Registered::Resource),
    ),
    route(
        "GET /prompts",
        GET,
        PROMPTS,
        RegistryTask::List(Registered::Prompt),
    ),
    change(
        "POST /prompts",
        POST,
        PROMPTS,
        RegistryTask::Create(Registered::Prompt),
    )
    .with_body(),
    route(
        "GET /prompts/{name}",
        GET,
        PROMPT,
        RegistryTask::Show(Registered::Prompt),
    ),
    change(
        "PUT /prompts/{name}",
        PUT,
        PROMPT,
        RegistryTask::Replace(Registered::Prompt),
    )
    .with_body(),
    change(
        "DELETE /prompts/{name}",
        DELETE,
        PROMPT,
        RegistryTask::Delete(Registered::Prompt),
    ),
    route(
        "POST /prompts/{name}/generate",
        POST,
        &[
            "/prompts/{name}/generate",
            "/registry/prompts/{name}/generate",
        ],
        RegistryTask::Generate,
    )
    .with_body(),
    route(
        "POST /prompts/{name}/complete",
        POST,
        &[
            "/prompts/{name}/complete",
            "/registry/prompts/{name}/complete",
        ],
        RegistryTask::Complete,
    )
    .with_body(),
    change(
        "GET /registry/export",
        GET,
        &["/registry/export"],
        RegistryTask::Export,
    ),
    change(
        "POST /registry/import",
        POST,
        &["/registry/import"],
        RegistryTask::Import,
    )
    .with_body(),
    change(
        "POST /registry/rekey",
        POST,
        &["/registry/rekey"],
        RegistryTask::Rekey,
    )
    .with_body(),
    route(
        "GET /integrations",
        GET,
        INTEGRATIONS,
        RegistryTask::List(Registered::Integration),
    ),
    change(
        "POST /integrations",
        POST,
        INTEGRATIONS,
        RegistryTask::Create(Registered::Integration),
    )
    .with_body(),
    route(
        "GET /integrations/{integration_id}",
        GET,
        INTEGRATION,
        RegistryTask::Show(Registered::Integration),
    ),
    change(
        "PUT /integrations/{integration_id}",
        PUT,
        INTEGRATION,
        RegistryTask::Replace(Registered::Integration),
    )
    .with_body(),
    change(
        "DELETE /integrations/{integration_id}",
        DELETE,
        INTEGRATION,
        RegistryTask::Delete(Registered::Integration),
    ),
];

/// A route for keys that may use the registry.
const fn route(
    name: &'static str,
    methods: &'static [&'static str],
    paths: &'static [&'static str],
    task: RegistryTask,
) -> Route {
    Route::engine(
        name,
        methods,
        paths,
        Handler::Respond(Responder::Registry(task)),
    )
    .for_roles(&[Role::Client])
    .in_area(Area::Registry)
    .in_dialect(Dialect::Rest)
}

/// A route that changes the registry, or shows what only its admin may see.
const fn change(
    name: &'static str,
    methods: &'static [&'static str],
    paths: &'static [&'static str],
    task: RegistryTask,
) -> Route {
    route(name, methods, paths, task).for_roles(&[Role::Admin])
}
