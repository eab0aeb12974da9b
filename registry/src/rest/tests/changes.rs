//! Tests of changes: undone, durable, restored; and of pages.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

/// All that a registry has, as text.
fn all(registry: &Registry) -> String {
    format!(
        "{:?}",
        registry
            .records()
            .map(|it| (it.key, it.value.map(|it| it.json)))
            .collect::<Vec<_>>()
    )
}

proptest! {
    #[test]
    fn a_change_that_is_undone_has_not_been(steps in prop::collection::vec((0_u8..4, 0_usize..5, prop::collection::vec(0_usize..6, 0..3), any::<bool>()), 1..30)) {
        let mut real = registry();
        let mut durable = registry();
        let names = ["a", "b", "c", "d", "e", "none"];
        for (operation, name, below, fails) in steps {
            let below: Vec<&str> = below.into_iter().map(|it| names[it]).collect();
            let name = names[name];
            let one = |name| if below.is_empty() { tool(name) } else { chain(name, &below) };
            let before = all(&real);
            let act = |registry: &mut Registry| {
                let body = match operation {
                    3 => json!([one(name), tool("e")]),
                    _ => one(name),
                };
                let body = body.to_string();
                let changed = match operation {
                    0 | 3 => registry.create(TOOL, body.as_bytes(), &Lists),
                    1 => registry.replace(TOOL, name, body.as_bytes(), &Lists),
                    _ => registry.delete(TOOL, name, fails),
                };
                changed.map(|it| it.id)
            };
            match act(&mut real) {
                Err(_) => prop_assert_eq!(all(&real), before),
                Ok(id) if fails => {
                    real.undo(id);
                    prop_assert_eq!(all(&real), before);
                }
                Ok(id) => {
                    real.durable(id);
                    act(&mut durable).unwrap();
                }
            }
            prop_assert_eq!(all(&real), all(&durable));
            let mut restored = registry();
            prop_assert!(restored.restore(real.records()).is_empty());
            prop_assert_eq!(all(&restored), all(&real));
            prop_assert_eq!((restored.bytes, restored.count(TOOL)), (real.bytes, real.count(TOOL)));
        }
    }

    #[test]
    fn pages_are_the_whole_list(names in prop::collection::btree_set("[a-z]{1,4}", 0..40), limit in 1_usize..12) {
        let mut registry = registry();
        let tools: Vec<Value> = names.iter().map(|it| tool(it)).collect();
        send(&mut registry, Route::Create(TOOL), "", json!(tools));
        let mut seen = Vec::new();
        let mut query = format!("limit={limit}");
        loop {
            let (_, page) = get(&mut registry, Route::List(TOOL), "", &query);
            let tools = page["tools"].as_array().unwrap();
            prop_assert!(tools.len() <= limit);
            seen.extend(tools.iter().map(|it| it["name"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(cursor) => query = format!("limit={limit}&cursor={cursor}"),
                None => break,
            }
        }
        prop_assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn changes_that_wait_are_undone_in_any_order() {
    let mut registry = registry();
    let body = |argument: &str| {
        json!({"name": "a", "kind": "command", "command": ["/bin/echo", argument]}).to_string()
    };
    let first = registry
        .create(TOOL, body("1").as_bytes(), &Lists)
        .unwrap()
        .id;
    let second = registry
        .replace(TOOL, "a", body("2").as_bytes(), &Lists)
        .unwrap()
        .id;
    let third = registry.delete(TOOL, "a", false).unwrap().id;
    registry.undo(second);
    assert!(registry.is_empty());
    registry.undo(third);
    let (_, shown) = get(&mut registry, Route::Show(TOOL), "a", "");
    assert_eq!(shown["command"][1], "1");
    registry.undo(first);
    assert!(registry.is_empty());
}
