//! What a person is told of an agent once, before its first use: what cannot be fenced, and on whose terms it is used.

use super::presets::Preset;
use crate::config::Agent;
use crate::private_file;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Which notices were shown, by preset, with a digest of what was said; below `data_dir`.
const FILE: &str = "agent-notices.json";

/// The text that is due for these agents, empty when all of it was shown. From now on it counts as shown.
///
/// # Errors
/// When that cannot be remembered; the text is then shown at each start.
pub fn due(data_dir: &Path, agents: &[Agent]) -> (String, io::Result<()>) {
    let path = data_dir.join(FILE);
    let shown = std::fs::read(&path).unwrap_or_default();
    // A file that cannot be read says of nothing that it was shown.
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
