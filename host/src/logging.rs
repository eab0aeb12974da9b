//! The log on standard error or in a file: text on a terminal, one JSON object for each line otherwise.
//!
//! Serving never waits for the log's output: a thread of its own writes the lines (`lines`).

mod file;
mod json;
mod lines;

use crate::config::{Log, LogFormat, LogLevel};
use file::LogFile;
use json::JsonLine;
use lines::{Output, Writer};
use mcp_local_provider_engine::LogLines;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::Arc;
use thiserror::Error;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

/// The running log. Dropped, it writes the lines that wait.
pub struct RunningLog {
    level: reload::Handle<LevelFilter, Registry>,
    writer: Writer,
    latest: Arc<LogLines>,
}

impl fmt::Debug for RunningLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunningLog")
    }
}

impl RunningLog {
    /// Changes the level from now on.
    pub fn set(&self, level: LogLevel) {
        // The only error is that the log is gone.
        let _ = self.level.reload(filter(level));
    }

    /// The latest lines, for `GET /logs`.
    pub fn latest(&self) -> Arc<LogLines> {
        self.latest.clone()
    }

    /// Writes the lines that wait; later ones are lost. Waits for at most a second for an output that takes nothing.
    pub fn finish(&self) {
        self.writer.finish();
    }

    /// Writes the lines that wait, so that whoever acts on what follows finds them.
    pub fn flush(&self) {
        self.writer.lines().write_out_at_once();
    }
}

/// Reason why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The process has one already.
    #[error(transparent)]
    Twice(#[from] TryInitError),
    /// The file cannot be written.
    #[error("log.file: {path} cannot be written: {error}")]
    File {
        /// The file.
        path: String,
        /// Reason that the system gave.
        error: io::Error,
    },
    /// No thread can be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(io::Error),
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Makes standard error, or the file of `config`, the log of this process. `NO_COLOR` is honoured.
///
/// # Errors
/// Fails when the process has a log already, or the file cannot be written.
pub fn start(config: &Log) -> Result<RunningLog, LogError> {
    let terminal = config.file.is_none() && io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let output: Output = match &config.file {
        None => Box::new(io::stderr()),
        Some(path) => Box::new(LogFile::open(path).map_err(|error| LogError::File {
            path: path.display().to_string(),
            error,
        })?),
    };
    let latest = Arc::<LogLines>::default();
    let output = if json {
        Box::new(Kept {
            output: Some(output),
            latest: latest.clone(),
        })
    } else {
        output
    };
    let writer = Writer::start(output).map_err(LogError::Thread)?;
    // Without `log_internal_errors(false)` a closed standard error would end the program: the layer prints its own
    // error there.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer.lines())
        .with_ansi(color)
        .log_internal_errors(false);
    let lines = if json {
        lines.event_format(JsonLine).boxed()
    } else {
        lines.with_target(false).boxed()
    };
    // A person reads text; what is kept is JSON all the same.
    let kept = latest.clone();
    let kept = move || Kept {
        output: None,
        latest: kept.clone(),
    };
    let kept = (!json).then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(kept)
            .log_internal_errors(false)
            .event_format(JsonLine)
    });
    let (level, handle) = reload::Layer::new(filter(config.level));
    tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .with(kept)
        .try_init()?;
    // A panic ends the program, and its last lines are the ones that tell why.
    let (last, tell) = (writer.lines(), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        last.write_out_at_once();
        tell(panic);
    }));
    Ok(RunningLog {
        level: handle,
        writer,
        latest,
    })
}

/// Keeps lines, whole ones in each call, and hands them on to an output.
struct Kept {
    output: Option<Output>,
    latest: Arc<LogLines>,
}

impl Write for Kept {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write_all(lines).map(|()| lines.len())
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        // The lines are JSON, which is UTF-8.
        if let Ok(lines) = std::str::from_utf8(lines) {
            self.latest.push(lines);
        }
        self.output
            .as_mut()
            .map_or(Ok(()), |output| output.write_all(lines))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.as_mut().map_or(Ok(()), Write::flush)
    }
}
