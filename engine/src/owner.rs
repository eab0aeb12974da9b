//! The owner of a running provider, who reloads and stops it.

use super::engine::Engine;
use mcp_local_provider_core::api::Order;
use mcp_local_provider_core::api::status::DiskFigures;
use mcp_local_provider_core::error::{Code, Refusal};

/// The owner of an engine, see [`Engine::set_owner`]. Its methods run on the thread of a request, with no lock of the engine
/// held.
pub trait Owner: Send + Sync {
    /// Reads the configuration and the keys again, and applies them by [`Handle::reload`](crate::Handle::reload).
    ///
    /// # Errors
    /// Returns the reason as a sentence for the operator; nothing has changed.
    fn reload(&self) -> Result<(), String>;

    /// Applies the keys of now if they have changed, and returns true if they have. It is called for each request with an
    /// unknown key, so it must be cheap while nothing changes.
    ///
    /// # Errors
    /// As [`Owner::reload`].
    fn reload_keys(&self) -> Result<bool, String>;

    /// Begins to stop the provider, as the first SIGTERM does; called again it stops at once, as the second one does.
    ///
    /// # Errors
    /// As [`Owner::reload`].
    fn stop(&self) -> Result<(), String>;

    /// Room on the disk that the owner keeps data on; `None` where it keeps none, or the system does not tell.
    fn disk(&self) -> Option<DiskFigures> {
        None
    }
}

impl Engine {
    /// Carries out an order of an operator.
    ///
    /// # Errors
    /// 409 when the owner refuses, 501 when there is no owner.
    pub(super) fn obey(&self, order: Order) -> Result<(), Refusal> {
        let Some(owner) = self.owner() else {
            let nobody = "this provider has no owner that reloads or stops it";
            return Err(Refusal::new(Code::NotImplemented, nobody));
        };
        let done = match order {
            Order::Reload => owner.reload(),
            Order::ReloadKeys => owner.reload_keys().map(drop),
            Order::Stop => owner.stop(),
        };
        done.map_err(|why| Refusal::new(Code::Conflict, why))
    }

    /// Looks for new keys where a request was refused for its key. True when the request is to be looked at again.
    pub(super) fn has_new_keys(&self, refusal: &Refusal) -> bool {
        refusal.code() == Code::InvalidKey
            && self.owner().is_some_and(|owner| match owner.reload_keys() {
                Ok(changed) => changed,
                Err(error) => {
                    tracing::warn!("the keys stay as they were: {error}");
                    false
                }
            })
    }
}
