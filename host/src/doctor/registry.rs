//! The registry: its file, the key of its secrets, and what it may run and read.

use super::{Findings, Health};
use crate::config::{Config, GatewaySwitch, REGISTRY_IS_BUILT_IN, RegistrySecret};
use crate::private_file;
use crate::registry::{self, RegistryError, SECRET_FILE};

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    let section = &config.registry;
    let path = registry::path(&config.data_dir);
    let is_told =
        section.enabled == GatewaySwitch::Yes || section.lists_something() || path.exists();
    if !REGISTRY_IS_BUILT_IN || section.enabled == GatewaySwitch::No || !is_told {
        return;
    }
    let (health, text) = match registry::inspect(&config.data_dir, &section.secret) {
        Ok(None) => (Health::Ok, "nothing is stored yet".to_owned()),
        Ok(Some(found)) => {
            let text = format!(
                "{} entries and {} secrets in {} ({} KiB)",
                found.entries,
                found.secrets,
                path.display(),
                found.bytes.div_ceil(1024)
            );
            (Health::Ok, text)
        }
        Err(RegistryError::InUse(path)) => {
            let text = format!("{} is open in a program that runs", path.display());
            (Health::Ok, text)
        }
        Err(error) => (Health::Fail, error.to_string()),
    };
    findings.add(health, "registry", text);
    let key = config.data_dir.join(SECRET_FILE);
    if private_file::is_exposed(&key) {
        let text = format!("{} can be read by others; chmod 600 {0}", key.display());
        findings.add(Health::Warn, "registry", text);
    }
    if matches!(section.secret, RegistrySecret::Passphrase { .. }) && key.exists() {
        let text = format!(
            "{} is not used, as `registry.secret` is `{}`; remove it",
            key.display(),
            section.secret
        );
        findings.add(Health::Warn, "registry", text);
    }
    for program in section.commands.iter().filter(|path| !path.is_file()) {
        let text = format!(
            "`{}` of `registry.commands` is not there",
            program.display()
        );
        findings.add(Health::Warn, "registry", text);
    }
    for folder in section.files.iter().filter(|path| !path.exists()) {
        let text = format!("`{}` of `registry.files` is not there", folder.display());
        findings.add(Health::Warn, "registry", text);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, load_text};
    use crate::test_directory::Directory;
    use mcp_local_provider_registry::Limits;
    use std::os::unix::fs::PermissionsExt;

    fn found(directory: &Directory, section: &str) -> Vec<(Health, String)> {
        let text = format!("data_dir: {}\nregistry: {section}", directory.0.display());
        let environment =
            Environment::new([("P".to_owned(), "a passphrase of some length".to_owned())]);
        let config = load_text("c.yaml", &text, &environment).unwrap().config;
        let mut findings = Findings::default();
        examine(&config, &mut findings);
        let told = findings.0.into_iter().map(|it| (it.health, it.text));
        told.collect()
    }

    #[test]
    fn the_file_its_key_and_the_lists_are_looked_at() {
        let directory = Directory::new();
        assert_eq!(found(&directory, "{}"), []);
        assert_eq!(
            found(
                &directory,
                "{ commands: [/no/such/program], files: [/no/such/folder] }"
            ),
            [
                (Health::Ok, "nothing is stored yet".to_owned()),
                (
                    Health::Warn,
                    "`/no/such/program` of `registry.commands` is not there".to_owned()
                ),
                (
                    Health::Warn,
                    "`/no/such/folder` of `registry.files` is not there".to_owned()
                ),
            ]
        );
        let head = "{\"format\":\"mcp-local-provider-registry\",\"version\":1}";
        let entry = r#"{"kind":"integration","name":"i","value":{"name":"i","model":{"provider":"agent","model_name":"m"}},"secrets":{"/a":"b"}}"#;
        let text = format!("{head}\n{entry}");
        let limits = Limits::default();
        registry::import(&directory.0, &RegistrySecret::File, limits, &text, false).unwrap();
        let (store, _) = registry::open(&directory.0, &RegistrySecret::File).unwrap();
        let path = registry::path(&directory.0);
        assert_eq!(
            found(&directory, "{}"),
            [(
                Health::Ok,
                format!("{} is open in a program that runs", path.display())
            )]
        );
        drop(store);
        let [(health, text)] = found(&directory, "{}").try_into().unwrap();
        assert_eq!(health, Health::Ok);
        assert!(
            text.starts_with(&format!("1 entries and 1 secrets in {} (", path.display())),
            "{text}"
        );
        let key = directory.0.join(SECRET_FILE);
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
        let [(other, _), (exposed, _), (unused, text)] =
            found(&directory, "{ secret: 'env:P' }").try_into().unwrap();
        assert_eq!(
            (other, exposed, unused),
            (Health::Fail, Health::Warn, Health::Warn)
        );
        assert!(
            text.ends_with("is not used, as `registry.secret` is `env:P`; remove it"),
            "{text}"
        );
        std::fs::remove_file(&key).unwrap();
        let [(health, text)] = found(&directory, "{}").try_into().unwrap();
        assert_eq!(health, Health::Fail);
        assert!(text.contains("holds no key"), "{text}");
        assert_eq!(found(&directory, "{ enabled: no }"), []);
    }
}
