//! Tests of runs: results, chains, parallel sets, time-outs, cancels at each step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use super::*;
use crate::limits::Limits;
use crate::need::{Exit, HttpAnswer, Outcome};
use crate::permits::Anything;
use crate::registry::Registry;
use crate::store::Kind;
use mcp_local_provider_core::time::Instant;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const NOW: Instant = Instant::ZERO;

fn registry(tools: &Value) -> Registry {
    let mut registry = Registry::new(Limits::default());
    let made = registry.create(Kind::Tool, tools.to_string().as_bytes(), &Anything);
    made.unwrap_or_else(|it| panic!("{} at {:?}", it.message, it.param));
    registry
}

fn run(registry: &Registry, name: &str, arguments: Value) -> ToolRun {
    ToolRun::new(registry.tool_set(name).unwrap(), arguments, None, 0).unwrap()
}

fn said(text: &str) -> Outcome {
    Outcome::Said(text.to_owned())
}

/// Asks a model whose name is the tool's, with a text.
fn asks(name: &str, prompt: &str) -> Value {
    json!({"name": name, "kind": "prompt", "model": name, "prompt": prompt})
}

/// A world that holds what is open.
#[derive(Default)]
struct World {
    out: Out,
    open: Vec<(NeedId, Need)>,
    ended: BTreeSet<NeedId>,
}

impl World {
    /// Does what a machine wants.
    fn take(&mut self) {
        for id in self.out.end.drain(..) {
            let at = self.open.iter().position(|(open, _)| *open == id);
            self.open.remove(at.expect("it ends what is open"));
            assert!(self.ended.insert(id));
        }
        for (id, need) in self.out.start.drain(..) {
            assert!(!self.ended.contains(&id) && self.open.iter().all(|(open, _)| *open != id));
            self.open.push((id, need));
        }
    }

    fn start(&mut self, run: &mut ToolRun) -> Option<Result<ToolResult, Failure>> {
        let ended = run.start(NOW, &mut self.out);
        self.take();
        ended
    }

    fn answer(
        &mut self,
        run: &mut ToolRun,
        at: usize,
        outcome: Outcome,
    ) -> Option<Result<ToolResult, Failure>> {
        let (id, _) = self.open.remove(at);
        let ended = run.handle_outcome(NOW, id, outcome, &mut self.out);
        self.take();
        ended
    }

    /// Models that are asked, each with its prompt.
    fn asked(&self) -> Vec<String> {
        let asked = self.open.iter().map(|(_, need)| match need {
            Need::Ask(ask) => {
                let messages: Value = serde_json::from_str(&ask.messages).unwrap();
                format!("{}:{}", ask.model, messages[0]["content"].as_str().unwrap())
            }
            other => format!("{other:?}"),
        });
        asked.collect()
    }
}

fn shown(result: Option<Result<ToolResult, Failure>>) -> Value {
    let result = result
        .expect("it is over")
        .unwrap_or_else(|it| panic!("{}", it.message));
    let mut shown: Value = serde_json::from_str(&result.rest("t")).unwrap();
    let shown = shown.as_object_mut().unwrap();
    shown.remove("duration_ms");
    shown.remove("tool");
    for step in shown
        .get_mut("steps")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        step.as_object_mut().unwrap().remove("duration_ms");
    }
    Value::Object(std::mem::take(shown))
}

fn text(text: &str) -> Value {
    json!([{"type": "text", "text": text}])
}

