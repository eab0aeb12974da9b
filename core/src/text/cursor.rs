//! Reads JSON text (RFC 8259) in one pass, without an allocation: what is looked for is taken in passing, all else is checked
//! and skipped.
//!
//! Each method stands before the first byte that it takes, and leaves the cursor behind the last. `None` means that the text
//! is none of what was asked for; nothing of use can be read from there on.

use super::JsonStr;

/// Deepest nesting of arrays and objects that can be read.
const DEPTH: u32 = 128;

/// The unread rest of a text.
#[derive(Clone)]
pub(crate) struct Cursor<'t> {
    text: &'t str,
    /// The end of `text`.
    rest: &'t [u8],
    /// Arrays and objects that may still be opened; what is nested deeper is refused.
    depth: u32,
}

impl<'t> Cursor<'t> {
    #[inline(always)]
    pub(crate) const fn new(text: &'t str) -> Self {
        Self {
            text,
            rest: text.as_bytes(),
            depth: DEPTH,
        }
    }

    /// A cursor that refuses what is nested deeper than `depth`, of which 128 is the most.
    pub(crate) fn within(text: &'t str, depth: usize) -> Self {
        let depth = u32::try_from(depth).map_or(DEPTH, |depth| depth.min(DEPTH));
        Self {
            depth,
            ..Self::new(text)
        }
    }

