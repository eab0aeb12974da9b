//! The program as a newcomer meets it.

use crate::program::{Answer, Folder, Program, program, write_config};
use serde_json::json;
use std::io::{Read, Write};
use std::process::Command;

fn run(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program())
        .args(arguments)
        .current_dir(&folder.0)
        .env("HOME", &folder.0)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("LOCAL_PROVIDER_CONFIG")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn the_demo_answers_the_lines_that_it_prints() {
    let folder = Folder::new();
    let config = folder.0.join("none.yaml");
    let mut command = Command::new(program());
    command.args(["--demo", "--listen", "127.0.0.1:0"]);
    let program = Program::spawn(command, folder, config);
    // The key is in the lines to paste; so is everything else that a newcomer needs.
    let banner = loop {
        let log = program.log();
        if log.contains("Ctrl-C") {
            break log;
        }
        std::thread::yield_now();
    };
    let key = banner
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| word.starts_with("mlp-") && word.len() > 20)
        .unwrap_or_else(|| panic!("no key in {banner}"))
        .to_string();
    assert_eq!(banner.matches("curl -N").count(), 2, "{banner}");
    assert!(banner.contains(&program.address.to_string()));
    let ask = |path: &str, body: serde_json::Value| {
        program.request("POST", path, Some(&key), &body.to_string())
    };
    let model = program.request("GET", "/v1/models", Some(&key), "").json()["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_string();
    let answer = ask(
        "/v1/chat/completions",
        json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "two words" }] }),
    );
    assert!(answer.text().contains("two words"), "{}", answer.body);
    assert!(answer.events().len() > 4, "word by word");
    let answer = ask(
        "/api/chat",
        json!({ "model": model, "messages": [{ "role": "user", "content": "two words" }] }),
    );
    assert!(
        answer.body.lines().count() > 4 && answer.body.contains("\"done\":true"),
        "{}",
        answer.body
    );
    let tools = json!([{ "type": "function", "function": { "name": "weather", "description": "tells the weather", "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } }]);
    let answer = ask("/v1/chat/completions", json!({ "model": model, "messages": [{ "role": "user", "content": "call the weather tool" }], "tools": tools })).json();
    assert_eq!(
        answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "weather",
        "{answer}"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert!(
        std::fs::read_dir(&program.folder.0)
            .unwrap()
            .all(|entry| entry.unwrap().file_name() == "stderr.log"),
        "the demo leaves nothing behind"
    );
}

#[test]
fn a_taken_port_is_said_in_one_sentence() {
    let running = Program::start("");
    let folder = Folder::new();
    let config = write_config(&folder.0, &running.address.to_string(), "");
    let (code, text) = run(&folder, &["--config", config.to_str().unwrap()]);
    assert_ne!(code, Some(0));
    // Beside the log there is one sentence.
    let said: Vec<&str> = text.lines().filter(|line| !line.starts_with('{')).collect();
    assert!(
        matches!(said[..], [one] if one.contains(&running.address.to_string())),
        "{text}"
    );
}

#[test]
fn a_wrong_configuration_is_refused_with_the_line_and_the_nearest_name() {
    let folder = Folder::new();
    let config = folder.0.join("wrong.yaml");
    std::fs::write(&config, "limits:\n  requests_per_minut: 5\n").unwrap();
    let (code, text) = run(
        &folder,
        &["check-config", "--config", config.to_str().unwrap()],
    );
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("wrong.yaml:2") && text.contains("requests_per_minute"),
        "{text}"
    );
    std::fs::write(&config, "limits: { requests_per_minute: 5 }\n").unwrap();
    assert_eq!(
        run(
            &folder,
            &["check-config", "--config", config.to_str().unwrap()]
        )
        .0,
        Some(0)
    );
}

#[test]
fn keys_of_a_first_start_without_a_terminal_are_in_a_private_file_and_in_no_log() {
    let folder = Folder::new();
    let config = folder.0.join("config.yaml");
    std::fs::write(
        &config,
        "listen: { http: [\"127.0.0.1:0\"] }\ndata_dir: ./data\naudit: off\n",
    )
    .unwrap();
    let start = |folder: Folder| {
        let mut command = Command::new(program());
        command.arg("--config").arg(&config);
        Program::spawn(command, folder, config.clone())
    };
    let mut first = start(folder);
    let said = first.log() + &first.banner;
    let shown_in = first.folder.0.join("data/first-keys.txt");
    assert!(said.contains("first-keys.txt"), "{said}");
    assert!(!said.contains("mlp-"), "a key is in the log");
    let shown = std::fs::read_to_string(&shown_in).unwrap();
    let key = shown
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| word.starts_with("mlp-") && word.len() > 20)
        .unwrap_or_else(|| panic!("no key in {shown}"))
        .to_string();
    let file = first.folder.0.join("data/keys.json");
    use std::os::unix::fs::PermissionsExt;
    let client_key = first.folder.0.join("data/client.key");
    let kept = std::fs::read_to_string(&client_key).unwrap();
    assert_eq!(kept.trim(), key, "the client key comes first");
    for private in [&file, &shown_in, &client_key] {
        let mode = std::fs::metadata(private).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", private.display());
    }
    assert!(
        !std::fs::read_to_string(&file).unwrap().contains(&key),
        "only digests are kept"
    );
    assert_eq!(
        first.request("GET", "/v1/models", Some(&key), "").status,
        200
    );
    first.signal("TERM");
    assert!(first.wait().0.success());
    let folder = std::mem::replace(&mut first.folder, Folder::new());
    std::fs::remove_file(folder.0.join("data/first-keys.txt")).unwrap();
    let second = start(folder);
    assert!(!(second.log() + &second.banner).contains("mlp-"));
    assert!(
        !second.folder.0.join("data/first-keys.txt").exists(),
        "shown once"
    );
    assert_eq!(
        second.request("GET", "/v1/models", Some(&key), "").status,
        200
    );
    let client_key = second.folder.0.join("data/client.key");
    assert_eq!(std::fs::read_to_string(&client_key).unwrap().trim(), key);
    let checked = second.command(&["check-config"]);
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.contains("client.key") && !checked.contains(&key),
        "{checked}"
    );
    let listed = second.command(&["keys", "list"]);
    assert!(listed.status.success() && !String::from_utf8_lossy(&listed.stdout).contains(&key));
}

#[test]
fn no_client_key_is_kept_where_none_is_wanted_and_a_removed_one_goes() {
    let folder = Folder::new();
    let config = folder.0.join("config.yaml");
    let auth = |keep: bool| {
        let text = format!(
            "listen: {{ http: [\"127.0.0.1:0\"] }}\ndata_dir: ./data-{keep}\naudit: off\nauth: {{ keep_client_key: {keep} }}\n"
        );
        std::fs::write(&config, text).unwrap();
        folder.0.join(format!("data-{keep}/client.key"))
    };
    let start = || {
        let mut command = Command::new(program());
        command.arg("--config").arg(&config);
        Program::spawn(command, Folder::new(), config.clone())
    };
    let none = auth(false);
    let program = start();
    assert!(program.log().contains("first-keys.txt") && !none.exists());
    drop(program);
    let kept = auth(true);
    let program = start();
    let key = std::fs::read_to_string(&kept).unwrap();
    let list = |key: &str| program.request("GET", "/v1/models", Some(key.trim()), "");
    assert_eq!(list(&key).status, 200);
    assert!(program.command(&["keys", "remove", "client"]).status.success());
    assert!(!kept.exists());
}

#[test]
fn check_config_tells_every_value_with_its_source() {
    let folder = Folder::new();
    let config = folder.0.join("config.yaml");
    let text = "listen: { ollama: auto }\nmodels:\n  aliases:\n    my-gpt-4o: { model: claude, context_length: 128000 }\n    \"*\": claude\n";
    std::fs::write(&config, text).unwrap();
    let file = config.to_str().unwrap();
    let check = ["check-config", "--config", file, "--log", "debug"];
    let (code, told) = run(&folder, &check);
    assert_eq!(code, Some(0), "{told}");
    let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        vec!["listen.ollama", "auto", &format!("{file}:1")],
        vec!["listen.http[0]", "127.0.0.1:8788", "default"],
        vec!["models.aliases.my-gpt-4o.context_length", "128000", &format!("{file}:4")],
        vec!["models.aliases.*.model", "claude", &format!("{file}:5")],
        vec!["timeouts.idle", "60s", "default"],
        vec!["log.level", "debug", "--log"],
    ] {
        assert!(rows.contains(&row), "{row:?} is not in {told}");
    }
}

