//! Memory that is free but still the process's own.
//!
//! An allocator keeps what was freed for the next request. glibc's keeps nearly all of a burst for ever, because few
//! allocations at the end of its arenas are enough to hold the whole. This crate says how much it is to keep, and asks it for
//! the rest, which takes the two foreign functions of this project: every other crate forbids `unsafe`. Neither does anything
//! to a program with an allocator of its own.
#![no_std]

/// Has the allocator keep up to 8 MiB of what is free at the end of its heaps for the next request, and have two heaps at most,
/// where the C library is glibc; elsewhere it does nothing. [`give_back`] gives back what is kept.
///
/// Left alone, glibc gives all but 128 KiB back whenever a prompt of that size is freed, and takes it again page by page for
/// the next one, and has eight heaps for each processor. Call it before there are threads.
pub fn keep_for_next() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::keep_for_next();
}

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
    use core::ffi::c_int;

    // Both take numbers by value and lock the heaps that they change, so that no call of them is unsafe.
    #[expect(unsafe_code, reason = "the declaration of functions of the C library")]
    unsafe extern "C" {
        /// Keeps `pad` bytes at the end of the heap. Returns 1 when memory was given back.
        safe fn malloc_trim(pad: usize) -> c_int;
        /// Sets a parameter (`mallopt(3)`). Returns 1 when the value is taken.
        safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }

    /// Free bytes at the end of a heap beyond which it shrinks.
    const TRIM_THRESHOLD: c_int = -1;
    /// Bytes from which an allocation is a mapping of its own.
    const MMAP_THRESHOLD: c_int = -3;
    /// Heaps of threads.
    const ARENA_MAX: c_int = -8;

    pub(super) fn keep_for_next() {
        for (parameter, value) in [
            (TRIM_THRESHOLD, 8 << 20),
            (MMAP_THRESHOLD, 4 << 20),
            (ARENA_MAX, 2),
        ] {
            let _ = mallopt(parameter, value);
        }
    }

    pub(super) fn give_back() {
        let _ = malloc_trim(0);
    }
}
