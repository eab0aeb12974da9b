//! API keys: only SHA-256 digests are kept, and every one is compared, in constant time.

use crate::config::{Area, HubConfig, Key, Role};
use crate::error::{Code, Refusal};
pub use crate::id::Authority;
use crate::id::KeyId;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::num::NonZeroU32;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Name of a caller without a key.
pub(super) const ANONYMOUS: &str = "anonymous";

/// SHA-256 of a token, a key or a prompt.
pub type Digest = [u8; 32];

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// True when both are the same, in time that does not depend on where they differ.
#[must_use]
pub fn same(left: &Digest, right: &Digest) -> bool {
    equal(left, right).into()
}

/// Compares words, of which there are fewer than bytes.
fn equal(left: &Digest, right: &Digest) -> Choice {
    let ((left, _), (right, _)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let words = left.iter().zip(right);
    words.fold(Choice::from(1), |equal, (left, right)| {
        equal & u64::from_ne_bytes(*left).ct_eq(&u64::from_ne_bytes(*right))
    })
}

/// The configured keys. Immutable, so that requests are authenticated without a lock.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Of everyone.
    required: bool,
    /// Of programs on this machine that look for an Ollama.
    required_of_local: bool,
    entries: Vec<Entry>,
    /// The id that the next new key gets: none is ever used again for another.
    next: NonZeroU32,
}

#[derive(Debug, Clone)]
struct Entry {
    id: KeyId,
    name: Arc<str>,
    key: Arc<Key>,
}

/// The sender of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The permission that the request rests on.
    pub authority: Authority,
    /// The key's name, or `anonymous`.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// Further rights; `None` for every area and every model.
    pub rights: Option<Arc<Key>>,
    /// Digest of the presented token.
    pub credential: Option<Digest>,
    /// Address that it calls from.
    pub address: IpAddr,
}

impl Caller {
    /// Refuses a role that is not among `allowed`.
    ///
    /// # Errors
    /// 403 that names the missing role.
    pub fn require(&self, allowed: &[Role]) -> Result<(), Refusal> {
        if self.role == Role::Admin || allowed.contains(&self.role) {
            return Ok(());
        }
        let wanted = allowed
            .iter()
            .map(|role| role.as_str())
            .collect::<Vec<_>>()
            .join("` or `");
        let role = self.role.as_str();
        let message = match self.authority {
            Authority::Key(_) => alloc::format!(
                "the key `{}` has the role `{role}`; this needs `{wanted}`",
                self.name
            ),
            Authority::Anyone | Authority::Local | Authority::Configuration => alloc::format!(
                "a request without a key has the role `{role}` here; this needs a key of the role `{wanted}`"
            ),
        };
        Err(Refusal::new(Code::RoleDenied, message))
    }
}

impl Caller {
    /// Refuses an area that the key is not allowed.
    ///
    /// # Errors
    /// 403 that names the area.
    pub fn require_area(&self, area: Area) -> Result<(), Refusal> {
        let rights = self.rights.as_deref();
        let may = match self.authority {
            Authority::Key(_) => rights.is_none_or(|key| key.may_use(area)),
            Authority::Local => area == Area::Models,
            Authority::Anyone | Authority::Configuration => true,
        };
        if may {
            return Ok(());
        }
        let area = area.as_str();
        let message = match self.authority {
            Authority::Key(_) => alloc::format!(
                "the key `{}` may not use {area}: its `allow` does not name `{area}`",
                self.name
            ),
            Authority::Anyone | Authority::Local | Authority::Configuration => alloc::format!(
                "a request without a key may use models alone here; send a key whose `allow` names `{area}`"
            ),
        };
        Err(Refusal::new(Code::ScopeDenied, message))
    }

    /// Models that the key may ask; none when it may ask every one.
    #[must_use]
    pub fn models(&self) -> &[String] {
        self.rights.as_deref().map_or(&[], |key| &key.models)
    }

    /// True when the key may ask a model that has one of these names.
    pub fn may_ask(&self, names: &[&str]) -> bool {
        let models = self.models();
        models.is_empty()
            || names
                .iter()
                .any(|name| models.iter().any(|own| own == name))
    }

    /// The same caller, who may ask every model: one whose request to an integration was let pass asks the integration's model, which
    /// its key need not name.
    #[must_use]
    pub fn asking_every_model(&self) -> Self {
        let mut caller = self.clone();
        caller.rights = self.rights.as_deref().map(|key| {
            let models = Vec::new();
            Arc::new(Key {
                models,
                ..key.clone()
            })
        });
        caller
    }

    /// True when the key may use the MCP server of this name. Others do not exist for it.
    #[must_use]
    pub fn may_use_server(&self, server: &str) -> bool {
        let rights = self.rights.as_deref();
        rights.is_none_or(|key| key.may_use_server(server))
    }
}

