//! `mcp add`: a server more in the configuration file.

use crate::config::{
    ConfigError, Environment, Format, Loaded, NewServer, Overrides, file_to_change, load_as,
    with_server,
};
use crate::private_file::{make_directory, replace_with_mode};
use crate::servers::ServerPlan;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The reason for which a server was not added.
#[derive(Debug)]
pub(crate) enum NotAdded {
    /// The file is wrong already.
    Configuration(ConfigError),
    /// Another one, as a sentence.
    Other(String),
}

impl From<ConfigError> for NotAdded {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error)
    }
}

impl From<io::Error> for NotAdded {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Writes `server` into the configuration file, and says what to do next. `program` is the name of the executable.
///
/// # Errors
/// Nothing was written; see [`NotAdded`].
pub(crate) fn add_server(
    program: &str,
    mut server: NewServer,
    overrides: &Overrides,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), NotAdded> {
    let path = file_to_change(overrides, environment)?;
    let unreadable = |error: io::Error| {
        let path = path.display();
        NotAdded::Other(format!("{path} cannot be read: {error}"))
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(error)),
    };
    let before = load_as(
        &path,
        text.as_deref().unwrap_or_default(),
        overrides,
        environment,
    )?;
    if is_there(&before, &server.name) {
        let message = format!(
            "there is a server `{}` already; remove it from {} first, or choose another name",
            server.name,
            path.display()
        );
        return Err(NotAdded::Other(message));
    }
    // In the file it would begin at the folder of the file.
    if let Some(command) = server.command.first_mut()
        && command.contains('/')
        && !command.starts_with("~/")
    {
        let place = std::path::absolute(&*command)?;
        *command = place.display().to_string();
    }
    let format = Format::of(&path).unwrap_or(Format::Yaml);
    // An empty file is no JSON.
    let old = match (&text, format) {
        (Some(text), _) => text,
        (None, Format::Json) => "{}\n",
        (None, Format::Yaml | Format::Toml) => "",
    };
    let new = with_server(old, format, &server).map_err(NotAdded::Other)?;
    let after = load_as(&path, &new, overrides, environment).map_err(|error| {
        NotAdded::Other(format!(
            "nothing was written, because this would be wrong:\n{error}"
        ))
    })?;
    write(&path, &new).map_err(|error| {
        let path = path.display();
        NotAdded::Other(format!("{path} cannot be written: {error}"))
    })?;
    report(program, &server, &path, &after, out)
}

fn is_there(loaded: &Loaded, name: &str) -> bool {
    loaded.config.mcp_servers.iter().any(|(own, _)| own == name)
}

/// Replaces the file, which keeps its mode. A link to it stays one. A new one is for the owner alone.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let (place, mode): (PathBuf, u32) = match fs::canonicalize(path) {
        Ok(place) => {
            let mode = fs::metadata(&place)?.permissions().mode();
            (place, mode & 0o777)
        }
        Err(_) => (std::path::absolute(path)?, 0o600),
    };
    if let Some(folder) = place.parent() {
        make_directory(folder)?;
    }
    replace_with_mode(&place, text.as_bytes(), mode)
}

fn report(
    program: &str,
    server: &NewServer,
    path: &Path,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), NotAdded> {
    let name = &server.name;
    writeln!(out, "added `{name}` to {}", path.display())?;
    let variables: Vec<_> = std::env::vars_os().collect();
    let config = &loaded.config;
    let mut named = config.mcp_servers.iter();
    if let Some((_, entry)) = named.find(|(own, _)| own == name)
        && let Err(missing) =
            ServerPlan::new(name, entry, config.gateway.message_bytes).find(&variables)
    {
        writeln!(out, "it cannot be started yet: {missing}")?;
    }
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(writeln!(
        out,
        "`{program} mcp list --tools` tries it; `{program} reload` gives it to a program that runs, at /servers/{name}/mcp.\n\
         Its clients need a key that may use MCP servers: `{program} keys add NAME --allow mcp` makes one."
    )?)
}
