//! Framing of bytes on the wire. Nothing here knows a dialect: it tells where a record starts and ends, not what it means.

pub mod http1;
pub mod lines;
pub mod ndjson;
pub mod sse;

use alloc::vec::Vec;

/// Separation of the records of a response body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// `text/event-stream`, one event per record (WHATWG HTML, server-sent events).
    Sse,
    /// `application/x-ndjson`, one line per record.
    Ndjson,
    /// The one record is the whole body.
    Whole,
}

/// Writes records into a body buffer, framed as the response asks.
///
/// A record is one JSON text, or a token such as `[DONE]`, and holds no line break (serde_json's compact output never has one outside
/// of an escape).
#[derive(Debug)]
pub struct Records<'o> {
    out: &'o mut Vec<u8>,
    framing: Framing,
}

impl<'o> Records<'o> {
    /// Appends to `out`, which may already hold earlier records.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>, framing: Framing) -> Self {
        Self { out, framing }
    }

    /// The framing in use.
    #[inline]
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Opens a record and hands out the buffer to append its text to; close it with [`Records::end`]. `event` names an SSE event and is
    /// left out in the other framings.
    #[inline]
    pub fn begin(&mut self, event: Option<&'static str>) -> &mut Vec<u8> {
        match self.framing {
            Framing::Sse => sse::begin(self.out, event),
            Framing::Ndjson | Framing::Whole => {}
        }
        self.out
    }

    /// Closes the record that [`Records::begin`] opened.
    #[inline]
    pub fn end(&mut self) {
        match self.framing {
            Framing::Sse => sse::end(self.out),
            Framing::Ndjson => ndjson::end(self.out),
            Framing::Whole => {}
        }
    }

    /// Writes a comment, such as `keep-alive`, which clients skip. Only SSE has comments; a blank NDJSON line would break clients, so the
    /// other framings write nothing.
    #[inline]
    pub fn comment(&mut self, text: &str) {
        if self.framing == Framing::Sse {
            sse::write_comment(self.out, text);
        }
    }

    /// The buffer without any framing, for bytes that are framed already.
    #[inline]
    pub fn raw(&mut self) -> &mut Vec<u8> {
        self.out
    }
}

/// Cuts `bytes` at the given places, so that tests can ask whether a split changes what is read.
#[cfg(test)]
pub(crate) fn split<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .filter_map(|pair| bytes.get(*pair.first()?..*pair.last()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(framing: Framing) -> Vec<u8> {
        let mut out = Vec::new();
        let mut records = Records::new(&mut out, framing);
        records.begin(None).extend_from_slice(b"{\"a\":1}");
        records.end();
        records.comment("keep-alive");
        records.begin(Some("done")).extend_from_slice(b"{}");
        records.end();
        out
    }

    #[test]
    fn each_framing_writes_its_bytes() {
        assert_eq!(
            framed(Framing::Sse),
            b"data: {\"a\":1}\n\n: keep-alive\n\nevent: done\ndata: {}\n\n"
        );
        assert_eq!(framed(Framing::Ndjson), b"{\"a\":1}\n{}\n");
        assert_eq!(framed(Framing::Whole), b"{\"a\":1}{}");
    }
}
