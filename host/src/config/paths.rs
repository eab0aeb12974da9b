//! Paths of a configuration. All become absolute, and none depends on the folder in which the program is started.

use super::DIRECTORY;
use super::agent_command;
use super::check::Report;
use super::environment::Environment;
use super::sections::Config;
use super::tree::{Form, Node, Origin};
use std::path::{Path, PathBuf};

/// Base folders of relative paths.
pub(crate) struct Folders {
    /// The person's home directory, for paths that begin with `~`.
    home: Option<PathBuf>,
    /// The folder of the configuration file.
    configuration: Option<PathBuf>,
}

impl Folders {
    pub(crate) fn new(configuration_file: Option<&Path>, environment: &Environment) -> Folders {
        let absolute = configuration_file.and_then(|file| std::path::absolute(file).ok());
        Folders {
            home: home(environment).map(Path::to_owned),
            configuration: absolute.and_then(|file| Some(file.parent()?.to_owned())),
        }
    }

    /// Makes a path absolute that was written at `origin`. One that begins with `~` is in the home directory. A
    /// relative one of the configuration file is in that file's folder; one of the command line is in the current
    /// directory, as with any command.
    ///
    /// # Errors
    /// Returns a sentence about a `~` without a home directory, or about a relative path in a variable.
    pub(crate) fn absolute(&self, path: &Path, origin: Option<&Origin>) -> Result<PathBuf, String> {
        let path = self.expand(path)?;
        let base = match origin {
            _ if path.is_absolute() => None,
            Some(Origin::File { .. }) => self.configuration.clone(),
            Some(Origin::Flag(_)) => std::env::current_dir().ok(),
            Some(Origin::Variable(_) | Origin::DotEnv { .. }) | None => None,
        };
        let path = base.map_or(path.clone(), |base| base.join(path));
        if !path.is_absolute() {
            return Err(depends_on_the_folder(&path));
        }
        // Removes `.` components, so that messages show a clean path.
        Ok(path.components().collect())
    }

    fn expand(&self, path: &Path) -> Result<PathBuf, String> {
        match (path.strip_prefix("~"), &self.home) {
            (Err(_), _) => Ok(path.to_owned()),
            (Ok(rest), Some(home)) => Ok(home.join(rest)),
            (Ok(_), None) => Err(
                "`~` means nothing because HOME is not set to an absolute path; give a path without it"
                    .to_owned(),
            ),
        }
    }
}

/// Returns the error for a relative path that has no base folder.
pub(crate) fn depends_on_the_folder(path: &Path) -> String {
    format!(
        "`{}` would be another file in each folder; give an absolute path",
        path.display()
    )
}

/// Returns the home directory; a relative one counts as none.
pub(crate) fn home(environment: &Environment) -> Option<&Path> {
    environment
        .get("HOME")
        .map(Path::new)
        .filter(|home| home.is_absolute())
}

/// Writes the data directory of the XDG Base Directory specification into the tree, where the configuration names none.
pub(crate) fn set_data_dir(root: &mut Node, environment: &Environment) {
    const VARIABLE: &str = "XDG_DATA_HOME";
    let base = environment.get_nonempty(VARIABLE).map(Path::new);
    if let Some(base) = base.filter(|base| base.is_absolute())
        && root.get("data_dir").is_none_or(Node::is_null)
    {
        let path = base.join(DIRECTORY).display().to_string();
        let node = Node::scalar(path, Form::Quoted, Origin::Variable(VARIABLE.into()));
        root.set(&["data_dir".to_owned()], node);
    }
}

/// Makes every path of a configuration absolute.
pub(crate) fn resolve(config: &mut Config, folders: &Folders, report: &mut Report<'_>) {
    let mut in_place = |name: String, path: &mut PathBuf| {
        // Empty paths were reported before.
        if path.as_os_str().is_empty() {
            return;
        }
        match folders.absolute(path, report.origin(&name)) {
            Ok(absolute) => *path = absolute,
            Err(message) => report.problem(&name, message),
        }
    };
    in_place("data_dir".to_owned(), &mut config.data_dir);
    let records = [
        ("audit.file", &mut config.audit.file),
        ("log.file", &mut config.log.file),
    ];
    for (name, file) in records {
        // Without a data directory one error is enough.
        if let Some(file) = file
            && config.data_dir.is_absolute()
        {
            if !file.starts_with("~") {
                *file = config.data_dir.join(&file);
            }
            in_place(name.to_owned(), file);
        }
    }
    let mut program = |name: String, command: &mut String| {
        // A name without `/` is searched in PATH, wherever it was written.
        if command.contains('/') {
            let mut path = PathBuf::from(&command);
            in_place(name, &mut path);
            if let Ok(path) = path.into_os_string().into_string() {
                *command = path;
            }
        }
    };
    for (index, agent) in config.agents.iter_mut().enumerate() {
        if let Some(first) = agent.command.first_mut() {
            program(format!("agents[{index}].command"), first);
        }
    }
    for (name, server) in config.mcp_servers.iter_mut() {
        program(format!("mcpServers.{name}.command"), &mut server.command);
    }
    for (section, paths) in [
        ("commands", &mut config.registry.commands),
        ("files", &mut config.registry.files),
    ] {
        for (index, path) in paths.iter_mut().enumerate() {
            in_place(format!("registry.{section}[{index}]"), path);
        }
    }
    if let Some(file) = &mut config.tls.ca_file {
        in_place("tls.ca_file".to_owned(), file);
    }
    for (index, agent) in config.agents.iter_mut().enumerate() {
        if let Some(cwd) = &mut agent.cwd {
            in_place(format!("agents[{index}].cwd"), cwd);
        }
    }
    for (name, server) in config.mcp_servers.iter_mut() {
        if let Some(cwd) = &mut server.cwd {
            in_place(format!("mcpServers.{name}.cwd"), cwd);
        }
    }
    let script = |word: &mut String, origin: Option<&Origin>| {
        // A package may be named as a script is; only a file that is there is one.
        if let Ok(path) = folders.absolute(Path::new(word.as_str()), origin)
            && path.is_file()
            && let Ok(path) = path.into_os_string().into_string()
        {
            *word = path;
        }
    };
    for (index, agent) in config.agents.iter_mut().enumerate() {
        if let Some(at) = agent_command::script(&agent.command)
            && let Some(word) = agent.command.get_mut(at)
        {
            script(word, report.origin(&format!("agents[{index}].command")));
        }
    }
    for (name, server) in config.mcp_servers.iter_mut() {
        let mut command = vec![server.command.clone()];
        command.extend_from_slice(&server.args);
        if let Some(at) = agent_command::script(&command).and_then(|at| at.checked_sub(1))
            && let Some(word) = server.args.get_mut(at)
        {
            script(word, report.origin(&format!("mcpServers.{name}.args")));
        }
    }
}

/// A field that is a path or `off`, for the attribute `with` of serde.
pub(crate) mod off_or_path {
    use serde::de::{self, Deserializer, Visitor};
    use serde::{Serialize, Serializer};
    use std::fmt;
    use std::path::PathBuf;

    struct PathVisitor;

    impl Visitor<'_> for PathVisitor {
        type Value = Option<PathBuf>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path, or `off` to write none")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Option<PathBuf>, E> {
            if value {
                Err(E::invalid_type(de::Unexpected::Bool(value), &self))
            } else {
                Ok(None)
            }
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<PathBuf>, E> {
            Ok((text != "off").then(|| PathBuf::from(text)))
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        deserializer.deserialize_str(PathVisitor)
    }

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => path.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}
