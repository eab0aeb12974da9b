//! Memory that is free but still the process's own.
//!
//! An allocator keeps what was freed for the next request. glibc's keeps nearly all of a burst for ever, because few
//! allocations at the end of its arenas are enough to hold the whole. This crate asks it for the rest, which takes the
//! one foreign function of this project: every other crate forbids `unsafe`.
#![no_std]

/// Gives memory that is free back to the system, where the C library is glibc; elsewhere it does nothing.
///
/// It looks through the whole heap and other threads that allocate wait meanwhile (milliseconds for 100 MiB), so call it
/// when little is going on.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    // `malloc_trim(3)` takes a number by value and has no preconditions: it is safe to call at any time, from any thread.
    #[expect(unsafe_code, reason = "the declaration of a function of the C library")]
    unsafe extern "C" {
        /// Keeps `pad` bytes at the end of the heap. Returns 1 when memory was given back.
        safe fn malloc_trim(pad: usize) -> core::ffi::c_int;
    }

    pub(super) fn give_back() {
        let _ = malloc_trim(0);
    }
}
