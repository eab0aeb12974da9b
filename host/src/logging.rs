//! The log on standard error: text on a terminal, one JSON object for each line otherwise.

use crate::config::{Log, LogFormat, LogLevel};
use std::fmt;
use std::io::{self, IsTerminal};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

/// Changes the level of the running log. Cheap to clone.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelHandle")
    }
}

impl LevelHandle {
    /// Changes the level from now on.
    pub fn set(&self, level: LogLevel) {
        // The only error is that the log is gone.
        let _ = self.0.reload(filter(level));
    }
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

/// Makes standard error the log of this process. `NO_COLOR` is honoured.
///
/// # Errors
/// Fails when the process has a log already.
pub fn start(config: &Log) -> Result<LevelHandle, TryInitError> {
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Without `log_internal_errors(false)` a closed standard error would end the program: the layer prints its own
    // error there.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(color)
        .log_internal_errors(false);
    let lines = if json {
        lines
            .with_ansi(false)
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed()
    } else {
        lines.with_target(false).boxed()
    };
    let (level, handle) = reload::Layer::new(filter(config.level));
    tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .try_init()?;
    Ok(LevelHandle(handle))
}
