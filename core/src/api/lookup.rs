//! The route of a method and a path, or why there is none.

use super::near;
use super::route::{Handler, Route, Segments, bare};
use crate::dialect::Dialect;
use crate::error::{Code, Refusal};
use crate::text::split_once;
use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The answer to `OPTIONS` of every path that is known.
static PREFLIGHT: Route = Route::engine("OPTIONS", &["OPTIONS"], &[], Handler::Preflight);

/// Places of rows in [`Routes`]: more than all tables have together.
const PLACES: usize = 256;

/// Tables of routes, with their rows by the first segments of their paths too.
#[derive(Debug)]
pub struct Routes {
    tables: &'static [&'static [Route]],
    /// The rows of each set of first segments, one set behind the other: a row is as long as three cache lines, and to ask a hundred of
    /// them took longer than to read the request's head.
    places: [Option<&'static Route>; PLACES],
    /// The end of each set in `places`.
    ends: [usize; Segments::SETS],
}

impl Routes {
    /// The routes of these tables. Where two rows fit, one that wants a parameter of the query is preferred to one that does not,
    /// then a path without parameters to one with them, and then the row that comes first.
    #[must_use]
    pub const fn with(tables: &'static [&'static [Route]]) -> Self {
        let mut places = [None; PLACES];
        let mut ends = [0; Segments::SETS];
        let mut used = 0;
        let (mut free, mut sets): (&mut [Option<&Route>], &mut [usize]) = (&mut places, &mut ends);
        while let [end, more @ ..] = sets {
            let set = Segments::SETS - more.len() - 1;
            let mut left = tables;
            while let [table, tables @ ..] = left {
                let mut rows: &[Route] = table;
                while let [row, behind @ ..] = rows {
                    if row.firsts.has(set)
                        && let [place, rest @ ..] = free
                    {
                        *place = Some(row);
                        used += 1;
                        free = rest;
                    }
                    rows = behind;
                }
                left = tables;
            }
            *end = used;
            sets = more;
        }
        Self {
            tables,
            places,
            ends,
        }
    }

    /// Every row.
    pub fn iter(&self) -> impl Iterator<Item = &'static Route> + use<> {
        self.tables.iter().flat_map(|table| table.iter())
    }

    /// The rows with a path that may begin as this one does.
    fn beginning_as(&self, path: &str) -> impl Iterator<Item = &'static Route> {
        let set = Segments::of(path).first();
        let end = |set: usize| self.ends.get(set).copied();
        let begin = set.checked_sub(1).and_then(end).unwrap_or_default();
        let places = self.places.get(begin..end(set).unwrap_or_default());
        places.unwrap_or_default().iter().filter_map(|row| *row)
    }

    /// The row of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&'static Route> {
        self.iter().find(|route| route.name == name)
    }

    /// Finds the route of a method and a target, which is a path with or without a query.
    ///
    /// # Errors
    /// 404 for an unknown path, which names the route that was meant where one is near; 405 with `Allow` for a known one with
    /// another method; in the dialect that the path belongs to.
    pub fn find<'h>(&self, method: &str, target: &'h str) -> Result<Found<'h>, (Dialect, Refusal)> {
        let path = split_once(target, b'?').map_or(target, |(path, _)| path);
        let asks = |name: &&str| query_value(target, name).is_some();
        let (path_key, path) = match path.strip_prefix("/k/") {
            Some(rest) => {
                let (key, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let path = if path.is_empty() { "/" } else { path };
                (Some(percent_decode(key)), path)
            }
            None => (None, path),
        };
        let trimmed = path
            .strip_suffix('/')
            .filter(|rest| !rest.is_empty())
            .unwrap_or(path);
        let bare = bare(trimmed);
        let (mut best, mut other) = (None, None);
        for route in self.beginning_as(bare) {
            let rank = match (!route.query.is_empty(), route.has_parameters) {
                (true, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (false, true) => 3,
            };
            let is_better = |than: &Option<(i32, &'static Route, &'static str)>| {
                than.is_none_or(|(known, _, _)| rank < known)
            };
            if !is_better(&best) || (!route.query.is_empty() && !route.query.iter().any(asks)) {
                continue;
            }
            let Some(pattern) = route.pattern_of(bare) else {
                continue;
            };
            if route.methods.contains(&method) {
                best = Some((rank, route, pattern));
            } else if is_better(&other) {
                other = Some((rank, route, pattern));
            }
        }
        match (best, other) {
            (Some((_, route, pattern)), _) => Ok(Found {
                route,
                path_key,
                parameters: Parameters::new(pattern, bare),
            }),
            (None, None) => Err(self.unknown(path, trimmed, path_key.is_some())),
            (None, Some(_)) if method == "OPTIONS" => Ok(Found {
                route: &PREFLIGHT,
                path_key,
                parameters: Parameters::new("", ""),
            }),
            (None, Some((_, first, _))) => Err((first.dialect, self.not_allowed(path, bare))),
        }
    }

    fn unknown(&self, path: &str, trimmed: &str, has_key: bool) -> (Dialect, Refusal) {
        // The rest of a key with a slash that was not encoded looks like a path, and is not repeated.
        let mut message = match has_key {
            true => "there is no such route below `/k/KEY`, where `/` and `%` of a key are `%2F` and `%25`".to_owned(),
            false => alloc::format!("there is no route `{}`", printable(path)),
        };
        let meant = near::meant(self, trimmed);
        if let Some((route, path)) = meant {
            let method = route.methods.first().unwrap_or(&"GET");
            message.push_str(&alloc::format!("; the nearest is `{method} {path}`"));
        }
        let neighbour = meant.map(|(route, _)| route);
        let neighbour = neighbour.or_else(|| near::neighbour(self, bare(trimmed)));
        (
            neighbour.map_or(Dialect::OpenAi, |route| route.dialect),
            Refusal::new(Code::NotFound, message),
        )
    }

    /// 405 with the methods of all rows of a path.
    fn not_allowed(&self, path: &str, bare: &str) -> Refusal {
        let rows = self.iter().filter(|route| route.pattern_of(bare).is_some());
        let mut methods: Vec<&str> = Vec::new();
        for method in rows.flat_map(|route| route.methods) {
            if !methods.contains(method) {
                methods.push(method);
            }
        }
        let message = alloc::format!("`{}` takes {}", printable(path), methods.join(" or "));
        methods.push("OPTIONS");
        Refusal::new(Code::MethodNotAllowed, message).allow(methods.join(", "))
    }
}

