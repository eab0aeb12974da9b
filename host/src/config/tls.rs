//! The section `tls`: whom the program trusts when it dials.

use super::check::Report;
use mcp_local_provider_engine::tls::check_ca_file;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// TLS with servers that the program dials.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Tls {
    /// PEM file of root certificates that are trusted beside the system's. Default none.
    pub ca_file: Option<PathBuf>,
}

/// Reads the file, whose path is absolute by now.
pub(super) fn check(tls: &Tls, report: &mut Report<'_>) {
    let Some(path) = &tls.ca_file else { return };
    if path.as_os_str().is_empty() {
        let message = "the path is empty; leave it out to trust the system's roots alone";
        report.problem("tls.ca_file", message);
    } else if path.is_absolute()
        && let Err(error) = check_ca_file(path)
    {
        report.problem("tls.ca_file", error.to_string());
    }
}
