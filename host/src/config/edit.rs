//! An MCP server more in the text of a configuration file. All the rest of the text stays as it was, comments too.

use super::mcp_server::section_named;
use super::parse::{Format, parse};
use super::tree::{Entry, Node, Value};
use granit_parser::{Event, Parser};
use std::ops::Range;

/// An MCP server that is to be in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewServer {
    /// Its name, which no server of the file has.
    pub(crate) name: String,
    /// Its program and arguments.
    pub(crate) command: Vec<String>,
    /// Variables for its environment, as names and values.
    pub(crate) env: Vec<(String, String)>,
}

impl NewServer {
    /// Returns it as one line of YAML or JSON. Strings of JSON are strings of YAML and of TOML too.
    fn as_flow(&self, quote: impl Fn(&str) -> String) -> String {
        let mut members = Vec::new();
        let text = |text: &str| serde_json::Value::from(text).to_string();
        if let Some((program, arguments)) = self.command.split_first() {
            members.push(format!("{}: {}", quote("command"), text(program)));
            if !arguments.is_empty() {
                let arguments: Vec<String> = arguments.iter().map(|word| text(word)).collect();
                members.push(format!("{}: [{}]", quote("args"), arguments.join(", ")));
            }
        }
        if !self.env.is_empty() {
            let pairs = self.env.iter();
            let pairs = pairs.map(|(name, value)| format!("{}: {}", text(name), text(value)));
            let pairs: Vec<String> = pairs.collect();
            members.push(format!("{}: {{ {} }}", quote("env"), pairs.join(", ")));
        }
        format!("{{ {} }}", members.join(", "))
    }

    fn as_table(&self, section: &str) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let mut table = format!("[{section}.{}]\n", self.name);
        if let Some((program, arguments)) = self.command.split_first() {
            let arguments: Vec<String> = arguments.iter().map(|word| text(word)).collect();
            table.push_str(&format!("command = {}\n", text(program)));
            if !arguments.is_empty() {
                table.push_str(&format!("args = [{}]\n", arguments.join(", ")));
            }
        }
        if !self.env.is_empty() {
            let pairs = self.env.iter();
            let pairs = pairs.map(|(name, value)| format!("{} = {}", text(name), text(value)));
            let pairs: Vec<String> = pairs.collect();
            table.push_str(&format!("env = {{ {} }}\n", pairs.join(", ")));
        }
        table
    }
}

/// Returns the text of a file with `server` behind the servers that it has. `text` is a configuration that can be read.
///
/// # Errors
/// Fails when the text is written so that nothing can be put into it without changing the rest; the sentence says what to write.
pub(crate) fn with_server(
    text: &str,
    format: Format,
    server: &NewServer,
) -> Result<String, String> {
    let by_hand = || {
        format!(
            "the file is written so that this cannot be added here; write `{}: {}` into its section `mcpServers`",
            server.name,
            server.as_flow(str::to_owned)
        )
    };
    let old = read(text, format).ok_or_else(by_hand)?;
    let section = section_of(&old).map_or("mcpServers", |entry| &entry.key);
    let new = match format {
        Format::Toml => {
            let table = server.as_table(section);
            Some(appended(text, &table))
        }
        Format::Yaml | Format::Json => {
            Places::of(text).and_then(|places| places.with(text, format, server))
        }
    };
    let is_right = |new: &String| {
        let wanted = format!("{{ {}: {} }}", server.name, server.as_flow(str::to_owned));
        let wanted = read(&wanted, Format::Yaml);
        read(new, format).is_some_and(|new| has_grown_by(&old, new, server, wanted.as_ref()))
    };
    new.filter(is_right).ok_or_else(by_hand)
}

fn read(text: &str, format: Format) -> Option<Node> {
    parse("", text, format, &mut Vec::new()).ok()
}

fn section_of(root: &Node) -> Option<&Entry> {
    let Value::Map(sections) = &root.value else {
        return None;
    };
    let mut named = sections
        .iter()
        .filter(|entry| section_named(&entry.key).is_some());
    named.next()
}

