//! One HTTP request for a model, from its body to the last byte of its answer.
