//! The latest lines of the log.

use mcp_local_provider_core::api::{LogHistory, LogQuery};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The latest lines of the log, which a program hands in. Whoever follows them is woken.
///
/// Its lock has no rank: a line may be written under any other lock, and under this one none is taken.
#[derive(Debug, Default)]
pub struct LogLines(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    history: LogHistory,
    followers: Vec<Waker>,
}

impl LogLines {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes whole lines, each a JSON object with `timestamp`, `level`, `target`, `message` and fields.
    pub fn push(&self, lines: &str) {
        let followers = {
            let mut kept = self.kept();
            kept.history.push(lines);
            mem::take(&mut kept.followers)
        };
        followers.into_iter().for_each(Waker::wake);
    }

    /// The whole answer to a request.
    pub(crate) fn answer(&self, query: &LogQuery) -> String {
        self.kept().history.answer(query)
    }

    /// Writes the lines that there are as events, and wakes the waker when there are more.
    pub(crate) fn follow(&self, query: &mut LogQuery, waker: &Waker, out: &mut Vec<u8>) {
        let mut kept = self.kept();
        kept.history.follow(query, out);
        if !kept.followers.iter().any(|it| it.will_wake(waker)) {
            kept.followers.push(waker.clone());
        }
    }
}
