//! The test page: who gets it, and what it may do in a browser.

use super::client::{start_one, whole};
use crate::program::Program;

#[test]
fn the_test_page_is_there_without_a_key_where_there_are_servers() {
    let program = start_one("");
    let page = program.request("GET", "/static/test_client.html", None, "");
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    let rules: Vec<&str> = policy.split("; ").collect();
    for rule in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"] {
        assert!(rules.contains(&rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(program.request("GET", "/test", None, "").body, page.body);
    let head = program.request("HEAD", "/test", None, "");
    assert_eq!((head.status, &*head.body), (200, ""));
    // What it asks needs a key all the same.
    assert_eq!(program.request("POST", "/mcp", None, "{}").status, 401);
    for header in ["Host: evil.example", "Host: localhost\r\nOrigin: https://evil.example"] {
        let answer = whole(program.raw(&format!("GET /test HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n")));
        assert_eq!(answer.status, 403, "{header}");
    }
    assert_eq!(Program::start("").request("GET", "/test", None, "").status, 404);
    let without = start_one("gateway: { test_page: false }\n");
    assert_eq!(without.request("GET", "/test", None, "").status, 404);
}