/// A route that was found, and what its path says.
#[derive(Clone)]
pub struct Found<'h> {
    /// The route.
    pub route: &'static Route,
    /// The key of `/k/KEY/…`, percent-decoded.
    pub path_key: Option<Cow<'h, str>>,
    /// Text in the places of the path's parameters.
    pub parameters: Parameters<'h>,
}

impl fmt::Debug for Found<'_> {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("route", &self.route.name)
            .field("path_key", &self.path_key.is_some())
            .field("parameters", &self.parameters)
            .finish()
    }
}

/// The parameters in a path: what stands where its pattern has `{name}`.
#[derive(Clone)]
pub struct Parameters<'h> {
    pattern: &'static str,
    path: Cow<'h, str>,
}

impl fmt::Debug for Parameters<'_> {
    /// Without their values: one may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameters({})", self.pattern)
    }
}

impl<'h> Parameters<'h> {
    /// `path` fits `pattern`.
    const fn new(pattern: &'static str, path: &'h str) -> Self {
        Self {
            pattern,
            path: Cow::Borrowed(path),
        }
    }

    /// The value of one parameter, percent-decoded; `None` when the pattern has none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut found = None;
        walk(self.pattern, &self.path, |parameter, value| {
            if parameter == name {
                found = Some(value);
            }
        });
        found.map(percent_decode)
    }

    /// The same without the request's head.
    #[must_use]
    pub fn into_owned(self) -> Parameters<'static> {
        Parameters {
            pattern: self.pattern,
            path: Cow::Owned(self.path.into_owned()),
        }
    }

    /// True when a path has the form of a pattern.
    pub(super) fn fits(pattern: &str, path: &str) -> bool {
        // Of patterns that begin alike most end in different ways, in a few bytes.
        let tail = pattern.bytes().rev().zip(path.bytes().rev());
        let mut tail = tail.take_while(|(wanted, _)| *wanted != b'}');
        tail.all(|(wanted, is)| wanted == is) && walk(pattern, path, |_, _| {})
    }
}

/// Goes through a pattern and a path together, with each parameter and what stands in its place. False when they differ.
fn walk<'a>(
    mut pattern: &'a str,
    mut path: &'a str,
    mut each: impl FnMut(&'a str, &'a str),
) -> bool {
    loop {
        // Most patterns differ from a path in the first bytes.
        let same = pattern.bytes().zip(path.bytes());
        let same = same.take_while(|(wanted, is)| wanted == is && *wanted != b'{');
        let same = same.count();
        let (Some(rest), Some(at)) = (pattern.get(same..), path.get(same..)) else {
            return false;
        };
        let Some(rest) = rest.strip_prefix('{') else {
            return rest.is_empty() && at.is_empty();
        };
        let Some((name, rest)) = split_once(rest, b'}') else {
            return false;
        };
        let end = memchr::memchr(b'/', at.as_bytes()).filter(|_| !rest.is_empty());
        let (value, after) = at.split_at(end.unwrap_or(at.len()));
        each(name, value);
        (pattern, path) = (rest, after);
    }
}

/// Returns the value of a parameter in the query of a target, percent-decoded (RFC 3986, section 2.1); `None` when
/// there is none of that name. Of several the first counts.
#[must_use]
pub fn query_value<'h>(target: &'h str, name: &str) -> Option<Cow<'h, str>> {
    let (_, query) = split_once(target, b'?')?;
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| percent_decode(key) == name)?;
    Some(percent_decode(value))
}

/// A path for a message: cut, and without control characters.
fn printable(path: &str) -> String {
    path.chars()
        .take(100)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// RFC 3986, section 2.1. A malformed escape stays as it is.
fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| {
            after
                .get(at)
                .and_then(|digit| char::from(*digit).to_digit(16))
        };
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}
