//! Damage that a text takes in tests of whoever reads it.

use alloc::string::String;
use alloc::vec::Vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// One character is lost or added, or the rest is.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Lost(Index),
    Added(Index, char),
    Cut(Index),
}

/// Any damage.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let character = "[ -~\n\u{e9}]".prop_map(|text| text.chars().next().unwrap_or(' '));
    prop_oneof![
        any::<Index>().prop_map(Damage::Lost),
        (any::<Index>(), character).prop_map(|(at, character)| Damage::Added(at, character)),
        any::<Index>().prop_map(Damage::Cut),
    ]
}

impl Damage {
    /// The text with this damage.
    pub(crate) fn of(&self, text: &str) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        let places = characters.len();
        match self {
            Self::Lost(_) | Self::Cut(_) if places == 0 => {}
            Self::Lost(at) => {
                characters.remove(at.index(places));
            }
            Self::Added(at, character) => characters.insert(at.index(places + 1), *character),
            Self::Cut(at) => characters.truncate(at.index(places)),
        }
        characters.into_iter().collect()
    }
}
