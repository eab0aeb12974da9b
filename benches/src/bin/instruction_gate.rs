//! Holds the instruction counts of the hot path against the committed baseline.
//!
//! Reads what gungraun prints from standard input:
//!
//! ```sh
//! cargo build --release -p mcp-local-provider-benches --bins
//! target/release/instructions --bench --output-format=json | target/release/instruction_gate benches/baseline.json
//! ```
//!
//! With `--update` it writes the baseline instead. Three rules:
//!
//! 1. No case takes more than 2 % more instructions than its baseline. Counts belong to one
//!    compiler, so with another one than the baseline's this is shown and not held.
//! 2. Where there is one case with 10 and one with 10,000 of something, they are within 5 %.
//! 3. Some cases take at most a multiple of a yardstick: a chunk's way from the agent's frame to the client's bytes of the floor,
//!    what ACP agents read and write of one scan of it, and a message that the gateway relays of the least code that relays it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::{Command, ExitCode};

use mcp_local_provider_benches::Error;
use serde::{Deserialize, Serialize};

/// Instructions that a case may take, in per cent of its baseline.
const WORSE: u64 = 102;
/// Instructions that the case with 10,000 may take, in per cent of the case with 10.
const SCALE: std::ops::RangeInclusive<u64> = 95..=105;
/// Cases, their yardsticks, and the instructions that they may take in per cent of these.
const YARDSTICKS: [(&str, &str, u64); 9] = [
    ("chunk_to_sse", "floor", 150),
    ("chunk_to_ndjson", "floor", 150),
    ("acp_chunk/chunk_32", "acp_scan/chunk_32", 130),
    ("acp_chunk/chunk_4096", "acp_scan/chunk_4096", 130),
    ("acp_prompt", "acp_scan/prompt", 300),
    ("mcp_relay/request", "mcp_floor/request", 490),
    ("mcp_relay/answer", "mcp_floor/answer", 410),
    ("mcp_relay/progress", "mcp_floor/progress", 285),
    ("mcp_relay/last_event", "mcp_floor/last_event", 380),
];

/// Instructions by the name of the case.
type Counts = BTreeMap<String, u64>;

/// The committed file.
#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    /// Output of `rustc --version` for the compiler that the counts belong to.
    compiler: String,
    instructions: Counts,
}

/// The part of gungraun's summary that holds the count.
#[derive(Debug, Deserialize)]
struct Summary {
    function_name: String,
    id: Option<String>,
    profiles: Vec<Profile>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    total: Total,
}

#[derive(Debug, Deserialize)]
struct Total {
    metrics: Metrics,
}

#[derive(Debug, Deserialize)]
struct Metrics {
    #[serde(rename = "Ir")]
    instructions: Metric,
}

#[derive(Debug, Deserialize)]
struct Metric {
    values: Values,
}

#[derive(Debug, Deserialize)]
struct Values {
    new: u64,
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("instruction_gate: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<bool, Error> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (file, update) = match words.as_slice() {
        [file] => (*file, false),
        [file, "--update"] | ["--update", file] => (*file, true),
        _ => return Err("usage: instruction_gate BASELINE [--update] < SUMMARIES".into()),
    };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let instructions = counts(&text)?;
    let version = Command::new("rustc").arg("--version").output()?;
    let compiler = String::from_utf8(version.stdout)?.trim().to_owned();
    if update {
        let baseline = Baseline {
            compiler,
            instructions,
        };
        std::fs::write(file, serde_json::to_string_pretty(&baseline)? + "\n")?;
        return Ok(true);
    }
    let baseline = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let (report, kept) = judge(&serde_json::from_str(&baseline)?, &compiler, &instructions);
    std::io::stdout().lock().write_all(report.as_bytes())?;
    Ok(kept)
}

/// Reads the summaries, one JSON object after the other. A case that has no variants is named after
/// its function, the others `function/variant`.
fn counts(text: &str) -> Result<Counts, Error> {
    let mut counts = Counts::new();
    for summary in serde_json::Deserializer::from_str(text).into_iter::<Summary>() {
        let summary = summary.map_err(|e| format!("not a summary of gungraun: {e}"))?;
        let name = match summary.id {
            Some(id) if id != "case" => format!("{}/{id}", summary.function_name),
            _ => summary.function_name,
        };
        let profile = summary.profiles.first();
        let profile = profile.ok_or_else(|| format!("{name} was not measured"))?;
        counts.insert(name, profile.data.total.metrics.instructions.values.new);
    }
    if counts.is_empty() {
        return Err("no summaries on standard input".into());
    }
    Ok(counts)
}

