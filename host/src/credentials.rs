//! Keys that the commands present to the running program, and the address where they find it.

use crate::config::{Key, Loaded, Role};
use crate::control::ControlClient;
use crate::keys::{KeyError, KeyFile};
use std::net::SocketAddr;

/// Name of the variable that gives a key to the command line: an operator's or a client's, as the command needs, or one of the
/// role `admin`, which may do everything.
pub const KEY_VARIABLE: &str = "LOCAL_PROVIDER_KEY";

/// The reason for which the running program cannot be asked, as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The configuration leaves the port to the system.
    #[error(
        "the configuration leaves the port open; give the address of the `ready` line with --listen"
    )]
    OpenPort,
    /// A file with a key cannot be read.
    #[error("{0}")]
    Key(#[from] KeyError),
}

/// Makes a client of the program that runs with this configuration, with an operator's key.
///
/// # Errors
/// See [`CredentialError`].
pub fn operator(program: &'static str, loaded: &Loaded) -> Result<ControlClient, CredentialError> {
    let token = operator_token(loaded)?;
    Ok(ControlClient::new(program, address(loaded)?, token))
}

/// Makes a client of the program that runs with this configuration, with a key of the role `admin` where one is known, else with an
/// operator's.
///
/// # Errors
/// See [`CredentialError`].
pub fn admin(program: &'static str, loaded: &Loaded) -> Result<ControlClient, CredentialError> {
    let token = match token(loaded, |_| Ok(None), |role| role == Role::Admin)? {
        None => operator_token(loaded)?,
        token => token,
    };
    Ok(ControlClient::new(program, address(loaded)?, token))
}

/// Makes a client of the program that runs with this configuration, with a client's key.
///
/// # Errors
/// See [`CredentialError`].
pub fn client(program: &'static str, loaded: &Loaded) -> Result<ControlClient, CredentialError> {
    let kept = |file: &KeyFile| file.client_key();
    let token = token(loaded, kept, |role| {
        matches!(role, Role::Client | Role::Admin)
    })?;
    Ok(ControlClient::new(program, address(loaded)?, token).as_client())
}

/// Finds the operator's key: that of [`KEY_VARIABLE`], else of `operator.token`, else of the configuration.
pub(crate) fn operator_token(loaded: &Loaded) -> Result<Option<String>, KeyError> {
    let kept = |file: &KeyFile| file.operator_token();
    token(loaded, kept, |role| {
        matches!(role, Role::Operator | Role::Admin)
    })
}

fn token(
    loaded: &Loaded,
    kept: impl FnOnce(&KeyFile) -> Result<Option<String>, KeyError>,
    fits: impl Fn(Role) -> bool,
) -> Result<Option<String>, KeyError> {
    let config = &loaded.config;
    let token = match loaded.environment.get_nonempty(KEY_VARIABLE) {
        Some(token) => Some(token.to_owned()),
        None => kept(&KeyFile::new(&config.data_dir))?,
    };
    let configured = || {
        let mut fitting = config.auth.keys.iter().filter(|key: &&Key| fits(key.role));
        fitting.find_map(|key| key.key.text()).map(str::to_owned)
    };
    Ok(token.or_else(configured))
}

fn address(loaded: &Loaded) -> Result<SocketAddr, CredentialError> {
    let mut addresses = loaded.config.listen.http_addresses().into_iter();
    addresses
        .find(|address| address.port() != 0)
        .ok_or(CredentialError::OpenPort)
}
