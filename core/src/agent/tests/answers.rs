use super::*;

/// The mailbox of the one client.
struct Client(Mailbox);

impl Deliver<()> for Client {
    fn deliver(&mut self, (): &(), delivery: &Delivery<'_>) -> Push {
        self.0.push(delivery)
    }
}

/// What a client is told, joined: text, thoughts, a refusal, arguments of call 0, and the end.
#[derive(Default, PartialEq, Eq, Debug)]
struct Told {
    content: String,
    reasoning: String,
    refusal: String,
    call: (String, String, String),
    end: Option<String>,
}

impl Told {
    fn take(&mut self, delivery: &Delivery<'_>) {
        match delivery {
            Delivery::Delta(delta) => {
                self.content.push_str(&delta.content.decode());
                self.reasoning.push_str(&delta.reasoning.decode());
                self.refusal.push_str(&delta.refusal.decode());
                for call in &delta.tool_calls {
                    self.call.0.push_str(&call.id.decode());
                    self.call.1.push_str(&call.name.decode());
                    self.call.2.push_str(&call.arguments.decode());
                }
            }
            Delivery::Embedding(vector) => self.content.push_str(vector),
            Delivery::End(end) => self.end = Some(alloc::format!("{end:?}")),
            Delivery::Failed(failure) => self.end = Some(alloc::format!("{failure:?}")),
        }
    }
}

/// Asks an agent by way of the core's link, and gives what its answer tells the client.
fn ask(form: InvokeForm, answer: impl FnOnce(&mut Agent, &Request, &mut VecDeque<Action>)) -> Told {
    let mut rig = Rig::registered();
    let config = LinkConfig::default();
    let mut link: Link<()> = Link::new(LinkId(1), &config, rig.now);
    let (mut out, mut client) = (LinkOut::new(), Client(Mailbox::new(1 << 24)));
    let invocation = Invocation {
        model: "my-model".into(),
        task: Task::Completion {
            prompt: JsonStr::from_escaped("say \\u00e9"),
            suffix: Some(JsonStr::from_escaped("end")),
        },
        stream: true,
        parameters: Parameters {
            max_tokens: Some(7),
            ..Parameters::default()
        },
    };
    let invoke = Invoke {
        id: Ids::new(3).next(),
        permit: Permits::default().issue(SessionId::new("s-1").unwrap(), Authority::Anyone),
        label: "label".into(),
        model: "my-model".into(),
        form,
        request: crate::Request::of(&invocation).into(),
        prompt: PromptIndex::default(),
    };
    link.open(rig.now, invoke, (), &mut out).unwrap();
    let wall = WallClock::new(rig.now, Duration::from_secs(1));
    let mut request = None;
    while let Some(message) = out.pop_message() {
        let frame = websocket::encode(&message, &wall).unwrap();
        rig.frame(&frame);
        if let Some(Action::Invoke(invoked)) = rig.out.pop_front() {
            request = Some(invoked);
        }
    }
    let request = request.expect("the agent is asked");
    assert_eq!(request.prompt(), "say é");
    assert_eq!(request.suffix().as_deref(), Some("end"));
    assert_eq!(request.model(), "my-model");
    assert_eq!(request.kind(), crate::invocation::Kind::Insertion);
    assert!(request.is_streamed());
    let most = request.parameter("max_tokens");
    assert_eq!(most.and_then(|most| most.whole()), Some(7));
    answer(&mut rig.agent, &request, &mut rig.out);
    for action in rig.out.drain(..) {
        let Action::Send(frame) = action else {
            panic!("{action:?}");
        };
        let message = websocket::decode(&frame, config.frame_bytes).expect(&frame);
        link.handle_message(rig.now, message, &mut out, &mut client);
    }
    assert_eq!(link.counters().faults, 0);
    let (mut batch, mut told) = (Batch::new(), Told::default());
    client.0.drain(&mut batch);
    for delivery in &batch {
        told.take(&delivery);
    }
    told
}

#[derive(Clone, Debug)]
enum Said {
    Text(String),
    Reasoning(String),
    Refusal(String),
    Arguments(String),
}

fn said() -> impl Strategy<Value = Said> {
    let text = "\\PC{0,6}|[\"\\\\\\n\u{0}\u{2028}\u{85}é🦀]{0,4}";
    prop_oneof![
        text.prop_map(Said::Text),
        text.prop_map(Said::Reasoning),
        text.prop_map(Said::Refusal),
        text.prop_map(Said::Arguments),
    ]
}

