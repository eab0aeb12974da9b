//! The output of a command as pieces of an answer.

use super::command_line::Output;
use mcp_local_provider_agent::{Answer, Cancelled, Failed, JsonError};
use mcp_local_provider_core::wire::lines::{Line, Lines};

/// Longest line of JSON, in bytes.
const LINE_BYTES: usize = 4 << 20;

/// Reads what a command prints, in whatever pieces it comes.
pub(super) enum Reader {
    Text(Characters),
    Json(Lines),
}

/// Progress of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// There may be more.
    More,
    /// The answer has ended.
    Ended,
}

impl Reader {
    pub(super) fn new(output: Output) -> Self {
        match output {
            Output::Text => Self::Text(Characters::default()),
            Output::Json => Self::Json(Lines::new(LINE_BYTES)),
        }
    }

    /// Takes bytes of the command, and writes what they complete.
    pub(super) fn read(&mut self, bytes: &[u8], answer: &mut Answer) -> Result<Read, Failed> {
        match self {
            Self::Text(characters) => {
                let text = characters.push(bytes);
                if !text.is_empty() {
                    answer.text(&text)?;
                }
                Ok(Read::More)
            }
            Self::Json(lines) => {
                let mut read = Ok(Read::More);
                lines.push(bytes, |line| {
                    if let Ok(Read::More) = read {
                        read = write_line(line, answer);
                    }
                });
                read
            }
        }
    }

    /// The command has ended well: the last line may lack its end.
    pub(super) fn finish(self, answer: &mut Answer) -> Result<(), Failed> {
        match self {
            Self::Text(characters) if characters.is_cut() => Ok(answer.text("\u{fffd}")?),
            Self::Text(_) => Ok(()),
            Self::Json(lines) if lines.begun().is_empty() => Ok(()),
            Self::Json(lines) => write_line(Line::Whole(lines.begun()), answer).map(drop),
        }
    }
}

fn write_line(line: Line<'_>, answer: &mut Answer) -> Result<Read, Failed> {
    let Line::Whole(line) = line else {
        let why = format!("the command printed a line of more than {LINE_BYTES} bytes");
        return Err(Failed::internal(why));
    };
    let wrong = |why: &str| {
        Failed::internal(format!(
            "the command printed a line that is no delta: {why}"
        ))
    };
    let line = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8"))?;
    match answer.write_json(line) {
        Ok(true) => Ok(Read::Ended),
        Ok(false) => Ok(Read::More),
        Err(JsonError::Wrong(why)) => Err(wrong(&why)),
        Err(JsonError::Cancelled(Cancelled)) => Err(Cancelled.into()),
    }
}

/// Joins characters that a read has cut. Bytes that are no UTF-8 become U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Characters {
    /// Beginning of a character, at most three bytes.
    cut: Vec<u8>,
}

impl Characters {
    fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Returns the text that is complete with these bytes.
    fn push(&mut self, bytes: &[u8]) -> String {
        self.cut.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = Vec::new();
        let mut chunks = self.cut.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            // A beginning at the very end may be completed by the next bytes.
            let begins = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if chunks.peek().is_none() && begins {
                rest = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.cut = rest;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole_in_any_split() {
        let bytes = "aé€🦀\u{2028}".as_bytes();
        let bytes = [bytes, b"\xff\xe2\x82z\xf0\x9f"].concat();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut characters = Characters::default();
                let mut text = String::new();
                for part in [
                    bytes.get(..first),
                    bytes.get(first..second),
                    bytes.get(second..),
                ] {
                    text += &characters.push(part.unwrap_or_default());
                }
                assert_eq!(text, "aé€🦀\u{2028}\u{fffd}\u{fffd}z");
                assert!(characters.is_cut());
            }
        }
    }
}
