//! Names of models, and requests that name none.

use super::*;

impl Bench {
    fn models(&mut self, agent_id: &str, models: &[&str]) -> (LinkId, SessionId) {
        let link = self.connect("bridge").unwrap();
        let registration = crate::link::Registration {
            agent_id: agent_id.into(),
            models: models.iter().map(ToString::to_string).collect(),
            max_concurrency: Some(2),
            ..Default::default()
        };
        (link, self.register(link, registration).0)
    }

    pub(super) fn configure(&mut self, change: impl FnOnce(&mut HubConfig)) {
        let mut config = self.hub.config().clone();
        change(&mut config);
        self.hub.reload(self.now, config, &mut self.out);
    }

    fn answers(&mut self, asked: &str) -> String {
        let ticket = self.granted(asked);
        let model = ticket.model.to_string();
        self.settle(ticket);
        model
    }

    fn refusal(&mut self, asked: &str) -> Refusal {
        self.ask(asked, None).unwrap_err()
    }
}

#[test]
fn a_request_that_names_no_model_gets_the_default_or_else_the_least_busy_session() {
    let mut bench = plain();
    for asked in ["", "default"] {
        assert_eq!(bench.refusal(asked).code(), Code::NoAgent);
    }
    let (_, first) = bench.models("a", &["a", "a2"]);
    let (_, second) = bench.models("b", &["b"]);
    let tickets: Vec<Ticket> = ["", "default", "", "default:latest"]
        .map(|asked| bench.granted(asked))
        .into();
    for (session, model) in [(&first, "a"), (&second, "b")] {
        let own = tickets.iter().filter(|ticket| ticket.session() == session);
        let models: Vec<&str> = own.map(|ticket| &*ticket.model).collect();
        assert_eq!(models, [model; 2]);
    }
    let Ok(Admission::Queued(wait)) = bench.ask("", None) else {
        panic!("both are full");
    };
    let mut tickets = tickets.into_iter();
    bench.settle(tickets.next().unwrap());
    let Claim::Granted(waited) = bench.claim(wait) else {
        panic!("whichever session is free answers");
    };
    for ticket in tickets.chain([waited]) {
        bench.settle(ticket);
    }
    assert_eq!(
        bench.granted_by("", second.as_str()).model.as_ref(),
        "b",
        "of a session that is named"
    );
    bench.configure(|config| config.default_model = Some("a2".into()));
    assert_eq!(bench.answers("default"), "a2");
    bench.configure(|config| config.default_model = Some("my-gpt-4o".into()));
    bench.models("m", &["m"]);
    assert_eq!(bench.answers(""), "m", "the default may be an alias");
    bench.models("d", &["default"]);
    assert_eq!(bench.answers("default"), "default", "a model of that name");
}

