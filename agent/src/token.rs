//! The token that an agent shows to its provider.

use std::fmt;
use std::fs::File;
use std::io::Read;

/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// A bridge key, a session token, or none. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Option<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Reason why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It does not begin with `env:` or `file:`.
    #[error("a token is `env:NAME` or `file:PATH`, not the token itself, which others would see")]
    Source,
    /// The variable is not set, or is not UTF-8.
    #[error("the environment variable `{0}` is not set")]
    NotSet(String),
    /// The file cannot be read.
    #[error("the file `{path}` cannot be read: {why}")]
    Unreadable {
        /// Its path.
        path: String,
        /// Reason.
        why: std::io::Error,
    },
    /// It is empty, or has blanks or control characters in it.
    #[error("{0} holds no token: one line of visible ASCII characters")]
    Malformed(String),
}

impl Token {
    /// Reads the token from where `source` says: `env:NAME` for an environment variable, `file:PATH` for a file of at most 64 KiB.
    /// Blanks around it are left out.
    ///
    /// # Errors
    /// When there is none. The text of the error never holds the token.
    pub fn read(source: &str) -> Result<Self, TokenError> {
        let text = if let Some(name) = source.strip_prefix("env:") {
            std::env::var(name).map_err(|_| TokenError::NotSet(name.to_owned()))?
        } else if let Some(path) = source.strip_prefix("file:") {
            let mut text = String::new();
            File::open(path)
                .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
                .map_err(|why| TokenError::Unreadable {
                    path: path.to_owned(),
                    why,
                })?;
            text
        } else {
            return Err(TokenError::Source);
        };
        Self::new(text.trim()).map_err(|_| TokenError::Malformed(format!("`{source}`")))
    }

    /// Takes the token itself.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] when it is empty or has characters that no HTTP header may have.
    pub fn new(token: impl Into<String>) -> Result<Self, TokenError> {
        let token = token.into();
        match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(Some(token))),
            false => Err(TokenError::Malformed("this text".to_owned())),
        }
    }

    /// No token, for a provider that asks for none.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_where_nobody_else_looks_and_is_never_shown() {
        let path = std::env::temp_dir().join(format!("token-{}", std::process::id()));
        let source = format!("file:{}", path.display());
        let missing = Token::read(&source).map_err(|error| error.to_string());
        assert!(missing.is_err_and(|error| error.contains("cannot be read")));
        let written = |text: &str| {
            std::fs::write(&path, text).map(|()| Token::read(&source).map_err(|e| e.to_string()))
        };
        let read = written("key-1\n").ok().and_then(Result::ok);
        assert_eq!(read.as_ref().and_then(Token::text), Some("key-1"));
        assert_eq!(format!("{read:?}"), "Some(Token(hidden))");
        for wrong in ["", " \n", "two words", "a\nb", "é"] {
            let error = written(wrong).ok().and_then(Result::err);
            let error = error.unwrap_or_default();
            assert!(error.ends_with("visible ASCII characters"), "{error}");
        }
        let _ = std::fs::remove_file(&path);
        assert!(matches!(Token::read("key-1"), Err(TokenError::Source)));
        assert!(matches!(
            Token::read("env:NO_SUCH_VARIABLE_HERE"),
            Err(TokenError::NotSet(_))
        ));
    }
}
