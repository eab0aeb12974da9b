//! A program that is started in a folder that somebody else has filled.

use crate::audit::records;
use crate::program::{CLIENT, Folder, Program, program};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FOREIGN_TOKEN: &str = "token-of-the-foreign-folder";
const OWN_TOKEN: &str = "token-beside-the-configuration";
const FOREIGN_KEY: &str = "key-of-the-foreign-folder";

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// A folder with everything in it that a program could take for its own. `listens` is an address of its owner's.
fn evil(listens: &str) -> Folder {
    let folder = Folder::new();
    let at = &folder.0;
    let pwned = at.join("pwned");
    let dot_env = format!(
        "LOCAL_PROVIDER_CONFIG={0}/evil.yaml\n\
         LOCAL_PROVIDER_KEY={FOREIGN_KEY}\n\
         MLP_LISTEN__HTTP={listens}\n\
         MLP_AUTH__KEYS__1__NAME=evil\n\
         MLP_AUTH__KEYS__1__KEY={FOREIGN_KEY}\n\
         MLP_AUTH__KEYS__1__ROLE=admin\n\
         MLP_AGENTS__0__NAME=evil\n\
         MLP_AGENTS__0__COMMAND=[\"touch\", \"{1}\"]\n",
        at.display(),
        pwned.display(),
    );
    write(at, ".env", &dot_env);
    let config = format!(
        "listen: {{ http: [\"{listens}\"] }}\nauth: {{ keys: [{{ name: other, key: {FOREIGN_TOKEN}, role: admin }}] }}\n"
    );
    for name in ["evil.yaml", "config.yaml"] {
        write(at, name, &config);
    }
    write(at, "bridge.token", FOREIGN_TOKEN);
    write(at, "operator.token", FOREIGN_KEY);
    write(at, "data/operator.token", FOREIGN_KEY);
    // What is written through these would be in the place of somebody's files.
    write(at, "victim/file", "precious\n");
    std::os::unix::fs::symlink("victim", at.join("logs")).unwrap();
    std::os::unix::fs::symlink("../victim/file", at.join("data/audit.jsonl")).unwrap();
    std::os::unix::fs::symlink("file", at.join("victim/audit.jsonl")).unwrap();
    std::os::unix::fs::symlink("victim/file", at.join("audit.jsonl")).unwrap();
    folder
}

/// Everything below a folder: names, and what files hold and links name.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            let content = if kind.is_symlink() {
                std::fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else if kind.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            found.insert(path, content);
        }
    }
    found
}

/// A home directory with a configuration in the XDG place, and a token and `.env` beside it.
fn home() -> (Folder, PathBuf) {
    let folder = Folder::new();
    let place = folder.0.join(".config/mcp-local-provider");
    let config = write(
        &place,
        "config.yaml",
        "listen: { http: [\"127.0.0.1:0\"] }\n\
         auth:\n  keys:\n    - { name: editor, key: \"env:EDITOR_KEY\", role: client }\n    - { name: bridge, key: \"file:bridge.token\", role: bridge }\n",
    );
    write(&place, "bridge.token", OWN_TOKEN);
    write(&place, ".env", &format!("EDITOR_KEY={CLIENT}\n"));
    (folder, config)
}

#[test]
fn a_program_takes_nothing_from_the_folder_that_it_is_started_in() {
    let foreign = evil("127.0.0.1:0");
    let before = contents(&foreign.0);
    let (home, config) = home();
    let mut program = Program::spawn_in(&foreign.0, Command::new(program()), home, config);

    let models = |key: &str| program.request("GET", "/v1/models", Some(key), "").status;
    assert_eq!(
        models(CLIENT),
        200,
        "the key that the `.env` beside the configuration gives"
    );
    assert_eq!(models(FOREIGN_KEY), 401);
    assert_eq!(models(OWN_TOKEN), 200, "the token beside the configuration");
    assert_eq!(models(FOREIGN_TOKEN), 401);
    program.signal("HUP");
    program.wait_for_log("took the configuration over");
    assert_eq!(
        program
            .request("GET", "/v1/models", Some(FOREIGN_KEY), "")
            .status,
        401
    );
    let data = program.folder.0.join(".local/share/mcp-local-provider");
    records(&data.join("audit.jsonl"), |record| {
        record["endpoint"] == "/v1/models"
    });
    program.signal("TERM");
    assert!(program.wait().0.success());
    assert_eq!(
        contents(&foreign.0),
        before,
        "nothing is written there, and no command of its ran"
    );
}

