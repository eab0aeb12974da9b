//! Short forms of sections and lists: `log: debug`, `audit: off`, `agents: [claude]`, `upstreams: [ollama]`, `command: "a --b"`, and other names of
//! sections.
//!
//! They are written out in the tree before anything else reads it, so that variables and flags change the same values
//! whichever form a file has.

use super::agent_list;
use super::error::Problem;
use super::mcp_server;
use super::tree::{Entry, Form, Node, Value};
use super::upstream;

/// Writes the short forms of a whole document out.
pub(crate) fn expand(root: &mut Node, problems: &mut Vec<Problem>) {
    if let Some(log) = root.get_mut("log") {
        expand_section(log, "level", |_| true);
    }
    if let Some(audit) = root.get_mut("audit") {
        expand_section(audit, "file", |text| {
            matches!(text, "off" | "false" | "no") || text.contains(['/', '.'])
        });
    }
    let aliases = root
        .get_mut("models")
        .and_then(|models| models.get_mut("aliases"));
    if let Some(Value::Map(aliases)) = aliases.map(|aliases| &mut aliases.value) {
        for alias in aliases {
            expand_section(&mut alias.node, "model", |_| true);
        }
    }
    if let Some(agents) = root.get_mut("agents") {
        agent_list::expand(agents, problems);
    }
    if let Some(upstreams) = root.get_mut("upstreams") {
        upstream::expand(upstreams, problems);
    }
    mcp_server::expand(root, problems);
}

/// Makes a text that `fits` the value of `key` in a section of its own.
pub(crate) fn expand_section(node: &mut Node, key: &str, fits: impl Fn(&str) -> bool) {
    if !node.is_null() && node.text().is_some_and(fits) {
        let entry = Entry {
            key: key.to_owned(),
            origin: node.origin.clone(),
            node: node.clone(),
        };
        node.value = Value::Map(vec![entry]);
    }
}

/// Splits a text where a list is expected: that of a variable or flag at commas, that of a file not at all.
pub(crate) fn expand_list(node: &mut Node) {
    let Value::Scalar { text, form } = &node.value else {
        return;
    };
    let items = match form {
        _ if node.is_null() => return,
        Form::Loose => split(node, text),
        Form::Plain | Form::Quoted => vec![node.clone()],
    };
    node.value = Value::List(items);
}

/// Splits a command that is one text as a shell does.
///
/// # Errors
/// Returns a sentence about a quotation mark without an end.
pub(crate) fn words(command: &str) -> Result<Vec<String>, String> {
    shlex::split(command).ok_or_else(|| "a quotation mark of the command is not closed".to_owned())
}

/// Splits the text of a variable or flag at commas.
pub(crate) fn split(node: &Node, text: &str) -> Vec<Node> {
    let items = text.split(',').map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    let node = |item| Node::scalar(item, Form::Loose, node.origin.clone());
    items.map(node).collect()
}
