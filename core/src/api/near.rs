//! The route that was meant by a path that is none: a prefix too many or too few, or a misspelling.

use super::lookup::Routes;
use super::route::{Route, bare};
use crate::text::within;
use core::cmp::Reverse;

/// Prefixes that are tried away from a path.
const PREFIXES: usize = 4;
/// Longest path that is compared letter by letter.
const LONGEST: usize = 64;
/// Letters that may be wrong.
const MISTAKES: u8 = 2;

/// The route that is near to a path, and the path of it that is.
pub(super) fn meant(routes: &Routes, path: &str) -> Option<(&'static Route, &'static str)> {
    prefix_too_many(routes, path)
        .or_else(|| prefix_missing(routes, path))
        .or_else(|| mistaken(routes, bare(path)))
}

/// Every path of every route.
fn paths(routes: &Routes) -> impl Iterator<Item = (&'static Route, &'static str)> + use<> {
    routes
        .iter()
        .flat_map(|route| route.paths.iter().map(move |path| (route, *path)))
}

/// `/v1/v1/models`, `/openai/v1/models`, `/api/v1/models`.
fn prefix_too_many(routes: &Routes, path: &str) -> Option<(&'static Route, &'static str)> {
    // One that is it letter by letter goes before one whose end may be anything.
    [false, true].into_iter().find_map(|has_parameters| {
        let mut rest = path;
        for _ in 0..PREFIXES {
            let at = rest.get(1..)?.find('/')?;
            rest = rest.get(at + 1..)?;
            let wanted = bare(rest);
            let mut routes = routes
                .iter()
                .filter(|route| route.has_parameters == has_parameters);
            let found = routes.find_map(|route| {
                let pattern = route.pattern_of(wanted)?;
                let path = route.paths.iter().find(|path| bare(path) == pattern)?;
                // All paths end in the root.
                (pattern != "/").then_some((route, *path))
            });
            if found.is_some() {
                return found;
            }
        }
        None
    })
}

/// `/tags`.
fn prefix_missing(routes: &Routes, path: &str) -> Option<(&'static Route, &'static str)> {
    paths(routes).find(|(_, known)| known.strip_prefix("/api") == Some(path))
}

/// `/chat/completion`, `/v1/mesages`.
fn mistaken(routes: &Routes, path: &str) -> Option<(&'static Route, &'static str)> {
    if path.len() > LONGEST {
        return None;
    }
    (1..=MISTAKES).find_map(|mistakes| {
        // One letter in three may be wrong: `/a` is not near to `/`.
        if path.len() < usize::from(mistakes) * 3 {
            return None;
        }
        paths(routes).find(|(route, known)| {
            !route.has_parameters && within(mistakes, path.as_bytes(), bare(known).as_bytes())
        })
    })
}

/// The route that has most of its first segments in common with a path; among several the shortest.
pub(super) fn neighbour(routes: &Routes, path: &str) -> Option<&'static Route> {
    let segments = |path: &'static str| bare(path).split('/').skip(1);
    let shared = |known: &'static str| {
        let both = segments(known).zip(path.split('/').skip(1));
        both.take_while(|(known, asked)| known == asked).count()
    };
    paths(routes)
        .map(|(route, known)| (shared(known), Reverse(segments(known).count()), route))
        .filter(|(shared, ..)| *shared > 0)
        // The first of the best, where `max_by_key` gives the last.
        .reduce(|best, next| {
            if (next.0, next.1) > (best.0, best.1) {
                next
            } else {
                best
            }
        })
        .map(|(_, _, route)| route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_are_wrong_are_counted() {
        for (left, right, mistakes) in [
            ("same", "same", 0),
            ("SAME", "same", 0),
            ("sam", "same", 1),
            ("same", "sme", 1),
            ("sane", "same", 1),
            ("saem", "same", 2),
            ("", "ab", 2),
        ] {
            for allowed in 0..4 {
                assert_eq!(
                    within(allowed, left.as_bytes(), right.as_bytes()),
                    allowed >= mistakes,
                    "{left} {right} {allowed}"
                );
            }
        }
    }
}