proptest! {
    /// The client is told what the agent said, whatever that is and in whatever pieces.
    #[test]
    fn what_an_agent_says_is_what_its_client_is_told(all in proptest::collection::vec(said(), 0..20), flat: bool, fails: bool) {
        let mut expected = Told::default();
        let failure = Failure { code: Code::Overloaded, message: "later \"é\"".into(), retry_after: Some(Duration::from_millis(1500)) };
        let end = End { finish: Finish::Length, usage: Some(Usage { prompt_tokens: 1, completion_tokens: 2, estimated: false }) };
        expected.end = Some(match fails { true => alloc::format!("{failure:?}"), false => alloc::format!("{end:?}") });
        expected.call = ("c".into(), "f\"".into(), String::new());
        let form = match flat { true => InvokeForm::Flat, false => InvokeForm::Nested };
        let told = ask(form, |agent, request, out| {
            let first = Piece::ToolCall { index: 0, id: "c", name: "f\"", arguments: "" };
            agent.write(request.id(), &first, out).unwrap();
            for said in &all {
                let piece = match said {
                    Said::Text(text) => { expected.content += text; Piece::Text(text) }
                    Said::Reasoning(text) => { expected.reasoning += text; Piece::Reasoning(text) }
                    Said::Refusal(text) => { expected.refusal += text; Piece::Refusal(text) }
                    Said::Arguments(text) => { expected.call.2 += text; Piece::Arguments { index: 0, arguments: text } }
                };
                agent.write(request.id(), &piece, out).unwrap();
            }
            match fails {
                true => agent.fail(request.id(), &failure, out).unwrap(),
                false => agent.finish(request.id(), end, out).unwrap(),
            }
        });
        prop_assert_eq!(told, expected);
    }
}

#[test]
fn vectors_reach_the_client_and_those_that_json_cannot_say_fail() {
    let told = ask(InvokeForm::Nested, |agent, request, out| {
        let vectors = [alloc::vec![0.25, -1.0], alloc::vec![1e-7]];
        agent.embed(request.id(), &vectors, None, out).unwrap();
    });
    assert_eq!(told.content, "[0.25,-1][0.0000001]");
    let told = ask(InvokeForm::Flat, |agent, request, out| {
        let vectors = [alloc::vec![f32::NAN]];
        agent.embed(request.id(), &vectors, None, out).unwrap();
    });
    let end = told.end.unwrap();
    assert!(end.contains("not finite"), "{end}");
}

#[test]
fn a_piece_from_json_lines_is_a_delta_or_has_one() {
    for line in [
        r#"{"content":"a\ud83d","finish_reason":"length"}"#,
        r#"{"delta":{"role":"assistant","content":"a\ud83d"},"finish_reason":"length","usage":null}"#,
    ] {
        let (delta, ending) = websocket::piece(line).unwrap();
        assert_eq!(delta.content.as_escaped(), "a\\ud83d");
        let end = End {
            finish: Finish::Length,
            usage: None,
        };
        assert_eq!(ending, Some(crate::link::Ending::End(end)));
    }
    let (delta, ending) =
        websocket::piece(r#"{"error":{"code":"rate_limited","message":"later"}}"#).unwrap();
    assert!(delta.is_empty());
    assert!(
        matches!(ending, Some(crate::link::Ending::Failed(failure)) if failure.code == Code::RateLimited)
    );
    let wrong = websocket::piece(r#"{"content":["secret"]}"#).unwrap_err();
    assert!(
        wrong.starts_with("content: ") && !wrong.contains("secret"),
        "{wrong}"
    );
}

#[test]
fn a_conversation_is_read_where_it_stands() {
    let mut rig = Rig::registered();
    rig.frame(r#"{"type":"model_invoke","id":"a","payload":{"kind":"chat","model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"one"},{"type":"image_url","image_url":{"url":"data:"}},{"type":"text","text":"two"}]}],"parameters":{"stream":false,"tools":[{"type":"function"}],"seed":null}}}"#);
    let Some(Action::Invoke(request)) = rig.out.pop_front() else {
        panic!();
    };
    let messages = request.messages();
    assert_eq!(messages[0].role(), "system");
    assert_eq!(messages[0].text(), "Be brief.");
    assert_eq!(request.prompt(), "one\ntwo");
    assert_eq!(request.tools().len(), 1);
    assert!(!request.is_streamed() && request.parameter("seed").is_none());
    assert!(!alloc::format!("{request:?} {messages:?}").contains("one"));
    rig.frame(r#"{"type":"model_invoke","id":"b","model":"m","input":["x","y"]}"#);
    let Some(Action::Invoke(request)) = rig.out.pop_front() else {
        panic!();
    };
    assert_eq!(request.input(), ["x", "y"]);
    assert_eq!(request.kind(), crate::invocation::Kind::Embedding);
}
