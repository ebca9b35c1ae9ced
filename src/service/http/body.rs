//! Request bodies: read to their end and dropped.

use serde::{Deserialize, Serialize};

use super::chunked::Chunked;
use super::response::Refusal;

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Body {
    /// This many bytes, more than none.
    Length(u64),
    Chunked(Chunked),
}

impl Body {
    /// A body of a stated length, in bytes, which is not 0.
    pub(super) fn of_length(length: u64) -> Self {
        debug_assert!(length > 0, "a body of no bytes is no body");
        Self::Length(length)
    }

    /// A body in the chunked transfer coding.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked::default())
    }

    /// Whether a reader can be here.
    pub(super) fn is_possible(&self) -> bool {
        match self {
            Self::Length(remaining) => *remaining > 0,
            Self::Chunked(chunked) => chunked.is_possible(),
        }
    }

    /// Takes what belongs to the body from the front of `rest`; true once the body has ended.
    pub(super) fn skip(&mut self, rest: &mut &[u8]) -> Result<bool, Refusal> {
        match self {
            Self::Length(remaining) => Ok(skip_counted(remaining, rest)),
            Self::Chunked(chunked) => chunked.skip(rest),
        }
    }
}

/// Takes up to `remaining` bytes from the front of `rest`; true once none remain.
pub(super) fn skip_counted(remaining: &mut u64, rest: &mut &[u8]) -> bool {
    let taken = usize::try_from(*remaining).map_or(rest.len(), |most| most.min(rest.len()));
    *rest = &rest[taken..];
    *remaining -= taken as u64;
    *remaining == 0
}
