//! The test page of the MCP gateway: one page without anything from outside, by which a person opens a session with a server and sees
//! all that passes.
//!
//! Its parts are the files beside this one. They become one text, whose style and script alone the policy of the page permits
//! (Content Security Policy Level 3).

use super::answer::Answer;
use super::inbound::Inbound;
use super::mcp_request::no_servers;
use data_encoding::BASE64;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Reply, ReplyHead};
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_mcp::config::TestPage as Access;
use std::sync::LazyLock;

/// `Content-Type` of the page.
const HTML: &str = "text/html; charset=utf-8";

/// The page, with places for its style and its script.
const FRAME: &str = include_str!("test_page/page.html");

const STYLE: &str = include_str!("test_page/page.css");

const SCRIPT: &str = concat!(
    include_str!("test_page/wire.js"),
    include_str!("test_page/forms.js"),
    include_str!("test_page/transports.js"),
    include_str!("test_page/page.js"),
);

struct TestPage {
    text: String,
    policy: String,
}

static PAGE: LazyLock<TestPage> = LazyLock::new(|| {
    let filled = |text: &str, name: &str, content: &str| {
        let place = format!("<{name}></{name}>");
        text.replacen(&place, &format!("<{name}>{content}</{name}>"), 1)
    };
    let text = filled(&filled(FRAME, "style", STYLE), "script", SCRIPT);
    let hash = |content: &str| BASE64.encode(&digest(content.as_bytes()));
    let (script, style) = (hash(SCRIPT), hash(STYLE));
    // A WebSocket of this program is `'self'` too. Trusted types forbid the script to read markup.
    let policy = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; img-src data:; \
         script-src 'sha256-{script}'; style-src 'sha256-{style}'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    TestPage { text, policy }
});

/// Answers with the page, if there are servers to test and the sender may have it.
pub(super) fn answer(inbound: Inbound, is_local: bool) -> Answer {
    let Some(gateway) = inbound.account.engine().gateway() else {
        return inbound.refuse(&no_servers());
    };
    let is_for = match gateway.config().test_page {
        Access::Local => is_local,
        Access::Always => true,
        Access::Never => false,
    };
    if !is_for {
        let message = "this page is for browsers on the machine of the program (gateway.test_page)";
        return inbound.refuse(&Refusal::new(Code::NotFound, message));
    }
    let mut head = ReplyHead::new(200, HTML, inbound.account.id());
    head.policy = Some(&PAGE.policy);
    let reply = Reply {
        head: Some(head),
        body: PAGE.text.clone().into_bytes(),
    };
    inbound.complete(reply, Verdict::Completed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_its_style_and_its_script_and_names_nothing_outside() {
        assert!(PAGE.text.contains(STYLE) && PAGE.text.contains(SCRIPT));
        for name in ["style", "script"] {
            for tag in [format!("<{name}"), format!("</{name}")] {
                assert_eq!(PAGE.text.matches(&tag).count(), 1, "{tag}");
            }
        }
        for outside in ["src=", "@import", "url(", "innerHTML", "insertAdjacentHTML"] {
            assert!(!PAGE.text.contains(outside), "{outside}");
        }
    }
}
