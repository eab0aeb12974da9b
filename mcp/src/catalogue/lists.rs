//! One list of several servers: each server's own pages, one server after the other.

use super::edits::quoted;
use super::kinds::Kind;
use crate::refusal::{Reason, Refusal};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::JsonValue;

/// Makes the cursor of a merged list: the server that goes on, and its own cursor.
pub(super) fn cursor(server: &str, own: JsonValue<'_>) -> Option<String> {
    let own = own.as_str()?;
    let mut json = Json::new();
    for piece in ["\"", server, ":", own.as_escaped(), "\""] {
        json.raw(piece);
    }
    Some(json.finish())
}

/// Takes a cursor apart: the server, and its own cursor as JSON string.
///
/// # Errors
/// It is none of this program's.
pub(super) fn take_cursor(cursor: JsonValue<'_>) -> Result<(String, String), Refusal> {
    let text = cursor.text().unwrap_or_default();
    let wrong = || {
        Refusal::new(
            Reason::BadParams,
            "`cursor` is none that this list has given",
        )
    };
    let (server, own) = text.split_once(':').ok_or_else(wrong)?;
    Ok((server.to_owned(), quoted(own)))
}

/// A page of one server, as it is in the merged list.
#[derive(Clone, Default, Debug)]
pub struct Page {
    /// The elements with commas between them.
    pub(super) elements: String,
    /// The cursor of the merged list behind it, as JSON string.
    pub(super) next: Option<String>,
    /// `ttlMs`, in milliseconds.
    pub(super) ttl: Option<u64>,
    /// `cacheScope`: true for `private`.
    pub(super) is_private: Option<bool>,
    /// `resultType` was given.
    pub(super) has_type: bool,
}

/// Outcome of one server's part.
#[derive(Clone, Debug)]
enum Part {
    Waiting,
    Page(Page),
    /// The error as JSON.
    Failed(Box<str>),
}

/// A list that several servers are asked for together.
#[derive(Clone, Debug)]
pub struct Listing {
    kind: Kind,
    /// The first page is one that a cursor leads to.
    goes_on: bool,
    /// By server, in their order.
    parts: Vec<(usize, Part)>,
}

impl Listing {
    /// Begins a list of the servers at these places. `goes_on` when the first of them goes on from a cursor.
    #[must_use]
    pub fn new(kind: Kind, servers: impl Iterator<Item = usize>, goes_on: bool) -> Self {
        let parts = servers.map(|at| (at, Part::Waiting)).collect();
        Self {
            kind,
            goes_on,
            parts,
        }
    }

    /// Returns what is listed.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Takes a server's page.
    pub fn handle_page(&mut self, at: usize, page: Page) {
        self.put(at, Part::Page(page));
    }

    /// A server has no page; `error` is JSON.
    pub fn handle_failed(&mut self, at: usize, error: &str) {
        self.put(at, Part::Failed(error.into()));
    }

    fn put(&mut self, at: usize, part: Part) {
        if let Some((_, place)) = self.parts.iter_mut().find(|(of, _)| *of == at) {
            *place = part;
        }
    }

