//! A name that does not resolve, with the line where it stands.

use crate::config::upstream::Target;
use crate::config_file::{Lookup, Problem};
use crate::server::StartError;
use crate::upstream::UpstreamError;

/// What is wrong in which line, if an error is about a name that is to be looked up.
pub(super) fn unresolved(error: &StartError, lookups: &[Lookup]) -> Option<Problem> {
    let StartError::Upstream(UpstreamError::Unresolved { target, cause }) = error else {
        return None;
    };
    let lookup = lookups.iter().find(|lookup| is_of(lookup, target))?;
    Some(lookup.failed(&cause.to_string()))
}

fn is_of(lookup: &Lookup, target: &Target) -> bool {
    match target {
        Target::Name { name, port } => {
            !lookup.is_service && lookup.name == *name && lookup.port == port.get()
        }
        Target::Srv { name } => lookup.is_service && lookup.name == *name,
        Target::Socket(_) | Target::Unix(_) => false,
    }
}
