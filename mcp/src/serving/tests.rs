//! Clients that answer as models: calls, questions, rounds and their ends.
