//! Tests of lists that are kept: who is answered without the process, and until when.

use super::*;
use mcp_local_provider_core::budget::Budget;

const TOOLS: &str = r#"{"id":7,"method":"tools/list","params":{"_meta":{"traceparent":"00-1"}}}"#;

/// A request of a client of revision 2026-07-28 that has declared something.
fn stateless(method: &str, declared: &str) -> String {
    format!(
        r#"{{"id":"s","method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{declared}}}}}}}"#
    )
}

impl Bench {
    /// Asks for a list, which the process answers with this, and returns what the asker is told.
    fn listed(&mut self, text: &str, result: &str) -> String {
        self.ask(text, "ann").unwrap();
        let line = self.lines().remove(0);
        self.reply_to(&line, result);
        self.said().remove(0)
    }

    fn reply_to(&mut self, line: &str, result: &str) {
        let id = id_of(line);
        self.line(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#
        ));
    }

    /// Asks for a list, and returns what the asker is told of it without the process.
    fn kept(&mut self, text: &str) -> Option<String> {
        self.ask(text, "bob").unwrap();
        match (self.lines().pop(), self.said().pop()) {
            (None, Some(said)) => said.split_once("result\":").map(|(_, rest)| rest.into()),
            (Some(line), None) => {
                self.reply_to(&line, r#"{"ttlMs":0}"#);
                self.said();
                None
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A server that is asked for no sign of life.
fn quiet_for(cache_ttl: Duration) -> Bench {
    let mut config = Gateway {
        cache_ttl,
        ..Gateway::default()
    };
    config.health.interval = Duration::ZERO;
    let mut bench = Bench::new(&config);
    bench.server.start(bench.at(), &mut bench.out);
    bench.begin();
    bench.lines();
    bench.said();
    bench
}

fn quiet() -> Bench {
    quiet_for(Gateway::default().cache_ttl)
}

#[test]
fn a_list_is_given_again_until_its_time_is_over_or_the_server_tells_of_a_change() {
    let mut bench = quiet();
    let said = bench.listed(TOOLS, r#"{"tools":[ 1.0 ]}"#);
    assert!(said.ends_with(r#""result":{"tools":[ 1.0 ]}}"#), "{said}");
    bench.wait(Duration::from_secs(299));
    assert_eq!(bench.kept(TOOLS).unwrap(), r#"{"tools":[ 1.0 ]}}"#);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.kept(TOOLS), None);

    bench.listed(r#"{"id":7,"method":"tools/list"}"#, r#"{"tools":[2]}"#);
    bench.listed(
        r#"{"id":7,"method":"resources/list"}"#,
        r#"{"resources":[]}"#,
    );
    bench.listed(
        r#"{"id":7,"method":"resources/templates/list"}"#,
        r#"{"resourceTemplates":[]}"#,
    );
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#);
    bench.said();
    assert!(bench.kept(TOOLS).is_some());
    assert_eq!(bench.kept(r#"{"id":7,"method":"resources/list"}"#), None);
    assert_eq!(
        bench.kept(r#"{"id":7,"method":"resources/templates/list"}"#),
        None
    );
    // The next process may have others.
    bench.exit(Exit::Code(1));
    bench.said();
    bench.wait(Duration::from_secs(1));
    bench.begin();
    bench.lines();
    bench.said();
    assert_eq!(bench.kept(TOOLS), None);
}

#[test]
fn an_answer_that_was_on_its_way_when_the_list_changed_is_not_kept() {
    let mut bench = quiet();
    bench.ask(TOOLS, "ann").unwrap();
    let line = bench.lines().remove(0);
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    bench.reply_to(&line, r#"{"tools":[]}"#);
    bench.said();
    assert_eq!(bench.kept(TOOLS), None);
}

#[test]
fn what_the_server_says_of_the_time_counts_and_an_error_is_never_kept() {
    let mut bench = quiet();
    bench.listed(TOOLS, r#"{"tools":[],"ttlMs":0}"#);
    assert_eq!(bench.kept(TOOLS), None);
    bench.listed(TOOLS, r#"{"tools":[],"ttlMs":-1}"#);
    assert_eq!(bench.kept(TOOLS), None);
    bench.listed(TOOLS, r#"{"tools":[],"ttlMs":2000}"#);
    bench.wait(Duration::from_millis(1999));
    assert!(bench.kept(TOOLS).is_some());
    bench.wait(Duration::from_millis(1));
    bench.ask(TOOLS, "ann").unwrap();
    let id = id_of(&bench.lines().remove(0));
    bench.line(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"no"}}}}"#
    ));
    bench.said();
    assert_eq!(bench.kept(TOOLS), None);
    // What is about more than the list goes to the server.
    bench.listed(TOOLS, r#"{"tools":[]}"#);
    let other = r#"{"id":7,"method":"tools/list","params":{"_meta":{"tenant":"a"}}}"#;
    assert_eq!(bench.kept(other), None);
    let other = r#"{"id":7,"method":"tools/list","params":{"filter":"a"}}"#;
    assert_eq!(bench.kept(other), None);
    assert_eq!(bench.kept(r#"{"id":7,"method":"tasks/list"}"#), None);
    assert_eq!(bench.kept(r#"{"id":7,"method":"tasks/list"}"#), None);
    assert!(bench.kept(TOOLS).is_some());
}

#[test]
fn no_list_is_kept_where_the_owner_wants_none() {
    let mut bench = quiet_for(Duration::ZERO);
    bench.listed(TOOLS, r#"{"tools":[]}"#);
    assert_eq!(bench.kept(TOOLS), None);
}

#[test]
fn pages_hold_no_longer_than_the_one_that_led_to_them() {
    let page = |cursor: &str| {
        format!(r#"{{"id":7,"method":"tools/list","params":{{"cursor":"{cursor}"}}}}"#)
    };
    let mut bench = quiet();
    // It leads from no page that is kept.
    bench.listed(&page("b"), r#"{"tools":[2]}"#);
    assert_eq!(bench.kept(&page("b")), None);
    bench.listed(TOOLS, r#"{"tools":[1],"nextCursor":"b"}"#);
    bench.wait(Duration::from_secs(200));
    bench.listed(&page("b"), r#"{"tools":[2]}"#);
    assert!(bench.kept(TOOLS).is_some() && bench.kept(&page("b")).is_some());
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.kept(&page("b")), None);
    // A cursor that the server knows no more is not given out again.
    bench.listed(TOOLS, r#"{"tools":[1],"nextCursor":"c"}"#);
    bench.ask(&page("c"), "ann").unwrap();
    let id = id_of(&bench.lines().remove(0));
    bench.line(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"old cursor"}}}}"#
    ));
    bench.said();
    assert_eq!(bench.kept(TOOLS), None);
}

#[test]
fn a_client_of_2026_is_told_how_long_the_list_holds_still() {
    let mut bench = quiet();
    let text = stateless("tools/list", "{}");
    bench.ask_stateless(&text);
    let line = bench.lines().remove(0);
    bench.reply_to(&line, r#"{"tools":[]}"#);
    let said = bench.said().remove(0);
    assert!(
        said.ends_with(r#""result":{"tools":[],"ttlMs":300000}}"#),
        "{said}"
    );
    bench.wait(Duration::from_secs(100));
    // A server with sessions is not told what each client declares.
    bench.ask_stateless(&stateless("tools/list", r#"{"roots":{}}"#));
    assert!(bench.lines().is_empty());
    let said = bench.said().remove(0);
    assert!(
        said.ends_with(r#""result":{"tools":[],"ttlMs":200000}}"#),
        "{said}"
    );
    assert_eq!(bench.kept(TOOLS).unwrap(), r#"{"tools":[]}}"#);
}

#[test]
fn a_server_without_sessions_has_a_list_for_each_set_of_capabilities() {
    let mut bench = Bench::raised();
    let result = r#"{"tools":[],"resultType":"complete","ttlMs":5000,"cacheScope":"public"}"#;
    bench.ask_stateless(&stateless("tools/list", "{}"));
    let line = bench.lines().remove(0);
    bench.reply_to(&line, result);
    bench.said();
    bench.wait(Duration::from_secs(2));
    bench.ask_stateless(&stateless("tools/list", r#"{"roots":{}}"#));
    assert_eq!(bench.lines().len(), 1, "it has told something else");
    bench.ask_stateless(&stateless("tools/list", "{}"));
    assert!(bench.lines().is_empty());
    let said = bench.said().remove(0);
    let lasting = r#""resultType":"complete","cacheScope":"public","ttlMs":3000}}"#;
    assert!(said.ends_with(lasting), "{said}");
    // A client with sessions hears nothing of times.
    let said = bench.listed(r#"{"id":7,"method":"tools/list"}"#, result);
    assert!(said.ends_with(r#""result":{"tools":[]}}"#), "{said}");
    assert_eq!(
        bench.kept(r#"{"id":7,"method":"tools/list"}"#).unwrap(),
        r#"{"tools":[]}}"#
    );
}

#[test]
fn a_server_without_sessions_that_tells_no_changes_has_its_lists_asked_for_each_time() {
    let mut bench = Bench::raised();
    let result = r#"{"tools":[],"ttlMs":5000,"cacheScope":"public"}"#;
    bench.listed(TOOLS, result);
    assert!(bench.kept(TOOLS).is_some());
    // It ends what it was asked to tell.
    bench.line(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#);
    bench.said();
    assert_eq!(bench.kept(TOOLS), None);
    bench.listed(TOOLS, result);
    assert_eq!(bench.kept(TOOLS), None);
}

#[test]
fn a_private_list_is_not_given_to_others_and_a_public_one_is() {
    for (scope, is_shared, stays) in [
        ("private", false, true),
        ("private", true, false),
        ("public", true, true),
    ] {
        let mut bench = quiet();
        let budget = Budget::new(1 << 30);
        let server = core::mem::replace(
            &mut bench.server,
            Server::new("x".into(), "{}", &Gateway::default()),
        );
        bench.server = server.keeping(budget.share(), is_shared);
        bench.listed(
            TOOLS,
            &format!(r#"{{"tools":[],"ttlMs":9000,"cacheScope":"{scope}"}}"#),
        );
        assert_eq!(bench.kept(TOOLS).is_some(), stays, "{scope} {is_shared}");
    }
}

#[test]
fn lists_take_a_bounded_part_of_the_memory_and_give_it_back() {
    let budget = Budget::new(1 << 30);
    let mut bench = quiet();
    let server = core::mem::replace(
        &mut bench.server,
        Server::new("x".into(), "{}", &Gateway::default()),
    );
    bench.server = server.keeping(budget.share(), false);
    let large = format!(r#"{{"tools":["{}"]}}"#, "x".repeat(600 << 10));
    for method in ["tools/list", "prompts/list"] {
        bench.listed(&format!(r#"{{"id":7,"method":"{method}"}}"#), &large);
    }
    assert!(budget.taken() > 600 << 10 && budget.taken() <= (1 << 20) + 4096);
    assert_eq!(bench.kept(TOOLS), None, "the older one gave way");
    let larger = format!(r#"{{"tools":["{}"]}}"#, "x".repeat(2 << 20));
    bench.listed(TOOLS, &larger);
    assert_eq!(bench.kept(TOOLS), None);
    bench.wait(Duration::from_secs(300));
    assert_eq!(budget.taken(), 0);
    // There is no memory left for them.
    let budget = Budget::new(1 << 10);
    let server = core::mem::replace(
        &mut bench.server,
        Server::new("x".into(), "{}", &Gateway::default()),
    );
    bench.server = server.keeping(budget.share(), false);
    bench.listed(TOOLS, &large);
    assert_eq!((bench.kept(TOOLS), budget.taken()), (None, 0));
}
