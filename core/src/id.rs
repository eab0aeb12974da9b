//! Names of things: exchanges, links, sessions, keys. None is ever used twice.

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU64, Ordering};

/// Hands out [`ExchangeId`]s without a lock.
#[derive(Debug)]
pub struct Ids {
    process: u32,
    next: AtomicU64,
    further: AtomicU64,
}

/// First serial number of invocations that have not the id of their request. No run has so many requests.
const FURTHER: u64 = 1 << 47;

impl Ids {
    /// `process` tells the ids of one run from those of another; take it from the seed.
    #[must_use]
    pub const fn new(process: u32) -> Self {
        Self {
            process,
            next: AtomicU64::new(1),
            further: AtomicU64::new(FURTHER),
        }
    }

    /// The next id of an invocation that is not the first of its request: a sequence of its own, so that requests are counted
    /// without a gap.
    #[must_use]
    pub fn further(&self) -> ExchangeId {
        ExchangeId {
            process: self.process,
            serial: self.further.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The next id.
    #[must_use]
    pub fn next(&self) -> ExchangeId {
        ExchangeId {
            process: self.process,
            serial: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// One HTTP request and all that follows from it: the `x-request-id`, the id on the agent's wire and in every log line.
///
/// Its text form is 20 lower-case hexadecimal digits: 8 of the process, 12 of the serial number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId {
    process: u32,
    serial: u64,
}

impl ExchangeId {
    /// Not after any other in their order.
    pub(crate) const LEAST: Self = Self {
        process: 0,
        serial: 0,
    };

    /// Length of the text form in bytes.
    pub const TEXT_LEN: usize = 20;

    /// The serial number within this process, from 1.
    #[must_use]
    pub const fn serial(self) -> u64 {
        self.serial
    }

    /// The text form.
    #[must_use]
    pub fn text(self) -> [u8; Self::TEXT_LEN] {
        let digits = (u128::from(self.process) << 48) | u128::from(self.serial & 0xffff_ffff_ffff);
        core::array::from_fn(|at| {
            let nibble = (digits >> (4 * (Self::TEXT_LEN - 1 - at))) & 0xf;
            b"0123456789abcdef"
                .get(usize::try_from(nibble).unwrap_or(0))
                .copied()
                .unwrap_or(b'0')
        })
    }

    /// Appends the text form.
    pub fn write(self, out: &mut alloc::vec::Vec<u8>) {
        out.extend_from_slice(&self.text());
    }

    /// Reads the text form back; `None` for anything that this program cannot have written.
    #[must_use]
    #[inline]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; Self::TEXT_LEN] = text.try_into().ok()?;
        let (process, serial) = text.split_first_chunk::<8>()?;
        // Twelve digits as the first eight and the last eight.
        let upper = hex(serial.first_chunk::<8>()?)?;
        let lower = hex(serial.last_chunk::<8>()?)?;
        Some(Self {
            process: hex(process)?,
            serial: (u64::from(upper) << 16) | u64::from(lower & 0xffff),
        })
    }
}

/// The value of eight digits `0-9a-f`, all at once: every chunk of an answer carries an id.
#[inline]
fn hex(digits: &[u8; 8]) -> Option<u32> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let text = u64::from_be_bytes(*digits);
    if text & HIGH != 0 {
        return None;
    }
    // The highest bit of each byte that lies in a range; below 0x80 nothing is carried over.
    let within = |first: u8, last: u8| {
        (text + ONES * u64::from(0x80 - first)) & !(text + ONES * u64::from(0x7f - last)) & HIGH
    };
    let letters = within(b'a', b'f');
    if within(b'0', b'9') | letters != HIGH {
        return None;
    }
    let mut value = (text & (ONES * 0xf)) + (letters >> 7) * 9;
    value = (value | value >> 4) & 0x00ff_00ff_00ff_00ff;
    value = (value | value >> 8) & 0x0000_ffff_0000_ffff;
    value |= value >> 16;
    u32::try_from(value & 0xffff_ffff).ok()
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:08x}{:012x}",
            self.process,
            self.serial & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One agent connection, counted from 1 in this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// One admission that waits in the queue, counted from 1 in this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaitId(pub u64);

/// One API key. A key that stays over a reload keeps its id, and no id is ever given to another key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyId(pub NonZeroU32);

/// The permission that a request, a link or a session rests on. What it has permitted ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Authority {
    /// A key, for as long as it is configured and has the role that it had.
    Key(KeyId),
    /// No key is required.
    Anyone,
    /// No key is required of a program on this machine that looks for an Ollama.
    Local,
    /// The program dialled the bridge that its owner has configured.
    Configuration,
}

impl Authority {
    /// The key, where one was shown.
    #[must_use]
    pub const fn key(self) -> Option<KeyId> {
        match self {
            Self::Key(id) => Some(id),
            Self::Anyone | Self::Local | Self::Configuration => None,
        }
    }
}

/// The name of a session: given at registration or made here; 1 to 128 characters of `[A-Za-z0-9._:-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Longest accepted name in bytes.
    pub const MAX_LEN: usize = 128;

    /// `None` when the form is wrong.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
        fits.then(|| Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let ids = Ids::new(0xdead_0001);
        let id = ids.next();
        assert_eq!(id.to_string(), "dead0001000000000001");
        assert_eq!(id.text(), *b"dead0001000000000001");
        assert_eq!(ExchangeId::parse(&id.text()), Some(id));
        assert!(ids.next() > id);
        let all = ExchangeId {
            process: 0x0123_4567,
            serial: 0x89ab_cdef_0918,
        };
        assert_eq!(ExchangeId::parse(b"0123456789abcdef0918"), Some(all));
        for wrong in [
            "",
            "dead000100000000000",
            "dead00010000000000011",
            "DEAD0001000000000001",
            "dead000100000000000g",
            "dead000100000000:001",
            "dead0001`00000000001",
            "dead0001/00000000001",
            "dead00010000000000\u{e9}",
        ] {
            assert_eq!(ExchangeId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
