//! Tools of kind `gateway`: one tool of a server of the gateway.

use crate::failure::Failure;
use crate::json::Fields;
use crate::need::CallNeed;
use crate::template::{Count, Stop, Template, Tree};
use minijinja::Value;

/// The registry's own name among the servers.
pub const SERVER: &str = "registry";

/// One call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServerCall {
    server: Template,
    tool: Template,
    arguments: Option<Tree>,
}

/// Reads the field `arguments`: an object of templates.
pub(crate) fn arguments(fields: &Fields<'_>, count: &mut Count) -> Result<Option<Tree>, Failure> {
    let object = fields.object("arguments")?;
    let read = object.map(|it| Tree::read(it, &fields.at("arguments"), count));
    read.transpose()
}

impl ServerCall {
    pub(crate) const FIELDS: [&str; 3] = ["server", "tool", "arguments"];

    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        let mut count = Count::default();
        let server = fields.needed("server")?;
        if server == SERVER {
            let message =
                "a tool of the registry is run by a step of a chain, not over the gateway";
            return Err(fields.wrong("server", message));
        }
        let tool = fields.needed("tool")?;
        Ok(Self {
            server: Template::read(&server, &fields.at("server"), &mut count)?,
            tool: Template::read(&tool, &fields.at("tool"), &mut count)?,
            arguments: arguments(fields, &mut count)?,
        })
    }

    pub(crate) fn need(&self, scope: &Value) -> Result<CallNeed, Stop> {
        let server = self.server.text(scope).map_err(|it| it.of("server"))?;
        if server == SERVER {
            let message = "a tool of kind gateway cannot call the registry itself";
            return Err(Stop::Error(message.to_owned()));
        }
        let arguments = self.arguments.as_ref();
        let arguments = arguments.map(|it| it.render(scope).map_err(|it| it.of("arguments")));
        Ok(CallNeed {
            server,
            tool: self.tool.text(scope).map_err(|it| it.of("tool"))?,
            arguments: arguments.transpose()?.unwrap_or_else(|| "{}".to_owned()),
        })
    }
}
