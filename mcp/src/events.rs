//! The events of `/events/ID` beside the messages: for pages with an `EventSource`, which see a stream's events and nothing of HTTP.

use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::wire::sse;

/// Reasons for which nothing more comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The session has ended: its client or the owner of the program wanted that, or its client did not read.
    Deleted,
    /// The session was idle for too long.
    Expired,
    /// Somebody else reads the session now.
    Replaced,
    /// The program is about to end.
    Drain,
}

impl Closed {
    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Drain => "drain",
        }
    }
}

/// Appends the event that comes first. `server` is the name of the session's server where it has one, `timestamp` a time of RFC 3339.
pub fn write_connected(session: &str, server: Option<&str>, timestamp: &str, out: &mut Vec<u8>) {
    let mut json = Json::new();
    json.raw("{");
    json.member("session_id").string(session);
    json.member("server");
    match server {
        Some(server) => json.string(server),
        None => json.raw("null"),
    }
    json.member("timestamp").string(timestamp);
    write("connected", json, out);
}

/// Appends the event that says that the program is there.
pub fn write_heartbeat(timestamp: &str, out: &mut Vec<u8>) {
    let mut json = Json::new();
    json.raw("{");
    json.member("timestamp").string(timestamp);
    write("heartbeat", json, out);
}

/// Appends the last event.
pub fn write_closed(session: &str, reason: Closed, out: &mut Vec<u8>) {
    let mut json = Json::new();
    json.raw("{");
    json.member("session_id").string(session);
    json.member("reason").string(reason.as_str());
    write("closed", json, out);
}

fn write(event: &'static str, mut data: Json, out: &mut Vec<u8>) {
    data.raw("}");
    let data: String = data.finish();
    sse::begin(out, Some(event));
    out.extend_from_slice(data.as_bytes());
    sse::end(out);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_event_has_its_name_and_one_line_of_json() {
        let mut out = Vec::new();
        write_connected("id", Some("files"), "2026-01-01T00:00:00Z", &mut out);
        write_connected("id", None, "t", &mut out);
        write_heartbeat("t", &mut out);
        for reason in [
            Closed::Deleted,
            Closed::Expired,
            Closed::Replaced,
            Closed::Drain,
        ] {
            write_closed("id", reason, &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            concat!(
                "event: connected\ndata: {\"session_id\":\"id\",\"server\":\"files\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n\n",
                "event: connected\ndata: {\"session_id\":\"id\",\"server\":null,\"timestamp\":\"t\"}\n\n",
                "event: heartbeat\ndata: {\"timestamp\":\"t\"}\n\n",
                "event: closed\ndata: {\"session_id\":\"id\",\"reason\":\"deleted\"}\n\n",
                "event: closed\ndata: {\"session_id\":\"id\",\"reason\":\"expired\"}\n\n",
                "event: closed\ndata: {\"session_id\":\"id\",\"reason\":\"replaced\"}\n\n",
                "event: closed\ndata: {\"session_id\":\"id\",\"reason\":\"drain\"}\n\n",
            )
        );
    }
}
