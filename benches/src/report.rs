//! The bars that the figures are held against, the table for people and the JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// The origin of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The program's value divided by the yardstick's.
    Ratio,
    /// The program's value less the yardstick's.
    Difference,
    /// The program's value.
    Value,
}

/// Yardstick that a program's value is compared with.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Yardstick {
    /// `splice`, `ideal` or `direct`.
    pub name: &'static str,
    /// Its median.
    pub value: f64,
}

/// One measured property.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the measured property.
    pub name: &'static str,
    /// The unit of the two values.
    pub unit: &'static str,
    /// The yardstick's median, where there is one.
    pub yardstick: Option<Yardstick>,
    /// The program's median.
    pub program: f64,
    /// The origin of the figure.
    pub kind: Kind,
    /// The figure that the bar applies to. A ratio or a difference is the median over the rounds.
    pub figure: f64,
    /// The largest value allowed.
    pub bar: Option<f64>,
    /// The largest value aimed at.
    pub goal: Option<f64>,
    /// True when the figure depends on the load of the machine, so that a short run on a busy machine must not fail for
    /// it.
    pub needs_quiet: bool,
}

impl Row {
    /// A value of the program, held against a bar where there is one.
    #[must_use]
    pub const fn value(
        name: &'static str,
        unit: &'static str,
        figure: f64,
        bar: Option<f64>,
    ) -> Self {
        Self {
            name,
            unit,
            yardstick: None,
            program: figure,
            kind: Kind::Value,
            figure,
            bar,
            goal: None,
            needs_quiet: false,
        }
    }

    /// Returns true when the figure misses the bar.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        // Not `figure > bar`: a figure that is no number has not met its bar.
        self.bar
            .is_some_and(|bar| !matches!(self.figure.partial_cmp(&bar), Some(o) if o.is_le()))
    }
}

/// All that one run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// True for the short run.
    pub quick: bool,
    /// The properties, in the order of the table.
    pub rows: Vec<Row>,
}

impl Report {
    /// The names of the properties that miss their bars; in a short run only of those that do not
    /// need a quiet machine.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let held = |row: &&Row| !(self.quick && row.needs_quiet);
        self.rows
            .iter()
            .filter(held)
            .filter(|row| row.is_missed())
            .map(|row| row.name)
            .collect()
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<42} {:>12} {:>13} {:>10} {:>10} {:>7} {:>7}\n",
            "", "unit", "yardstick", "program", "figure", "bar", "goal"
        );
        for row in &self.rows {
            let yardstick = row.yardstick.map_or_else(
                || "-".to_owned(),
                |yardstick| format!("{} {}", yardstick.name, number(yardstick.value)),
            );
            let figure = match row.kind {
                Kind::Ratio => format!("{:.2}x", row.figure),
                Kind::Difference => format!(
                    "{}{}",
                    if row.figure < 0.0 { "" } else { "+" },
                    number(row.figure)
                ),
                Kind::Value => number(row.figure),
            };
            let bar = row.bar.map_or_else(String::new, number);
            let goal = row.goal.map_or_else(String::new, number);
            let verdict = match (row.bar, row.is_missed()) {
                (None, _) => "",
                (_, true) if self.quick && row.needs_quiet => {
                    "missed (needs a quiet machine: not held)"
                }
                (_, true) => "MISSED",
                (_, false) if row.goal.is_some_and(|goal| row.figure <= goal) => "ok, goal met",
                (_, false) => "ok",
            };
            let _ = writeln!(
                out,
                "{:<42} {:>12} {yardstick:>13} {:>10} {figure:>10} {bar:>7} {goal:>7}  {verdict}",
                row.name,
                row.unit,
                number(row.program)
            );
        }
        out
    }
}

/// Three figures or so.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns a time in milliseconds.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Returns the median of some values, the mean of the two middle ones of an even number; NaN of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => at(n / 2),
        n => f64::midpoint(at(n / 2 - 1), at(n / 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(figure: f64, bar: Option<f64>, needs_quiet: bool) -> Row {
        Row {
            name: "x",
            unit: "ms",
            yardstick: None,
            program: figure,
            kind: Kind::Value,
            figure,
            bar,
            goal: None,
            needs_quiet,
        }
    }

    #[test]
    fn a_bar_is_met_exactly_and_never_by_nothing() {
        assert!(!row(2.0, Some(2.0), false).is_missed());
        assert!(row(2.01, Some(2.0), false).is_missed());
        assert!(row(f64::NAN, Some(2.0), false).is_missed());
        assert!(!row(9.0, None, false).is_missed());
    }

    #[test]
    fn a_short_run_does_not_fail_for_what_needs_a_quiet_machine() {
        let rows = vec![row(3.0, Some(2.0), true)];
        assert!(
            Report {
                quick: true,
                rows: rows.clone()
            }
            .missed()
            .is_empty()
        );
        assert_eq!(Report { quick: false, rows }.missed(), ["x"]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
