//! `mcp serve` and `mcp list`, as a person uses them.

use crate::program::{Folder, Program, program};
use serde_json::Value;
use std::process::{Command, Output};

fn run(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(&folder.0);
    command.env("HOME", &folder.0).env_remove("XDG_CONFIG_HOME");
    command.env_remove("LOCAL_PROVIDER_CONFIG").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn one_server_is_served_with_a_key_for_mcp_alone_and_nothing_is_written() {
    let folder = Folder::new();
    // No file counts.
    let config = folder.0.join(".config/mcp-local-provider/config.yaml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "nonsense: true\n").unwrap();
    let before = files(&folder);
    let mut command = Command::new(program());
    command.args(["mcp", "serve", "--listen", "127.0.0.1:0", "--", "/bin/cat", "-u"]);
    let mut program = Program::spawn(command, folder, config);
    program.wait_for_log("Ctrl-C stops it.");
    let banner = program.log();
    let key = banner
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| word.starts_with("mlp-") && word.len() > 20)
        .unwrap_or_else(|| panic!("no key in {banner}"));
    let line = format!(
        "claude mcp add --transport http cat http://{}/mcp --header 'Authorization: Bearer {key}'",
        program.address
    );
    assert!(banner.contains(&line), "{line} is not in {banner}");
    let models = |key| program.request("GET", "/v1/models", key, "").status;
    assert_eq!(models(None), 401);
    assert_eq!(models(Some(key)), 403, "the key is for MCP alone");
    program.signal("TERM");
    assert!(program.wait().0.success());
    let mut after = files(&program.folder);
    after.retain(|name| name != "stderr.log");
    assert_eq!(after, before, "nothing was written");
}

/// Returns the names of all files below a folder.
fn files(folder: &Folder) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.0.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn no_key_is_asked_for_on_this_machine_alone() {
    let folder = Folder::new();
    let config = folder.0.join("none.yaml");
    let mut command = Command::new(program());
    command.args(["mcp", "serve", "--no-auth", "--listen", "127.0.0.1:0", "--", "/bin/cat"]);
    let running = Program::spawn(command, folder, config);
    running.wait_for_log("Ctrl-C stops it.");
    let banner = running.log();
    assert!(banner.contains("none is needed") && !banner.contains("mlp-"), "{banner}");
    assert_eq!(running.request("GET", "/v1/models", None, "").status, 200);

    let folder = Folder::new();
    let refused = run(
        &folder,
        &["mcp", "serve", "--no-auth", "--listen", "0.0.0.0:0", "--", "/bin/cat"],
    );
    assert_eq!(refused.status.code(), Some(2));
    let text = said(&refused);
    assert!(text.contains("can be reached from other machines"), "{text}");
    let missing = run(&folder, &["mcp", "serve", "--", "no-such-server"]);
    assert_eq!(missing.status.code(), Some(1));
    let text = said(&missing);
    assert!(text.contains("`no-such-server` is not on the PATH"), "{text}");
}

#[test]
fn servers_are_listed_from_the_configuration_and_none_is_started() {
    let folder = Folder::new();
    let config = folder.0.join("c.yaml");
    let text = "mcpServers:\n  files: { command: ./server, args: [-x], env: { TOKEN: swordfish } }\n  off: { command: x, disabled: true }\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let listed = run(&folder, &["mcp", "list", "--json", "--config", config]);
    assert_eq!(listed.status.code(), Some(0), "{}", said(&listed));
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let place = folder.0.join("server");
    assert_eq!(listed["servers"][0]["command"][0], place.to_str().unwrap());
    assert_eq!(listed["servers"][0]["state"], "missing");
    assert_eq!(listed["servers"][1]["state"], "disabled");
    let text = said(&run(&folder, &["mcp", "list", "--config", config]));
    assert!(text.starts_with("NAME   STATE     COMMAND"), "{text}");
    let checked = said(&run(&folder, &["check-config", "--config", config]));
    assert!(checked.contains("mcpServers.files.env.TOKEN"), "{checked}");
    assert!(!checked.contains("swordfish"), "{checked}");
}