impl Keys {
    /// Under a configuration that requires no key, a request without one passes as `anonymous` with every role; a key that is
    /// presented and known still counts as itself.
    #[must_use]
    pub fn new(config: &HubConfig) -> Self {
        let none = Self {
            required: true,
            required_of_local: true,
            entries: Vec::new(),
            next: NonZeroU32::MIN,
        };
        none.replaced(config)
    }

    /// The keys that come after these. One with the same digest and the same role is the same key and keeps its id.
    #[must_use]
    pub fn replaced(&self, config: &HubConfig) -> Self {
        let mut next = self.next;
        let mut fresh = || {
            let id = KeyId(next);
            next = next.saturating_add(1);
            id
        };
        let entries = config
            .keys
            .iter()
            .map(|key| Entry {
                id: self
                    .entries
                    .iter()
                    .find(|entry| {
                        entry.key.role == key.role && same(&entry.key.sha256, &key.sha256)
                    })
                    .map_or_else(&mut fresh, |entry| entry.id),
                name: Arc::from(key.name.as_str()),
                key: Arc::new(key.clone()),
            })
            .collect();
        Self {
            required: config.needs_key(),
            required_of_local: config.ollama_auth_required,
            entries,
            next,
        }
    }

    /// Every key, with its id.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, &Key)> {
        self.entries.iter().map(|entry| (entry.id, &*entry.key))
    }

    /// The key at `id`.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        self.iter()
            .find_map(|(known, key)| (known == id).then_some(key))
    }

    /// The name of the key of an authority, or `anonymous`.
    #[must_use]
    pub fn name_of(&self, authority: Authority) -> &str {
        match authority {
            Authority::Key(id) => self.get(id).map_or("", |key| &key.name),
            Authority::Anyone | Authority::Local | Authority::Configuration => ANONYMOUS,
        }
    }

    /// True while these keys permit what `authority` has permitted.
    #[must_use]
    pub fn uphold(&self, authority: Authority) -> bool {
        match authority {
            Authority::Key(id) => self.get(id).is_some(),
            Authority::Anyone => !self.required,
            Authority::Local => !self.required_of_local,
            Authority::Configuration => true,
        }
    }

    /// True while these keys permit `authority` to use the MCP server of this name.
    #[must_use]
    pub fn uphold_server(&self, authority: Authority, server: &str) -> bool {
        match authority {
            Authority::Key(id) => self
                .get(id)
                .is_some_and(|key| key.may_use(Area::Mcp) && key.may_use_server(server)),
            // It is for models alone.
            Authority::Local => false,
            Authority::Anyone | Authority::Configuration => self.uphold(authority),
        }
    }

    /// Refuses a request that was authenticated with a key that is gone since, or that has another role.
    ///
    /// # Errors
    /// 401 that names the key.
    pub fn confirm(&self, caller: &Caller) -> Result<(), Refusal> {
        if self.uphold(caller.authority) {
            return Ok(());
        }
        Err(withdrawn(caller.authority, &caller.name))
    }

    /// Returns a caller with the rights that these keys give it now; `None` when its permission is gone.
    #[must_use]
    pub fn renewed(&self, caller: &Caller) -> Option<Caller> {
        let rights = match caller.authority {
            Authority::Key(id) => {
                let entry = self.entries.iter().find(|entry| entry.id == id)?;
                Some(entry.key.clone())
            }
            Authority::Anyone | Authority::Local | Authority::Configuration => None,
        };
        let caller = Caller {
            rights,
            ..caller.clone()
        };
        self.uphold(caller.authority).then_some(caller)
    }

    /// Looks a digest up among all keys, in time that does not depend on which one it is.
    fn find(&self, wanted: &Digest) -> Option<&Entry> {
        let mut found = Choice::from(0);
        let mut at = 0u32;
        for (position, entry) in (0u32..).zip(&self.entries) {
            let equal = equal(&entry.key.sha256, wanted);
            at.conditional_assign(&position, equal);
            found |= equal;
        }
        let at = bool::from(found).then_some(at)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Authenticates a request by the token that it carries.
    ///
    /// # Errors
    /// 401 when the token is not known, or none was given and one is required.
    pub fn authenticate(&self, token: Option<&str>, address: IpAddr) -> Result<Caller, Refusal> {
        let credential = token.map(|token| digest(token.as_bytes()));
        if let Some(entry) = credential.as_ref().and_then(|wanted| self.find(wanted)) {
            return Ok(Caller {
                authority: Authority::Key(entry.id),
                name: entry.name.clone(),
                role: entry.key.role,
                rights: Some(entry.key.clone()),
                credential,
                address,
            });
        }
        if !self.required {
            return Ok(Caller {
                authority: Authority::Anyone,
                name: Arc::from(ANONYMOUS),
                role: Role::Admin,
                rights: None,
                credential,
                address,
            });
        }
        Err(Refusal::new(
            Code::InvalidKey,
            if token.is_some() {
                "this API key is not known here; `mcp-local-provider keys list` shows the names of those that are"
            } else {
                "no API key was given: send `Authorization: Bearer KEY` or `x-api-key: KEY`, or put it in the path, `/k/KEY/v1/…`"
            },
        ))
    }

    /// The caller that a program on this machine is without a key, where programs look for an Ollama: it has the role `client`,
    /// for models alone. `None` where a key is required of it too.
    #[must_use]
    pub fn local(&self, address: IpAddr) -> Option<Caller> {
        (!self.required_of_local).then(|| Caller {
            authority: Authority::Local,
            name: Arc::from(ANONYMOUS),
            role: Role::Client,
            rights: None,
            // Whatever it sent as a key counts as none.
            credential: None,
            address,
        })
    }
}

