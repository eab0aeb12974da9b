//! The header `WWW-Authenticate` (RFC 9110, section 11.6.1), of which the scheme `Bearer` counts (RFC 6750, RFC 9728).

use alloc::borrow::ToOwned;
use alloc::string::String;

/// A server's words when it refuses a request without a token, or with one that does not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Address of the document that says who gives tokens.
    pub resource_metadata: Option<String>,
    /// The scopes that the request wants, with blanks between them.
    pub scope: Option<String>,
    /// A code, such as `insufficient_scope`.
    pub error: Option<String>,
}

impl Challenge {
    /// Reads the headers of one answer. `None` where none speaks of Bearer tokens; of several challenges the first counts.
    pub fn read<'h>(headers: impl IntoIterator<Item = &'h str>) -> Option<Self> {
        let mut found: Option<Self> = None;
        for header in headers {
            let mut scan = Scan(header);
            let mut is_bearer = false;
            while let Some(word) = scan.word() {
                match scan.value() {
                    Some(value) if is_bearer => {
                        let challenge = found.get_or_insert_default();
                        let names = [
                            ("resource_metadata", &mut challenge.resource_metadata),
                            ("scope", &mut challenge.scope),
                            ("error", &mut challenge.error),
                        ];
                        let named = names
                            .into_iter()
                            .find(|(name, _)| word.eq_ignore_ascii_case(name));
                        if let Some((_, place)) = named {
                            place.get_or_insert(value);
                        }
                    }
                    Some(_) => {}
                    None => {
                        is_bearer = found.is_none() && word.eq_ignore_ascii_case("bearer");
                        if is_bearer {
                            found = Some(Self::default());
                        }
                    }
                }
            }
        }
        found
    }

    /// True where a token is right but permits too little.
    #[must_use]
    pub fn wants_scope(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }
}

/// The rest of a header.
struct Scan<'h>(&'h str);

impl<'h> Scan<'h> {
    /// The next scheme, name of a parameter, or credentials of another scheme.
    fn word(&mut self) -> Option<&'h str> {
        let rest = self.0.trim_start_matches([' ', '\t', ',', '=', '"']);
        let is_end = |c: char| matches!(c, ' ' | '\t' | ',' | '=' | '"');
        let (word, rest) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The value of a parameter whose name was read; `None` where that was no parameter.
    fn value(&mut self) -> Option<String> {
        let rest = self.0.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        let rest = rest.trim_start_matches([' ', '\t']);
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            self.0 = rest;
            return Some(value.to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        self.0 = "";
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = quoted.get(at + 1..).unwrap_or_default();
                    break;
                }
                '\\' => value.extend(characters.next().map(|(_, c)| c)),
                _ => value.push(c),
            }
        }
        Some(value)
    }
}