/// True when `new` is `old` with the server `wanted` behind its others, and nothing else has changed.
fn has_grown_by(old: &Node, mut new: Node, server: &NewServer, wanted: Option<&Node>) -> bool {
    let wanted = wanted.and_then(|wanted| wanted.get(&server.name));
    let Value::Map(sections) = &mut new.value else {
        return false;
    };
    let Some(at) = sections
        .iter()
        .position(|entry| section_named(&entry.key).is_some())
    else {
        return false;
    };
    let last = match sections.get_mut(at).map(|entry| &mut entry.node.value) {
        Some(Value::Map(servers)) => servers.pop(),
        Some(Value::Scalar { .. } | Value::List(_) | Value::Refused) | None => None,
    };
    let is_wanted = last
        .zip(wanted)
        .is_some_and(|(last, wanted)| last.key == server.name && says_the_same(&last.node, wanted));
    if section_of(old).is_none() {
        sections.remove(at);
    }
    is_wanted && says_the_same(old, &new)
}

/// True for two values that differ by nothing but their places and quotes. A section without entries is none.
fn says_the_same(left: &Node, right: &Node) -> bool {
    let is_empty = |node: &Node| match &node.value {
        Value::Map(entries) => entries.is_empty(),
        Value::Scalar { .. } => node.is_null(),
        Value::List(_) | Value::Refused => false,
    };
    match (&left.value, &right.value) {
        (Value::Scalar { text, .. }, Value::Scalar { text: other, .. }) => text == other,
        (Value::List(items), Value::List(others)) => {
            let mut pairs = items.iter().zip(others);
            items.len() == others.len() && pairs.all(|(item, other)| says_the_same(item, other))
        }
        (Value::Map(entries), Value::Map(others)) if entries.len() == others.len() => {
            let mut pairs = entries.iter().zip(others);
            pairs.all(|(entry, other)| {
                entry.key == other.key && says_the_same(&entry.node, &other.node)
            })
        }
        _ => is_empty(left) && is_empty(right),
    }
}

/// Returns a text with something behind it, after a blank line.
fn appended(text: &str, more: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let blank = if text.trim().is_empty() { "" } else { "\n" };
    format!("{text}{end}{blank}{more}")
}

/// Places in a text of YAML, as offsets in bytes.
#[derive(Default)]
struct Places {
    /// The whole document; `None` where there is none.
    root: Option<Section>,
    /// The value of `mcpServers`.
    servers: Option<Servers>,
}

/// A section: its beginning, that of its first key, and the end of its last value.
#[derive(Clone, Default)]
struct Section {
    begin: usize,
    first_key: Option<usize>,
    end: usize,
}

enum Servers {
    /// Nothing stands there.
    Nothing(Range<usize>),
    Section(Section),
}

impl Places {
    fn of(text: &str) -> Option<Self> {
        let mut places = Self::default();
        let (mut depth, mut is_key) = (0_usize, true);
        // The next value is that of `mcpServers`; the section that is open is.
        let (mut is_next, mut within) = (false, None::<Section>);
        let (mut end, mut behind_key) = (0, 0);
        for step in Parser::new_from_str(text) {
            let (event, span) = step.ok()?;
            let range = span.byte_range()?;
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "the parser's events: the others hold no value"
            )]
            match event {
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    let section = Section {
                        begin: range.start,
                        ..Section::default()
                    };
                    match depth {
                        0 => places.root = Some(section),
                        1 if is_next => within = Some(section),
                        _ => {}
                    }
                    depth += 1;
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    depth = depth.saturating_sub(1);
                    let content = end;
                    // The end of a block is where the next thing begins.
                    if depth > 0 && matches!(text.get(range.clone()), Some("}" | "]")) {
                        end = range.end;
                    }
                    if depth == 1 {
                        is_key = true;
                        is_next = false;
                        if let Some(mut section) = within.take() {
                            section.end = end_of_content(text, content, range.start);
                            places.servers = Some(Servers::Section(section));
                        }
                    }
                }
                Event::Scalar(key, ..) => {
                    if let (2, Some(section)) = (depth, &mut within) {
                        section.first_key.get_or_insert(range.start);
                    }
                    if depth == 1 {
                        if is_key {
                            is_next = section_named(&key).is_some();
                            let root = places.root.as_mut()?;
                            root.first_key.get_or_insert(range.start);
                            behind_key = range.end;
                        } else if is_next {
                            let place = if range.is_empty() {
                                let colon = text.get(behind_key..)?.find(':')?;
                                let at = behind_key + colon + 1;
                                at..at
                            } else {
                                range.clone()
                            };
                            places.servers = Some(Servers::Nothing(place));
                            is_next = false;
                        }
                        is_key = !is_key;
                    }
                    end = range.end;
                }
                Event::Alias(_) => {
                    if depth == 1 {
                        is_key = true;
                        is_next = false;
                    }
                    end = range.end;
                }
                _ => {}
            }
            if let Some(root) = &mut places.root {
                root.end = root.end.max(end);
            }
        }
        Some(places)
    }

    fn with(&self, text: &str, format: Format, server: &NewServer) -> Option<String> {
        let quoted = |key: &str| format!("\"{key}\"");
        let name = &server.name;
        let in_flow = match format {
            Format::Json => format!("\"{name}\": {}", server.as_flow(quoted)),
            Format::Yaml | Format::Toml => {
                format!("{name}: {}", server.as_flow(str::to_owned))
            }
        };
        let Some(root) = &self.root else {
            return Some(appended(text, &format!("mcpServers:\n  {in_flow}\n")));
        };
        let is_flow = |section: &Section| text.get(section.begin..)?.starts_with('{').then_some(());
        match &self.servers {
            None if is_flow(root).is_some() => {
                root.with_member(text, &format!("\"mcpServers\": {{ {in_flow} }}"))
            }
            None => Some(appended(text, &format!("mcpServers:\n  {in_flow}\n"))),
            Some(Servers::Nothing(range)) if is_flow(root).is_some() => {
                let value = format!("{{ {in_flow} }}");
                Some(replaced(text, range.clone(), &value))
            }
            Some(Servers::Nothing(range)) => {
                let value = format!("\n  {in_flow}");
                Some(replaced(text, range.clone(), &value))
            }
            Some(Servers::Section(section)) if is_flow(section).is_some() => {
                section.with_member(text, &in_flow)
            }
            Some(Servers::Section(section)) => section.with_line(text, &in_flow),
        }
    }
}

