//! The command line that the programs of this package share, and the end of their reports.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Error;
use crate::report::Report;

/// Options of a measurement and of its report.
#[derive(Debug)]
pub struct Arguments {
    /// `--program`: the build to measure.
    pub program: PathBuf,
    /// `--quick`: the short run.
    pub quick: bool,
    /// `--gate`: a missed bar is a failure.
    pub gate: bool,
    /// `--json`: where the figures are written, too.
    pub json: Option<PathBuf>,
}

impl Arguments {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// Fails when one is not known or lacks its value.
    pub fn parse(words: &[&str]) -> Result<Self, Error> {
        let mut parsed = Self {
            program: PathBuf::from("target/release/mcp-local-provider"),
            quick: false,
            gate: false,
            json: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match *word {
                "--program" => parsed.program = value()?.into(),
                "--json" => parsed.json = Some(value()?.into()),
                "--quick" => parsed.quick = true,
                "--gate" => parsed.gate = true,
                _ => return Err(format!("{word} is not known; see --help").into()),
            }
        }
        Ok(parsed)
    }

    /// Measures. A short run that is a gate is made once more when it misses a bar, because a machine may be busy just
    /// then. Prints the table, writes the figures, and tells what misses.
    ///
    /// # Errors
    /// Fails when a run fails, or the figures cannot be written.
    pub fn conclude(&self, run: impl Fn() -> Result<Report, Error>) -> Result<ExitCode, Error> {
        let mut report = run()?;
        if self.quick && self.gate && !report.missed().is_empty() {
            print(&format!(
                "{}\nonce more, because of: {}\n\n",
                report.table(),
                report.missed().join("; ")
            ))?;
            report = run()?;
        }
        print(&report.table())?;
        if let Some(file) = &self.json {
            std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
        }
        let missed = report.missed();
        if self.gate && !missed.is_empty() {
            eprintln!("missed: {}", missed.join("; "));
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints to standard output.
///
/// # Errors
/// Fails when that is closed.
pub fn print(text: &str) -> Result<(), Error> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
