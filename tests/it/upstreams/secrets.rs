//! The key of an upstream: where it goes, and that nobody else sees it, even when the server echoes it.

use super::ask::{EVERY, ask, ask_whole};
use super::server::{Api, Reply, Server, Then};
use super::{SECRET, start};
use crate::program::{Folder, OPERATOR, Program, program, write_config};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Beginning of the key that is long enough to be of use.
const PART: &str = "sk-secret-01";

#[test]
fn a_key_goes_where_its_api_wants_it() {
    for api in Api::EVERY {
        let server = Server::start(api, [Reply::Text("fine")]);
        let program = start(&server.entry("up", ", models: [m]"), "");
        for as_client in EVERY {
            ask(&program, as_client, "up/m").is("fine");
        }
        let wanted = match api {
            Api::Anthropic => format!("x-api-key: {SECRET}\r\n"),
            Api::OpenAi | Api::Ollama => format!("authorization: bearer {SECRET}\r\n"),
        };
        for asked in server.asked() {
            let head = asked.head.to_ascii_lowercase();
            assert!(head.contains(&wanted), "{head}");
            assert_eq!(head.matches(SECRET).count(), 1, "{head}");
            assert!(!head.contains("client-key-for-tests"), "the client's key went on: {head}");
            assert!(!asked.body.to_string().contains(SECRET));
        }
        told_nowhere(&program, api.kind());
    }
}

/// Reads everything that the program shows and writes.
fn told_nowhere(program: &Program, what: &str) {
    let doctor = program.command(&["doctor"]);
    let audit = std::fs::read_to_string(program.folder.0.join("audit.jsonl")).unwrap_or_default();
    let shown = [
        program.log(),
        audit,
        program.request("GET", "/health/deep", Some(OPERATOR), "").body,
        program.request("GET", "/metrics", Some(OPERATOR), "").body,
        program.request("GET", "/stats", Some(OPERATOR), "").body,
        program.get("/v1/models").body,
        String::from_utf8_lossy(&doctor.stdout).into_owned(),
        String::from_utf8_lossy(&doctor.stderr).into_owned(),
    ];
    for text in shown {
        let at = text.find(PART);
        assert!(at.is_none(), "{what}: the key is in {}", &text[at.unwrap_or(0).saturating_sub(300)..]);
    }
}

#[test]
fn a_server_that_echoes_the_key_is_scrubbed() {
    let said = |text: &str| json!({ "error": { "message": text, "type": "it", "code": null } });
    let echo = format!("Incorrect API key provided: {SECRET}. You can find yours elsewhere.");
    // Escapes of JSON hide a key from who looks at the bytes.
    let escaped = said("KEY").to_string().replace("KEY", &SECRET.replace('-', "\\u002d"));
    let mut in_param = said("no such parameter");
    in_param["error"]["param"] = Value::from(format!("headers.{SECRET}"));
    let json = "Content-Type: application/json\r\n";
    let replies = vec![
        Reply::status(401, "", &said(&echo)),
        Reply::status(400, "", &said(&echo)),
        Reply::status(404, "", &said(&echo)),
        Reply::status(429, "", &said(&echo)),
        Reply::status(500, &format!("X-Request-Id: {SECRET}\r\nWWW-Authenticate: Bearer {SECRET}\r\n"), &said(&echo)),
        Reply::status(503, "", &json!({ "error": echo.clone() })),
        Reply::status(400, "", &in_param),
        Reply::typed(400, json, &escaped),
        Reply::typed(400, "Content-Type: text/plain\r\n", &echo),
        Reply::typed(200, &format!("Content-Type: text/{SECRET}\r\n"), "x"),
        Reply::typed(200, &format!("{json}Content-Encoding: {SECRET}\r\n"), "x"),
        Reply::typed(307, &format!("Location: http://127.0.0.1/?key={SECRET}\r\n"), ""),
        Reply::typed(200, json, &said(&echo).to_string()),
        Reply::Raw(
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: {}\n\ndata: {}\n\n",
                json!({ "choices": [{ "index": 0, "delta": { "content": "so far" }, "finish_reason": null }] }),
                said(&echo)
            ),
            Then::Close,
        ),
    ];
    let servers: Vec<Server> = replies.iter().map(|reply| Server::start(Api::OpenAi, [reply.clone()])).collect();
    let entries: String = servers
        .iter()
        .enumerate()
        .map(|(at, server)| server.entry(&format!("up{at}"), ", models: [m], retries: 0, circuit: { failures: 1, pause: 60s }"))
        .collect();
    let program = start(&entries, "");
    for (at, reply) in replies.iter().enumerate() {
        // An open circuit may tell of the failure that opened it, so each is asked in turn.
        for as_client in EVERY {
            let told = ask(&program, as_client, &format!("up{at}/m"));
            let all = format!("{:?} {}", told.answer.headers, told.answer.body);
            assert!(!all.contains(PART), "{as_client:?} {reply:?}: {all}");
            assert!(told.error.is_some(), "{told:?}");
        }
    }
    told_nowhere(&program, "after all");
}

