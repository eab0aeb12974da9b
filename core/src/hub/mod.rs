//! What all connections share: sessions, keys, limits, routing, admission, metrics, audit.