#[test]
fn the_example_is_a_configuration_that_check_config_accepts() {
    let folder = Folder::new();
    let (code, example) = run(&folder, &["config", "example"]);
    assert_eq!(code, Some(0), "{example}");
    let config = folder.0.join("example.yaml");
    std::fs::write(&config, example).unwrap();
    let (code, told) = run(&folder, &["check-config", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("warning"), "{told}");
}

#[test]
fn every_error_of_a_configuration_is_told_at_once() {
    let folder = Folder::new();
    let config = folder.0.join("wrong.yaml");
    std::fs::write(&config, "limits: { burst: many, messages: 5000000000 }\ngateway: { cache_ttl: soon }\nlisten: here\n").unwrap();
    let (code, told) = run(&folder, &["--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{told}");
    for said in [
        "wrong.yaml:1: limits.burst: expected a whole number",
        "wrong.yaml:1: limits.messages: the number 5000000000 is too large; the largest is 4294967295",
        "wrong.yaml:2: gateway.cache_ttl: ",
        "wrong.yaml:3: listen: expected a section, found the text `here`; write `listen: { http: [\"127.0.0.1:8788\"] }`",
    ] {
        assert!(told.contains(said), "{said} is not in {told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
}

#[test]
fn an_upstream_that_is_the_program_itself_ends_the_start() {
    let folder = Folder::new();
    let config = folder.0.join("loop.yaml");
    std::fs::write(&config, "upstreams: [\"me=http://localhost:8788/v1\"]\n").unwrap();
    let config = config.to_str().unwrap();
    for (more, code) in [(&[][..], 2), (&["--listen", "127.0.0.1:8789"][..], 0)] {
        let words = [&["check-config", "--config", config][..], more].concat();
        let (ended, told) = run(&folder, &words);
        assert_eq!(ended, Some(code), "{told}");
        let said = "upstreams[0].url: localhost:8788 leads back to this program";
        assert_eq!(told.contains(said), code == 2, "{told}");
    }
    let (ended, told) = run(&folder, &["serve", "--config", config]);
    assert_eq!(ended, Some(2), "{told}");
}

#[test]
fn no_process_of_the_same_user_reads_what_is_in_its_environment() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let folder = Folder::new();
    let mut command = Command::new(program());
    command.args(["--demo", "--listen", "127.0.0.1:0"]);
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Root reads everything, and everything of root is root's.
        command.uid(NOBODY).env("HOME", "/nonexistent");
    }
    let config = folder.0.join("config.yaml");
    let running = Program::spawn(command, folder, config);
    let environment = std::fs::metadata(format!("/proc/{}/environ", running.child.id())).unwrap();
    assert_eq!(environment.uid(), 0, "its own user may read it");
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut program = Program::start("");
    let mut agent = crate::agent::Agent::connect(&program);
    let mut client = program.open(
        "POST",
        "/v1/chat/completions",
        Some(crate::program::CLIENT),
        &json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "x" }] })
            .to_string(),
    );
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "begun");
    let mut idle = program.connect();
    idle.flush().unwrap();
    program.signal("INT");
    let mut nothing = Vec::new();
    let _ = idle.read_to_end(&mut nothing);
    program.signal("INT");
    program.wait();
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes);
    assert!(
        !String::from_utf8_lossy(&bytes).contains("[DONE]") || Answer::parse(&bytes).status == 200
    );
}

