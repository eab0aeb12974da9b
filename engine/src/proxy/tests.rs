//! The table of environments and servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn proxies(environment: &str) -> Proxies {
    let variables: Vec<(String, String)> = environment
        .split(" | ")
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Proxies::of(|name| {
        let found = variables.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.clone())
    })
}

/// The route of a URL: `direct`, `host:port` of the proxy, or the error.
fn route(environment: &str, url: &str) -> String {
    let origin = Origin::of(&url.parse().unwrap()).unwrap();
    match Route::to(origin, &proxies(environment)) {
        Ok(Route { proxy: None, .. }) => "direct".to_owned(),
        Ok(Route {
            proxy: Some(proxy), ..
        }) => format!("{}:{}", proxy.host, proxy.port),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_table_of_environments() {
    let table = [
        // Variables.
        ("", "http://a.example/", "direct"),
        ("http_proxy=http://p:1", "http://a.example/", "p:1"),
        ("http_proxy=http://p:1", "ws://a.example/", "p:1"),
        ("http_proxy=http://p:1", "https://a.example/", "direct"),
        ("https_proxy=http://p:1", "https://a.example/", "p:1"),
        ("https_proxy=http://p:1", "wss://a.example/", "p:1"),
        ("https_proxy=http://p:1", "http://a.example/", "direct"),
        ("HTTPS_PROXY=http://p:1", "https://a.example/", "p:1"),
        ("HTTP_PROXY=http://p:1", "http://a.example/", "p:1"),
        (
            "HTTP_PROXY=http://p:1 | REQUEST_METHOD=GET",
            "http://a.example/",
            "direct",
        ),
        (
            "HTTP_PROXY=http://p:1 | REQUEST_METHOD=",
            "http://a.example/",
            "direct",
        ),
        (
            "http_proxy=http://q:1 | REQUEST_METHOD=GET",
            "http://a.example/",
            "q:1",
        ),
        (
            "HTTPS_PROXY=http://p:1 | REQUEST_METHOD=GET",
            "https://a.example/",
            "p:1",
        ),
        (
            "http_proxy=http://q:1 | HTTP_PROXY=http://p:1",
            "http://a.example/",
            "q:1",
        ),
        ("all_proxy=http://p:1", "http://a.example/", "p:1"),
        ("ALL_PROXY=http://p:1", "wss://a.example/", "p:1"),
        (
            "ALL_PROXY=http://p:1 | https_proxy=http://q:1",
            "https://a.example/",
            "q:1",
        ),
        (
            "ALL_PROXY=http://p:1 | https_proxy=",
            "https://a.example/",
            "p:1",
        ),
        // Forms of a proxy.
        ("http_proxy=p", "http://a.example/", "p:1080"),
        ("http_proxy=P:8080", "http://a.example/", "p:8080"),
        ("http_proxy=http://u:w@p:1/path", "http://a.example/", "p:1"),
        ("http_proxy=http://u@x:w@p:1", "http://a.example/", "p:1"),
        (
            "http_proxy=http://[::1]:3128",
            "http://a.example/",
            "::1:3128",
        ),
        (
            "http_proxy=socks5://u:secret@p:1",
            "http://a.example/",
            "the environment variable http_proxy names no proxy: a proxy must be http://",
        ),
        (
            "ALL_PROXY=https://p:1",
            "https://a.example/",
            "the environment variable ALL_PROXY names no proxy: a proxy must be http://",
        ),
        (
            "http_proxy=http://u:secret@:1",
            "http://a.example/",
            "the environment variable http_proxy names no proxy: it is not of the form http://host:port",
        ),
        (
            "http_proxy=http://p:99999",
            "http://a.example/",
            "the environment variable http_proxy names no proxy: it is not of the form http://host:port",
        ),
        (
            "http_proxy=p\r\nx: y",
            "http://a.example/",
            "the environment variable http_proxy names no proxy: it is not of the form http://host:port",
        ),
        ("http_proxy=socks5://p:1", "http://127.0.0.1/", "direct"),
        (
            "http_proxy=socks5://p:1 | no_proxy=a.example",
            "http://a.example/",
            "direct",
        ),
        // This machine.
        ("http_proxy=p", "http://127.0.0.1:8788/", "direct"),
        ("http_proxy=p", "http://127.9.9.9/", "direct"),
        ("http_proxy=p", "http://[::1]:8788/", "direct"),
        ("http_proxy=p", "http://[::ffff:127.0.0.1]/", "direct"),
        ("http_proxy=p", "http://LOCALHOST/", "direct"),
        ("http_proxy=p", "http://localhost./", "direct"),
        ("http_proxy=p", "http://a.localhost/", "direct"),
        ("http_proxy=p", "http://notlocalhost/", "p:1080"),
        ("http_proxy=p", "http://192.168.0.1/", "p:1080"),
        // Names that are asked directly.
        ("http_proxy=p | no_proxy=*", "http://a.example/", "direct"),
        ("http_proxy=p | NO_PROXY=*", "http://a.example/", "direct"),
        (
            "http_proxy=p | no_proxy=b | NO_PROXY=*",
            "http://a.example/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=example",
            "http://a.example/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=.example",
            "http://a.example/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=*.example",
            "http://a.example/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=a.EXAMPLE.",
            "http://A.example./",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=.a.example",
            "http://a.example/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=b.a.example",
            "http://a.example/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=ample",
            "http://a.example/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=b, a.example",
            "http://a.example/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=b a.example,,",
            "http://a.example/",
            "direct",
        ),
        ("http_proxy=p | no_proxy=,.,", "http://a.example/", "p:1080"),
        (
            "http_proxy=p | no_proxy=a.example:8080",
            "http://a.example:8080/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=a.example:8080",
            "http://a.example/",
            "p:1080",
        ),
        (
            "https_proxy=p | no_proxy=a.example:443",
            "https://a.example/",
            "direct",
        ),
        // Addresses that are asked directly.
        (
            "http_proxy=p | no_proxy=10.0.0.1",
            "http://10.0.0.1/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=0.0.1",
            "http://10.0.0.1/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=10.0.0.1:81",
            "http://10.0.0.1/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=10.0.0.1:80",
            "http://10.0.0.1/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=10.0.0.0/8",
            "http://10.255.0.1/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=10.0.0.0/8",
            "http://11.0.0.1/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=10.0.0.0/33",
            "http://10.0.0.0/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=0.0.0.0/0",
            "http://9.9.9.9/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=0.0.0.0/0",
            "http://[2001:db8::1]/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=10.0.0.0/x",
            "http://10.0.0.0/",
            "p:1080",
        ),
        (
            "http_proxy=p | no_proxy=2001:db8::/32",
            "http://[2001:db8::1]/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=[2001:db8::1]:80",
            "http://[2001:db8::1]/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=2001:db8::1",
            "http://[2001:DB8:0::1]:9/",
            "direct",
        ),
        (
            "http_proxy=p | no_proxy=10.0.0.0/8",
            "http://10.example/",
            "p:1080",
        ),
    ];
    for (environment, url, expected) in table {
        assert_eq!(route(environment, url), expected, "{environment} {url}");
    }
}

#[test]
fn credentials_are_for_the_proxy_alone() {
    let origin = Origin::of(&"http://a.example/".parse().unwrap()).unwrap();
    for (url, plain) in [
        ("http://user:pass@p", "user:pass"),
        ("http://user@p", "user:"),
        ("http://a%40b:c%3Ad%25%zz@p", "a@b:c:d%%zz"),
        ("http://:@p", ":"),
        ("http://a:b:c@p", "a:b:c"),
    ] {
        let proxies = Proxies::of(|name| (name == "http_proxy").then(|| url.to_owned()));
        let proxy = proxies.proxy(&origin).unwrap().unwrap();
        let expected = format!("Basic {}", BASE64.encode(plain.as_bytes()));
        assert_eq!(proxy.authorization(), Some(expected.as_str()));
        assert!(!format!("{proxies:?}").contains("Basic"));
        assert_eq!(format!("{proxy:?}"), "Proxy(p:1080)");
    }
}

#[test]
fn an_origin_is_the_place_of_a_url() {
    for (url, authority, header) in [
        ("http://A.example/x", "a.example:80", "a.example"),
        ("https://a.example:443", "a.example:443", "a.example"),
        ("wss://a.example:80/", "a.example:80", "a.example:80"),
        ("ws://[::1]/", "[::1]:80", "[::1]"),
        ("http://user:pass@a:1/", "a:1", "a:1"),
    ] {
        let origin = Origin::of(&url.parse().unwrap()).unwrap();
        assert_eq!(
            (origin.authority().as_str(), origin.host_header().as_str()),
            (authority, header)
        );
    }
    assert_eq!(Origin::of(&"ftp://a/".parse().unwrap()), None);
    assert_eq!(Origin::of(&"/path".parse().unwrap()), None);
}
