//! The outside of the registry: commands that tools run, and the command line on its file.

use crate::program::{Folder, PATIENCE, program, write_config};
use mcp_local_provider_engine::registry::{CommandCall, CommandEnd, CommandHandle, Commands, NotRun};
use mcp_local_provider_host::config::RegistrySecret;
use mcp_local_provider_host::registry::{HostCommands, open};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

type Ended = Receiver<Result<CommandEnd, NotRun>>;

fn commands(programs: &[&str]) -> Arc<HostCommands> {
    let programs: Vec<_> = programs.iter().map(Into::into).collect();
    HostCommands::supervised(&programs, None, Some(program().to_owned()))
}

fn call(program: &str, arguments: &[&str]) -> CommandCall {
    CommandCall {
        name: "test".to_owned(),
        program: program.to_owned(),
        arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
        environment: Vec::new(),
        input: Vec::new(),
        output_bytes: 1 << 20,
    }
}

fn run(call: CommandCall) -> (CommandHandle, Ended) {
    let (tell, told) = channel();
    let commands = commands(&[&call.program]);
    let handle = commands.run(call, Box::new(move |ended| tell.send(ended).unwrap()));
    (handle, told)
}

fn end(call: CommandCall) -> CommandEnd {
    let (_handle, told) = run(call);
    told.recv_timeout(PATIENCE).unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each value is one argument of the program, whatever is in it.
#[test]
fn a_value_stays_one_argument() {
    let values = [
        "plain", "", " ", "two words", "'", "\"", "\"quoted\"", "a'b\"c", "line\nline", "tab\there", "\r\n", "--", "--help", "-n", "@/etc/passwd",
        "$(id)", "`id`", "$HOME", "${PATH}", "~", "*", "?", "[a]", "{a,b}", "a;b", "a&&b", "a|b", "a>b", "<a", "#a", "!a", "\\", "\\n", "%s", "%n",
        "é", "\u{202e}", "\u{7}", "=", "A=B", "/../..", "--remove", "--before-kill", "child-process",
    ];
    // Each argument with its end marked, so that none can be taken for two.
    let script = "for argument; do printf '%s\\0' \"$argument\"; done";
    let mut arguments = vec!["-c", script, "name"];
    arguments.extend(values);
    let ended = end(call("/bin/sh", &arguments));
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    let seen = text(&ended.output);
    let seen: Vec<&str> = seen.trim_end_matches('\0').split('\0').collect();
    // An empty one at the end would be lost; none is there.
    assert_eq!(seen, values);
}

#[test]
fn a_command_sees_its_input_a_clean_environment_and_an_empty_directory() {
    let mut call = call("/bin/sh", &["-c", "pwd; ls -A; cat; env; exit 3"]);
    call.input = b"what is given\n".to_vec();
    call.environment = vec![
        ("GIVEN".to_owned(), "a b\n$(id) 'c'".to_owned()),
        ("LANG".to_owned(), "de".to_owned()),
    ];
    let ended = end(call);
    assert_eq!(ended.code, Some(3));
    let seen = text(&ended.output);
    let mut lines = seen.lines();
    let directory = lines.next().unwrap();
    assert!(directory.contains("mcp-local-provider-child-") && directory.ends_with("/work"), "{directory}");
    assert!(!Path::new(directory).exists(), "it is removed");
    assert_eq!(lines.next(), Some("what is given"), "the directory is empty");
    assert!(seen.contains("\nGIVEN=a b\n$(id) 'c'\n") && seen.contains("\nLANG=de\n"), "{seen}");
    // What cargo gives to this test is nothing that every program needs.
    assert!(std::env::var_os("CARGO").is_some() && !seen.contains("CARGO"), "{seen}");
}

#[test]
fn the_end_of_a_command_and_what_it_wrote_are_told() {
    let said = |script: &str| {
        let ended = end(call("/bin/sh", &["-c", script]));
        (ended.code, text(&ended.output), ended.errors, ended.is_cut)
    };
    assert_eq!(said("echo out; echo 'error: why' >&2; exit 7"), (Some(7), "out\n".to_owned(), "error: why".to_owned(), false));
    assert_eq!(said("kill -9 $$").0, Some(137));
    assert_eq!(said("exec >&-; sleep 600").0, None);
    let (code, output, _, is_cut) = said("yes x");
    assert_eq!((code, output.len(), is_cut), (None, 1 << 20, true));
    let (code, output, _, is_cut) = said("head -c 1048576 /dev/zero");
    assert_eq!((code, output.len(), is_cut), (Some(0), 1 << 20, false));
    // One that reads nothing of what it is given, and one that reads all of it.
    let mut large = call("/bin/sh", &["-c", "true"]);
    large.input = vec![b'x'; 4 << 20];
    assert_eq!(end(large.clone()).code, Some(0));
    large.arguments = vec!["-c".to_owned(), "wc -c".to_owned()];
    assert_eq!(text(&end(large).output).trim(), (4 << 20).to_string());
}

/// The command, a child in its group, one that has left group and session, and one whose parent is gone; nothing but SIGKILL ends
/// them.
#[test]
fn a_command_that_is_given_up_ends_with_all_that_it_has_started_within_100_ms() {
    let folder = Folder::new();
    let pids = folder.0.join("pids");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pids, 0o600.into()).unwrap();
    let stubborn = "trap \"\" TERM HUP INT; echo $$ >&3; sleep 60; sleep 60";
    let script = format!(
        "trap '' TERM HUP INT; exec 3>\"$1\"; stubborn='{stubborn}'; \
         sh -c \"$stubborn\" & setsid sh -c \"$stubborn\" & (setsid sh -c \"$stubborn\" &) ; echo $$ >&3; sleep 60; sleep 60"
    );
    let mut slowest = Duration::ZERO;
    let mut within = 0;
    for _ in 0..5 {
        let (handle, told) = run(call("/bin/sh", &["-c", &script, "name", pids.to_str().unwrap()]));
        let lines = BufReader::new(std::fs::File::open(&pids).unwrap()).lines();
        let processes: Vec<_> = lines
            .take(4)
            .map(|line| {
                let pid = Pid::from_raw(line.unwrap().parse().unwrap()).unwrap();
                pidfd_open(pid, PidfdFlags::empty()).unwrap()
            })
            .collect();
        assert_eq!(processes.len(), 4);
        let given_up = Instant::now();
        drop(handle);
        for process in &processes {
            let mut ended = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
            let patience = rustix::event::Timespec::try_from(PATIENCE).unwrap();
            assert_eq!(rustix::event::poll(&mut ended, Some(&patience)), Ok(1), "it lives on");
        }
        let time = given_up.elapsed();
        slowest = slowest.max(time);
        within += usize::from(time < Duration::from_millis(100));
        // Nobody is told.
        assert!(told.recv().is_err());
    }
    // A machine with other work to do may take longer once.
    assert!(within > 0, "it took {slowest:?}");
}

