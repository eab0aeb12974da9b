//! One agent connection.
