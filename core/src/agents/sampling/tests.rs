//! Requests as clients are asked them, and their results as answers.
