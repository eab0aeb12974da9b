//! Client dialects: maps of wire types to neutral ones and back.