#[test]
fn a_service_manager_may_open_the_socket() {
    use command_fds::{CommandFdExt, FdMapping};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:1", "");
    // The service manager names the process that the sockets are for, which is the shell that becomes the program.
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\""])
        .arg(program())
        .arg("--config")
        .arg(&config);
    let mapping = FdMapping {
        parent_fd: listener.into(),
        child_fd: 3,
    };
    command.fd_mappings(vec![mapping]).unwrap();
    let program = Program::spawn(command, folder, config);
    assert_eq!(program.address, address);
    assert_eq!(program.request("GET", "/health", None, "").status, 200);
}

#[test]
fn doctor_names_the_program_that_holds_the_port_and_knows_its_own() {
    let program = Program::start("");
    let there = program.command(&["doctor", "--listen", &program.address.to_string()]);
    let text = String::from_utf8_lossy(&there.stdout).into_owned();
    assert_eq!(there.status.code(), Some(0), "{text}");
    let own = format!("{} is served by a ", program.address);
    assert!(text.contains(&own), "{text}");

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    // It closes whatever connects, as a program of another kind does.
    std::thread::spawn(move || other.incoming().for_each(drop));
    let taken = program.command(&["doctor", "--listen", &address.to_string()]);
    let text = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert_eq!(taken.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("FAIL  port          {address} is taken by ")), "{text}");
}

#[test]
fn the_audit_is_read_from_the_command_line() {
    let program = Program::start("");
    assert_eq!(program.request("GET", "/v1/models", Some("not-a-key"), "").status, 401);
    let mut command = Command::new(crate::program::program());
    let mut follower = command
        .args(["audit", "tail", "--follow", "--config"])
        .arg(&program.config)
        .current_dir(&program.folder.0)
        .env("HOME", &program.folder.0)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().unwrap()));
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("status=401") && line.contains("endpoint="), "{line}");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_service_manager_hears_when_it_is_ready_and_when_it_stops() {
    let folder = Folder::new();
    let socket = folder.0.join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(crate::program::PATIENCE)).unwrap();
    let said = || {
        let mut message = [0; 64];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    let mut command = Command::new(program());
    command.arg("--config").arg(&config).env("NOTIFY_SOCKET", &socket);
    let mut program = Program::spawn(command, folder, config);
    assert_eq!(said(), "READY=1\n");
    program.signal("TERM");
    assert_eq!(said(), "STOPPING=1\n");
    assert!(program.wait().0.success());
}