    /// Returns true when no server is waited for.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let waits = |(_, part): &(usize, Part)| matches!(part, Part::Waiting);
        !self.parts.iter().any(waits)
    }

    /// Returns the result: the pages up to the first behind which there is more. Servers that have failed are left out.
    ///
    /// # Errors
    /// All have failed, or the one at which the list goes on: the error as JSON.
    pub fn result(&self) -> Result<String, &str> {
        let mut pages = Vec::new();
        let mut error = None;
        for (at, (_, part)) in self.parts.iter().enumerate() {
            match part {
                Part::Waiting => {}
                Part::Page(page) => {
                    pages.push(page);
                    if page.next.is_some() {
                        break;
                    }
                }
                Part::Failed(why) if self.goes_on && at == 0 => return Err(why),
                Part::Failed(why) => error = error.or(Some(&**why)),
            }
        }
        match error {
            Some(error) if pages.is_empty() => Err(error),
            Some(_) | None => Ok(self.written(&pages)),
        }
    }

    fn written(&self, pages: &[&Page]) -> String {
        let mut json = Json::new();
        json.raw("{");
        if pages.iter().any(|page| page.has_type) {
            json.member("resultType").string("complete");
        }
        json.member(self.kind.member()).raw("[");
        let full = pages.iter().filter(|page| !page.elements.is_empty());
        for (at, page) in full.enumerate() {
            if at > 0 {
                json.raw(",");
            }
            json.raw(&page.elements);
        }
        json.raw("]");
        if let Some(next) = pages.iter().find_map(|page| page.next.as_deref()) {
            json.member("nextCursor").raw(next);
        }
        if let Some(ttl) = pages.iter().filter_map(|page| page.ttl).min() {
            json.member("ttlMs").raw(&format!("{ttl}"));
        }
        let scopes = pages.iter().filter_map(|page| page.is_private);
        if let Some(is_private) = scopes.reduce(|one, other| one || other) {
            let scope = if is_private { "private" } else { "public" };
            json.member("cacheScope").string(scope);
        }
        json.raw("}");
        json.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn page(elements: &str, next: Option<&str>) -> Page {
        Page {
            elements: elements.into(),
            next: next.map(Into::into),
            ..Page::default()
        }
    }

    #[test]
    fn pages_stand_one_server_after_the_other_up_to_the_first_that_goes_on() {
        let mut listing = Listing::new(Kind::Tools, 0..4, false);
        listing.handle_page(1, page("2,3", None));
        listing.handle_failed(3, "{}");
        assert!(!listing.is_whole());
        listing.handle_page(2, page("", None));
        listing.handle_page(0, page("1", None));
        assert!(listing.is_whole());
        assert_eq!(listing.result().unwrap(), r#"{"tools":[1,2,3]}"#);
        listing.handle_page(1, page("2", Some("\"b:x\"")));
        listing.handle_page(2, page("4", Some("\"c:x\"")));
        let result = r#"{"tools":[1,2],"nextCursor":"b:x"}"#;
        assert_eq!(listing.result().unwrap(), result);
        listing.handle_failed(0, "{\"code\":1}");
        assert_eq!(
            listing.result().unwrap(),
            r#"{"tools":[2],"nextCursor":"b:x"}"#
        );
    }

    #[test]
    fn a_list_fails_when_nobody_has_one_or_when_it_cannot_go_on() {
        let mut listing = Listing::new(Kind::Prompts, 0..2, false);
        listing.handle_failed(0, "{\"code\":1}");
        listing.handle_failed(1, "{\"code\":2}");
        assert_eq!(listing.result(), Err("{\"code\":1}"));
        let mut listing = Listing::new(Kind::Prompts, 0..2, true);
        listing.handle_failed(0, "{\"code\":1}");
        listing.handle_page(1, page("1", None));
        assert_eq!(listing.result(), Err("{\"code\":1}"));
        let nobody = Listing::new(Kind::Templates, 0..0, false);
        assert!(nobody.is_whole());
        assert_eq!(nobody.result().unwrap(), r#"{"resourceTemplates":[]}"#);
    }

    #[test]
    fn what_may_be_kept_of_a_list_is_the_least_of_all() {
        let mut listing = Listing::new(Kind::Resources, 0..2, false);
        let of = |ttl, is_private| Page {
            ttl: Some(ttl),
            is_private: Some(is_private),
            has_type: true,
            ..Page::default()
        };
        listing.handle_page(0, of(500, false));
        listing.handle_page(1, of(70, true));
        assert_eq!(
            listing.result().unwrap(),
            r#"{"resultType":"complete","resources":[],"ttlMs":70,"cacheScope":"private"}"#
        );
    }

    #[test]
    fn a_cursor_comes_back_to_its_server() {
        let own = JsonValue::read(r#""a:\"b\u0041""#).unwrap();
        let there = cursor("files", own).unwrap();
        let (server, back) = take_cursor(JsonValue::read(&there).unwrap()).unwrap();
        assert_eq!((&*server, &*back), ("files", r#""a:\"bA""#));
        for wrong in ["7", "\"x\"", "null", "\"\""] {
            let refusal = take_cursor(JsonValue::read(wrong).unwrap()).unwrap_err();
            assert_eq!(refusal.reason.code(), -32602, "{wrong}");
        }
    }
}
