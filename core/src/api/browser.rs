//! Pages in browsers: which may ask, and the headers that let them read the answer (the Fetch standard, CORS protocol).

use super::guard::check_origin;
use crate::config::HubConfig;
use crate::exchange::header::EXPOSED;
use alloc::boxed::Box;

/// `Access-Control-Allow-Methods`.
const ALLOWED_METHODS: &str = "GET, POST, PUT, DELETE, HEAD, OPTIONS";

/// A page that asks, of an origin that may.
#[derive(Clone, Debug)]
pub struct Page {
    origin: Box<str>,
    /// `Access-Control-Request-Headers` of a preflight; the inner one is missing where the header is.
    preflight: Option<Option<Box<str>>>,
}

impl Page {
    /// The page that sends a request with this `Origin`; `None` where no page does, or one that may not.
    #[must_use]
    pub fn asking(config: &HubConfig, origin: Option<&str>) -> Option<Self> {
        check_origin(config, origin).ok()?;
        Some(Self {
            origin: origin?.into(),
            preflight: None,
        })
    }

    /// The request is a preflight, with this `Access-Control-Request-Headers`.
    pub fn preflight(&mut self, asked: Option<&str>) {
        self.preflight = Some(asked.map(Box::from));
    }

    /// Calls `each` with every header that lets the page read the answer.
    pub fn headers(&self, mut each: impl FnMut(&'static str, &[u8])) {
        each("access-control-allow-origin", self.origin.as_bytes());
        each("vary", b"Origin");
        if let Some(asked) = &self.preflight {
            let asked = asked.as_deref().unwrap_or("*");
            each("access-control-allow-methods", ALLOWED_METHODS.as_bytes());
            each("access-control-allow-headers", asked.as_bytes());
            each("access-control-max-age", b"600");
            each("access-control-allow-private-network", b"true");
        }
        each("access-control-expose-headers", EXPOSED.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ROUTES;
    use super::*;

    #[test]
    fn a_preflight_allows_every_method_of_every_route() {
        let allowed: alloc::vec::Vec<&str> = ALLOWED_METHODS.split(", ").collect();
        for route in ROUTES.iter() {
            for method in route.methods {
                assert!(allowed.contains(method), "{method} of {}", route.name);
            }
        }
    }

    #[test]
    fn a_page_that_may_not_ask_is_none() {
        let config = HubConfig::default();
        assert!(Page::asking(&config, None).is_none());
        assert!(Page::asking(&config, Some("https://evil.example")).is_none());
        assert!(Page::asking(&config, Some("http://localhost:3000")).is_some());
    }
}
