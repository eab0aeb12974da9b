//! Several servers under one address.

mod edits;
mod kinds;
pub mod names;
mod opening;
pub mod uris;

pub use edits::Edits;
pub use kinds::Kind;
pub use opening::united;
