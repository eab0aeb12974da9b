//! Reverse proxies before the program: who the client is, and who is local.

use crate::audit::records;
use crate::program::{Answer, Folder, OPERATOR, Program, program, write_config};
use std::io::Read;
use std::path::Path;
use std::process::Command;

fn ask(program: &Program, path: &str, headers: &str) -> Answer {
    let mut stream = program.raw(&format!(
        "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
    ));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

#[test]
fn what_loopback_is_granted_is_not_for_those_who_come_through_a_proxy() {
    for proxies in ["[]", "[127.0.0.1]"] {
        let program = start(proxies);
        for (headers, status) in [
            ("Host: localhost\r\n", 200),
            ("Host: 127.0.0.1:8788\r\n", 200),
            ("Host: 192.168.1.4:8788\r\n", 401),
            ("Host: localhost\r\nX-Forwarded-For: 203.0.113.7\r\n", 401),
            ("Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 203.0.113.7\r\n", 401),
            ("Host: localhost\r\nForwarded: for=203.0.113.7\r\n", 401),
            ("Host: localhost\r\nX-Real-IP: 127.0.0.1\r\n", 401),
        ] {
            for path in ["/metrics", "/stats"] {
                let answer = ask(&program, path, headers);
                assert_eq!(answer.status, status, "{path} {headers}: {}", answer.body);
            }
        }
        let operator = format!("Host: localhost\r\nX-Forwarded-For: 203.0.113.7\r\nAuthorization: Bearer {OPERATOR}\r\n");
        assert_eq!(ask(&program, "/metrics", &operator).status, 200);
    }
}

#[test]
fn a_client_behind_a_trusted_proxy_has_its_own_address() {
    let program = start("[]");
    let headers = format!(
        "Host: localhost\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.7, 127.0.0.9\r\nAuthorization: Bearer {OPERATOR}\r\n"
    );
    let address = |path: &str| {
        assert_eq!(ask(&program, path, &headers).status, 200);
        let file = program.folder.0.join("audit.jsonl");
        let records = records(&file, |record| record["endpoint"] == path);
        let mut records = records.iter();
        records.find(|record| record["endpoint"] == path).unwrap()["address"].clone()
    };
    assert_eq!(address("/v1/models"), "127.0.0.1");
    write(&program.config, "[127.0.0.0/8]");
    program.signal("HUP");
    program.wait_for_log("listen.trusted_proxies");
    assert_eq!(address("/control/sessions"), "203.0.113.7");
    assert!(!program.log().contains("from the next start on"));
}

/// Starts the program with that list of trusted proxies.
fn start(proxies: &str) -> Program {
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    write(&config, proxies);
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

fn write(config: &Path, proxies: &str) {
    write_config(config.parent().unwrap(), "127.0.0.1:0", "");
    let text = std::fs::read_to_string(config).unwrap();
    let listen = format!("listen: {{ trusted_proxies: {proxies}, ");
    std::fs::write(config, text.replacen("listen: { ", &listen, 1)).unwrap();
}
