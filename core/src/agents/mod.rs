//! Wire forms of agent links.