/// The refusal of a request whose permission has gone while it was under way.
pub(super) fn withdrawn(authority: Authority, name: &str) -> Refusal {
    let message = match authority {
        Authority::Key(_) => alloc::format!(
            "the key `{name}` was removed or was given another role while this request was under way"
        ),
        Authority::Anyone | Authority::Local | Authority::Configuration => {
            "a key is required since this request came; send one, as `Authorization: Bearer KEY`"
                .into()
        }
    };
    Refusal::new(Code::InvalidKey, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use core::net::Ipv4Addr;

    fn keys(required: bool) -> Keys {
        let key = |name: &str, role| Key::new(name, digest(name.as_bytes()), role);
        let keys = alloc::vec![key("editor", Role::Client), key("bridge", Role::Bridge)];
        Keys::new(&config(keys, required))
    }

    fn config(keys: Vec<Key>, auth_required: bool) -> HubConfig {
        HubConfig {
            keys,
            auth_required,
            ..HubConfig::default()
        }
    }

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_known_key_is_found_and_an_unknown_one_refused() {
        let caller = keys(true).authenticate(Some("bridge"), HOME).unwrap();
        assert_eq!(
            (&*caller.name, caller.role, caller.authority),
            (
                "bridge",
                Role::Bridge,
                Authority::Key(KeyId(NonZeroU32::new(2).unwrap()))
            )
        );
        assert_eq!(
            keys(true)
                .authenticate(Some("bridg"), HOME)
                .unwrap_err()
                .status(),
            401
        );
        assert_eq!(
            keys(true).authenticate(None, HOME).unwrap_err().status(),
            401
        );
        let refusal = caller.require(&[Role::Client, Role::Operator]).unwrap_err();
        assert_eq!(refusal.status(), 403);
        assert!(refusal.message().contains("`client` or `operator`"));
    }

    /// No test can measure it: a comparison that ends at the first difference tells with its time how much was right.
    #[test]
    fn a_digest_is_compared_whole_and_with_every_key() {
        let source = include_str!("keys.rs");
        let body = |of: &str| {
            let (_, rest) = source.split_once(of).unwrap();
            let (_, body) = rest.split_once("{\n").unwrap();
            let end = body.find("\n    }\n").min(body.find("\n}\n")).unwrap();
            body[..end].to_owned()
        };
        assert_eq!(body("pub fn same(").trim(), "equal(left, right).into()");
        let equal = body("fn equal(");
        assert!(equal.contains(".ct_eq("), "{equal}");
        let find = body("fn find(&self, wanted");
        assert!(find.contains("equal(&entry.key.sha256, wanted)"), "{find}");
        for early in [
            "==",
            "break",
            "return",
            "find(",
            "any(",
            "all(",
            "position(",
        ] {
            assert!(!find.contains(early) && !equal.contains(early), "{early}");
        }
        let (_, loop_and_rest) = find.split_once("for ").unwrap();
        let (body_of_loop, _) = loop_and_rest.split_once("\n        }").unwrap();
        assert!(!body_of_loop.contains('?'), "{body_of_loop}");
    }

    #[test]
    fn a_key_that_stays_keeps_its_id_and_no_id_comes_back() {
        let before = keys(true);
        let [editor, bridge] = ["editor", "bridge"]
            .map(|name| before.authenticate(Some(name), HOME).unwrap().authority);
        let list = |keys: &Keys| keys.iter().map(|(_, key)| key.clone()).collect::<Vec<_>>();
        let mut kept = list(&before);
        kept.remove(0);
        let after = before.replaced(&config(kept, true));
        assert_eq!(
            after.authenticate(Some("bridge"), HOME).unwrap().authority,
            bridge
        );
        assert!(after.authenticate(Some("editor"), HOME).is_err());
        let again = after.replaced(&config(list(&before), true));
        let editor_again = again.authenticate(Some("editor"), HOME).unwrap().authority;
        assert_ne!(editor_again, editor);
        assert_ne!(editor_again, bridge);
    }

    #[test]
    fn the_registry_is_a_server_for_keys_with_its_area_as_they_are_now() {
        let with = |allow: &[Area], servers: &[&str]| {
            let mut key = Key::new("ide", digest(b"ide"), Role::Client);
            key.allow = allow.to_vec();
            key.servers = servers.iter().map(|name| (*name).into()).collect();
            config(alloc::vec![key], true)
        };
        let keys = Keys::new(&with(&[Area::Mcp, Area::Registry], &[]));
        let caller = keys.authenticate(Some("ide"), HOME).unwrap();
        assert!(caller.may_use_server("registry") && caller.may_use_server("files"));
        for (allow, servers, may) in [
            (&[Area::Mcp, Area::Registry][..], &["registry"][..], true),
            (&[Area::Mcp, Area::Registry], &["files"], false),
            (&[Area::Mcp], &[], false),
            (&[Area::Registry], &[], false),
        ] {
            let now = keys.replaced(&with(allow, servers));
            assert_eq!(now.uphold_server(caller.authority, "registry"), may);
            let renewed = now.renewed(&caller).unwrap();
            assert_eq!(
                renewed.require_area(Area::Mcp).is_ok(),
                allow.contains(&Area::Mcp)
            );
        }
        let gone = keys.replaced(&config(Vec::new(), true));
        assert!(gone.renewed(&caller).is_none());
    }

    #[test]
    fn a_caller_is_confirmed_while_its_key_is_there_with_the_same_role() {
        let before = keys(true);
        let editor = before.authenticate(Some("editor"), HOME).unwrap();
        let list = |role: Option<Role>| {
            let listed = before.iter().map(|(_, key)| key.clone());
            listed
                .filter_map(|key| match (&*key.name, role) {
                    ("editor", role) => Some(Key { role: role?, ..key }),
                    _ => Some(key),
                })
                .collect()
        };
        let after = |role| before.replaced(&config(list(role), true));
        assert!(after(Some(Role::Client)).confirm(&editor).is_ok());
        for role in [None, Some(Role::Bridge), Some(Role::Admin)] {
            let refusal = after(role).confirm(&editor).unwrap_err();
            assert_eq!(refusal.status(), 401);
            assert!(refusal.message().contains("`editor`"), "{refusal}");
        }
        // The key that comes back is another one.
        let back = after(None).replaced(&config(list(Some(Role::Client)), true));
        assert!(back.confirm(&editor).is_err());

        let open = keys(false);
        let nobody = open.authenticate(None, HOME).unwrap();
        assert!(open.confirm(&nobody).is_ok());
        assert!(keys(true).confirm(&nobody).is_err());
    }

    #[test]
    fn a_key_uses_the_servers_that_it_names_while_it_may_use_any() {
        let rights = |allow: &[Area], servers: &[&str]| Key {
            allow: allow.to_vec(),
            servers: servers.iter().map(|name| (*name).into()).collect(),
            ..Key::new("ide", digest(b"ide"), Role::Client)
        };
        let keys = |allow, servers| Keys::new(&config(alloc::vec![rights(allow, servers)], true));
        let may = |keys: &Keys| {
            let caller = keys.authenticate(Some("ide"), HOME).unwrap();
            ["files", "search"].map(|server| {
                let may = keys.uphold_server(caller.authority, server);
                assert_eq!(
                    may,
                    caller.may_use_server(server) && caller.require_area(Area::Mcp).is_ok()
                );
                may
            })
        };
        assert_eq!(may(&keys(&[Area::Mcp], &["files"])), [true, false]);
        assert_eq!(may(&keys(&[Area::Mcp], &[])), [true, true]);
        assert_eq!(may(&keys(&[Area::Models], &["files"])), [false, false]);
        let known = keys(&[Area::Mcp], &[]);
        assert!(!known.uphold_server(Authority::Anyone, "files"));
        assert!(!known.uphold_server(Authority::Local, "files"));
    }

    #[test]
    fn without_required_keys_anyone_may_do_anything_but_keys_keep_their_role() {
        assert_eq!(
            keys(false).authenticate(None, HOME).unwrap().role,
            Role::Admin
        );
        assert_eq!(
            keys(false).authenticate(Some("noop"), HOME).unwrap().role,
            Role::Admin
        );
        assert_eq!(
            keys(false).authenticate(Some("editor"), HOME).unwrap().role,
            Role::Client
        );
    }
}
