//! Names of tools and prompts where several servers stand under one address.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

/// Longest name that the interfaces of models take, in bytes.
pub const LONGEST: usize = 64;

/// Bytes of a longer name that stay before its digest.
const KEPT: usize = 57;

/// Names of one kind that are remembered of one server. What a server lists beyond them is left out.
pub const REMEMBERED: usize = 10_000;

/// Makes the name under which clients know what a server calls `own`: `PREFIX__OWN`. A longer one than 64 bytes is cut to 57,
/// and ends with `_` and six hexadecimal digits of the SHA-256 of the whole.
#[must_use]
pub fn joined(prefix: &str, own: &str) -> String {
    let whole = format!("{prefix}__{own}");
    if whole.len() <= LONGEST {
        return whole;
    }
    let digest = Sha256::digest(whole.as_bytes());
    let digits: String = digest
        .iter()
        .take(3)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let end = (0..=KEPT).rev().find(|end| whole.is_char_boundary(*end));
    let kept = whole.get(..end.unwrap_or_default()).unwrap_or_default();
    format!("{kept}_{digits}")
}

/// Servers that a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found<'t> {
    /// The place of the server, and the name that it knows.
    One(usize, &'t str),
    /// The places of two servers that both have the name.
    Two(usize, usize),
    /// Nobody has it.
    Nobody,
    /// Nobody is known to have it, and not all names are known.
    NotYet,
}

/// The names of one kind, by which servers are found. A name is looked up and never split.
#[derive(Clone, Default, Debug)]
pub struct Table {
    /// By the place of the server.
    rows: Vec<Row>,
}

#[derive(Clone, Default, Debug)]
struct Row {
    /// A server's own name, by the one that clients know.
    own: BTreeMap<Box<str>, Box<str>>,
    /// All of the server's names are there.
    is_whole: bool,
}

impl Table {
    /// Makes the table of so many servers, of which nothing is known.
    #[must_use]
    pub fn new(servers: usize) -> Self {
        let mut rows = Vec::new();
        rows.resize_with(servers, Row::default);
        Self { rows }
    }

    /// Looks up a name that a client gave. `lists` tells whether the server at a place has names of this kind at all.
    #[must_use]
    pub fn find(&self, name: &str, lists: impl Fn(usize) -> bool) -> Found<'_> {
        let rows = self.rows.iter().enumerate();
        let mut having = rows.filter_map(|(at, row)| Some((at, row.own.get(name)?)));
        match (having.next(), having.next()) {
            (Some((at, own)), None) => Found::One(at, own),
            (Some((one, _)), Some((other, _))) => Found::Two(one, other),
            (None, _) => {
                let mut rows = self.rows.iter().enumerate();
                if rows.any(|(at, row)| !row.is_whole && lists(at)) {
                    Found::NotYet
                } else {
                    Found::Nobody
                }
            }
        }
    }

    /// Remembers one more name of the server at a place. False when it has too many.
    pub fn learn(&mut self, at: usize, name: &str, own: &str) -> bool {
        let Some(row) = self.rows.get_mut(at) else {
            return false;
        };
        if row.own.len() >= REMEMBERED && !row.own.contains_key(name) {
            return false;
        }
        row.own.insert(name.into(), own.into());
        true
    }

    /// Forgets the names of a server, of which all are about to be learned.
    pub fn clear(&mut self, at: usize) {
        if let Some(row) = self.rows.get_mut(at) {
            *row = Row::default();
        }
    }

    /// Returns true when all names of the server are there.
    #[must_use]
    pub fn is_whole(&self, at: usize) -> bool {
        self.rows.get(at).is_some_and(|row| row.is_whole)
    }

    /// All names of the server are there, or are not any more: it has told that they have changed.
    pub fn set_whole(&mut self, at: usize, is_whole: bool) {
        if let Some(row) = self.rows.get_mut(at) {
            row.is_whole = is_whole;
        }
    }

    /// Finds a name that two servers have, with their places.
    #[must_use]
    pub fn clash(&self) -> Option<(String, usize, usize)> {
        self.rows.iter().enumerate().find_map(|(at, row)| {
            let behind = self.rows.iter().enumerate().skip(at + 1);
            behind.into_iter().find_map(|(other, others)| {
                let same = row.own.keys().find(|name| others.own.contains_key(*name));
                same.map(|name| (name.as_ref().to_owned(), at, other))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_has_its_server_before_it() {
        assert_eq!(joined("files", "read_file"), "files__read_file");
        let longest = "x".repeat(LONGEST - 7);
        assert_eq!(joined("files", &longest).len(), LONGEST);
        // `printf 'files__xxx…' | sha256sum` of the whole of 65 bytes.
        let cut = joined("files", &"x".repeat(LONGEST - 6));
        assert_eq!(cut, format!("files__{}_efd8a9", "x".repeat(50)));
    }

    #[test]
    fn a_name_is_looked_up_and_not_split() {
        let mut table = Table::new(2);
        assert_eq!(table.find("a__b", |at| at == 1), Found::NotYet);
        assert_eq!(table.find("a__b", |_| false), Found::Nobody);
        // The server `a` has no tool `b`; the other one has one of this name.
        table.set_whole(0, true);
        assert!(table.learn(1, "a__b", "b"));
        table.set_whole(1, true);
        assert_eq!(table.find("a__b", |_| true), Found::One(1, "b"));
        assert_eq!(table.find("a__c", |_| true), Found::Nobody);
        table.set_whole(0, false);
        assert_eq!(table.find("a__c", |_| true), Found::NotYet);
        assert_eq!(table.clash(), None);
        assert!(table.learn(0, "a__b", "other"));
        assert_eq!(table.find("a__b", |_| true), Found::Two(0, 1));
        assert_eq!(table.clash(), Some(("a__b".into(), 0, 1)));
        table.clear(0);
        assert_eq!(table.find("a__b", |_| true), Found::One(1, "b"));
    }

    #[test]
    fn the_names_of_one_server_have_a_bound() {
        let mut table = Table::new(1);
        for number in 0..REMEMBERED {
            assert!(table.learn(0, &format!("{number}"), "x"));
        }
        assert!(!table.learn(0, "one more", "x"));
        assert!(table.learn(0, "7", "y"), "it is known already");
    }

    proptest! {
        #[test]
        fn no_name_is_too_long_and_none_has_a_torn_character(prefix in "[a-zA-Z][a-z_-]{0,31}", own in "\\PC{0,80}") {
            let name = joined(&prefix, &own);
            prop_assert!(name.len() <= LONGEST);
            let whole = format!("{prefix}__{own}");
            if whole.len() <= LONGEST {
                prop_assert_eq!(name, whole);
            } else {
                prop_assert!(name.starts_with(&whole[..40.min(prefix.len() + 2)]));
            }
        }

        #[test]
        fn long_names_that_differ_at_the_end_stay_apart(own in "[a-z]{70}", one in "[a-z]{4}", other in "[a-z]{4}") {
            prop_assume!(one != other);
            prop_assert_ne!(joined("s", &format!("{own}{one}")), joined("s", &format!("{own}{other}")));
        }
    }
}