#[test]
fn a_message_that_is_cut_within_the_key_shows_no_part_of_it() {
    for length in [2010, 2020, 2030] {
        let message = format!("{} {SECRET}", "x".repeat(length));
        let body = json!({ "error": { "message": message } });
        let server = Server::start(Api::OpenAi, [Reply::status(400, "", &body)]);
        let program = start(&server.entry("up", ", models: [m]"), "");
        for as_client in EVERY {
            let told = ask(&program, as_client, "up/m");
            assert!(!told.answer.body.contains("sk-se"), "{length}: {}", told.answer.body);
        }
    }
}

#[test]
fn the_models_own_text_stays_as_it_is() {
    // Who asks a model for a text like this key gets it.
    let server = Server::start(Api::OpenAi, [Reply::Text("say sk-secret-0123456789abcdef-of-the-upstream twice")]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    for as_client in EVERY {
        ask(&program, as_client, "up/m").is("say sk-secret-0123456789abcdef-of-the-upstream twice");
    }
}

/// A program in the place of `secret-tool`, which knows one secret and notes what it is asked.
fn credential_store(folder: &Folder) -> OsString {
    let bin = folder.0.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> '{}/asked'\n[ \"$5\" = me ] && printf %s '{SECRET}'\n",
        folder.0.display()
    );
    let tool = bin.join("secret-tool");
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_key_may_come_from_the_credential_store_of_the_system() {
    let server = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    let folder = Folder::new();
    let path = credential_store(&folder);
    let upstream = |place: &str| {
        let entry = server.entry("up", ", models: [m]");
        format!("upstreams:\n{}", entry.replace(SECRET, place))
    };
    let config = write_config(&folder.0, "127.0.0.1:0", &upstream("keyring:https://h/v1/nobody"));
    let mut command = Command::new(program());
    command.arg("--config").arg(&config).env("HOME", &folder.0).env("PATH", &path);
    let ended = command.current_dir(&folder.0).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    let why = "upstreams[0].key: the system's credential store gives no secret for `keyring:https://h/v1/nobody`: there is none; store it with `secret-tool store";
    assert!(said.contains(why), "{said}");
    let asked = folder.0.join("asked");
    let lines = std::fs::read_to_string(&asked).unwrap();
    assert_eq!(lines, "lookup service https://h/v1 username nobody\n");

    let config = write_config(&folder.0, "127.0.0.1:0", &upstream("keyring:openai/me"));
    let mut command = Command::new(program());
    command.arg("--config").arg(&config).env("PATH", &path);
    let program = Program::spawn(command, folder, config);
    ask_whole(&program, "up/m").is("fine");
    let authorization = format!("authorization: Bearer {SECRET}");
    let head = &server.asked()[0].head;
    assert!(head.lines().any(|line| line.eq_ignore_ascii_case(&authorization)), "{head}");
    assert!(!program.log().contains(SECRET));
}
