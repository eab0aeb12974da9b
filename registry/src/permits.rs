//! The question whether the configuration lists a place that a definition wants to reach.

/// The lists of the configuration: `registry.http`, `registry.commands`, `registry.files`. Each answer says why not, and what to do.
pub trait Permits {
    /// A host that a tool or resource asks over HTTP, as its URL names it.
    ///
    /// # Errors
    /// It is not listed.
    fn http(&self, scheme: &str, host: &str, port: u16) -> Result<(), String>;

    /// A program, by its absolute path.
    ///
    /// # Errors
    /// It is not listed.
    fn command(&self, path: &str) -> Result<(), String>;

    /// A file that a resource shows.
    ///
    /// # Errors
    /// It is not below a listed folder.
    fn file(&self, path: &str) -> Result<(), String>;
}

/// Permits all, for what was permitted when it was registered: a fence stands before each run too.
#[derive(Clone, Copy, Debug)]
pub struct Anything;

impl Permits for Anything {
    fn http(&self, _scheme: &str, _host: &str, _port: u16) -> Result<(), String> {
        Ok(())
    }

    fn command(&self, _path: &str) -> Result<(), String> {
        Ok(())
    }

    fn file(&self, _path: &str) -> Result<(), String> {
        Ok(())
    }
}
