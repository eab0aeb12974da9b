//! Guards against an agent whose model is the program that it answers for: such an agent would ask itself without end.

use super::environment::AGENT_VARIABLE;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};

/// Returns the sentence that refuses to start agents inside of an agent, when `mark`, the value of [`AGENT_VARIABLE`]
/// in this program's environment, says that an agent started the program.
#[must_use]
pub fn nested(mark: Option<&OsStr>) -> Option<String> {
    let agent = mark.filter(|agent| !agent.is_empty())?;
    Some(format!(
        "this program was started by `{}`, which is an agent of such a program itself ({AGENT_VARIABLE} says so); agents that \
         answer for each other never end: start it outside of the agent, or without agents",
        agent.display()
    ))
}

/// Returns the name of the first variable whose value is an address at which this program listens.
#[must_use]
pub fn points_here<'e>(
    environment: &'e [(OsString, OsString)],
    listening: &[SocketAddr],
) -> Option<&'e OsStr> {
    let here = |value: &OsStr| {
        let authority = value
            .to_str()?
            .split_once("://")
            .map_or(value.to_str()?, |(_, rest)| rest);
        let authority = authority.split(['/', '?']).next()?;
        let (host, port) = authority.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let ip: Option<IpAddr> = host.parse().ok();
        let local = host.eq_ignore_ascii_case("localhost")
            || ip.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
        let found = listening
            .iter()
            .any(|address| address.port() == port && (local || Some(address.ip()) == ip));
        found.then_some(())
    };
    let mut pointing = environment
        .iter()
        .filter(|(_, value)| here(value).is_some());
    pointing.next().map(|(name, _)| name.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_would_ask_itself_is_recognised() {
        let listening = ["127.0.0.1:8788", "192.168.1.5:9000"].map(|address| address.parse());
        let listening: Vec<SocketAddr> = listening.into_iter().flatten().collect();
        let found = |value: &str| {
            let environment = [
                ("PATH".into(), "/bin".into()),
                ("ANTHROPIC_BASE_URL".into(), value.into()),
            ];
            points_here(&environment, &listening).is_some()
        };
        for value in [
            "http://127.0.0.1:8788",
            "http://localhost:8788/v1",
            "http://[::1]:8788/",
            "localhost:8788",
            "http://192.168.1.5:9000/k/key/v1",
        ] {
            assert!(found(value), "{value}");
        }
        for value in [
            "http://127.0.0.1:11434",
            "https://api.example:8788",
            "http://192.168.1.6:9000",
            "/home/8788",
            "",
        ] {
            assert!(!found(value), "{value}");
        }
        assert!(nested(Some(OsStr::new("claude"))).is_some_and(|text| text.contains("`claude`")));
        assert_eq!(nested(None), None);
    }
}
