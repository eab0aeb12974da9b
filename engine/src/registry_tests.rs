//! Hosts and URLs that are asked and that are not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use crate::pipe::{AddressRefused, Endpoint};
use crate::registry_permits::*;
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

fn permits(list: &[&str]) -> Permits {
    list.iter()
        .map(|entry| entry.parse::<HostEntry>().unwrap())
        .collect()
}

fn reached(permits: &Permits, url: &str, resolved: &[&str]) -> Result<String, String> {
    let (target, path) = permits.url(url).map_err(|error| error.to_string())?;
    let origin = &target.origin;
    let endpoint = Endpoint {
        host: origin.host.clone(),
        port: origin.port,
        connect_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        fence: target.route().fence,
    };
    let addresses = endpoint.look_up_by(|host, port| {
        let literal = host.parse::<IpAddr>().ok();
        let literal = literal.map(|address| vec![SocketAddr::new(address, port)]);
        let addresses = resolved
            .iter()
            .map(|it| SocketAddr::new(it.parse().unwrap(), port));
        Ok(literal.unwrap_or_else(|| addresses.collect()))
    });
    let addresses = addresses.map_err(|error| error.to_string())?;
    Ok(format!("{}{path} {addresses:?}", origin.authority()))
}

/// What a caller may try with a host that is listed by its name, and one address that is listed with its port.
#[test]
fn no_form_of_a_url_leads_to_what_is_not_listed() {
    let permits = permits(&["api.example.com", "10.1.2.3:8080", "[fd00::7]:8080"]);
    let public = &["93.184.216.34"];
    for url in [
        // Addresses of this machine and its networks, as they are and in other notations.
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0X7F.0x0.0x0.0x1/",
        "http://127.0.0.01/",
        "http://0/",
        "http://0.0.0.0/",
        "http://127.0.0.1./",
        "http://localhost/",
        "http://localhost./",
        "http://LOCALHOST/",
        "http://x.localhost/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1%251]/",
        "http://[::1]x/",
        "http://[::1/",
        "http://::1/",
        "http://metadata.google.internal/",
        // Other ports of what is listed with one.
        "http://10.1.2.3/",
        "http://10.1.2.3:8081/",
        "https://10.1.2.3/",
        "http://[fd00::7]/",
        "http://10.1.2.3:08080x/",
        "http://10.1.2.3:+8080/",
        "http://10.1.2.3:/",
        "http://10.1.2.3:0/",
        "http://10.1.2.3:73616/",
        "http://10.1.2.3.:8080/",
        "http://0xa.1.2.3:8080/",
        "http://167838211:8080/",
        // Names that contain the listed one.
        "http://api.example.com.evil.example/",
        "http://evil-api.example.com/",
        "http://x.api.example.com/",
        "http://api.example.com@127.0.0.1/",
        "http://127.0.0.1@api.example.com/",
        "http://user:password@api.example.com/",
        "http://api.example.com:80@127.0.0.1/",
        "http://api.example.com%2f@127.0.0.1/",
        "http://api.example.com%00.evil.example/",
        "http://127.0.0.1\\@api.example.com/",
        "http://api.example.com\\@127.0.0.1/",
        "http://127.0.0.1#@api.example.com/",
        "http://api.example.com#@127.0.0.1/",
        "http://127.0.0.1?@api.example.com/",
        "http://api%2eexample.com/",
        "http://api..example.com/",
        "http://api.example.com../",
        "http://ａｐｉ.example.com/",
        "http://api。example.com/",
        "http://\tapi.example.com/",
        "http://api.example.com /",
        "http://api.example.com/\r\nHost: 127.0.0.1",
        "http:///api.example.com/",
        "http:////127.0.0.1/",
        "http:/api.example.com/",
        "//api.example.com/",
        "api.example.com/",
        "http://",
        "",
        // Other schemes.
        "file:///etc/passwd",
        "ftp://api.example.com/",
        "gopher://api.example.com/",
        "dict://api.example.com/",
        "ws://api.example.com/",
        "unix:///var/run/docker.sock",
        "jar:http://api.example.com!/",
        "http+unix://api.example.com/",
    ] {
        if let Ok(reached) = reached(&permits, url, public) {
            panic!("{url} reaches {reached}");
        }
    }
    for (url, expected) in [
        (
            "http://api.example.com",
            "api.example.com:80/ [93.184.216.34:80]",
        ),
        (
            "HTTPS://API.Example.Com.:8443/a?b=%20",
            "api.example.com:8443/a?b=%20 [93.184.216.34:8443]",
        ),
        (
            "https://api.example.com?q=1",
            "api.example.com:443/?q=1 [93.184.216.34:443]",
        ),
        (
            "http://api.example.com/@127.0.0.1/",
            "api.example.com:80/@127.0.0.1/ [93.184.216.34:80]",
        ),
        ("http://10.1.2.3:8080/", "10.1.2.3:8080/ [10.1.2.3:8080]"),
        (
            "http://[::ffff:10.1.2.3]:8080/",
            "10.1.2.3:8080/ [10.1.2.3:8080]",
        ),
        (
            "http://[fd00:0::7]:8080/",
            "[fd00::7]:8080/ [[fd00::7]:8080]",
        ),
    ] {
        assert_eq!(
            reached(&permits, url, public).as_deref(),
            Ok(expected),
            "{url}"
        );
    }
}

