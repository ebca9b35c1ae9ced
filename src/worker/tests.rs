//! The worker by hand-written completions.
