//! The fence of a connection: the addresses that it may go to, compared between the look-up of a name and the connection.

use super::public::is_public;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Addresses that a connection may go to: public ones, and those that are listed, each with a port or for any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fence(Arc<[(IpAddr, Option<u16>)]>);

/// Address that is behind a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its address {0} is not public, and `registry.http` does not list it; add the address there to reach it"
)]
pub struct AddressRefused(
    /// The address.
    pub IpAddr,
);

impl Fence {
    /// Makes a fence that lets these addresses through beside public ones; without a port for any.
    pub fn new(listed: impl IntoIterator<Item = (IpAddr, Option<u16>)>) -> Self {
        let listed = listed.into_iter();
        Self(
            listed
                .map(|(address, port)| (address.to_canonical(), port))
                .collect(),
        )
    }

    /// Lets addresses through, all of them or none: a name that leads to one that is not permitted leads nowhere.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] with an [`AddressRefused`] in it.
    pub fn check(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        let refused = addresses.iter().find(|address| !self.permits(address));
        match refused {
            Some(refused) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                AddressRefused(refused.ip().to_canonical()),
            )),
            None => Ok(()),
        }
    }

    fn permits(&self, address: &SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let is_it = |(listed, port): &(IpAddr, Option<u16>)| {
            *listed == ip && port.is_none_or(|port| port == address.port())
        };
        is_public(ip) || self.0.iter().any(is_it)
    }
}

impl AddressRefused {
    /// Finds it in the error of a pipe.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}
