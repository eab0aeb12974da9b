//! Parts of URLs and URIs: what may stand in them, and how the rest is encoded (RFC 3986).

/// Bytes of a URI.
pub(crate) const LONGEST: usize = 2048;

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn encode_but(text: &str, stays: impl Fn(u8) -> bool) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Encodes all but the unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    encode_but(text, is_unreserved)
}

/// Encodes what may stand nowhere in a URL: blanks, controls, `"<>\^{|}` and what is not ASCII.
pub(crate) fn mend(url: &str) -> String {
    let bad = |byte: u8| {
        matches!(
            byte,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
    };
    encode_but(url, |byte| byte.is_ascii_graphic() && !bad(byte))
}

/// Decodes `%XX`; `None` when the text is no UTF-8 then, or an escape is none.
pub(crate) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// True for an absolute URI: a scheme, a colon, and no blanks or controls.
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let first = scheme.bytes().next();
    text.len() <= LONGEST
        && !rest.is_empty()
        && first.is_some_and(|it| it.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'-' | b'.'))
        && !rest.chars().any(|it| it.is_whitespace() || it.is_control())
}

/// The parts of a URL before its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin<'u> {
    pub(crate) scheme: &'u str,
    /// As it stands in the URL; an IPv6 address without its brackets.
    pub(crate) host: &'u str,
    pub(crate) port: u16,
    /// Bytes of all that.
    pub(crate) length: usize,
}

/// Reads the origin of a URL: `http` or `https`, without credentials.
pub(crate) fn origin(url: &str) -> Result<Origin<'_>, &'static str> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or("it has no scheme; write https://HOST/PATH")?;
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err("its scheme must be http or https, in small letters"),
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    if after.starts_with('\\') {
        return Err("it has a backslash");
    }
    if authority.contains('@') {
        return Err("it has credentials in it; send them in a header");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("its host has no `]`")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("its host is no IPv6 address");
            }
            match port {
                "" => (host, None),
                port => (
                    host,
                    Some(port.strip_prefix(':').ok_or("its port is wrong")?),
                ),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let letters = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_');
    if host.is_empty() || (!authority.starts_with('[') && !host.bytes().all(letters)) {
        return Err("its host is no name and no address");
    }
    let port = match port {
        None => usual,
        Some(port) if port.bytes().all(|it| it.is_ascii_digit()) => {
            port.parse().map_err(|_| "its port is wrong")?
        }
        Some(_) => return Err("its port is wrong"),
    };
    let length = scheme.len() + 3 + end;
    Ok(Origin {
        scheme,
        host,
        port,
        length,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_a_host_and_a_port() {
        let read = |url| origin(url).map(|it| (it.scheme, it.host, it.port, it.length));
        assert_eq!(read("https://a.b/c"), Ok(("https", "a.b", 443, 11)));
        assert_eq!(read("http://a:8080"), Ok(("http", "a", 8080, 13)));
        assert_eq!(read("http://[::1]:80?x"), Ok(("http", "::1", 80, 15)));
        for bad in [
            "a.b/c",
            "ftp://a",
            "HTTP://a",
            "file:///etc/passwd",
            "http://",
            "http:///a",
            "http://a@b/",
            "http://a:b@c/",
            "http://a:99999/",
            "http://a:/",
            "http://a:+1/",
            "http://a\\@b/",
            "http://[::1/",
            "http://[x]/",
            "http://a b/",
            "http://é/",
            "http://a%2eb/",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_url_is_encoded() {
        assert_eq!(
            mend("http://a/b c?d=ü\n\\"),
            "http://a/b%20c?d=%C3%BC%0A%5C"
        );
        assert_eq!(encode("a/b?c=1&d=é%"), "a%2Fb%3Fc%3D1%26d%3D%C3%A9%25");
        assert_eq!(decode("a%2Fb%C3%BC").as_deref(), Some("a/bü"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert!(is_uri("docs://a/b"));
        for bad in ["a", ":a", "1a:b", "a:", "a: b", "a:\n"] {
            assert!(!is_uri(bad), "{bad}");
        }
    }
}