#[test]
fn an_outcome_becomes_content() {
    let tools = json!([
        asks("ask", "x"),
        {"name": "http", "kind": "http", "url": "https://a/"},
        {"name": "gate", "kind": "gateway", "server": "s", "tool": "t"},
        {"name": "cmd", "kind": "command", "command": ["/a"]},
        {"name": "out", "kind": "command", "command": ["/a"], "output_schema": {"type": "object", "required": ["x"]}},
    ]);
    let registry = registry(&tools);
    let http = |status, media: &str, body: &[u8]| {
        Outcome::Http(HttpAnswer {
            status,
            content_type: Some(media.into()),
            etag: None,
            body: body.to_vec(),
        })
    };
    let exited = |exit, stdout: &str, stderr: &str| Outcome::Exited {
        exit,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let error = |it: &str| json!({"content": text(it), "is_error": true});
    for (tool, outcome, expected) in [
        ("ask", said("hi"), json!({"content": text("hi"), "is_error": false})),
        ("http", http(200, "text/plain", b"hi"), json!({"content": text("hi"), "is_error": false})),
        ("http", http(200, "application/json; charset=utf-8", b"{\"a\": 1}"), json!({"content": text("{\"a\": 1}"), "structured_content": {"a": 1}, "is_error": false})),
        ("http", http(201, "application/json", b"[1]"), json!({"content": text("[1]"), "is_error": false})),
        ("http", http(200, "image/png", b"\x89"), json!({"content": [{"type": "image", "data": "iQ==", "mimeType": "image/png"}], "is_error": false})),
        ("http", http(200, "", b"\xff"), json!({"content": [{"type": "resource", "resource": {"uri": "about:blank", "mimeType": "application/octet-stream", "blob": "/w=="}}], "is_error": false})),
        ("http", http(302, "text/plain", b""), error("HTTP status 302")),
        ("http", http(404, "text/plain", b"gone"), error("HTTP status 404: gone")),
        ("http", Outcome::Failed("no connection".into()), error("no connection")),
        ("gate", Outcome::Called(r#"{"content":[{"type":"text","text":"a"}],"structuredContent":{"b":1},"isError":true}"#.into()), json!({"content": text("a"), "structured_content": {"b": 1}, "is_error": true})),
        ("cmd", exited(Exit::Code(0), "ok", "warning"), json!({"content": text("ok"), "is_error": false})),
        ("cmd", exited(Exit::Code(2), "half", "why\n"), error("exit code 2\nhalf\nwhy")),
        ("cmd", exited(Exit::Signal(9), "", ""), error("ended by signal 9")),
        ("out", exited(Exit::Code(0), "{\"x\":1}", ""), json!({"content": text("{\"x\":1}"), "structured_content": {"x": 1}, "is_error": false})),
        ("out", exited(Exit::Code(0), "no", ""), error("the answer is no JSON object, but the tool has an output_schema")),
        ("out", exited(Exit::Code(0), "{}", ""), error("the answer is not as output_schema says: : \"x\" is a required property")),
    ] {
        let mut world = World::default();
        let mut run = run(&registry, tool, json!({}));
        assert!(world.start(&mut run).is_none());
        assert_eq!(shown(world.answer(&mut run, 0, outcome.clone())), expected, "{tool} {outcome:?}");
        assert_eq!(run.poll_timeout(), None);
    }
    for (tool, outcome, status, reason) in [
        ("http", Outcome::TooLarge, 502, "bad_answer"),
        (
            "http",
            http(200, "text/plain", &[b'x'; ANSWER + 1]),
            502,
            "bad_answer",
        ),
        ("http", Outcome::TimedOut, 504, "timeout"),
        ("gate", Outcome::Called("{}".into()), 502, "bad_answer"),
        ("gate", said("x"), 0, ""),
    ] {
        let mut world = World::default();
        let mut run = run(&registry, tool, json!({}));
        world.start(&mut run);
        let ended = world.answer(&mut run, 0, outcome).unwrap();
        match status {
            0 => assert!(ended.is_ok()),
            _ => {
                let failure = ended.unwrap_err();
                assert_eq!((failure.status, failure.reason), (status, Some(reason)));
            }
        }
    }
}

const ANSWER: usize = crate::need::ANSWER_BYTES;

#[test]
fn a_chain_goes_step_by_step_and_later_ones_see_earlier_ones() {
    let registry = registry(&json!([
        asks("a", "{{ args.q }}"), asks("b", "b:{{ args.x }}"),
        {"name": "c", "kind": "chain", "steps": [
            {"id": "one", "tool": "a", "arguments": {"q": "{{ args.q }}"}},
            {"id": "no", "tool": "a", "if": "steps.one.text == 'other'"},
            {"id": "bad", "tool": "b", "on_error": "continue"},
            {"id": "two", "tool": "b", "arguments": {"x": "{{ steps.one.text }}{{ steps.bad.is_error }}"}, "if": "steps.no is undefined"},
        ]},
    ]));
    let mut world = World::default();
    let mut run = run(&registry, "c", json!({"q": "?"}));
    assert!(world.start(&mut run).is_none());
    assert_eq!(world.asked(), ["a:?"]);
    assert!(world.answer(&mut run, 0, said("yes")).is_none());
    assert_eq!(world.asked(), ["b:b:yestrue"]);
    let failed = "the template `messages[0].content`: undefined value (line 1)";
    let report = |id: &str, status: &str, content: Value| json!({"id": id, "status": status, "content": content});
    let steps = json!([
        report("one", "ok", text("yes")),
        report("no", "skipped", json!([])),
        report("bad", "error", text(failed)),
        report("two", "ok", text("end"))
    ]);
    let ended = world.answer(&mut run, 0, said("end"));
    assert_eq!(
        shown(ended),
        json!({"content": text("end"), "is_error": false, "steps": steps})
    );
}

#[test]
fn a_chain_stops_where_a_step_fails() {
    let registry = registry(&json!([
        asks("a", "x"), asks("b", "y"),
        {"name": "c", "kind": "chain", "steps": [{"id": "one", "tool": "a"}, {"id": "two", "tool": "b"}]},
    ]));
    let mut world = World::default();
    let mut stopped = run(&registry, "c", json!({}));
    world.start(&mut stopped);
    let ended = world.answer(&mut stopped, 0, Outcome::Failed("no agent".into()));
    let steps = json!([{"id": "one", "status": "error", "content": text("no agent")}]);
    assert_eq!(
        shown(ended),
        json!({"content": text("no agent"), "is_error": true, "steps": steps})
    );
    let mut world = World::default();
    let mut large = run(&registry, "c", json!({}));
    world.start(&mut large);
    let ended = world.answer(&mut large, 0, Outcome::TooLarge);
    assert_eq!(ended.unwrap().unwrap_err().status, 502);
    // What the steps say together is bounded too.
    let mut world = World::default();
    let mut large = run(&registry, "c", json!({}));
    world.start(&mut large);
    assert!(
        world
            .answer(&mut large, 0, said(&"x".repeat(ANSWER / 2)))
            .is_none()
    );
    let ended = world.answer(&mut large, 0, said(&"x".repeat(ANSWER / 2)));
    assert_eq!(ended.unwrap().unwrap_err().reason, Some("bad_answer"));
}

#[test]
fn a_parallel_set_needs_all_or_any() {
    let set = |name: &str, need: &str| {
        let branch = |id: &str| json!({"id": id, "tool": id, "arguments": {"q": "{{ args.q }}"}});
        json!({"name": name, "kind": "parallel", "need": need, "branches": [branch("a"), branch("b"), branch("c")]})
    };
    let registry = registry(&json!([
        asks("a", "{{ args.q }}"),
        asks("b", "{{ args.q }}"),
        asks("c", "{{ args.q }}"),
        set("all", "all"),
        set("any", "any")
    ]));
    let begin = |name: &str| {
        let mut world = World::default();
        let mut run = run(&registry, name, json!({"q": 1}));
        assert!(world.start(&mut run).is_none());
        assert_eq!(world.asked(), ["a:1", "b:1", "c:1"]);
        (world, run)
    };
    let statuses = |shown: &Value| -> Vec<String> {
        shown["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["status"].as_str().unwrap().to_owned())
            .collect()
    };
    // In the order of the branches, whichever comes first.
    let (mut world, mut run) = begin("all");
    assert!(world.answer(&mut run, 2, said("C")).is_none());
    assert!(world.answer(&mut run, 0, said("A")).is_none());
    let ended = shown(world.answer(&mut run, 0, said("B")));
    assert_eq!(
        ended["content"],
        json!([text("A")[0], text("B")[0], text("C")[0]])
    );
    assert_eq!(
        (&ended["is_error"], statuses(&ended)),
        (&json!(false), vec!["ok".into(), "ok".into(), "ok".into()])
    );
    let (mut world, mut run) = begin("all");
    assert!(world.answer(&mut run, 1, said("B")).is_none());
    let ended = shown(world.answer(&mut run, 1, Outcome::Failed("no".into())));
    assert_eq!(
        (&ended["is_error"], statuses(&ended)),
        (
            &json!(true),
            vec!["skipped".into(), "ok".into(), "error".into()]
        )
    );
    assert!(world.open.is_empty());
    let (mut world, mut run) = begin("any");
    assert!(
        world
            .answer(&mut run, 0, Outcome::Failed("no".into()))
            .is_none()
    );
    let ended = shown(world.answer(&mut run, 1, said("C")));
    assert_eq!(
        (&ended["content"], &ended["is_error"]),
        (&text("C"), &json!(false))
    );
    assert_eq!(statuses(&ended), ["error", "skipped", "ok"]);
    assert!(world.open.is_empty());
    let (mut world, mut run) = begin("any");
    for _ in 0..2 {
        assert!(
            world
                .answer(&mut run, 0, Outcome::Failed("no".into()))
                .is_none()
        );
    }
    let ended = shown(world.answer(&mut run, 0, Outcome::Failed("no".into())));
    assert_eq!(ended["is_error"], true);
}

#[test]
fn branches_that_fail_at_once_begin_nothing() {
    let registry = registry(&json!([
        asks("a", "x"), asks("bad", "{{ args.none }}"),
        {"name": "inner", "kind": "chain", "steps": [{"id": "i", "tool": "bad"}]},
        {"name": "set", "kind": "parallel", "branches": [{"id": "a", "tool": "a"}, {"id": "b", "tool": "inner"}]},
    ]));
    let mut world = World::default();
    let mut run = run(&registry, "set", json!({}));
    let ended = shown(world.start(&mut run));
    assert_eq!(ended["is_error"], true);
    assert!(world.open.is_empty() && world.ended.is_empty());
}

#[test]
fn what_takes_too_long_ends_with_all_that_it_began() {
    let registry = registry(&json!([
        {"name": "slow", "kind": "prompt", "model": "m", "prompt": "x", "timeout": 5},
        asks("a", "x"),
        {"name": "c", "kind": "chain", "timeout": 20, "steps": [{"id": "one", "tool": "slow", "on_error": "continue"}, {"id": "two", "tool": "a"}]},
    ]));
    let mut world = World::default();
    let mut run = run(&registry, "c", json!({}));
    world.start(&mut run);
    assert_eq!(run.poll_timeout(), Some(NOW + Duration::from_secs(5)));
    assert!(
        run.handle_timeout(NOW + Duration::from_secs(4), &mut world.out)
            .is_none()
    );
    assert!(
        run.handle_timeout(NOW + Duration::from_secs(5), &mut world.out)
            .is_none()
    );
    world.take();
    assert_eq!(world.asked(), ["a:x"]);
    assert_eq!(run.poll_timeout(), Some(NOW + Duration::from_secs(20)));
    let ended = run.handle_timeout(NOW + Duration::from_secs(20), &mut world.out);
    world.take();
    assert!(world.open.is_empty());
    let failure = ended.unwrap().unwrap_err();
    assert_eq!((failure.status, failure.reason), (504, Some("timeout")));
    assert_eq!(run.poll_timeout(), None);
    // The call's own time stands in the place of the tool's.
    let set = registry.tool_set("slow").unwrap();
    let mut quick = ToolRun::new(set, json!({}), Some(Duration::from_secs(1)), 0).unwrap();
    quick.start(NOW, &mut Out::default());
    assert_eq!(quick.poll_timeout(), Some(NOW + Duration::from_secs(1)));
}

#[test]
fn a_run_keeps_the_definitions_that_it_began_with() {
    let mut registry = registry(
        &json!([asks("a", "old"), asks("b", "old"), {"name": "c", "kind": "chain", "steps": [{"id": "one", "tool": "a"}, {"id": "two", "tool": "b"}]}]),
    );
    let mut world = World::default();
    let mut run = run(&registry, "c", json!({}));
    world.start(&mut run);
    registry
        .replace(
            Kind::Tool,
            "b",
            asks("b", "new").to_string().as_bytes(),
            &Anything,
        )
        .unwrap();
    registry.delete(Kind::Tool, "a", true).unwrap();
    world.answer(&mut run, 0, said("x"));
    assert_eq!(world.asked(), ["b:old"]);
}

#[test]
fn a_template_without_fuel_ends_the_run() {
    let prompt = "{% for a in args.l %}{% for b in args.l %}{% for c in args.l %}x{% endfor %}{% endfor %}{% endfor %}";
    let registry = registry(
        &json!([asks("a", prompt), {"name": "c", "kind": "chain", "steps": [{"id": "one", "tool": "a", "arguments": {"l": "{{ args.l }}"}}]}]),
    );
    for name in ["a", "c"] {
        let mut run = run(&registry, name, json!({"l": vec![0; 100]}));
        let failure = World::default().start(&mut run).unwrap().unwrap_err();
        assert_eq!(
            (failure.status, failure.reason),
            (400, Some("template_limit"))
        );
    }
}

#[test]
fn runs_within_runs_are_bounded() {
    let registry = registry(&json!([asks("a", "x")]));
    let set = registry.tool_set("a").unwrap();
    assert!(ToolRun::new(set.clone(), json!({}), None, 8).is_err());
    let mut run = ToolRun::new(set, json!({}), None, 7).unwrap();
    let mut out = Out::default();
    run.start(NOW, &mut out);
    assert!(matches!(&out.start[0].1, Need::Ask(ask) if ask.depth == 8));
}

/// Tools of which the later ones run the earlier ones.
fn tools() -> impl Strategy<Value = Value> {
    let step = (0_usize..64, any::<bool>(), 0_u8..6);
    let tool = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(step, 1..4),
    );
    prop::collection::vec(tool, 1..6).prop_map(|shapes| {
        let mut tools = vec![asks("t0", "x"), json!({"name": "t1", "kind": "prompt", "model": "t1", "prompt": "y", "timeout": 3})];
        for (chain, any, steps) in shapes {
            let name = format!("t{}", tools.len());
            let count = tools.len();
            let steps: Vec<Value> = steps
                .into_iter()
                .enumerate()
                .map(|(at, (tool, goes_on, condition))| {
                    let mut step = json!({"id": format!("s{at}"), "tool": format!("t{}", tool % count)});
                    if chain && goes_on {
                        step["on_error"] = json!("continue");
                    }
                    if chain && condition == 0 && at > 0 {
                        step["if"] = json!("not steps.s0.is_error");
                    }
                    step
                })
                .collect();
            tools.push(match chain {
                true => json!({"name": name, "kind": "chain", "steps": steps}),
                false => json!({"name": name, "kind": "parallel", "need": if any { "any" } else { "all" }, "branches": steps}),
            });
        }
        Value::Array(tools)
    })
}

proptest! {
    /// Whatever happens, a run ends once, and at its end nothing that it began is open.
    #[test]
    fn a_run_ends_all_that_it_began(tools in tools(), choices in prop::collection::vec((0_usize..64, 0_u8..8), 1..200), cancel_after in 0_usize..40) {
        let count = tools.as_array().unwrap().len();
        let registry = registry(&tools);
        let mut world = World::default();
        let mut run = run(&registry, &format!("t{}", count - 1), json!({}));
        let mut now = NOW;
        let mut ended = world.start(&mut run);
        for (at, (which, what)) in choices.into_iter().enumerate() {
            if ended.is_some() {
                break;
            }
            prop_assert!(!world.open.is_empty(), "it waits for something");
            prop_assert!(run.poll_timeout().is_some());
            if at == cancel_after {
                run.cancel(&mut world.out);
                world.take();
                prop_assert!(world.open.is_empty());
                prop_assert_eq!(run.poll_timeout(), None);
                run.cancel(&mut world.out);
                prop_assert!(world.out.end.is_empty());
                prop_assert!(run.handle_outcome(now, NeedId(0), said("late"), &mut world.out).is_none());
                return Ok(());
            }
            let which = which % world.open.len();
            ended = match what {
                0 => world.answer(&mut run, which, Outcome::Failed("no".into())),
                1 => world.answer(&mut run, which, Outcome::TooLarge),
                2 => {
                    now = run.poll_timeout().unwrap();
                    let ended = run.handle_timeout(now, &mut world.out);
                    world.take();
                    if ended.is_none() {
                        prop_assert!(run.poll_timeout().unwrap() > now);
                    }
                    ended
                }
                3 => {
                    prop_assert!(run.handle_outcome(now, NeedId(100_000), said("none"), &mut world.out).is_none());
                    None
                }
                _ => world.answer(&mut run, which, said("yes")),
            };
        }
        if ended.is_some() {
            prop_assert!(world.open.is_empty());
            prop_assert_eq!(run.poll_timeout(), None);
        }
    }
}
