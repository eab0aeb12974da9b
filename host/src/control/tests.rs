//! Calls of a server that answers with given bytes, and the sentences for what goes wrong.
#![allow(clippy::unwrap_used)]
use super::*;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

/// Answers one request with these bytes, and returns the request.
fn serve(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(buffer.get(..count).unwrap());
            let text = String::from_utf8_lossy(&request).into_owned();
            let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                body.len() >= length.unwrap_or(0)
            });
            if whole || count == 0 {
                stream.write_all(answer.as_bytes()).unwrap();
                return text;
            }
        }
    });
    (address, server)
}

#[test]
fn calls_carry_the_token_and_bring_json() {
    let (address, server) = serve(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ok\"\r\n6;x=y\r\n:true}\r\n0\r\n\r\n",
    );
    let client = ControlClient::new("mlp", address, Some("secret".to_owned()));
    let body = serde_json::json!({"session_id": "s"});
    assert_eq!(
        client.post("/control/approve", &body).unwrap(),
        serde_json::json!({"ok": true})
    );
    assert_eq!(
        server.join().unwrap(),
        format!(
            "POST /control/approve HTTP/1.1\r\nhost: {address}\r\naccept: application/json\r\nuser-agent: mlp\r\n\
             authorization: Bearer secret\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 18\r\n\r\n\
             {{\"session_id\":\"s\"}}"
        )
    );
    assert!(!format!("{client:?}").contains("secret"));
}

#[test]
fn what_goes_wrong_is_said_with_a_remedy() {
    let cases = [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\n\r\n{\"error\":{\"message\":\"no session\\u001b[31m\"}}",
            "no session [31m (status 404)",
        ),
        (
            "HTTP/1.1 409 C\r\n\r\n{\"error\":\"not now\"}",
            "not now (status 409)",
        ),
        (
            "HTTP/1.1 401 U\r\nContent-Length: 0\r\n\r\n",
            "the running program wants an operator key and there is none in data_dir/operator.token; \
             `keys add operator --role operator` makes one there, or give one in LOCAL_PROVIDER_KEY",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
            "what listens at ADDRESS is another program: its answer ends too early",
        ),
        (
            "SSH-2.0-x\r\n",
            "what listens at ADDRESS is another program: it does not speak HTTP",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}x!\r\n",
            "what listens at ADDRESS is another program: it does not speak HTTP",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\n<html>",
            "what listens at ADDRESS is another program: its answer is not JSON",
        ),
    ];
    for (answer, expected) in cases {
        let (address, server) = serve(answer);
        let error = ControlClient::new("mlp", address, None)
            .get("/control/sessions")
            .unwrap_err();
        server.join().unwrap();
        assert_eq!(
            error.to_string(),
            expected.replace("ADDRESS", &address.to_string())
        );
    }
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(
        ControlClient::new("mlp", nobody, None)
            .get("/")
            .unwrap_err()
            .to_string(),
        format!(
            "no mlp runs at {nobody} (Connection refused (os error 111)); `mlp serve` starts one, and --listen or --config says where another is"
        )
    );
}

#[test]
fn a_key_that_would_inject_a_header_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let key = Some("a\r\nx: y".to_owned());
    let error = ControlClient::new("mlp", address, key)
        .get("/")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the connection to {address} broke: the key has control characters in it")
    );
    let mut sent = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut sent).unwrap();
    assert_eq!(sent, b"");
}

#[test]
fn an_answer_is_read_as_it_comes_until_it_is_cancelled() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = ControlClient::new("mlp", listener.local_addr().unwrap(), None);
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
        // It goes on when the client is gone.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let cancel = Cancel::default();
    assert!(!cancel.cancel());
    let mut stream = client.stream("/x", &Value::Null, &cancel).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    assert!(cancel.cancel() && !cancel.cancel());
    stream.read_line(&mut line).unwrap_err();
    assert!(cancel.end());
    server.join().unwrap();
}