/// The table, and whether every rule was kept.
fn judge(baseline: &Baseline, compiler: &str, counts: &Counts) -> (String, bool) {
    let same_compiler = baseline.compiler == compiler;
    let mut kept = true;
    let mut lines = vec![format!(
        "{:<32} {:>12} {:>12}",
        "instructions", "baseline", "now"
    )];
    let mut rule = |line: String, broken: bool| {
        lines.push(if broken {
            format!("{line}  FAILED")
        } else {
            line
        });
        kept &= !broken;
    };
    for (name, now) in counts {
        match baseline.instructions.get(name) {
            Some(before) => {
                let change = *now as f64 / *before as f64;
                let line = format!(
                    "{name:<32} {before:>12} {now:>12} {:>+7.2} %",
                    (change - 1.0) * 100.0
                );
                rule(line, same_compiler && now * 100 > before * WORSE);
            }
            None => rule(
                format!("{name:<32} {:>12} {now:>12}  is not in the baseline", "-"),
                true,
            ),
        }
    }
    for name in baseline
        .instructions
        .keys()
        .filter(|name| !counts.contains_key(*name))
    {
        rule(
            format!("{name:<32} is in the baseline and was not measured"),
            true,
        );
    }
    for (name, few) in counts {
        let Some(case) = name.strip_suffix("/with_10") else {
            continue;
        };
        let Some(many) = counts.get(&format!("{case}/with_10000")) else {
            continue;
        };
        let growth = *many as f64 / *few as f64;
        let line = format!("{case}: 10,000 take {growth:.3} times what 10 take (0.95 to 1.05)");
        rule(
            line,
            many * 100 < few * SCALE.start() || many * 100 > few * SCALE.end(),
        );
    }
    for (name, yardstick, most) in YARDSTICKS {
        let (Some(now), Some(measure)) = (counts.get(name), counts.get(yardstick)) else {
            continue;
        };
        let times = *now as f64 / *measure as f64;
        let most_times = most as f64 / 100.0;
        rule(
            format!("{name}: {times:.3} times {yardstick} (at most {most_times})"),
            now * 100 > measure * most,
        );
    }
    if !same_compiler {
        lines.push(format!(
            "the baseline belongs to {}, this is {compiler}: changes are shown and not held",
            baseline.compiler
        ));
    }
    if !kept {
        lines.push(
            "where more is what the change is worth, write a new baseline with --update".to_owned(),
        );
    }
    (lines.join("\n") + "\n", kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn judged(before: &[(&str, u64)], now: &[(&str, u64)], compiler: &str) -> (String, bool) {
        let own = |list: &[(&str, u64)]| list.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect();
        let baseline = Baseline {
            compiler: "rustc 1".to_owned(),
            instructions: own(before),
        };
        judge(&baseline, compiler, &own(now))
    }

    #[test]
    fn two_per_cent_are_kept_and_more_fails_for_the_same_compiler() {
        assert!(judged(&[("decode", 1000)], &[("decode", 1020)], "rustc 1").1);
        assert!(!judged(&[("decode", 1000)], &[("decode", 1021)], "rustc 1").1);
        let (report, kept) = judged(&[("decode", 1000)], &[("decode", 1100)], "rustc 2");
        assert!(kept && report.contains("shown and not held"), "{report}");
    }

    #[test]
    fn cases_and_baseline_name_the_same_set() {
        assert!(!judged(&[], &[("decode", 1)], "rustc 1").1);
        assert!(!judged(&[("decode", 1)], &[], "rustc 1").1);
    }

    #[test]
    fn idle_sessions_cost_nothing() {
        let same = [("admit/with_10", 1000), ("admit/with_10000", 1050)];
        assert!(judged(&same, &same, "rustc 1").1);
        let grown = [("admit/with_10", 1000), ("admit/with_10000", 1051)];
        assert!(
            !judged(&grown, &grown, "rustc 2").1,
            "holds for every compiler"
        );
    }

    #[test]
    fn the_hot_path_is_held_against_the_floor() {
        let at = [("chunk_to_sse", 1500), ("floor", 1000)];
        assert!(judged(&at, &at, "rustc 1").1);
        let above = [("chunk_to_sse", 1501), ("floor", 1000)];
        assert!(!judged(&above, &above, "rustc 1").1);
    }

    #[test]
    fn summaries_follow_each_other() {
        let one = |name: &str, id: &str, n: u32| {
            format!(
                r#"{{"function_name":"{name}","id":"{id}","profiles":[{{"data":{{"total":{{"metrics":{{"Ir":{{"values":{{"new":{n}}}}}}}}}}}}}]}}"#
            )
        };
        let text = format!(
            "{}\n{}",
            one("floor", "case", 7),
            one("admit", "with_10", 8)
        );
        let counts = counts(&text).unwrap();
        assert_eq!(counts.get("floor"), Some(&7));
        assert_eq!(counts.get("admit/with_10"), Some(&8));
        assert!(super::counts("").is_err());
    }
}
