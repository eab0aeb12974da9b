//! Servers that are reached over HTTP, in all forms in which they are written.

use super::*;

const KEY: (&str, &str) = ("K", "Bearer 0123456789");

fn servers(text: &str) -> Vec<McpServer> {
    let loaded = load_text("c.yaml", text, &[KEY]).unwrap();
    assert_eq!(loaded.warnings, [], "{text}");
    let servers = loaded.config.mcp_servers.iter();
    servers.map(|(_, server)| server.clone()).collect()
}

#[test]
fn an_address_is_known_by_every_name_that_programs_have_for_it() {
    let all = servers(
        "mcpServers:
  url: { url: 'http://a.example/mcp' }
  server_url: { serverUrl: 'http://a.example/mcp' }
  http_url: { httpUrl: 'http://a.example/mcp' }
  short: 'http://a.example/mcp'
",
    );
    assert!(all.iter().all(|server| *server == all[0]));
    assert_eq!(all[0].url.as_deref(), Some("http://a.example/mcp"));
    let all = servers(
        "mcpServers:
  a: { type: http, url: 'https://a.example/mcp', headers: { Authorization: 'env:K', X-Team: '' } }
  b: { transport: streamable-http, url: 'https://b.example/mcp' }
  c: { type: streamableHttp, url: 'https://c.example/mcp' }
  d: { type: sse, url: 'https://d.example/sse' }
  e: { type: stdio, command: x }
  f: { type: websocket, url: 'wss://f.example/ws' }
",
    );
    let transports = all.iter().map(|server| server.transport.unwrap());
    use McpTransport::{Http, Sse, Stdio, Ws};
    assert_eq!(
        transports.collect::<Vec<_>>(),
        [Http, Http, Http, Sse, Stdio, Ws]
    );
    assert_eq!(
        all[0].headers["Authorization"].text(),
        Some("Bearer 0123456789")
    );
}

#[test]
fn a_login_is_described_by_every_name_that_programs_have_for_it() {
    let all = servers(
        "mcpServers:
  own: { url: 'https://a.example/mcp', oauth: { client_id: me, client_secret: 'env:K', scope: 'a b', callback_port: 8901 } }
  other: { url: 'https://a.example/mcp', oauth: { clientId: me, clientSecret: 'env:K', scopes: 'a b', callbackPort: 8901 } }
  sse: { type: sse, url: 'https://a.example/sse' }
  key: { url: 'https://a.example/mcp', headers: { AUTHORIZATION: 'env:K' } }
  socket: 'wss://a.example/ws'
",
    );
    assert_eq!(all[0].oauth, all[1].oauth);
    let secret = all[0]
        .oauth
        .as_ref()
        .unwrap()
        .client_secret
        .as_ref()
        .unwrap();
    assert_eq!(secret.text(), Some("Bearer 0123456789"));
    let take: Vec<bool> = all.iter().map(McpServer::takes_logins).collect();
    assert_eq!(take, [true, true, true, false, false]);
}

#[test]
fn an_address_that_cannot_be_used_is_refused_with_place_and_remedy() {
    for (text, expected) in [
        (
            "  a: { url: 'ftp://x/y?key=secret' }",
            "c.yaml:2: mcpServers.a.url: expected an address that begins with `http://` or `https://` or `ws://` or `wss://`, found `ftp://x/y`",
        ),
        (
            "  a: { url: 'http://me:secret@x/' }",
            "c.yaml:2: mcpServers.a.url: a name and a password in an address are not sent; write `headers: { Authorization: \"env:NAME\" }`",
        ),
        (
            "  a: { url: 'http://x/', serverUrl: 'http://y/' }",
            "c.yaml:2: mcpServers.a: `serverUrl` is `url`, which is given twice",
        ),
        (
            "  a: { url: 'http://x/', command: y, args: [z] }",
            "c.yaml:2: mcpServers.a.args: a server with a `url` is not started here; remove one of them
c.yaml:2: mcpServers.a.command: a server with a `url` is not started here; remove one of them",
        ),
        (
            "  a: { url: 'http://x/', type: stdio }\n  b: { command: x, type: sse }\n  c: { type: http }",
            "c.yaml:2: mcpServers.a.transport: a server with a `url` is not reached so; write `http`, `sse` or `ws`, or leave it out
c.yaml:3: mcpServers.b.transport: give `url`, its address
c.yaml:4: mcpServers.c.transport: give `url`, its address",
        ),
        (
            "  a: { url: 'ws://x/y', type: http }\n  b: { url: 'http://x/y', type: ws }",
            "c.yaml:2: mcpServers.a.url: expected an address that begins with `http://` or `https://`, found `ws://x/y`
c.yaml:3: mcpServers.b.url: expected an address that begins with `ws://` or `wss://`, found `http://x/y`",
        ),
        (
            "  a: { command: x, headers: { A: b } }",
            "c.yaml:2: mcpServers.a.headers: only a server with a `url` is sent headers",
        ),
        (
            "  a: { command: x, oauth: {} }\n  b: { url: 'wss://x/y', oauth: {} }\n  c: { url: 'https://x/', headers: { authorization: b }, oauth: {} }",
            "c.yaml:2: mcpServers.a.oauth: only a server that is reached over HTTP takes logins
c.yaml:3: mcpServers.b.oauth: only a server that is reached over HTTP takes logins
c.yaml:4: mcpServers.c.oauth: the header `Authorization` of this server is sent instead; remove one of them",
        ),
        (
            "  a: { url: 'https://x/', oauth: { client_secret: s, client_metadata_url: 'http://y/', scope: 'a\\\"b', callback_port: 0 } }\n  b: { url: 'https://x/', prefix: bb, oauth: { client_id: '' } }",
            "c.yaml:2: mcpServers.a.oauth.callback_port: 0 is no port; leave it out for a free one
c.yaml:2: mcpServers.a.oauth.client_metadata_url: expected an address that begins with `https://`, found `http://y/`
c.yaml:2: mcpServers.a.oauth.client_secret: give `client_id` with it
c.yaml:2: mcpServers.a.oauth.scope: scopes are words of visible ASCII without `\"` and `\\`, with blanks between them
c.yaml:3: mcpServers.b.oauth.client_id: it is empty; leave it out where the authorization server registers programs by itself",
        ),
        (
            "  a: { url: 'http://x/', headers: { 'A B': c, Host: d, E: \"f\\n\", G: 'env:NOT_THERE' } }",
            "c.yaml:2: mcpServers.a.headers.A B: `A B` is no name of a header
c.yaml:2: mcpServers.a.headers.E: the value has control characters in it
c.yaml:2: mcpServers.a.headers.G: the environment variable `NOT_THERE` is not set
c.yaml:2: mcpServers.a.headers.Host: this header is set by the protocol; remove it",
        ),
    ] {
        let text = format!("mcpServers:\n{text}\n");
        let refused = load_text("c.yaml", &text, &[KEY]).unwrap_err();
        let mut refused: Vec<&str> = refused.lines().collect();
        refused.sort_unstable();
        assert_eq!(refused.join("\n"), expected, "{text}");
    }
}