/// Returns the end of a section's last value, without the blanks behind it.
fn end_of_content(text: &str, end: usize, at_most: usize) -> usize {
    let end = end.min(at_most);
    text.get(..end).map_or(end, |text| text.trim_end().len())
}

fn replaced(text: &str, range: Range<usize>, by: &str) -> String {
    let before = text.get(..range.start).unwrap_or_default();
    let after = text.get(range.end..).unwrap_or_default();
    format!("{before}{by}{after}")
}

impl Section {
    /// Returns the blanks before the first key, where it stands on a line of its own.
    fn indent<'t>(&self, text: &'t str) -> Option<&'t str> {
        let before = text.get(..self.first_key?)?;
        let line = before.rsplit('\n').next()?;
        line.chars().all(|c| c == ' ').then_some(line)
    }

    /// Adds a line behind the last value of a block.
    fn with_line(&self, text: &str, member: &str) -> Option<String> {
        let indent = self.indent(text)?;
        let rest = text.get(self.end..)?;
        let (at, before) = match rest.find('\n') {
            Some(line_end) => (self.end + line_end + 1, ""),
            None => (text.len(), "\n"),
        };
        Some(replaced(
            text,
            at..at,
            &format!("{before}{indent}{member}\n"),
        ))
    }

    /// Adds a member behind the last one between braces.
    fn with_member(&self, text: &str, member: &str) -> Option<String> {
        if self.first_key.is_none() {
            let at = self.begin + 1;
            return Some(replaced(text, at..at, &format!(" {member} ")));
        }
        let before = match self.indent(text) {
            Some(indent) => format!("\n{indent}"),
            None => " ".to_owned(),
        };
        let rest = text.get(self.end..)?;
        let blanks = rest.len() - rest.trim_start().len();
        if rest.trim_start().starts_with(',') {
            let at = self.end + blanks + 1;
            return Some(replaced(text, at..at, &format!("{before}{member},")));
        }
        Some(replaced(
            text,
            self.end..self.end,
            &format!(",{before}{member}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn server() -> NewServer {
        let text = str::to_owned;
        NewServer {
            name: text("new"),
            command: ["npx", "-y", "a \"b\""].map(text).to_vec(),
            env: vec![(text("TOKEN"), text("env:TOKEN"))],
        }
    }

    fn added(text: &str, format: Format) -> String {
        with_server(text, format, &server()).unwrap_or_else(|error| error)
    }

    const NEW: &str =
        r#"new: { command: "npx", args: ["-y", "a \"b\""], env: { "TOKEN": "env:TOKEN" } }"#;

    #[test]
    fn a_server_is_added_behind_the_others_and_the_rest_stays_as_it_was() {
        for (before, after) in [
            ("", format!("mcpServers:\n  {NEW}\n")),
            ("# mine\n", format!("# mine\n\nmcpServers:\n  {NEW}\n")),
            (
                "log: debug # loud\n# the end",
                format!("log: debug # loud\n# the end\n\nmcpServers:\n  {NEW}\n"),
            ),
            (
                "mcpServers:\n    # one\n    a: x # the first\n    b:\n      command: y # the second\n    # no more\n\n# log\nlog: debug\n",
                format!(
                    "mcpServers:\n    # one\n    a: x # the first\n    b:\n      command: y # the second\n    {NEW}\n    # no more\n\n# log\nlog: debug\n"
                ),
            ),
            (
                "mcp_servers:\n  a: x",
                format!("mcp_servers:\n  a: x\n  {NEW}\n"),
            ),
            (
                "mcpServers:\n  # a: x\nlog: debug\n",
                format!("mcpServers:\n  {NEW}\n  # a: x\nlog: debug\n"),
            ),
            ("mcpServers: {}\n", format!("mcpServers: {{ {NEW} }}\n")),
            (
                "mcpServers: ~ # none\n",
                format!("mcpServers: \n  {NEW} # none\n"),
            ),
            (
                "mcpServers: { a: x, b: {command: y} } # two\n",
                format!("mcpServers: {{ a: x, b: {{command: y}}, {NEW} }} # two\n"),
            ),
            (
                "mcpServers: {\n  a: x, # one\n}\n",
                format!("mcpServers: {{\n  a: x,\n  {NEW}, # one\n}}\n"),
            ),
            (
                "mcpServers:\n  ä: { command: x }\n  s:\n    command: x\n    args:\n    - |\n      two\n      lines\n",
                format!(
                    "mcpServers:\n  ä: {{ command: x }}\n  s:\n    command: x\n    args:\n    - |\n      two\n      lines\n  {NEW}\n"
                ),
            ),
        ] {
            assert_eq!(added(before, Format::Yaml), after, "{before}");
        }
    }

    #[test]
    fn json_stays_json_and_toml_toml() {
        let new = r#""new": { "command": "npx", "args": ["-y", "a \"b\""], "env": { "TOKEN": "env:TOKEN" } }"#;
        for (before, after) in [
            ("{}", format!("{{ \"mcpServers\": {{ {new} }} }}")),
            (
                "{\n  \"log\": \"debug\"\n}\n",
                format!("{{\n  \"log\": \"debug\",\n  \"mcpServers\": {{ {new} }}\n}}\n"),
            ),
            (
                "{\n  \"mcpServers\": {\n    \"a\": { \"command\": \"x\" }\n  }\n}\n",
                format!(
                    "{{\n  \"mcpServers\": {{\n    \"a\": {{ \"command\": \"x\" }},\n    {new}\n  }}\n}}\n"
                ),
            ),
            (
                "{\"mcpServers\": null}",
                format!("{{\"mcpServers\": {{ {new} }}}}"),
            ),
        ] {
            assert_eq!(added(before, Format::Json), after, "{before}");
        }
        let table = "[mcpServers.new]\ncommand = \"npx\"\nargs = [\"-y\", \"a \\\"b\\\"\"]\nenv = { \"TOKEN\" = \"env:TOKEN\" }\n";
        for before in [
            "# mine\n[log]\nlevel = \"debug\"\n",
            "[mcpServers.a]\ncommand = \"x\"\n",
        ] {
            assert_eq!(added(before, Format::Toml), format!("{before}\n{table}"));
        }
    }

    #[test]
    fn a_text_that_would_change_otherwise_is_left_to_its_writer() {
        for (text, format) in [
            ("mcpServers = { a = { command = \"x\" } }\n", Format::Toml),
            (
                "a: &s { x: { command: y } }\nmcpServers: *s\n",
                Format::Yaml,
            ),
            ("log: debug\n...\n", Format::Yaml),
            (
                "mcpServers:\n  a:\n    command: |+\n      x\n\n\n",
                Format::Yaml,
            ),
        ] {
            let said = added(text, format);
            assert!(said.contains("write `new: { command:"), "{text}: {said}");
        }
    }
}