/// Runs the program's command line in a folder.
fn run(
    folder: &Path,
    home: &Folder,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program())
        .args(arguments)
        .current_dir(folder)
        .env("HOME", &home.0)
        .env_remove("LOCAL_PROVIDER_CONFIG")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code(), text)
}

#[test]
fn a_command_neither_asks_a_foreign_program_nor_shows_it_a_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let foreign = evil(&listener.local_addr().unwrap().to_string());
    let before = contents(&foreign.0);
    let (home, _) = home();
    let (code, text) = run(&foreign.0, &home, &["sessions"], &[]);
    // The own configuration leaves the port open.
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("--listen"), "{text}");
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    assert_eq!(contents(&foreign.0), before);
}

#[test]
fn a_path_that_would_depend_on_the_folder_is_refused_with_what_to_do() {
    let foreign = evil("127.0.0.1:0");
    let (home, config) = home();
    let refused = |arguments: &[&str], variables: &[(&str, &str)], said: &str| {
        let arguments = [&["check-config"], arguments].concat();
        let (code, text) = run(&foreign.0, &home, &arguments, variables);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(said), "{text}");
        assert!(
            !text.contains(FOREIGN_TOKEN) && !text.contains(FOREIGN_KEY),
            "{text}"
        );
    };
    refused(
        &[],
        &[("MLP_AUTH__KEYS__1__KEY", "file:bridge.token")],
        "MLP_AUTH__KEYS__1__KEY: auth.keys[1].key: `bridge.token` would be another file in each folder; give an absolute path",
    );
    refused(
        &[],
        &[("LOCAL_PROVIDER_CONFIG", "evil.yaml")],
        "LOCAL_PROVIDER_CONFIG: `evil.yaml` would be another file in each folder; give an absolute path",
    );
    refused(
        &[],
        &[("MLP_DATA_DIR", "data")],
        "MLP_DATA_DIR: data_dir: `data` would be another file in each folder; give an absolute path",
    );
    refused(&[], &[("HOME", ".")], "HOME");
    refused(
        &["--env-file", "not-there.env"],
        &[],
        "--env-file: not-there.env cannot be read: ",
    );

    // A file that is named is read, in the place of the one beside the configuration.
    let named = write(
        &home.0,
        "named.env",
        "EDITOR_KEY=another-key-0123456789\nUNREADABLE\n",
    );
    let named = named.to_str().unwrap();
    let (code, text) = run(
        &foreign.0,
        &home,
        &["check-config", "--env-file", named],
        &[],
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains(&format!("warning: {named}:2: this line is skipped")),
        "{text}"
    );
    std::fs::write(config.parent().unwrap().join(".env"), "").unwrap();
    refused(&[], &[], "the environment variable `EDITOR_KEY` is not set");
}

#[test]
fn the_image_has_a_place_for_all_that_the_program_writes() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::{MetadataExt, chown};
    use std::os::unix::process::CommandExt;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile");
    let image = std::fs::read_to_string(file).unwrap();
    let told = |word: &str| {
        let line = image.lines().rfind(|line| line.split(' ').next() == Some(word));
        line.unwrap().split_once(' ').unwrap().1.to_owned()
    };
    let (user, volume) = (told("USER"), told("VOLUME"));
    assert!(image.contains(&format!("COPY --from=build --chown={user} {volume} {volume}\n")));
    let user: u32 = user.split(':').next().unwrap().parse().unwrap();
    let folder = Folder::new();
    let place = folder.0.join("data");
    std::fs::create_dir(&place).unwrap();
    let mut command = Command::new(program());
    command.args(["--listen", "127.0.0.1:0"]).current_dir("/").env_clear();
    for variable in told("ENV").split(' ') {
        let (name, value) = variable.split_once('=').unwrap();
        command.env(name, value.replace(&volume, place.to_str().unwrap()));
    }
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        chown(&place, Some(user), Some(user)).unwrap();
        command.uid(user).gid(user);
    }
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut running = command.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(running.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(ready.starts_with("ready http://"), "{ready}");
    let written = contents(&place);
    let keys = image.lines().find_map(|line| line.split("else in ").nth(1)).unwrap();
    let keys = keys.split(',').next().unwrap().replace(&volume, place.to_str().unwrap());
    assert!(written.contains_key(Path::new(&keys)), "{keys}: {:?}", written.keys());
    assert!(written.keys().any(|path| path.ends_with("audit.jsonl")), "{:?}", written.keys());
}
