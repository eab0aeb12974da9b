//! Notices about agents, shown once before the first use: the limits of model mode, and the terms under which the agent
//! is used.

use super::presets::Preset;
use crate::config::Agent;
use crate::private_file;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Name of the file in `data_dir` that records the notices that were shown: a JSON object from preset to the SHA-256
/// digest of the text.
const FILE: &str = "agent-notices.json";

/// Returns the notices of these agents that were not shown yet, empty when there are none, and records them as shown.
///
/// # Errors
/// The second value is an error when the record cannot be written; the text is then returned at the next start too.
pub fn due(data_dir: &Path, agents: &[Agent]) -> (String, io::Result<()>) {
    let path = data_dir.join(FILE);
    let shown = std::fs::read(&path).unwrap_or_default();
    // An unreadable file counts as empty, so every notice is shown again.
    let mut shown: BTreeMap<String, String> = serde_json::from_slice(&shown).unwrap_or_default();
    let mut text = String::new();
    for preset in agents
        .iter()
        .filter_map(|agent| Preset::named(agent.preset.as_deref()?))
    {
        let mut digest = String::new();
        for byte in Sha256::digest(preset.notice) {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        if shown.get(preset.name) != Some(&digest) {
            let _ = write!(text, "{}: {}\n\n", preset.title, preset.notice);
            shown.insert(preset.name.to_owned(), digest);
        }
    }
    if text.is_empty() {
        return (text, Ok(()));
    }
    let remembered = private_file::make_directory(data_dir).and_then(|()| {
        let json = serde_json::to_vec(&shown)?;
        private_file::replace(&path, &json)
    });
    (text, remembered)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_directory::Directory;

    #[test]
    fn a_notice_is_shown_once() {
        let directory = Directory::new();
        let data = directory.0.join("data");
        let agent = |preset: &str| Agent {
            preset: Some(preset.to_owned()),
            ..Agent::default()
        };
        let shown = |agents: &[Agent]| {
            let (text, remembered) = due(&data, agents);
            remembered.unwrap();
            text
        };
        let text = shown(&[agent("cursor"), Agent::default()]);
        assert!(
            text.starts_with("Cursor: ") && text.contains("not fenced"),
            "{text}"
        );
        assert_eq!(shown(&[agent("cursor")]), "");
        let text = shown(&[agent("cursor"), agent("codex")]);
        assert!(text.starts_with("Codex"), "{text}");
        directory.file("data/agent-notices.json", "nonsense");
        assert!(!shown(&[agent("codex")]).is_empty());
    }
}