impl Bench {
    fn granted_by(&mut self, model: &str, session: &str) -> Ticket {
        match self.ask(model, Some(session)) {
            Ok(Admission::Granted(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_name_that_nobody_knows_is_the_alias_of_every_name_or_refused_with_the_nearest() {
    let mut bench = plain();
    bench.models("a", &["cursor-agent", "claude-opus"]);
    for (asked, nearest) in [
        ("curser-agent", Some("`cursor-agent`")),
        ("Claude", Some("`claude-opus`")),
        ("my-gpt-4", Some("`my-gpt-4o`")),
        ("llama3.2", None),
    ] {
        let refusal = bench.refusal(asked);
        assert_eq!(refusal.code(), Code::ModelNotFound);
        let message = refusal.message();
        let told = message.split("the nearest is ").nth(1);
        let told = told.map(|rest| rest.split(';').next().unwrap());
        assert_eq!(told, nearest, "{message}");
        let form = r#"`models.aliases: { "*": MODEL }`"#;
        assert!(message.contains(form), "{message}");
        assert!(refusal.lists_models());
    }
    assert!(bench.hub.lists().every.is_none());
    bench.configure(|config| {
        config.aliases.push(Alias {
            name: "*".into(),
            model: "claude-opus".into(),
            context_length: Some(7),
            fallback: Vec::new(),
        });
    });
    let every = bench.hub.lists().every.clone().unwrap();
    assert_eq!(
        (&*every.name, every.capabilities.context_length),
        ("claude-opus", Some(7))
    );
    assert_eq!(bench.answers("llama3.2"), "claude-opus");
    assert_eq!(bench.answers("cursor-agent:latest"), "cursor-agent");
    // One that is known and gone for now is waited for, not replaced.
    assert_eq!(bench.refusal("my-gpt-4o").code(), Code::NoAgent);
    assert!(bench.hub.lists().model("*").is_none());
}

#[test]
fn a_model_whose_sessions_have_ended_says_so_beside_other_agents() {
    let mut bench = plain();
    bench.models("a", &["a"]);
    let (_, revoked) = bench.models("b", &["b"]);
    bench.control("operator", &revoked, Action::Revoke).unwrap();
    let (lost, _) = bench.models("c", &["c"]);
    bench.hub.disconnected(bench.now, lost, &mut bench.out);
    bench.pass(Duration::from_secs(301));
    for (model, why) in [("b", "was revoked"), ("c", "has expired")] {
        let refusal = bench.refusal(model);
        assert_eq!(refusal.code(), Code::NoAgent, "{refusal}");
        assert!(refusal.message().contains(why), "{refusal}");
    }
    assert_eq!(bench.refusal("d").code(), Code::ModelNotFound);
}

#[test]
fn the_nearest_is_looked_for_among_few_models_alone() {
    let mut bench = plain();
    let many: Vec<String> = (0..65).map(|number| format!("model-{number}")).collect();
    let names: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.models("a", &names);
    let refusal = bench.refusal("modell-1");
    assert_eq!(refusal.code(), Code::ModelNotFound);
    assert!(
        !refusal.message().contains("nearest"),
        "{}",
        refusal.message()
    );
}

#[test]
fn a_key_that_names_models_asks_those_alone() {
    let mut bench = plain();
    bench.configure(|config| config.keys[1].models = vec!["b".into(), "a".into(), "z".into()]);
    bench.models("a", &["a"]);
    bench.models("b", &["b"]);
    bench.models("m", &["m"]);
    let ask = |model| Ask {
        model,
        session: None,
        prompts: 1,
        tokens: 1,
        scope: Scope::Inference,
        needs: Needs::default(),
    };
    let caller = bench.caller("chat");
    assert_eq!(caller.models(), ["b", "a", "z"]);
    for asked in ["a", "a:latest", "b"] {
        let found = bench.hub.find(&caller, &ask(asked)).unwrap();
        assert_eq!(&*found.model, asked.trim_end_matches(":latest"));
    }
    for asked in ["m", "my-gpt-4o"] {
        let refusal = bench.ask_as("chat", &ask(asked)).unwrap_err();
        assert_eq!(refusal.code(), Code::ModelNotFound, "{asked}");
        assert!(bench.hub.find(&caller, &ask(asked)).is_err());
    }
    // Without a name it is the least busy of its own: the first of them where they are alike.
    let mut tickets = Vec::new();
    for expected in ["b", "a", "b", "a"] {
        let found = bench.hub.find(&caller, &ask("default")).unwrap();
        assert_eq!(&*found.model, expected);
        let Ok(Admission::Granted(ticket)) = bench.ask_as("chat", &ask("")) else {
            panic!("{expected} answers");
        };
        assert_eq!(&*ticket.model, expected);
        tickets.push(ticket);
    }
    for ticket in tickets {
        bench.settle(ticket);
    }
    // The same caller on behalf of an integration.
    let every = caller.asking_every_model();
    assert!(every.models().is_empty() && every.may_ask(&["m"]));
    assert!(caller.may_ask(&["m", "a"]) && !caller.may_ask(&["m"]) && !caller.may_ask(&[]));
    assert!(bench.hub.permit_model(&every, "m").is_ok());
    assert!(bench.hub.permit_model(&caller, "z").is_ok());
    let refusal = bench.hub.permit_model(&caller, "m").unwrap_err();
    assert_eq!(refusal.code(), Code::ModelNotFound);
    assert!(bench.hub.has_model("m") && !bench.hub.has_model("z"));
}

#[test]
fn how_near_a_name_has_to_be() {
    let mut bench = plain();
    bench.configure(|config| config.aliases.clear());
    bench.models("a", &["abcdef"]);
    let is_told = |bench: &mut Bench, asked: &str| {
        bench
            .refusal(asked)
            .message()
            .contains("the nearest is `abcdef`")
    };
    // The only one is meant.
    assert!(is_told(&mut bench, "something-else"));
    bench.models("b", &["vwxyz"]);
    // One wrong letter in three.
    for (asked, is_near) in [
        ("abcdXX", true),
        ("abcXXX", false),
        ("bcd", true),
        ("something-else", false),
    ] {
        assert_eq!(is_told(&mut bench, asked), is_near, "{asked}");
    }
    let refusal = bench.refusal("vwxXX");
    assert!(!refusal.message().contains("nearest"), "{refusal}");
    // Many names are compared with none.
    for (names, is_compared) in [(64, true), (65, false)] {
        let mut bench = plain();
        bench.configure(|config| {
            config.aliases = (1..names)
                .map(|number| Alias {
                    name: alloc::format!("alias-of-it-{number}"),
                    ..config.aliases[0].clone()
                })
                .collect();
        });
        bench.models("a", &["abcdef"]);
        assert_eq!(is_told(&mut bench, "abcdeX"), is_compared, "{names}");
    }
}
