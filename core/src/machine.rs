//! State machines as tables: each move that a machine may make is a row.
//!
//! Debug builds hold every machine to its table and note which rows were taken. `tests/tests/diagrams.rs` draws the diagrams
//! of ARCHITECTURE.md from the rows, and fails when a row is never taken.

use core::sync::atomic::{AtomicU64, Ordering};

/// The state before a machine's first, and after its last.
pub const OUTSIDE: &str = "[*]";

/// One row of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The state that is left, [`OUTSIDE`] at the beginning.
    pub from: &'static str,
    /// The state that is entered, [`OUTSIDE`] at the end.
    pub to: &'static str,
    /// The reasons, in words for a diagram.
    pub when: &'static str,
}

impl Move {
    /// A row.
    #[must_use]
    pub const fn new(from: &'static str, to: &'static str, when: &'static str) -> Self {
        Self { from, to, when }
    }
}

/// All moves of one machine, at most 64.
#[derive(Debug)]
pub struct Table {
    moves: &'static [Move],
    /// A bit for each row that was taken. Written in debug builds only.
    taken: AtomicU64,
}

impl Table {
    /// A table of these rows.
    #[must_use]
    pub const fn new(moves: &'static [Move]) -> Self {
        Self {
            moves,
            taken: AtomicU64::new(0),
        }
    }

    /// The rows.
    #[must_use]
    pub const fn moves(&self) -> &'static [Move] {
        self.moves
    }

    /// A machine moves. Debug builds panic when the table has no such row; release builds do nothing.
    #[inline]
    pub fn step(&self, from: &str, to: &str) {
        if cfg!(debug_assertions) {
            let row = self
                .moves
                .iter()
                .position(|row| row.from == from && row.to == to);
            debug_assert!(
                row.is_some(),
                "no row of the table leads from {from} to {to}"
            );
            if let Some(row) = row {
                self.took(row);
            }
        }
    }

    /// A machine takes the row at this place. Release builds do nothing.
    #[inline]
    pub fn took(&self, row: usize) {
        if cfg!(debug_assertions) {
            self.taken.fetch_or(1 << row, Ordering::Relaxed);
        }
    }

    /// The rows that no machine of this process has taken so far, in debug builds.
    pub fn untaken(&self) -> impl Iterator<Item = &'static Move> {
        let taken = self.taken.load(Ordering::Relaxed);
        self.moves
            .iter()
            .enumerate()
            .filter(move |(row, _)| taken & (1 << row) == 0)
            .map(|(_, row)| row)
    }
}
