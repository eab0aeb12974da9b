//! Remote servers as they are on the wire: one over TLS that speaks revision 2026-07-28 alone, and one that redirects.

use super::client::{Client, KEY, NEWEST, call, hello, request, start};
use crate::program::{Folder, PATIENCE, Program};
use mcp_local_provider_tests::certificates::Authority;
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A request: its head in lower case, and its message.
type Got = (String, Value);

/// Reads one request. `None` where the other side leaves before.
fn read(stream: &mut impl BufRead) -> Option<Got> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).map(|rest| rest.lines().next().unwrap());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).unwrap_or_default()))
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn as_json(message: &Value) -> String {
    http("200 OK", "Content-Type: application/json\r\n", &message.to_string())
}

/// The answer of the server. The last one is a stream that does not end.
fn answer((head, body): &Got) -> String {
    let (id, params) = (&body["id"], &body["params"]);
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
    match (body["method"].as_str().unwrap(), params["name"].as_str()) {
        ("initialize", _) => {
            let data = json!({ "supported": ["2026-07-28"], "requested": NEWEST });
            let error = json!({ "code": -32022, "message": "no", "data": data });
            let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
            http("400 Bad Request", "Content-Type: application/json\r\n", &body.to_string())
        }
        ("server/discover", _) => as_json(&result(json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "ttlMs": 0,
        }))),
        ("tools/list", _) => {
            let text = |header: &str| json!({ "properties": { "text": { "type": "string", "x-mcp-header": header } } });
            let tools = json!([
                { "name": "bad", "inputSchema": text("no header") },
                { "name": "sql", "inputSchema": text("Text") },
            ]);
            as_json(&result(json!({ "resultType": "complete", "tools": tools, "ttlMs": 0 })))
        }
        (_, Some("sql")) if !head.contains("\r\nmcp-param-text: =?base64?w6q=?=\r\n") => {
            let error = json!({ "code": -32020, "message": "Header mismatch" });
            let body = json!({ "jsonrpc": "2.0", "id": id, "error": error });
            http("400 Bad Request", "Content-Type: application/json\r\n", &body.to_string())
        }
        (_, Some("sql")) => as_json(&result(json!({ "resultType": "complete", "content": [] }))),
        (_, Some("ä")) => {
            let token = &params["_meta"]["progressToken"];
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": token, "progress": 1 } });
            let content = json!([{ "type": "text", "text": "done" }]);
            let done = result(json!({ "resultType": "complete", "content": content }));
            let stream = format!(": hi\r\n\r\ndata: {progress}\n\ndata: {done}\n\n");
            http("200 OK", "Content-Type: text/event-stream\r\n", &stream)
        }
        _ => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: hi\n\n".to_owned(),
    }
}

/// Serves by TLS with the certificate of `authority`, and tells what comes; an empty request when a stream without end is closed.
fn serve(authority: &Authority) -> (u16, Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    let config = authority.server(&["localhost"]);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (tell, config) = (tell.clone(), config.clone());
            thread::spawn(move || {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let connection = ServerConnection::new(config).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(connection, stream));
                let Some(got) = read(&mut stream) else { return };
                let answer = answer(&got);
                tell.send(got).unwrap();
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                if answer.contains("Content-Length") {
                    stream.get_mut().conn.send_close_notify();
                    stream.get_mut().flush().unwrap();
                } else {
                    // Until it is closed, in order or not.
                    let _ = stream.read_to_end(&mut Vec::new());
                    // The test may be over.
                    let _ = tell.send(<(String, Value)>::default());
                }
            });
        }
    });
    (port, told)
}

