//! The query of a URL.

use crate::failure::Failure;
use crate::uri;

/// Entries of a page where nothing else is asked.
const USUAL: usize = 100;
/// The most of them.
const MOST: usize = 1000;

/// Names and values, decoded; of names that are there twice the first counts.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(query: &str) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| uri::decode(&text.replace('+', " "));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => pairs.push((name, value)),
                _ => {
                    return Err(Failure::wrong(
                        "the query of the URL is not encoded as it must be",
                    ));
                }
            }
        }
        Ok(Self(pairs))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn limit(&self) -> Result<usize, Failure> {
        let Some(limit) = self.text("limit") else {
            return Ok(USUAL);
        };
        let limit = limit.parse().ok().filter(|it| (1..=MOST).contains(it));
        limit.ok_or_else(|| Failure::wrong_at("limit", format!("`limit` must be 1 to {MOST}")))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.text(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(_) => Err(Failure::wrong_at(
                name,
                format!("`{name}` must be true or false"),
            )),
        }
    }
}
