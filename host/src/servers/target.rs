//! The address of a server that is reached over HTTP, and the places that it names beside that.

use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use tungstenite::http::Uri;

/// Address of a server, and the way to it.
pub(super) struct Target {
    pub(super) route: Route,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    pub(super) fn of(url: &str, proxies: &Proxies) -> Result<Self, String> {
        let wrong = "it has an address that is none";
        let uri: Uri = url.parse().map_err(|_| wrong.to_owned())?;
        let origin = Origin::of(&uri).ok_or(wrong)?;
        let route = Route::to(origin, proxies);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            route: route.map_err(|error| format!("it cannot be reached: {error}"))?,
            path: path.to_owned(),
        })
    }

    /// The path and query of a place that the server has named: a URL of its own, a path, or a name beside that of the address.
    pub(super) fn path_of(&self, place: &str) -> Option<String> {
        let folder = match place.chars().next()? {
            '/' if place.starts_with("//") => return None,
            '/' => "",
            _ if place.contains("://") => {
                let uri: Uri = place.parse().ok()?;
                let is_own = Origin::of(&uri)? == self.route.origin;
                return Some(uri.path_and_query()?.as_str().to_owned()).filter(|_| is_own);
            }
            '?' => self.path.split('?').next()?,
            _ => self.path.split('?').next()?.rsplit_once('/')?.0,
        };
        let between = if place.starts_with(['/', '?']) {
            ""
        } else {
            "/"
        };
        let uri: Uri = format!("{folder}{between}{place}").parse().ok()?;
        Some(uri.path_and_query()?.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_are_posted_to_the_server_itself_alone() {
        let target = |url: &str| Target::of(url, &Proxies::default()).unwrap();
        let far = target("https://far.example/api/sse?key=1");
        for (place, path) in [
            ("/messages?id=7", Some("/messages?id=7")),
            ("messages?id=7", Some("/api/messages?id=7")),
            ("?id=7", Some("/api/sse?id=7")),
            ("https://far.example/m?x=1", Some("/m?x=1")),
            ("https://FAR.example:443/m", Some("/m")),
            ("https://far.example:8443/m", None),
            ("http://far.example/m", None),
            ("https://evil.example/m", None),
            ("//evil.example/m", None),
            ("https://far.example@evil.example/m", None),
            ("/a b", None),
            ("", None),
        ] {
            assert_eq!(far.path_of(place).as_deref(), path, "{place}");
        }
        assert_eq!(target("http://a/").path_of("m").as_deref(), Some("/m"));
    }
}
