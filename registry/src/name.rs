//! Names of tools, prompts, integrations and steps.

/// Bytes that a name may have.
const LONGEST: usize = 64;

/// Rule of names, for errors.
pub(crate) const RULE: &str = "1 to 64 of the characters A-Z a-z 0-9 _ . - without `__`";

/// True for a name.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'.' | b'-');
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(allowed) && !text.contains("__")
}

/// Makes a name of a title: what may not stand in one becomes `-`; `None` when nothing is left.
pub(crate) fn from_title(title: &str) -> Option<String> {
    let mut name = String::new();
    for letter in title.chars() {
        let letter = letter.to_ascii_lowercase();
        let kept = letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
        let letter = if kept { letter } else { '-' };
        let again = name.ends_with(letter) && matches!(letter, '-' | '_');
        if name.len() < LONGEST && !again {
            name.push(letter);
        }
    }
    let name = name.trim_matches('-');
    is_name(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_few_characters() {
        for good in ["a", "A-1_b.c", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "a__b", "é", "a/b", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(from_title("My  Helper!").as_deref(), Some("my-helper"));
        assert_eq!(from_title("a__b").as_deref(), Some("a_b"));
        assert_eq!(from_title("é"), None);
    }
}