    /// The next byte, which is not taken.
    #[inline(always)]
    pub(crate) const fn next(&self) -> Option<&'t u8> {
        self.rest.first()
    }

    /// The unread bytes.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> &'t [u8] {
        self.rest
    }

    #[inline(always)]
    fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    #[inline(always)]
    pub(crate) fn blanks(&mut self) {
        if matches!(self.rest, [0..=b' ', ..]) {
            self.skip_blanks();
        }
    }

    #[inline(never)]
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Blanks, then this byte.
    #[inline(always)]
    pub(crate) fn mark(&mut self, mark: u8) -> Option<()> {
        self.blanks();
        self.has(mark).then_some(())
    }

    /// Takes this byte, if it is the next.
    #[inline(always)]
    pub(crate) fn has(&mut self, mark: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == mark => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// The rest of a name with its quote, the colon, and blanks.
    #[inline(always)]
    pub(crate) fn name<const N: usize>(&mut self, name: &[u8; N]) -> Option<()> {
        self.literal(name)?;
        self.mark(b':')?;
        self.blanks();
        Some(())
    }

    #[inline(always)]
    pub(crate) fn literal<const N: usize>(&mut self, literal: &[u8; N]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// After a value: true at a comma, false at the end of the object.
    #[inline(always)]
    pub(crate) fn more(&mut self) -> Option<bool> {
        self.blanks();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match first {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// Up to 18 digits, so that they fit; a longer number is unusual.
    #[inline(always)]
    pub(crate) fn whole(&mut self) -> Option<u64> {
        let digits = self
            .rest
            .iter()
            .take(19)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (number, rest) = self.rest.split_at_checked(digits)?;
        if digits > 18 || digits == 0 || (digits > 1 && number.first() == Some(&b'0')) {
            return None;
        }
        self.rest = rest;
        Some(
            number
                .iter()
                .fold(0, |value, digit| value * 10 + u64::from(digit - b'0')),
        )
    }

    /// The inside of a string that is short as a rule, from after its first quote. Escapes are checked and kept.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Option<JsonStr<'t>> {
        self.string_by(short)
    }

    /// As [`Cursor::string`], for one that may be long.
    #[inline(always)]
    pub(crate) fn long_string(&mut self) -> Option<JsonStr<'t>> {
        self.string_by(any)
    }

    #[inline(always)]
    fn string_by(&mut self, skip_plain: impl Fn(&'t [u8]) -> &'t [u8]) -> Option<JsonStr<'t>> {
        let start = self.at();
        loop {
            self.rest = skip_plain(self.rest);
            let (first, rest) = self.rest.split_first()?;
            match first {
                b'"' => {
                    let end = self.at();
                    self.rest = rest;
                    return self.text.get(start..end).map(JsonStr::from_escaped);
                }
                b'\\' => self.rest = escape(rest)?,
                _ => return None,
            }
        }
    }

    /// An object. `member` is given the name of each member, and takes its value.
    #[inline]
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, JsonStr<'t>) -> Option<()>,
    ) -> Option<()> {
        self.mark(b'{')?;
        self.depth = self.depth.checked_sub(1)?;
        self.blanks();
        if !self.has(b'}') {
            loop {
                self.mark(b'"')?;
                let name = self.string()?;
                self.mark(b':')?;
                self.blanks();
                member(self, name)?;
                if !self.more()? {
                    break;
                }
            }
        }
        self.depth += 1;
        Some(())
    }

    /// An array. `element` takes each value.
    #[inline]
    pub(crate) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.mark(b'[')?;
        self.depth = self.depth.checked_sub(1)?;
        self.blanks();
        if !self.has(b']') {
            loop {
                self.blanks();
                element(self)?;
                self.blanks();
                if !self.has(b',') {
                    break;
                }
            }
            self.has(b']').then_some(())?;
        }
        self.depth += 1;
        Some(())
    }

    /// Any value: its text, without blanks around it.
    #[inline]
    pub(crate) fn value(&mut self) -> Option<&'t str> {
        self.taken(Self::skip)
    }

    /// The text of what `take` takes.
    #[inline(always)]
    pub(crate) fn taken(&mut self, take: impl FnOnce(&mut Self) -> Option<()>) -> Option<&'t str> {
        let start = self.at();
        take(self)?;
        self.text.get(start..self.at())
    }

    /// Blanks, then the end of the text.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.blanks();
        self.rest.is_empty().then_some(())
    }

    /// A name and its colon.
    fn key(&mut self) -> Option<()> {
        self.mark(b'"')?;
        self.string()?;
        self.mark(b':')
    }

    fn skip(&mut self) -> Option<()> {
        // One bit for each array or object that is open, the innermost the lowest: 1 is an object.
        let (mut open, mut depth) = (0u128, 0);
        loop {
            self.blanks();
            let (first, rest) = self.rest.split_first()?;
            match first {
                b'"' => {
                    self.rest = rest;
                    self.long_string()?;
                }
                b'{' | b'[' => {
                    self.rest = rest;
                    if depth == self.depth {
                        return None;
                    }
                    self.blanks();
                    let (is_object, end) = if *first == b'{' {
                        (true, b'}')
                    } else {
                        (false, b']')
                    };
                    if !self.has(end) {
                        open = open << 1 | u128::from(is_object);
                        depth += 1;
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => self.number()?,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.blanks();
                let (first, rest) = self.rest.split_first()?;
                self.rest = rest;
                let is_object = open & 1 == 1;
                match first {
                    b',' => {
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                open >>= 1;
                depth -= 1;
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit());
        let count = digits.count();
        self.rest = self.rest.get(count..)?;
        (count > 0).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.has(b'-');
        if !self.has(b'0') {
            self.digits()?;
        }
        if self.has(b'.') {
            self.digits()?;
        }
        if self.has(b'e') || self.has(b'E') {
            let _ = self.has(b'+') || self.has(b'-');
            self.digits()?;
        }
        Some(())
    }
}

/// Returns the bytes after a valid escape; `rest` follows its backslash.
#[inline(always)]
fn escape(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            rest @ ..,
        ] => Some(rest),
        [b'u', a, b, c, d, rest @ ..] => {
            let hex = [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit);
            hex.then_some(rest)
        }
        _ => None,
    }
}

/// Skips to the first quote, backslash or control character, eight bytes at a time.
#[inline(always)]
fn short(mut bytes: &[u8]) -> &[u8] {
    while let Some((word, rest)) = bytes.split_first_chunk::<8>() {
        if let Some(at) = stop(*word) {
            return bytes.get(at..).unwrap_or_default();
        }
        bytes = rest;
    }
    few(bytes)
}

/// As [`short`], for what may be long.
#[inline(always)]
fn any(mut bytes: &[u8]) -> &[u8] {
    for _ in 0..SHORT {
        let Some((word, rest)) = bytes.split_first_chunk::<8>() else {
            return few(bytes);
        };
        if let Some(at) = stop(*word) {
            return bytes.get(at..).unwrap_or_default();
        }
        bytes = rest;
    }
    long(bytes)
}

/// Words of eight bytes after which a text is long.
const SHORT: usize = 8;

/// A text that is long already: 64 bytes at a time, in a loop that the compiler makes vectors of.
#[inline(never)]
fn long(mut bytes: &[u8]) -> &[u8] {
    while let Some((block, rest)) = bytes.split_first_chunk::<64>() {
        let stops = block.iter().fold(false, |stops, byte| {
            stops | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\')
        });
        if stops {
            break;
        }
        bytes = rest;
    }
    short(bytes)
}

/// Index of the first byte in a word that ends plain text.
#[inline(always)]
fn stop(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    // The lowest marked byte is right; a borrow can mark only bytes above it.
    let marks = (word.wrapping_sub(ONES * 0x20) & !word
        | quote.wrapping_sub(ONES) & !quote
        | backslash.wrapping_sub(ONES) & !backslash)
        & HIGH;
    (marks != 0).then(|| (marks.trailing_zeros() >> 3) as usize)
}

#[inline(always)]
fn few(bytes: &[u8]) -> &[u8] {
    let at = bytes
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
        .unwrap_or(bytes.len());
    bytes.get(at..).unwrap_or_default()
}
