//! A look at the bytes of a text, many at a time.

/// True when no byte of `bytes` is `odd`, which is to be made of comparisons without a branch. `N` bytes are looked at together: 32,
/// or 64 for an `odd` of up to three comparisons, as the compiler would unroll a shorter loop of these and make no vectors of it.
#[inline]
pub(crate) fn has_none<const N: usize>(bytes: &[u8], odd: impl Fn(u8) -> bool + Copy) -> bool {
    if let Some(last) = bytes.last_chunk::<N>() {
        let (vectors, _) = bytes.as_chunks::<N>();
        return vectors.iter().all(|vector| is_even(vector, odd)) && is_even(last, odd);
    }
    let few = ends::<32, N>(bytes).or_else(|| ends::<16, N>(bytes));
    match few
        .or_else(|| ends::<8, N>(bytes))
        .or_else(|| ends::<4, N>(bytes))
    {
        Some(few) => are_even(&few, odd),
        None => !bytes.iter().any(|byte| odd(*byte)),
    }
}

/// Without an early end, so that the compiler makes vectors of them.
#[inline(always)]
fn is_even<const N: usize>(bytes: &[u8; N], odd: impl Fn(u8) -> bool) -> bool {
    !bytes.iter().fold(false, |is, byte| is | odd(*byte))
}

/// The same for bytes that [`ends`] has put together: inlined, the compiler would look at each of their parts.
#[inline(never)]
fn are_even<const N: usize>(bytes: &[u8; N], odd: impl Fn(u8) -> bool) -> bool {
    is_even(bytes, odd)
}

/// Both ends of a text of `END` to twice as many bytes, which may overlap, so that all of it is there.
#[inline(always)]
fn ends<const END: usize, const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let (first, last) = (bytes.first_chunk::<END>()?, bytes.last_chunk::<END>()?);
    let mut both = [0; N];
    let (parts, _) = both.as_chunks_mut::<END>();
    for (at, part) in parts.iter_mut().enumerate() {
        *part = if at == 0 { *first } else { *last };
    }
    Some(both)
}

/// The parts of a text before and behind the first `mark`, an ASCII character. The standard library takes 140 instructions to find
/// a character in a short text.
#[inline]
pub(crate) fn split_once(text: &str, mark: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(mark, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_text_is_split_at_the_first_mark_and_no_other() {
        for text in ["", ":", "a", "a:", ":a", "a:b:c", "\u{e9}:\u{20ac}"] {
            assert_eq!(split_once(text, b':'), text.split_once(':'));
        }
    }

    #[test]
    fn an_odd_byte_is_found_at_every_place_of_every_length() {
        let odd = |byte| byte == b'!';
        let is_seen = |bytes: &[u8]| !has_none::<32>(bytes, odd) && !has_none::<64>(bytes, odd);
        for length in 0..140 {
            let mut bytes = alloc::vec![b'a'; length];
            assert!(has_none::<32>(&bytes, odd) && has_none::<64>(&bytes, odd));
            for at in 0..length {
                bytes[at] = b'!';
                assert!(is_seen(&bytes), "{at} of {length} was not seen");
                bytes[at] = b'a';
            }
        }
    }
}
