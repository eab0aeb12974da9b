//! Tests of calls whose headers are held against the tools of the process.

use super::*;

const TOOLS: &str = r#"{"tools":[{"name":"sql","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}"#;

impl Bench {
    /// A call of a client whose only header for arguments is this one.
    fn call(&mut self, region: &str, header: Option<&str>, to: &'static str) -> CallId {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"sql","arguments":{{"region":"{region}"}}}}}}"#
        );
        let Ok(Message::Request { id, call }) = Message::read(&text) else {
            panic!("{text}")
        };
        let headers = header.map(|value| ("Mcp-Param-Region", value.as_bytes()));
        let given = Given::pick(headers.into_iter());
        let request = (&*text, id, &call);
        let sent =
            self.server
                .request_stateless(self.at(), request, Some(given), to, &mut self.out);
        sent.unwrap()
    }

    /// The methods of the requests that the process gets, with their numbers.
    fn requests(&mut self) -> Vec<String> {
        let lines = self.lines().into_iter();
        let requests = lines.filter_map(|line| match Message::read(line.trim_end()) {
            Ok(Message::Request { id, call }) => Some(format!("{} {}", id.get(), call.method)),
            Ok(Message::Notification(_) | Message::Response { .. }) | Err(_) => None,
        });
        requests.collect()
    }

    fn result(&mut self, id: u64, result: &str) {
        self.line(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}"
        ));
    }
}

#[test]
fn the_tools_are_read_before_a_call_whose_headers_repeat_arguments_is_passed() {
    let mut bench = Bench::ready();
    bench.requests();
    bench.said();
    bench.call("us", Some("us"), "ann");
    bench.call("us", Some("eu"), "bob");
    bench.call("us", None, "cleo");
    assert_eq!(bench.requests(), ["3 tools/list"]);
    bench.result(3, TOOLS);
    assert_eq!(bench.requests(), ["2 tools/call"]);
    assert_eq!(
        bench.said(),
        ["bob: HeaderMismatch", "cleo: HeaderMismatch"]
    );
    // They are known now. What does not fit is held against those of now before it is refused.
    bench.call("us", Some("us"), "ann");
    assert_eq!(bench.requests(), ["6 tools/call"]);
    bench.call("us", Some("eu"), "bob");
    assert_eq!(bench.requests(), ["8 tools/list"]);
    bench.result(8, r#"{"tools":[{"name":"sql","inputSchema":{}}]}"#);
    assert_eq!(bench.requests(), ["7 tools/call"]);
    // They have changed.
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    bench.said();
    bench.call("us", None, "ann");
    assert_eq!(bench.requests(), ["10 tools/list"]);
    bench.result(10, r#"{"tools":[],"nextCursor":"more"}"#);
    assert_eq!(bench.requests(), ["11 tools/list"]);
    // Some programs make a string of a number.
    bench.line(&format!(
        r#"{{"jsonrpc":"2.0","id":"11","result":{TOOLS}}}"#
    ));
    assert_eq!(bench.said(), ["ann: HeaderMismatch"]);
}

#[test]
fn a_server_that_lists_no_tools_holds_no_call_up() {
    let mut bench = Bench::ready();
    bench.requests();
    bench.said();
    bench.call("us", Some("eu"), "ann");
    assert_eq!(bench.requests(), ["3 tools/list"]);
    bench.line(r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"no"}}"#);
    assert_eq!(bench.requests(), ["2 tools/call"]);
    // One that does not answer is not waited for.
    let mut bench = Bench::ready();
    bench.requests();
    bench.call("us", Some("eu"), "ann");
    assert_eq!(bench.requests(), ["3 tools/list"]);
    bench.wait(Gateway::default().processes.probe);
    assert_eq!(bench.requests(), ["2 tools/call"]);
    bench.result(3, TOOLS);
    assert_eq!(bench.requests(), Vec::<String>::new());
}

#[test]
fn a_call_that_waits_for_the_tools_is_taken_back_or_waits_for_the_next_process() {
    let mut bench = Bench::ready();
    bench.requests();
    bench.said();
    let call = bench.call("us", Some("us"), "ann");
    bench.call("us", Some("us"), "bob");
    assert_eq!(bench.requests(), ["3 tools/list"]);
    let taken = bench.server.cancel(bench.at(), call, None, &mut bench.out);
    assert_eq!(taken, Some("ann"));
    bench.exit(Exit::Code(0));
    assert_eq!(bench.said(), ["gone: it ended"]);
    bench.wait(Gateway::default().restart.delay);
    bench.begin();
    assert_eq!(bench.said(), ["ready, again: true"]);
    let asked = bench.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let (number, method) = asked[0].split_once(' ').unwrap();
    assert_eq!(method, "tools/list");
    bench.result(number.parse().unwrap(), TOOLS);
    assert_eq!(bench.requests(), ["4 tools/call"]);
}
