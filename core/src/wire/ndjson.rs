//! Newline-delimited JSON: one record per line.

use alloc::vec::Vec;

/// Closes a record that was appended to `out`.
#[inline]
pub fn end(out: &mut Vec<u8>) {
    out.push(b'\n');
}
