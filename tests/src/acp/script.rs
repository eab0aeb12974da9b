//! An ACP agent that answers by itself.
