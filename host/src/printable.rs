//! Text of others for a terminal.

/// Replaces control characters by spaces, because a terminal would act on them.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
