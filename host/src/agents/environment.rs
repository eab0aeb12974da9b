//! The environment of an agent: the variables that any child may see, those of its vendor, and a mark.

use mcp_local_provider_process::clean_environment;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;

/// Variable that marks every process below an agent; its value is the agent's name. A provider that finds it in its own
/// environment was started by an agent of a provider, and an agent that asks such a provider asks itself.
pub const AGENT_VARIABLE: &str = "MCP_LOCAL_PROVIDER_AGENT";

/// Names of the list of hosts that are reached without a proxy.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Bus of the key ring, in which some agents keep logins.
const KEY_RING: &str = "DBUS_SESSION_BUS_ADDRESS";

/// Builds the environment of the agent `agent` from the variables `of`: those that every program needs and those that
/// `further` names (a name that ends in `*` stands for all with that prefix), then `set`, which wins, then
/// [`AGENT_VARIABLE`].
pub(super) fn agent_environment(
    of: impl IntoIterator<Item = (OsString, OsString)>,
    agent: &str,
    further: &[&str],
    mut set: Vec<(String, String)>,
) -> Vec<(OsString, OsString)> {
    set.retain(|(name, _)| name != AGENT_VARIABLE);
    set.push((AGENT_VARIABLE.to_owned(), agent.to_owned()));
    let further: Vec<&str> = further.iter().copied().chain([KEY_RING]).collect();
    clean_environment(of, &further, &set)
}

/// Exempts loopback, and the address of the tools, from proxies: the token of the caller's tools travels there, and a
/// proxy would read it.
pub fn exempt_from_proxies(environment: &mut Vec<(OsString, OsString)>, tools: Option<IpAddr>) {
    let is_list = |name: &OsStr| NO_PROXY.iter().any(|list| name == *list);
    let mut hosts: Vec<String> = Vec::new();
    let mut add = |host: &str| {
        if !host.is_empty() && !hosts.iter().any(|other| other == host) {
            hosts.push(host.to_owned());
        }
    };
    for (_, list) in environment.iter().filter(|(name, _)| is_list(name)) {
        list.to_string_lossy()
            .split(',')
            .map(str::trim)
            .for_each(&mut add);
    }
    ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .for_each(&mut add);
    if let Some(tools) = tools {
        add(&tools.to_string());
    }
    // `*` means every host, and only when it stands alone.
    if hosts.iter().any(|host| host == "*") {
        hosts = vec!["*".to_owned()];
    }
    // Programs read one of the two names, so both have all.
    let list = OsString::from(hosts.join(","));
    environment.retain(|(name, _)| !is_list(name));
    environment.extend(NO_PROXY.map(|name| (name.into(), list.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_this_machine_goes_past_proxies() {
        for (before, after) in [
            (&[][..], "localhost,127.0.0.1,::1,192.168.1.4"),
            (
                &[("NO_PROXY", "corp.example, ::1"), ("no_proxy", "home")],
                "corp.example,::1,home,localhost,127.0.0.1,192.168.1.4",
            ),
            (&[("no_proxy", "*")], "*"),
        ] {
            let before = before.iter().map(|(name, list)| (name.into(), list.into()));
            let mut environment: Vec<(OsString, OsString)> = before.collect();
            exempt_from_proxies(&mut environment, "192.168.1.4".parse().ok());
            let after = NO_PROXY.map(|name| (name.into(), after.into()));
            assert_eq!(environment, after);
        }
    }

    #[test]
    fn an_agent_sees_what_it_needs_and_no_key_of_ours() {
        let all = [
            ("HOME", "/home/ada"),
            ("LC_ALL", "C"),
            ("LOCAL_PROVIDER_KEY", "secret"),
            ("MLP_AUTH__KEYS", "secret"),
            ("EDITOR_KEY", "secret"),
            ("ANTHROPIC_API_KEY", "theirs"),
            ("ANTHROPIC_BASE_URL", "http://a"),
            ("PATH", "/bin"),
            (KEY_RING, "unix:path=/run/bus"),
            (AGENT_VARIABLE, "outer"),
        ];
        let all = all.map(|(name, value)| (name.into(), value.into()));
        let set = [("PATH".to_owned(), "/usr/bin".to_owned())];
        let clean = agent_environment(all, "claude", &["ANTHROPIC_*"], set.to_vec());
        let expected = [
            ("HOME", "/home/ada"),
            ("LC_ALL", "C"),
            ("ANTHROPIC_API_KEY", "theirs"),
            ("ANTHROPIC_BASE_URL", "http://a"),
            (KEY_RING, "unix:path=/run/bus"),
            ("PATH", "/usr/bin"),
            (AGENT_VARIABLE, "claude"),
        ];
        assert_eq!(
            clean,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
    }
}
