//! The conversations that requests of the Responses API continue from (`previous_response_id`).
//!
//! A machine of its own, so that the hub's lock is not taken for it: the driver keeps it behind a lock that is held for a
//! look-up or a move, once before a request is read and once after its answer has ended.

use super::keys::Digest;
use crate::dialect::responses::unknown_response;
use crate::error::Refusal;
use crate::id::ExchangeId;
use alloc::collections::BTreeMap;
use bytes::Bytes;
use core::fmt;
use hashbrown::HashMap;

/// Bytes that one conversation is charged beside its text.
const OVERHEAD: usize = 256;

/// Prefix of the id of a response.
const PREFIX: &str = "resp_";

/// A conversation up to and with one response.
pub struct Conversation {
    /// The exchange that the response is named after.
    pub response: ExchangeId,
    /// A JSON list of items.
    pub items: Bytes,
}

impl fmt::Debug for Conversation {
    /// Text is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Conversation({}, {} bytes)",
            self.response,
            self.items.len()
        )
    }
}

/// Conversations by response, the least recently used ones dropped when there are too many or they are too large. None
/// outlives the process.
pub struct Responses {
    most: usize,
    most_bytes: usize,
    kept: HashMap<ExchangeId, Kept>,
    /// The turn in which each was used last.
    order: BTreeMap<u64, ExchangeId>,
    turn: u64,
    bytes: usize,
}

struct Kept {
    /// Digest of the key that the response was made with.
    owner: Option<Digest>,
    items: Bytes,
    turn: u64,
}

impl fmt::Debug for Responses {
    /// Text is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responses({}, {} bytes)", self.len(), self.bytes)
    }
}

impl Default for Responses {
    /// 1024 conversations in 64 MiB.
    fn default() -> Self {
        Self::new(1024, 64 << 20)
    }
}

impl Responses {
    /// Keeps at most `most` conversations that take at most `most_bytes` together.
    #[must_use]
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            most,
            most_bytes,
            kept: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
            bytes: 0,
        }
    }

    /// Returns the number of conversations that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// True when none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes that they take, overhead included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a conversation for the key with the digest `owner`. One that is larger than all may be is not kept.
    pub fn keep(&mut self, owner: Option<Digest>, conversation: Conversation) {
        let charge = conversation.items.len().saturating_add(OVERHEAD);
        if charge > self.most_bytes || self.most == 0 {
            return;
        }
        self.remove(conversation.response);
        while self.kept.len() >= self.most || self.bytes.saturating_add(charge) > self.most_bytes {
            let Some((_, oldest)) = self.order.first_key_value() else {
                break;
            };
            self.remove(*oldest);
        }
        self.turn += 1;
        self.bytes += charge;
        self.order.insert(self.turn, conversation.response);
        let kept = Kept {
            owner,
            items: conversation.items,
            turn: self.turn,
        };
        self.kept.insert(conversation.response, kept);
    }

    fn remove(&mut self, response: ExchangeId) {
        if let Some(kept) = self.kept.remove(&response) {
            self.order.remove(&kept.turn);
            self.bytes = self.bytes.saturating_sub(kept.items.len() + OVERHEAD);
        }
    }

    /// The conversation of the response `id`, a JSON list of items.
    ///
    /// # Errors
    /// 404 when it is not kept, or was made with another key.
    pub fn find(&mut self, owner: Option<Digest>, id: &str) -> Result<Bytes, Refusal> {
        let response = id
            .strip_prefix(PREFIX)
            .and_then(|id| ExchangeId::parse(id.as_bytes()));
        let kept = response
            .and_then(|response| Some((response, self.kept.get_mut(&response)?)))
            .filter(|(_, kept)| kept.owner == owner);
        let Some((response, kept)) = kept else {
            return Err(unknown_response(id));
        };
        self.turn += 1;
        self.order.remove(&kept.turn);
        self.order.insert(self.turn, response);
        kept.turn = self.turn;
        Ok(kept.items.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::id::Ids;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const OWNER: Option<Digest> = Some([1; 32]);

    fn conversation(response: ExchangeId, bytes: usize) -> Conversation {
        Conversation {
            response,
            items: Bytes::from("x".repeat(bytes)),
        }
    }

    fn id(response: ExchangeId) -> String {
        format!("resp_{response}")
    }

    #[test]
    fn a_conversation_is_found_by_the_key_that_made_it_and_by_no_other() {
        let mut responses = Responses::default();
        let response = Ids::new(7).next();
        responses.keep(OWNER, conversation(response, 3));
        assert_eq!(responses.find(OWNER, &id(response)).unwrap(), "xxx");
        for (owner, id) in [
            (Some([2; 32]), id(response)),
            (None, id(response)),
            (OWNER, format!("{response}")),
            (OWNER, id(Ids::new(8).next())),
            (OWNER, String::new()),
        ] {
            let refusal = responses.find(owner, &id).unwrap_err();
            assert_eq!(
                (refusal.status(), refusal.code().name(), refusal.param()),
                (
                    404,
                    Some("previous_response_not_found"),
                    Some("previous_response_id")
                )
            );
        }
    }

    #[test]
    fn one_that_is_as_large_as_all_may_be_is_kept_and_one_that_is_larger_is_not() {
        let ids = Ids::new(7);
        let mut responses = Responses::new(4, OVERHEAD + 100);
        assert!(responses.is_empty());
        responses.keep(OWNER, conversation(ids.next(), 101));
        assert!(responses.is_empty());
        responses.keep(OWNER, conversation(ids.next(), 100));
        assert!(!responses.is_empty());
        assert_eq!(responses.bytes(), OVERHEAD + 100);
        let mut none = Responses::new(0, OVERHEAD + 100);
        none.keep(OWNER, conversation(ids.next(), 1));
        assert!(none.is_empty());
    }

    #[test]
    fn nothing_of_a_conversation_is_shown() {
        let mut responses = Responses::default();
        let secret = conversation(Ids::new(7).next(), 3);
        assert!(!format!("{secret:?}").contains("xxx"));
        responses.keep(OWNER, secret);
        assert!(!format!("{responses:?}").contains("xxx"));
    }

    proptest! {
        #[test]
        fn the_least_recently_used_go_first_and_no_limit_is_passed(
            steps in proptest::collection::vec((any::<bool>(), 0usize..12, 0usize..700), 0..60)
        ) {
            let ids = Ids::new(7);
            let all: Vec<ExchangeId> = (0..12).map(|_| ids.next()).collect();
            let mut responses = Responses::new(4, 2048);
            // From the least to the most recently used.
            let mut model: Vec<(ExchangeId, usize)> = Vec::new();
            for (keeps, at, bytes) in steps {
                let response = all[at];
                let place = model.iter().position(|(id, _)| *id == response);
                if keeps {
                    responses.keep(OWNER, conversation(response, bytes));
                    if let Some(place) = place {
                        model.remove(place);
                    }
                    model.push((response, bytes + OVERHEAD));
                    while model.len() > 4 || model.iter().map(|(_, bytes)| bytes).sum::<usize>() > 2048 {
                        model.remove(0);
                    }
                } else {
                    prop_assert_eq!(responses.find(OWNER, &id(response)).is_ok(), place.is_some());
                    if let Some(place) = place {
                        let entry = model.remove(place);
                        model.push(entry);
                    }
                }
                prop_assert_eq!(responses.len(), model.len());
                prop_assert_eq!(responses.bytes(), model.iter().map(|(_, bytes)| bytes).sum::<usize>());
                prop_assert_eq!(responses.order.len(), model.len());
            }
        }
    }
}
