//! The key `fallback` of agents, bridges, upstreams and aliases: models that are asked in the place of one that fails.

use super::check::Report;
use super::sections::Config;
use mcp_local_provider_core::config as core;
use std::collections::BTreeSet;

/// Somebody with fallbacks.
struct Owner<'c> {
    /// Path of its entry.
    path: String,
    name: String,
    /// Further names that it alone answers to.
    models: &'c [String],
    fallback: &'c [String],
}

impl Owner<'_> {
    /// True for a name that it answers to itself, and for one of its models.
    fn answers_to(&self, name: &str) -> bool {
        let behind = name.strip_prefix(&*self.name);
        behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/'))
            || self.models.iter().any(|model| model == name)
    }
}

/// Agents, then bridges, then upstreams.
fn owners(config: &Config) -> Vec<Owner<'_>> {
    let mut owners = Vec::new();
    for (index, agent) in config.agents.iter().enumerate() {
        owners.push(Owner {
            path: format!("agents[{index}]"),
            name: agent.known_as().into_owned(),
            models: &agent.models,
            fallback: &agent.fallback,
        });
    }
    for (index, bridge) in config.bridges.iter().enumerate() {
        owners.push(Owner {
            path: format!("bridges[{index}]"),
            name: bridge.name.clone(),
            // Others may answer to the names of its session too.
            models: &[],
            fallback: &bridge.fallback,
        });
    }
    for (index, upstream) in config.upstreams.iter().enumerate() {
        owners.push(Owner {
            path: format!("upstreams[{index}]"),
            name: upstream.known_as().to_owned(),
            models: &upstream.models,
            fallback: &upstream.fallback,
        });
    }
    owners
}

/// Checks every list of fallbacks.
pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    let aliases = &config.models.aliases;
    // The model that a name leads to.
    let model = |name: &str| aliases.get(name).map(|alias| alias.model.clone());
    let mut with_some = BTreeSet::new();
    for owner in owners(config) {
        let is_own = |name: &str| {
            owner.answers_to(name) || model(name).is_some_and(|model| owner.answers_to(&model))
        };
        let why = format!(
            "is answered by `{}` itself; name a model of another",
            owner.name
        );
        list(&owner.path, owner.fallback, is_own, &why, report);
        if !owner.fallback.is_empty() && !with_some.insert(owner.name.clone()) {
            let message = format!(
                "another `{}` has fallbacks too; give one of the two another `name`",
                owner.name
            );
            report.problem(&format!("{}.fallback", owner.path), message);
        }
    }
    for (name, alias) in aliases {
        let path = format!("models.aliases.{name}");
        let is_own = |other: &str| {
            other == name || other == alias.model || model(other).as_ref() == Some(&alias.model)
        };
        let why = format!("is the model of `{name}` itself; name another one");
        list(&path, &alias.fallback, is_own, &why, report);
    }
}

fn list(
    path: &str,
    fallback: &[String],
    is_own: impl Fn(&str) -> bool,
    why: &str,
    report: &mut Report<'_>,
) {
    let mut seen = BTreeSet::new();
    for (at, name) in fallback.iter().enumerate() {
        let path = format!("{path}.fallback[{at}]");
        if name.trim().is_empty() {
            report.problem(&path, "the name is empty");
        } else if is_own(name) {
            report.problem(&path, format!("`{name}` {why}"));
        } else if !seen.insert(name) {
            report.problem(&path, format!("`{name}` is in the list already"));
        }
    }
}

impl Config {
    /// Returns the fallbacks of agents, bridges and upstreams in the core's form.
    pub(super) fn fallbacks(&self) -> Vec<core::Fallback> {
        let owners = owners(self).into_iter();
        let owners = owners.filter(|owner| !owner.fallback.is_empty());
        let fallback = |owner: Owner<'_>| core::Fallback {
            models: owner.fallback.to_vec(),
            of: owner.name,
        };
        owners.map(fallback).collect()
    }
}
