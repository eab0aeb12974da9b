//! Templates: texts that become others by arguments, within bounds of time and memory.

mod engine;
mod scan;
mod tree;

pub(crate) use engine::{Condition, OUTPUT, Stop, Template, value};
pub(crate) use tree::Tree;

use crate::failure::Failure;

/// Templates that one definition may have for one need: what each may cost is bounded, so that their sum is.
const IN_ONE: usize = 64;

/// Counts the templates of a definition's part while it is read.
#[derive(Debug, Default)]
pub(crate) struct Count(usize);

impl Count {
    fn another(&mut self, path: &str) -> Result<(), Failure> {
        self.0 += 1;
        if self.0 > IN_ONE {
            let message = format!("a definition may have {IN_ONE} strings with templates in them");
            return Err(Failure::wrong_at(path, message));
        }
        Ok(())
    }
}
