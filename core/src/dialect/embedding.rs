//! Answers that are vectors, in the forms of the dialects. They are never streamed.

use crate::dialect::{Answer, Encoder, Opening, Timing, write_number};
use crate::error::Code;
use crate::invocation::{Finish, Usage};
use crate::text;
use crate::time::Instant;
use crate::wire::Records;
use alloc::vec::Vec;

/// Form of the answer's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// OpenAI's list, each vector as numbers.
    OpenAi,
    /// OpenAI's list, each vector as the base64 of its numbers (32 bit, little-endian).
    OpenAiBase64,
    /// Ollama's `/api/embed`.
    Embed,
    /// Ollama's older `/api/embeddings`: one vector.
    Embeddings,
}

/// Writes the vectors of an answer.
#[derive(Debug)]
pub(super) struct EmbeddingEncoder(pub(super) Form);

impl EmbeddingEncoder {
    fn openai(answer: &Answer, model: &str, base64: bool, usage: Usage, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
        for (at, vector) in answer.embeddings.iter().enumerate() {
            out.extend_from_slice(if at == 0 {
                b"{\"object\":\"embedding\",\"index\":"
            } else {
                b",{\"object\":\"embedding\",\"index\":"
            });
            write_number(out, u64::try_from(at).unwrap_or(u64::MAX));
            out.extend_from_slice(b",\"embedding\":");
            if base64 {
                out.push(b'"');
                write_base64(&little_endian(vector), out);
                out.push(b'"');
            } else {
                out.extend_from_slice(vector);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"model\":\"");
        text::escape_into(out, model);
        out.extend_from_slice(b"\",\"usage\":{\"prompt_tokens\":");
        write_number(out, usage.prompt_tokens);
        out.extend_from_slice(b",\"total_tokens\":");
        write_number(out, usage.total_tokens());
        out.extend_from_slice(b"}}");
    }

    fn ollama(answer: &Answer, model: &str, usage: Usage, timing: &Timing, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"model\":\"");
        text::escape_into(out, model);
        out.extend_from_slice(b"\",\"embeddings\":[");
        for (at, vector) in answer.embeddings.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(vector);
        }
        out.extend_from_slice(b"],\"total_duration\":");
        let total = timing.now.since(timing.started).as_nanos();
        write_number(out, u64::try_from(total).unwrap_or(u64::MAX).max(1));
        out.extend_from_slice(b",\"load_duration\":0,\"prompt_eval_count\":");
        write_number(out, usage.prompt_tokens);
        out.push(b'}');
    }
}

/// The numbers of a JSON array as 32 bit floats in little-endian bytes.
fn little_endian(vector: &[u8]) -> Vec<u8> {
    let numbers = core::str::from_utf8(vector).unwrap_or_default();
    let numbers = numbers.trim_matches(['[', ']']);
    // Nearly all are written with ten characters or more.
    let mut bytes = Vec::with_capacity(vector.len() / 2);
    for number in numbers.split(',').filter(|number| !number.is_empty()) {
        // A link takes in nothing but JSON numbers, which all can be read.
        let number: f32 = number.parse().unwrap_or_default();
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// RFC 4648, section 4, with padding.
fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = 0u32;
        for at in 0..3 {
            bits = (bits << 8) | u32::from(group.get(at).copied().unwrap_or_default());
        }
        for at in 0..4 {
            let digit = usize::try_from((bits >> (18 - 6 * at)) & 0x3f).unwrap_or_default();
            out.push(if at > group.len() {
                b'='
            } else {
                ALPHABET.get(digit).copied().unwrap_or(b'=')
            });
        }
    }
}

impl Encoder for EmbeddingEncoder {
    fn open(&mut self, _opening: &Opening<'_>, _out: &mut Records<'_>) {}

    fn content(&mut self, _now: Instant, _text: &[u8], _out: &mut Records<'_>) {}

    fn reasoning(&mut self, _now: Instant, _text: &[u8], _out: &mut Records<'_>) {}

    fn refusal(&mut self, _now: Instant, _text: &[u8], _out: &mut Records<'_>) {}

    fn tool_call(
        &mut self,
        _now: Instant,
        _index: u32,
        _id: &[u8],
        _name: &[u8],
        _arguments: &[u8],
        _out: &mut Records<'_>,
    ) {
    }

    fn end(
        &mut self,
        _now: Instant,
        _finish: Finish,
        _usage: Usage,
        _timing: &Timing,
        _out: &mut Records<'_>,
    ) {
    }

    fn keep_alive(&mut self, _now: Instant, _out: &mut Records<'_>) {}

    fn failed(&mut self, _now: Instant, _code: Code, _message: &str, _out: &mut Records<'_>) {}

    fn whole(
        &mut self,
        opening: &Opening<'_>,
        answer: &Answer,
        _finish: Finish,
        usage: Usage,
        timing: &Timing,
        out: &mut Vec<u8>,
    ) {
        match self.0 {
            Form::OpenAi => Self::openai(answer, opening.model, false, usage, out),
            Form::OpenAiBase64 => Self::openai(answer, opening.model, true, usage, out),
            Form::Embed => Self::ollama(answer, opening.model, usage, timing, out),
            Form::Embeddings => {
                out.extend_from_slice(b"{\"embedding\":");
                let vector = answer.embeddings.first();
                out.extend_from_slice(vector.map_or(b"[]", |vector| vector));
                out.push(b'}');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::string::String;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            write_base64(plain.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), encoded);
        }
    }

    #[test]
    fn numbers_become_floats_of_32_bits() {
        assert_eq!(
            little_endian(b"[1,-0.5,2e-3,0]"),
            [1f32, -0.5, 0.002, 0.0]
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>()
        );
        assert!(little_endian(b"[]").is_empty());
    }
}