/// Exit code and output of a command, without the warnings that literal keys draw.
fn said(folder: &Folder, config: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .env("HOME", &folder.0)
        .output()
        .unwrap();
    let told = text(&output.stdout) + &text(&output.stderr);
    let lines = told.lines().filter(|line| !line.contains(": warning: "));
    let told = lines.map(|line| format!("{line}\n")).collect();
    (output.status.code(), told)
}

#[test]
fn the_registry_is_taken_elsewhere_by_commands_while_no_program_has_it_open() {
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:0", "registry: { commands: [/bin/date] }\n");
    let export = folder.0.join("export.jsonl");
    let head = "{\"format\":\"mcp-local-provider-registry\",\"version\":1,\"secrets\":true}";
    let tool = "{\"kind\":\"tool\",\"name\":\"now\",\"value\":{\"name\":\"now\",\"kind\":\"command\",\"command\":[\"/bin/date\"]}}";
    let model = "{\"provider\":\"openai\",\"model_name\":\"m\"}";
    let integration =
        format!("{{\"kind\":\"integration\",\"name\":\"i\",\"value\":{{\"integration_id\":\"i\",\"name\":\"i\",\"model\":{model}}},\"secrets\":{{\"/model/api_key\":\"sk-1\"}}}}");
    std::fs::write(&export, format!("{head}\n{tool}\n{integration}\n")).unwrap();
    let file = export.to_str().unwrap();
    let said = |arguments: &[&str]| said(&folder, &config, arguments);
    assert_eq!(said(&["registry", "import", file]), (Some(0), "2 entries were added, 0 replaced\n".to_owned()));
    let (code, told) = said(&["registry", "import", file]);
    assert_eq!(code, Some(1));
    assert!(told.contains("line 2: the tool \"now\" exists already; `replace` replaces what exists"), "{told}");
    let (code, told) = said(&["registry", "rekey"]);
    assert_eq!((code, told.as_str()), (Some(0), "1 secrets are sealed with a new key (file)\n"));
    let (code, told) = said(&["registry", "rekey", "--to", "mine"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("it must be `file`, or `env:NAME`"), "{told}");
    let out = folder.0.join("out.jsonl");
    assert_eq!(said(&["registry", "export", "--secrets", out.to_str().unwrap()]).0, Some(0));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), std::fs::read_to_string(&export).unwrap());
    let (code, told) = said(&["registry", "export", "-"]);
    assert_eq!(code, Some(0));
    assert!(told.contains("\"/model/api_key\":null") && !told.contains("sk-1"), "{told}");

    // A program that has it open: this one.
    let data_dir = folder.0.join("data");
    assert!(data_dir.join("registry.redb").exists(), "{data_dir:?}");
    let (store, there) = open(&data_dir, &RegistrySecret::File).unwrap();
    assert_eq!(there.len(), 2);
    for arguments in [&["registry", "export", "-"][..], &["registry", "import", file], &["registry", "rekey"]] {
        let (code, told) = said(arguments);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("registry.redb is open in a program that runs; stop that (`stop`) and try again"), "{told}");
    }
    let (_, told) = said(&["doctor"]);
    assert!(told.contains("registry.redb is open in a program that runs"), "{told}");
    drop(store);
    std::fs::remove_file(data_dir.join("secret.key")).unwrap();
    let (code, told) = said(&["doctor"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("FAIL  registry") && told.contains("secret.key holds no key, and 1 secrets in "), "{told}");
}
