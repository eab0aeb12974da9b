//! Tests of REST: resources, prompts and integrations.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

#[test]
fn resources_are_read_from_where_they_are() {
    let mut registry = registry();
    let resources = json!([
        {"uri": "docs://text", "name": "text", "kind": "text", "text": "héllo {{ x }}", "mime_type": "text/markdown"},
        {"uri": "docs://blob", "name": "blob", "kind": "blob", "blob": "AAH/"},
        {"uri": "docs://file", "name": "file", "kind": "file", "path": "/srv/docs/a.txt"},
        {"uri_template": "user://{id}", "name": "user", "kind": "http", "url": "https://api.example.com/users/{{ args.id | urlencode }}"},
        {"uri_template": "hello://{name}", "name": "hello", "kind": "text", "text": "Hello {{ args.name }}"},
    ]);
    let (status, body) = send(&mut registry, Route::Create(Kind::Resource), "", resources);
    assert_eq!(status, 201, "{body}");
    let (_, list) = get(&mut registry, Route::List(Kind::Resource), "", "");
    assert_eq!(list["total_count"], 3);
    assert_eq!(
        list["resources"][0],
        json!({"uri": "docs://blob", "name": "blob", "kind": "blob", "size": 3})
    );
    let (_, list) = get(&mut registry, Route::List(Kind::ResourceTemplate), "", "");
    assert_eq!(list["resource_templates"].as_array().unwrap().len(), 2);
    let show = Route::Show(Kind::Resource);
    let (_, text) = get(&mut registry, show, "docs://text", "");
    assert_eq!(
        (&text["text"], &text["size"], &text["mime_type"]),
        (&json!("héllo {{ x }}"), &json!(14), &json!("text/markdown"))
    );
    assert_eq!(
        (&text["cached"], &text["stale"], &text["fetched_at"]),
        (
            &json!(false),
            &json!(false),
            &json!("2023-11-14T22:13:20.000000Z")
        )
    );
    let (_, blob) = get(&mut registry, show, "docs://blob", "");
    assert_eq!((&blob["blob"], &blob["size"]), (&json!("AAH/"), &json!(3)));
    let (_, hello) = get(&mut registry, show, "hello://a%20b", "");
    assert_eq!(
        (&hello["text"], &hello["uri"]),
        (&json!("Hello a b"), &json!("hello://a%20b"))
    );
    let mut asked = Vec::new();
    for at in 0..2 {
        let answer = send_with(
            &mut registry,
            request(show, "user://a%2Fb", "", b""),
            &mut |need| {
                let Need::Http(http) = need else { panic!() };
                asked.push(http.url.clone());
                Outcome::Http(HttpAnswer {
                    status: 200,
                    content_type: Some("application/json".into()),
                    etag: Some("\"v1\"".into()),
                    body: b"{}".to_vec(),
                })
            },
        );
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (&body["mime_type"], &body["cached"]),
            (&json!("application/json"), &json!(at == 1))
        );
        assert_eq!(answer.etag.as_deref(), Some("\"v1\""));
    }
    assert_eq!(asked, ["https://api.example.com/users/a%2Fb"]);
    let known = Request {
        if_none_match: Some("W/\"v1\", \"x\""),
        ..request(show, "user://a%2Fb", "", b"")
    };
    let answer = send_with(&mut registry, known, &mut |_| panic!());
    assert_eq!((answer.status, answer.body.as_str()), (304, ""));
    let answer = send_with(
        &mut registry,
        request(show, "docs://file", "", b""),
        &mut |need| {
            assert_eq!(need, &Need::File("/srv/docs/a.txt".into()));
            Outcome::Failed("no such file".into())
        },
    );
    assert_eq!(answer.status, 502);
    assert_eq!(get(&mut registry, show, "docs://none", "").0, 404);
    let (status, body) = send(
        &mut registry,
        Route::Delete(Kind::Resource),
        "hello://{name}",
        Value::Null,
    );
    assert_eq!(
        (status, body),
        (
            200,
            json!({"uri_template": "hello://{name}", "status": "deleted"})
        )
    );
    for (bad, param) in [
        (
            json!({"uri": "docs", "name": "a", "kind": "text", "text": ""}),
            "uri",
        ),
        (
            json!({"uri": "a:b", "uri_template": "a:{b}", "name": "a", "kind": "text", "text": ""}),
            "uri_template",
        ),
        (
            json!({"uri_template": "a:b", "name": "a", "kind": "text", "text": ""}),
            "uri_template",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "blob", "blob": "A"}),
            "blob",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "file", "path": "/etc/passwd"}),
            "path",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "file", "path": "/srv/docs/{{ args.a }}"}),
            "path",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "http", "url": "https://evil/"}),
            "url",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "text", "text": "", "ttl": 301}),
            "ttl",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "text", "text": "", "path": "x"}),
            "path",
        ),
    ] {
        let (status, body) = send(
            &mut registry,
            Route::Create(Kind::Resource),
            "",
            bad.clone(),
        );
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{bad}: {body}"
        );
    }
}

