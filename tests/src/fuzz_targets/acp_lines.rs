//! Any lines of an ACP agent's process, between any other events.

use crate::acp::{Bench, NAME};
use mcp_local_provider_core::agents::acp::{Config, HiddenError, Profile, SystemPrompt, UsageRule};
use std::time::Duration;

/// A request with everything that matters to an agent.
const ASKS: [&str; 4] = [
    r#"{"model":"echo","messages":[{"role":"user","content":"hello"}]}"#,
    r#"{"model":"echo/b","reasoning_effort":"low","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"one"},{"role":"assistant","content":"Hi"},{"role":"user","content":[{"type":"text","text":"two"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}"#,
    r#"{"model":"echo","tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}],"messages":[{"role":"user","content":"look"}]}"#,
    r#"{"model":"echo","messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"Hi"},{"role":"user","content":"again"}]}"#,
];

/// The first byte picks the kind of agent; then each line is written by its process, except those that begin with `!`:
/// `!ask 2`, `!gone 0`, `!exit`, `!start`, `!time 9`, `!http {…}`, `!stop`. Whatever that is, everybody is answered,
/// and nothing is left in the end.
pub fn acp_lines(data: &[u8]) {
    let Some((kind, lines)) = data.split_first() else {
        return;
    };
    let mut profile = Profile::new(NAME);
    profile.usage = [
        UsageRule::Turn,
        UsageRule::LastCall,
        UsageRule::Session,
        UsageRule::Quota,
        UsageRule::ChunkMeta,
        UsageRule::None,
    ][usize::from(kind % 6)];
    profile.hidden_error = match kind / 6 % 3 {
        0 => HiddenError::None,
        1 => HiddenError::ThreadStatus,
        _ => HiddenError::Prefix(vec!["API Error".into()]),
    };
    if kind & 0x40 != 0 {
        profile.system = SystemPrompt::Override;
        profile.default_system = Some("Answer.".into());
    }
    profile.mode = (kind & 0x80 != 0).then(|| "plan".into());
    let mut config = Config::new("/empty");
    config.tools_url = Some("http://127.0.0.1:1/agents/mcp/".into());
    let mut bench = Bench::new(profile, config);
    bench.started();
    for line in lines.split(|byte| *byte == b'\n') {
        match line.strip_prefix(b"!") {
            Some(event) => happen(&mut bench, &String::from_utf8_lossy(event)),
            None => {
                bench.writes(line);
                bench.writes(b"\n");
            }
        }
    }
    // The process is gone, and comes back no more.
    for _ in 0..10 {
        bench.exited("the end");
        bench.pass(Duration::from_secs(1));
    }
    bench.call(|agent, now, out, link| agent.stop(now, out, link));
    bench.exited("the end");
    for client in &bench.clients {
        assert!(client.is_over(), "{client:?} has no end");
    }
    assert_eq!(bench.agent.open_turns(), 0);
    assert_eq!(bench.open_exchanges(), 0);
    assert_eq!(bench.agent.sessions(), 0);
    assert!(bench.replies.values().all(|(_, ended)| *ended));
    for line in &bench.written {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

fn happen(bench: &mut Bench, event: &str) {
    let (what, with) = event.split_once(' ').unwrap_or((event, ""));
    let number = || with.trim().parse::<usize>().unwrap_or(0);
    match what {
        "ask" if bench.clients.len() < 20 => {
            let _ = bench.ask(ASKS[number() % ASKS.len()]);
        }
        "gone" if !bench.clients.is_empty() => {
            let client = number() % bench.clients.len();
            bench.cancel(client);
        }
        "exit" => bench.exited("code 1"),
        "start" => bench.started(),
        "time" => bench.pass(Duration::from_secs(number().min(700) as u64)),
        "login" => bench.call(|agent, now, out, link| {
            let _ = agent.authenticate(now, with, out, link);
        }),
        "http" => {
            // To whichever server was named last.
            let server = bench.last_server();
            let (name, bearer) = server.unwrap_or_default();
            let _ = bench.http(&name, &bearer, "POST", with);
        }
        "keys" => bench.call(|agent, now, out, link| {
            agent.handle_keys(now, &|_| number() > 0, out, link);
        }),
        "stop" => bench.call(|agent, now, out, link| agent.stop(now, out, link)),
        _ => {}
    }
}
