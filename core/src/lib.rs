//! Core.
#![cfg_attr(not(any(feature = "std", test)), no_std)]
extern crate alloc;

pub mod wire;
