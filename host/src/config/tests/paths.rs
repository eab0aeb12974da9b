//! Paths of files: none depends on the folder in which the program is started.

use super::*;

fn with_config(path: &Path) -> Overrides {
    Overrides {
        config: Some(path.to_owned()),
        ..Overrides::default()
    }
}

#[test]
fn relative_paths_of_a_file_are_in_its_folder_and_the_audit_is_in_data_dir() {
    let directory = Directory::new();
    let text = "
auth: { keys: [{ name: a, key: 'file:./secrets/a.key' }] }
agents:
- { name: own, command: [./bin/agent, ./argument], cwd: work }
- { name: other, command: [agent] }
- python3 -u x.py ./x.py
- npx -y ../place/x.py/none
- { name: third, command: ../bin/third --a b\\ c, cwd: ~/files }
data_dir: data
";
    let path = directory.file("place/c.yaml", text);
    directory.file("place/x.py", "");
    directory.file("place/secrets/a.key", "key-of-the-file-01234\n");
    let place = directory.0.join("place");
    let config = load(&with_config(&path), &environment(&[])).unwrap().config;
    assert_eq!(
        config.auth.keys[0].key.text(),
        Some("key-of-the-file-01234")
    );
    let program = place.join("bin/agent").display().to_string();
    assert_eq!(config.agents[0].command, [program.as_str(), "./argument"]);
    assert_eq!(config.agents[0].cwd, Some(place.join("work")));
    assert_eq!(config.agents[1].command, ["agent"]);
    let script = place.join("x.py").display().to_string();
    assert_eq!(
        config.agents[2].command,
        ["python3", "-u", script.as_str(), "./x.py"]
    );
    assert_eq!(config.agents[2].known_as(), "x");
    assert_eq!(config.agents[3].command[2], "../place/x.py/none");
    let third = &config.agents[4];
    let program = place.join("../bin/third").display().to_string();
    assert_eq!(third.command, [program.as_str(), "--a", "b c"]);
    assert_eq!(third.cwd.as_deref(), Some(Path::new("/home/ada/files")));
    assert_eq!(config.data_dir, place.join("data"));
    assert_eq!(config.audit.file, Some(place.join("data/audit.jsonl")));

    for (given, found) in [
        ("./logs/a.jsonl", "/data/logs/a.jsonl"),
        ("/var/log/a.jsonl", "/var/log/a.jsonl"),
        ("~/a.jsonl", "/home/ada/a.jsonl"),
    ] {
        let variables = [("MLP_DATA_DIR", "/data"), ("MLP_AUDIT__FILE", given)];
        let loaded = load(&with_config(&path), &environment(&variables)).unwrap();
        assert_eq!(loaded.config.audit.file.as_deref(), Some(Path::new(found)));
    }
}

#[test]
fn a_relative_path_without_a_folder_is_refused() {
    let refused = |variables: &[(&str, &str)]| load_text("c.yaml", "", variables).unwrap_err();
    for (name, value, said) in [
        ("MLP_DATA_DIR", "data", "MLP_DATA_DIR: data_dir: `data`"),
        (
            "MLP_AUTH__KEYS",
            "[{name: a, key: 'file:./a.key'}]",
            "MLP_AUTH__KEYS: auth.keys[0].key: `./a.key`",
        ),
        (
            "MLP_AGENTS",
            "[{name: a, command: [./agent]}]",
            "MLP_AGENTS: agents[0].command: `./agent`",
        ),
        (
            "MLP_AGENTS",
            "[{preset: claude, cwd: work}]",
            "MLP_AGENTS: agents[0].cwd: `work`",
        ),
    ] {
        let said = format!("{said} would be another file in each folder; give an absolute path");
        assert_eq!(refused(&[(name, value)]), said);
    }
    assert_eq!(
        refused(&[("HOME", ".")]),
        "data_dir: `~` means nothing because HOME is not set to an absolute path; give a path without it"
    );
    let variables = environment(&[(CONFIG_VARIABLE, "c.yaml")]);
    assert_eq!(
        load(&Overrides::default(), &variables)
            .unwrap_err()
            .to_string(),
        "LOCAL_PROVIDER_CONFIG: `c.yaml` would be another file in each folder; give an absolute path"
    );
}

#[test]
fn the_env_file_gives_what_the_process_has_not() {
    let directory = Directory::new();
    let path = directory.file("c.yaml", "auth: { keys: [{ name: a, key: 'env:A_KEY' }] }");
    let beside = directory.file(
        ".env",
        "A_KEY=beside-0123456789012\nMLP_LIMITS__BURST=2\nMLP_LIMITS__MESSAGES=many\nnonsense\n",
    );
    let beside = beside.display();
    let overrides = with_config(&path);
    assert_eq!(
        load(&overrides, &environment(&[])).unwrap_err().to_string(),
        format!(
            "{beside}:3: MLP_LIMITS__MESSAGES: limits.messages: expected a whole number that is not negative, found the text `many`"
        )
    );
    let process = environment(&[("MLP_LIMITS__MESSAGES", "3")]);
    let loaded = load(&overrides, &process).unwrap();
    assert_eq!(
        loaded.config.auth.keys[0].key.text(),
        Some("beside-0123456789012")
    );
    let limits = &loaded.config.limits;
    assert_eq!((limits.burst, limits.messages), (2, 3));
    assert_eq!(loaded.environment.get("MLP_LIMITS__BURST"), Some("2"));
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings)
    };
    let warning = warning.to_string();
    assert!(
        warning.starts_with(&format!("{beside}:4: this line is skipped: ")),
        "{warning}"
    );

    let named = directory.file("other.env", "A_KEY=named-01234567890123");
    let overrides = Overrides {
        env_file: Some(named),
        ..overrides
    };
    let config = load(&overrides, &environment(&[])).unwrap().config;
    assert_eq!(config.auth.keys[0].key.text(), Some("named-01234567890123"));
    assert_eq!(config.limits.burst, 60);

    let refused = |file: PathBuf| {
        let overrides = Overrides {
            env_file: Some(file),
            ..Overrides::default()
        };
        load(&overrides, &environment(&[])).unwrap_err().to_string()
    };
    assert_eq!(
        refused("/not/there.env".into()),
        "--env-file: /not/there.env cannot be read: No such file or directory (os error 2)"
    );
    let large = directory.file("large.env", &"A=1\n".repeat((1 << 18) + 1));
    assert!(refused(large).ends_with(" cannot be read: it has more than 1048576 bytes"));
}