#[test]
fn prompts_become_messages() {
    let mut registry = registry();
    let resource = json!({"uri": "docs://a", "name": "a", "kind": "text", "text": "the text"});
    send(&mut registry, Route::Create(Kind::Resource), "", resource);
    let prompt = json!({"name": "review", "description": "Reviews", "arguments": [
        {"name": "lang", "type": "enum", "values": ["rust", "ruby", "go"], "required": true},
        {"name": "n", "type": "integer", "default": 3}, {"name": "note"},
        {"name": "word", "complete": ["alpha", "beta"]}],
        "messages": [{"role": "system", "content": "You know {{ lang }}."}, {"role": "user", "content": "{{ n }}{% if note is defined %} {{ note }}{% endif %}"}]});
    let (status, body) = send(&mut registry, Route::Create(Kind::Prompt), "", prompt);
    assert_eq!(status, 201, "{body}");
    let given = json!({"arguments": {"lang": "rust", "note": "<b>"}, "resources": ["docs://a"]});
    let (status, body) = send(&mut registry, Route::Generate, "review", given);
    let text =
        |role: &str, text: &str| json!({"role": role, "content": {"type": "text", "text": text}});
    let messages = json!([
        text("user", "the text"),
        text("system", "You know rust."),
        text("user", "3 <b>")
    ]);
    assert_eq!(
        (status, body),
        (
            200,
            json!({"prompt": "review", "description": "Reviews", "messages": messages, "estimated_tokens": 7})
        )
    );
    for (arguments, param) in [
        (json!({}), "arguments.lang"),
        (json!({"lang": "c"}), "arguments.lang"),
        (json!({"lang": "go", "n": 1.5}), "arguments.n"),
        (json!({"lang": "go", "n": "1"}), "arguments.n"),
        (json!({"lang": "go", "x": 1}), "arguments.x"),
    ] {
        let (status, body) = send(
            &mut registry,
            Route::Generate,
            "review",
            json!({"arguments": arguments}),
        );
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{body}"
        );
    }
    let complete = |name: &str, value: &str| json!({"argument": {"name": name, "value": value}});
    let (_, body) = send(
        &mut registry,
        Route::Complete,
        "review",
        complete("lang", "RU"),
    );
    assert_eq!(
        body,
        json!({"values": ["rust", "ruby"], "total": 2, "has_more": false})
    );
    let (_, body) = send(
        &mut registry,
        Route::Complete,
        "review",
        complete("word", "b"),
    );
    assert_eq!(body["values"], json!(["beta"]));
    assert_eq!(
        send(
            &mut registry,
            Route::Complete,
            "review",
            complete("none", "")
        )
        .0,
        400
    );
    let bad = json!({"name": "bad", "template": "a\n{{ x"});
    let (status, body) = send(&mut registry, Route::Create(Kind::Prompt), "", bad);
    assert_eq!(status, 400);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("line 2"),
        "{body}"
    );
    let long = json!({"name": "long", "template": "{% for a in x | split('') %}{{ x }}{% endfor %}", "arguments": [{"name": "x"}]});
    send(&mut registry, Route::Create(Kind::Prompt), "", long);
    let (status, body) = send(
        &mut registry,
        Route::Generate,
        "long",
        json!({"arguments": {"x": "y".repeat(9000)}}),
    );
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("template_limit"))
    );
}

