//! The acceptor by hand-written completions.
