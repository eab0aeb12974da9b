//! Digests by which conversations, and the sessions that are made for them, are recognised when they come again.

use super::content::{self, Piece, arguments, media};
use super::tools::Tool;
use crate::id::Authority;
use crate::invocation::{Message, Role, ToolCall};
use crate::text::JsonStr;
use core::hash::Hasher as _;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::{Hasher128, SipHasher13};

/// SipHash-1-3-128 under a key of this process, so that nobody can choose two conversations that agree.
pub(super) type Digest = u128;

/// Key of the digests of one agent.
#[derive(Clone, Copy)]
pub(super) struct DigestKey([u8; 16]);

impl DigestKey {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(secret);
        hash.update(b"conversations");
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(key)
    }
}

/// A digest in the making. Texts are fed as this program escapes them, but for the agent's own.
#[derive(Clone)]
pub(super) struct Hasher(SipHasher13);

impl Hasher {
    pub(super) fn new(key: DigestKey) -> Self {
        Self(SipHasher13::new_with_key(&key.0))
    }

    pub(super) fn finish(&self) -> Digest {
        self.0.finish128().as_u128()
    }

    /// Adds a text and where it ends.
    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.write(text.as_bytes());
    }

    fn count(&mut self, count: usize) {
        self.0.write_u64(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(super) fn digest(&mut self, digest: Digest) {
        self.0.write(&digest.to_le_bytes());
    }

    /// Adds what a session is made for.
    pub(super) fn setup(&mut self, system: Option<&str>, tools: &[Tool]) {
        self.text(system.unwrap_or_default());
        for tool in tools {
            self.text(tool.raw());
        }
    }

    /// Adds whose conversation it is.
    pub(super) fn caller(&mut self, caller: Authority) {
        let (kind, key) = match caller {
            Authority::Anyone => (0, 0),
            Authority::Key(key) => (1, key.0.get()),
            Authority::Configuration => (2, 0),
            Authority::Local => (3, 0),
        };
        self.0.write_u8(kind);
        self.0.write_u32(key);
    }

    /// Adds a message of the client's.
    pub(super) fn message(&mut self, message: &Message<'_>) {
        for piece in media(message) {
            match piece {
                Piece::Image { media_type, base64 } => {
                    self.text(&media_type);
                    self.text(base64.as_escaped());
                }
                Piece::Text(_) | Piece::Other(_) => {}
            }
        }
        let text = content::text(message, "\\n\\n");
        let rest = (&*message.tool_calls, message.tool_call_id.as_deref());
        match message.role {
            Role::Assistant => self.answer(&JsonStr::from_escaped(&text).decode(), rest.0, rest.1),
            Role::System | Role::Developer | Role::User | Role::Tool | Role::Function => {
                self.members(message.role, &text, rest.0, rest.1);
            }
        }
    }

    /// Adds an answer of the agent's, not escaped. Clients trim what they keep of one.
    pub(super) fn answer(&mut self, answer: &str, calls: &[ToolCall<'_>], call_id: Option<&str>) {
        self.members(Role::Assistant, answer.trim(), calls, call_id);
    }

    fn members(&mut self, role: Role, text: &str, calls: &[ToolCall<'_>], call_id: Option<&str>) {
        self.0.write(b"message");
        self.text(role.as_str());
        self.text(text);
        self.count(calls.len());
        for call in calls {
            self.text(&call.id);
            self.text(&call.name.normal());
            self.text(&arguments(call));
        }
        self.text(call_id.unwrap_or_default());
    }
}