#[test]
fn the_key_of_an_integration_is_never_shown_and_stays() {
    let mut registry = registry();
    let model = json!({"provider": "openai", "model_name": "gpt", "api_key": "sk-secret", "parameters": {"temperature": 0}});
    let definition = json!({"name": "My Helper", "model": model});
    let post = definition.to_string();
    let Ok(Step::Change(changed, answer)) = registry.rest(
        &request(Route::Create(Kind::Integration), "", "", post.as_bytes()),
        &Lists,
    ) else {
        panic!()
    };
    assert_eq!(answer.location.as_deref(), Some("/integrations/my-helper"));
    assert!(!answer.body.contains("sk-secret"), "{}", answer.body);
    let [
        Record {
            value: Some(value), ..
        },
    ] = changed.records.as_slice()
    else {
        panic!()
    };
    assert!(!value.json.contains("sk-secret") && !value.json.contains("api_key"));
    assert_eq!(value.secrets[0].0.as_ref(), "/model/api_key");
    assert_eq!(value.secrets[0].1.reveal(), "sk-secret");
    let (_, shown) = get(
        &mut registry,
        Route::Show(Kind::Integration),
        "my-helper",
        "",
    );
    assert_eq!(
        (&shown["model"]["api_key"], &shown["integration_id"]),
        (&json!("set"), &json!("my-helper"))
    );
    let secret = |registry: &Registry| {
        let (key, _) = registry.find(Kind::Integration, "my-helper").unwrap();
        registry
            .value(&key)
            .unwrap()
            .secrets
            .first()
            .map(|(_, it)| it.reveal().to_owned())
    };
    let replace = Route::Replace(Kind::Integration);
    // Without the field, and with what was shown.
    for key in [Value::Null, json!("set")] {
        let body = json!({"name": "Other", "model": {"provider": "openai", "model_name": "gpt", "api_key": key}});
        let (status, body) = send(&mut registry, replace, "my-helper", body);
        assert_eq!(
            (status, &body["model"]["api_key"]),
            (200, &json!("set")),
            "{body}"
        );
        assert_eq!(secret(&registry).as_deref(), Some("sk-secret"));
    }
    let body = json!({"name": "Other", "model": {"provider": "openai", "model_name": "gpt", "api_key": "new"}});
    send(&mut registry, replace, "my-helper", body);
    assert_eq!(secret(&registry).as_deref(), Some("new"));
    for (bad, param) in [
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m"}, "tools": ["none"]}),
            "tools[0]",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m"}, "prompts": ["none"]}),
            "prompts[0]",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m"}, "resources": ["a:b"]}),
            "resources[0]",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m", "api_key": "k"}}),
            "model.api_key",
        ),
        (
            json!({"name": "x", "model": {"provider": "custom", "model_name": "m"}}),
            "model.base_url",
        ),
        (
            json!({"name": "x", "model": {"provider": "custom", "model_name": "m", "base_url": "ftp://a"}}),
            "model.base_url",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "integration/y"}}),
            "model.model_name",
        ),
        (
            json!({"name": "x", "model": {"provider": "other", "model_name": "m"}}),
            "model.provider",
        ),
        (json!({"name": "x"}), "model"),
        (
            json!({"name": "é", "model": {"provider": "agent", "model_name": "m"}}),
            "name",
        ),
        (
            json!({"name": "x", "type": "half", "model": {"provider": "agent", "model_name": "m"}}),
            "type",
        ),
    ] {
        let (status, body) = send(
            &mut registry,
            Route::Create(Kind::Integration),
            "",
            bad.clone(),
        );
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{bad}: {body}"
        );
    }
    // A model that is an integration runs its tools.
    send(&mut registry, Route::Create(TOOL), "", tool("t"));
    let body = json!({"name": "Other", "tools": ["t"], "model": {"provider": "openai", "model_name": "gpt"}});
    assert_eq!(send(&mut registry, replace, "my-helper", body).0, 200);
    let asks =
        json!({"name": "t", "kind": "prompt", "model": "integration/my-helper", "prompt": "x"});
    let (status, body) = send(&mut registry, Route::Replace(TOOL), "t", asks);
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("model")),
        "{body}"
    );
}
