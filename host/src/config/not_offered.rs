//! Values of a configuration that this build does not offer. Each is refused by its name, so that none is read and ignored.

use super::error::{Problem, one_of};
use super::tree::{Node, Value};

/// Path of a value, and the texts of it that say what this build does anyway. In a path `*` stands for each entry of a section
/// or list.
type NotOffered = (&'static [&'static str], &'static [&'static str]);

const NOT_OFFERED: &[NotOffered] = &[
    (&["upstreams"], &[]),
    (&["gateway", "prefix"], &[]),
    (&["gateway", "health"], &[]),
    (&["gateway", "cache_ttl"], &[]),
    (&["gateway", "test_page"], &[]),
    (&["gateway", "processes", "probe"], &[]),
    (&["mcpServers", "*", "url"], &[]),
    (&["mcpServers", "*", "serverUrl"], &[]),
    (&["mcpServers", "*", "httpUrl"], &[]),
    (&["mcpServers", "*", "headers"], &[]),
    (&["mcpServers", "*", "type"], &["stdio"]),
    (&["mcpServers", "*", "transport"], &["stdio"]),
    (&["mcpServers", "*", "prefix"], &[]),
    (&["mcpServers", "*", "tools"], &[]),
];

/// Refuses the values that this build does not offer, and takes those out that say what it does anyway.
pub(crate) fn refuse(root: &mut Node, problems: &mut Vec<Problem>) {
    for (path, done) in NOT_OFFERED {
        refuse_at(root, path, done, "", problems);
    }
}

fn refuse_at(
    node: &mut Node,
    path: &[&str],
    done: &[&str],
    above: &str,
    problems: &mut Vec<Problem>,
) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    match &mut node.value {
        Value::Map(entries) => entries.retain_mut(|entry| {
            // Names of variables are upper case by custom.
            if *step != "*" && !entry.key.eq_ignore_ascii_case(step) {
                return true;
            }
            let dot = if above.is_empty() { "" } else { "." };
            let place = format!("{above}{dot}{}", entry.key);
            if !rest.is_empty() {
                refuse_at(&mut entry.node, rest, done, &place, problems);
                return true;
            }
            let stays = !says(&entry.node, done);
            if stays {
                problems.push(Problem {
                    origin: Some(entry.origin.clone()),
                    path: place,
                    message: message(done),
                });
                entry.node.value = Value::Refused;
            }
            stays
        }),
        Value::List(items) if *step == "*" => {
            for (index, item) in items.iter_mut().enumerate() {
                refuse_at(item, rest, done, &format!("{above}[{index}]"), problems);
            }
        }
        Value::List(_) | Value::Scalar { .. } | Value::Refused => {}
    }
}

/// True for a value, or a list of one, that is among `done`.
fn says(node: &Node, done: &[&str]) -> bool {
    let only = match node.items() {
        [only] => only,
        _ => node,
    };
    only.text().is_some_and(|text| done.contains(&text))
}

fn message(done: &[&str]) -> String {
    if done.is_empty() {
        "not offered by this build; remove it".to_owned()
    } else {
        format!(
            "not offered by this build but as {}; leave it out",
            one_of(done)
        )
    }
}
