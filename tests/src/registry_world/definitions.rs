//! Definitions of tools, as admins send them.

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

/// Names of tools. A chain or a set that is accepted runs those before its own.
pub(super) const NAMES: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];

/// A tool of that name with a mark that no other definition has.
pub(super) fn tool(u: &mut Unstructured<'_>, at: usize, mark: &str) -> Result<Value> {
    let kinds = if at == 0 { 0..=2u8 } else { 0..=9 };
    let mut tool = match u.int_in_range(kinds)? {
        0 => json!({ "kind": "command", "command": ["/bin/a", "{{ args.v }}"] }),
        1 => json!({ "kind": "http", "method": "GET", "url": "http://h.test:8/{{ args.v }}" }),
        2 => json!({ "kind": "prompt", "model": "u/m", "prompt": "{{ args.v }}" }),
        3..=6 => json!({ "kind": "chain", "steps": steps(u, at, true)? }),
        _ => {
            let need = *u.choose(&["all", "any"])?;
            json!({ "kind": "parallel", "branches": steps(u, at, false)?, "need": need })
        }
    };
    tool["name"] = NAMES[at].into();
    tool["description"] = mark.into();
    if let Some(seconds) = u.choose(&[None, None, Some(1), Some(20), Some(300)])? {
        tool["timeout"] = (*seconds).into();
    }
    if u.ratio(1, 16)? {
        tool["enabled"] = false.into();
    }
    Ok(tool)
}

fn steps(u: &mut Unstructured<'_>, at: usize, is_chain: bool) -> Result<Value> {
    let mut steps = Vec::new();
    for number in 0..u.int_in_range(1..=4)? {
        // One that makes a circle, runs itself or is not there is refused.
        let of = if u.ratio(1, 32)? { NAMES.len() } else { at };
        let id = format!("{}{number}", if is_chain { "s" } else { "p" });
        // The canary says from then on where in the run it has come to.
        let mut arguments = json!({ "v": format!("{{{{ args.v }}}}.{id}") });
        if u.ratio(1, 16)? {
            arguments["x"] = "{{ range(100000) | list }}".into();
        }
        let mut step =
            json!({ "id": id, "tool": NAMES[u.choose_index(of)?], "arguments": arguments });
        if is_chain {
            let conditions = [
                None,
                None,
                Some("false"),
                Some("steps.s0.is_error"),
                Some("args.v in steps.s0.text"),
            ];
            if let Some(condition) = u.choose(&conditions)? {
                step["if"] = (*condition).into();
            }
            step["on_error"] = (*u.choose(&["stop", "continue"])?).into();
        }
        steps.push(step);
    }
    Ok(steps.into())
}
