//! Tests of the template engine and its bounds.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::Tree;
use super::*;
use mcp_local_provider_core::text::JsonValue;
use proptest::prelude::*;

fn scope(json: &str) -> Value {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    value(&serde_json::json!({ "args": json }))
}

fn text(source: &str, args: &str) -> Result<String, Trouble> {
    let template = Template::read(source, "url", &mut Count::default()).unwrap();
    template.text(&scope(args))
}

fn tree(json: &str, args: &str) -> Result<String, Trouble> {
    let json = JsonValue::read(json).unwrap();
    let tree = Tree::read(json, "body", &mut Count::default()).unwrap();
    tree.render(&scope(args))
}

#[test]
fn a_string_that_is_one_expression_keeps_the_type_of_its_value() {
    let args = r#"{"n":5,"f":1.5,"t":true,"s":"a\"b","l":[1,"x"],"o":{"a":null}}"#;
    for (template, expected) in [
        (r#""{{ args.n }}""#, "5"),
        (r#""{{ args.f }}""#, "1.5"),
        (r#""{{args.t}}""#, "true"),
        (r#""{{ args.s }}""#, r#""a\"b""#),
        (r#""{{ args.l }}""#, r#"[1,"x"]"#),
        (r#""{{ args.o }}""#, r#"{"a":null}"#),
        (r#""is {{ args.n }}""#, r#""is 5""#),
        (
            r#"{"a":[1,"{{ args.n }}"],"{{b}}":"c"}"#,
            r#"{"a":[1,5],"{{b}}":"c"}"#,
        ),
        (r#""{{ args.l | tojson }}""#, r#""[1, \"x\"]""#),
        (r#""{{ args.n + 1 }}""#, "6"),
        (
            r#""{{ args.t }} {{ args.o }} {{ args.l }}""#,
            r#""true {\"a\":null} [1,\"x\"]""#,
        ),
    ] {
        assert_eq!(tree(template, args).unwrap(), expected, "{template}");
    }
}

#[test]
fn a_text_is_not_escaped_and_undefined_names_are_errors() {
    assert_eq!(
        text("<{{ args.a }}>", r#"{"a":"<&\">"}"#).unwrap(),
        "<<&\">>"
    );
    assert_eq!(
        text("{{ args.a | urlencode }}", r#"{"a":"a b/ü"}"#).unwrap(),
        "a%20b%2F%C3%BC"
    );
    for source in [
        "{{ args.b }}",
        "{{ b }}",
        "x{{ args.b.c }}",
        "{% for x in args.b %}{% endfor %}",
    ] {
        let Err(Trouble::Wrong(message)) = text(source, "{}") else {
            panic!("{source}");
        };
        assert!(message.contains("undefined"), "{source}: {message}");
    }
    assert_eq!(text("{{ args.b | default('x') }}", "{}").unwrap(), "x");
    assert_eq!(
        text("{% if args.b is defined %}y{% endif %}", "{}").unwrap(),
        ""
    );
    let alone = tree(r#""{{ args.b }}""#, "{}");
    assert!(matches!(alone, Err(Trouble::Wrong(_))), "{alone:?}");
}

#[test]
fn a_wrong_template_is_refused_at_registration_with_its_line() {
    for (source, line, word) in [
        ("a\n\n{{ args. }}", 3, "unexpected"),
        ("{% if a %}", 1, "end"),
        ("a\n{{ a | nofilter }}", 2, "nofilter"),
        ("{{ range(5) * 2 }}", 1, "*"),
    ] {
        let failure = Template::read(source, "url", &mut Count::default()).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("url"));
        let place = format!("line {line}");
        assert!(
            failure.message.contains(&place),
            "{source}: {}",
            failure.message
        );
        assert!(
            failure.message.contains(word),
            "{source}: {}",
            failure.message
        );
    }
}

#[test]
fn no_template_has_more_than_its_fuel_and_its_output() {
    let long = format!("{{\"s\":\"{}\",\"l\":{:?}}}", "x".repeat(300_000), [1; 400]);
    for source in [
        "{{ args.s }}{{ args.s }}{{ args.s }}{{ args.s }}",
        "{% for a in args.l %}{% for b in args.l %}{% for c in args.l %}x{% endfor %}{% endfor %}{% endfor %}",
        "{{ [args.s, args.s, args.s, args.s] }}",
        "{{ args.s | replace('', args.s) }}",
        "{{ args.l | join(args.s) }}",
        "{% for a in args.l %}{{ args.s | upper | length }}{% endfor %}",
        "{{ args.s + args.s + args.s + args.s }}",
    ] {
        assert_eq!(text(source, &long), Err(Trouble::Limit), "{source}");
        if source.starts_with("{{ ") && !source.contains("}}{{") {
            let quoted = crate::json::quoted(source);
            assert_eq!(tree(&quoted, &long), Err(Trouble::Limit), "{source}");
        }
    }
    let list = format!("[{}]", ["\"{{ args.s }}\""; 4].join(","));
    assert_eq!(tree(&list, &long), Err(Trouble::Limit));
}

#[test]
fn the_filters_are_those_that_are_listed() {
    for name in super::scan::FILTERS {
        assert!(
            Template::read(&format!("{{{{ a | {name} }}}}"), "", &mut Count::default()).is_ok(),
            "{name}"
        );
    }
    for name in LEFT_OUT
        .iter()
        .filter(|it| !super::scan::FILTERS.contains(it))
    {
        assert!(
            Template::read(&format!("{{{{ a | {name} }}}}"), "", &mut Count::default()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn the_number_of_templates_is_bounded() {
    let list = |count| format!("[{}]", vec!["\"{{ a }}\""; count].join(","));
    let read = |count| {
        let json = list(count);
        Tree::read(JsonValue::read(&json).unwrap(), "", &mut Count::default()).is_ok()
    };
    assert!(read(64));
    assert!(!read(65));
}

#[test]
fn the_deepest_that_is_accepted_fits_a_small_stack() {
    let open = "{% for a in [1] %}".repeat(3);
    let close = "{% endfor %}".repeat(3);
    let deep = [
        format!("{{{{ {}a }}}}", "not ".repeat(95)),
        format!("{{{{ {}a }}}}", "-".repeat(95)),
        format!("{{{{ a{} }}}}", ".a".repeat(47)),
        format!("{{{{ a{} }}}}", " if a else a".repeat(23)),
        format!("{{{{ ((((((a{})))))) }}}}", "+a".repeat(41)),
        format!("{open}{{{{ (((a{}))) }}}}{close}", "|d".repeat(44)),
        format!(
            "{{% if a %}}{}{{% endif %}}",
            "{% elif not not a %}".repeat(16)
        ),
        format!("{{{{ {}{}{} }}}}", "[{1:".repeat(3), "a", "}]".repeat(3)),
    ];
    let nested = format!("{}1{}", "[".repeat(64), "]".repeat(64));
    let render = move || {
        for source in deep {
            let template = Template::read(&source, "", &mut Count::default());
            let template = template.unwrap_or_else(|it| panic!("{source}: {}", it.message));
            let _ = template.text(&value(&serde_json::json!({"a": 1})));
        }
        text("{{ args }}{{ args | tojson }}", &nested).unwrap();
        tree("\"{{ args }}\"", &nested).unwrap();
    };
    let thread = std::thread::Builder::new().stack_size(384 << 10);
    thread.spawn(render).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn any_source_is_refused_or_bounded(source in "(\\{\\{|\\}\\}|\\{%|%\\}|if |for |in |end|a|args|[.()|'\"+ -]|\\[|\\]|join|1){0,40}") {
        if let Ok(template) = Template::read(&source, "", &mut Count::default()) {
            if let Ok(text) = template.text(&scope(r#"{"a":[1,2,3]}"#)) {
                prop_assert!(text.len() <= OUTPUT);
            }
            let mut out = Bounded::default();
            if template.json(&scope(r#"{"a":[1,2,3]}"#), &mut out).is_ok() {
                let text = out.into_text();
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