#[test]
fn a_name_is_reached_only_where_every_address_of_it_is_permitted() {
    let permits = permits(&["api.example.com", "10.1.2.3", "10.9.9.9:1"]);
    let url = "https://api.example.com/";
    assert!(reached(&permits, url, &["93.184.216.34", "2606:2800:220:1::1"]).is_ok());
    assert!(reached(&permits, url, &["93.184.216.34", "10.1.2.3"]).is_ok());
    assert!(reached(&permits, url, &["::ffff:10.1.2.3"]).is_ok());
    for one in [
        "10.1.2.4",
        "10.9.9.9",
        "127.0.0.1",
        "::1",
        "192.168.1.1",
        "169.254.169.254",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
    ] {
        for addresses in [
            vec![one],
            vec!["93.184.216.34", one],
            vec![one, "93.184.216.34"],
        ] {
            let refused = reached(&permits, url, &addresses).unwrap_err();
            let address = one.strip_prefix("::ffff:").unwrap_or(one);
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(refused, AddressRefused(address).to_string());
        }
    }
}

/// A name server that answers with a public address first and a private one then gains nothing: it is asked once.
#[test]
fn a_name_is_looked_up_once_and_what_was_checked_is_what_is_connected_to() {
    let (target, _) = permits(&["api.example.com"])
        .url("http://api.example.com/")
        .unwrap();
    let endpoint = Endpoint {
        host: target.origin.host.clone(),
        port: 80,
        connect_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        fence: Some(target.fence),
    };
    let asked = Cell::new(0);
    let rebinding = |_: &str, port| {
        asked.set(asked.get() + 1);
        let address = if asked.get() == 1 {
            [93, 184, 216, 34]
        } else {
            [127, 0, 0, 1]
        };
        Ok(vec![SocketAddr::from((address, port))])
    };
    let first = endpoint.look_up_by(rebinding).unwrap();
    assert_eq!(
        (first, asked.get()),
        (vec!["93.184.216.34:80".parse().unwrap()], 1)
    );
    let second = endpoint.look_up_by(rebinding).unwrap_err();
    let refused = AddressRefused::of(&second).unwrap();
    assert_eq!(refused.0, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(second.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn scheme_host_and_port_are_held_against_the_list() {
    let permits = permits(&["api.example.com:8443", "::1"]);
    let said = |scheme: &str, host: &str, port| match permits.http(scheme, host, port) {
        Ok(target) => target.origin.authority(),
        Err(refused) => refused.to_string(),
    };
    assert_eq!(
        said("https", "API.example.com", Some(8443)),
        "api.example.com:8443"
    );
    assert_eq!(said("http", "[::1]", None), "[::1]:80");
    assert_eq!(said("http", "::1", Some(5)), "[::1]:5");
    assert_eq!(
        said("https", "api.example.com", None),
        "`registry.http` of the configuration does not list `api.example.com:443`; add it there to reach it"
    );
    assert_eq!(
        said("ftp", "api.example.com", None),
        "`ftp` is no scheme of a URL that can be asked; those are `http` and `https`"
    );
    assert_eq!(
        said("http", "0x7f.1", None),
        "`0x7f.1` cannot be asked: an IPv4 address is written as four decimal numbers, such as `192.0.2.1`"
    );
    assert!(said("http", "[::1", None).contains("no name of a host"));
    assert!(Permits::default().http("http", "a.example", None).is_err());
}

#[test]
fn an_entry_of_the_list_is_a_host_with_a_port_or_without() {
    for entry in [
        "a",
        "a.example",
        "a_b.example:1",
        "10.0.0.1",
        "10.0.0.1:65535",
        "::1",
        "[::1]",
        "[::1]:80",
    ] {
        assert!(entry.parse::<HostEntry>().is_ok(), "{entry}");
    }
    for entry in [
        "",
        "*",
        "*.example",
        "http://a.example",
        "a.example/path",
        "a.example:",
        "a.example:0",
        "a.example:x",
        "a:1:2",
        "127.1",
        "2130706433",
        "0x7f000001",
        "fe80::1%eth0",
        "a b",
        "user@a.example",
        "[::1",
        "[10.0.0.1]",
        "10.0.0.0/8",
        "é.example",
    ] {
        assert!(entry.parse::<HostEntry>().is_err(), "{entry}");
    }
}