/// The program before the server, with the folder of its certificate; and what comes to the server.
fn before_server() -> (Program, Folder, Receiver<Got>) {
    let authority = Authority::new();
    let (port, told) = serve(&authority);
    let roots = Folder::new();
    let file = roots.0.join("roots.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let extra = format!("tls: {{ ca_file: {file:?} }}\n");
    let server = format!(
        "  far: {{ url: \"https://localhost:{port}/mcp?x=1\", headers: {{ X-Own: yes }} }}\n"
    );
    (start(&extra, &[server]), roots, told)
}

fn next(told: &Receiver<Got>) -> Got {
    told.recv_timeout(PATIENCE).unwrap()
}

/// A client with a session, for which the server is greeted.
fn greeted<'p>(program: &'p Program, told: &Receiver<Got>) -> Client<'p> {
    let mut client = Client::new(program, KEY);
    let greeted = client.initialize(NEWEST, "suite").json();
    assert_eq!(greeted["result"]["protocolVersion"], NEWEST, "{greeted}");
    for method in ["initialize", "server/discover"] {
        let (head, body) = next(told);
        assert_eq!(body["method"], method);
        assert!(head.starts_with("post /mcp?x=1 http/1.1\r\n") && head.contains("\r\nx-own: yes\r\n"), "{head}");
    }
    client
}

#[test]
fn arguments_are_repeated_in_headers_as_the_server_wants_them() {
    let (program, _roots, told) = before_server();
    let client = greeted(&program, &told);
    let sql = call("a", "sql", &json!({ "text": "ä" }));
    // It refuses a call of a tool that nobody has listed, which is listed then.
    assert_eq!(client.post(&sql).json()["result"], json!({ "content": [] }));
    for method in ["tools/call", "tools/list", "tools/call"] {
        assert_eq!(next(&told).1["method"], method);
    }
    assert_eq!(client.post(&sql).json()["result"], json!({ "content": [] }));
    assert_eq!(next(&told).1["method"], "tools/call");
    // A tool that names a header wrongly is left out.
    let listed = client.post(&request("b", "tools/list", &json!({}))).json();
    let names: Vec<&Value> = listed["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["sql"]);
}

#[test]
fn a_server_without_sessions_is_used_over_tls_with_the_headers_of_its_revision() {
    let (program, _roots, told) = before_server();
    let client = greeted(&program, &told);
    let params = json!({ "name": "ä", "arguments": {}, "_meta": { "progressToken": "mine" } });
    let mut events = client.stream(&request("a", "tools/call", &params));
    assert_eq!(events.message().unwrap()["params"]["progressToken"], "mine");
    let answer = events.message().unwrap();
    let result = json!({ "content": [{ "type": "text", "text": "done" }] });
    assert_eq!((&answer["id"], &answer["result"]), (&json!("a"), &result));
    let (head, _) = next(&told);
    for line in [
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: tools/call",
        "mcp-name: =?base64?w6q=?=",
        "accept: application/json, text/event-stream",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    assert!(!head.contains("mcp-session-id"), "{head}");
    // To close the answer is to take the request back.
    let held = client.send(&call("held", "hold", &json!({})).to_string());
    assert_eq!(next(&told).1["params"]["name"], "hold");
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "held" } });
    assert_eq!(client.post(&cancel).status, 202);
    assert_eq!(next(&told), <(String, Value)>::default(), "the answer is closed, and nothing is sent");
    drop(held);
}

#[test]
fn a_redirection_is_not_followed() {
    let (listener, elsewhere) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (address, other) = (listener.local_addr().unwrap(), elsewhere.local_addr().unwrap());
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut stream = BufReader::new(stream);
            let _got = read(&mut stream);
            let location = format!("Location: http://{other}/mcp\r\n");
            // Whoever has read the head may leave.
            let _ = stream.get_mut().write_all(http("307 Temporary Redirect", &location, "").as_bytes());
        }
    });
    let server = format!("  far: {{ url: \"http://{address}/mcp\", headers: {{ Authorization: secret }} }}\n");
    let program = start("", &[server]);
    let refused = Client::new(&program, KEY).post(&request(0, "initialize", &hello(NEWEST, "suite")));
    let error = refused.json()["error"].clone();
    assert_eq!(error["data"]["reason"], "server_unavailable", "{refused:?}");
    assert!(error["message"].as_str().unwrap().contains("HTTP status 307"), "{error}");
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "the other server was asked");
}
