//! Why a configuration of a file cannot run, with the place of the value that is in the way. A value that came from the
//! environment is not in it.

use crate::config_file::{Place, Places};

use crate::server::{OpenError, ReloadError, StartError};
use crate::upstream::UpstreamError;

/// The text of an error of a configuration that stands there.
pub fn explain(error: &StartError, places: &Places) -> String {
    let (place, cause) = match error {
        StartError::Bind { frontend, listen, error } => {
            (places.listen(frontend, listen), error.cause())
        }
        StartError::Upstream(error @ UpstreamError::Unresolved { target, .. }) => {
            let place = places.backend(target);
            return place.map_or_else(
                || places.hide(error.to_string()),
                |place| place.wrong_as_written(error.cause()).to_string(),
            );
        }
        StartError::AccessLog(error) => return explain_log(error, places),
        _ => return places.hide(error.to_string()),
    };
    told(place, cause, error.to_string())
}

/// The same of an access log alone.
pub(super) fn explain_log(error: &OpenError, places: &Places) -> String {
    let place = error.target().and_then(|target| places.access_log(target));
    told(place, error.cause(), error.to_string())
}

pub(super) fn explain_reload(error: &ReloadError, places: &Places) -> String {
    match error {
        ReloadError::Start(error) => explain(error, places),
        _ => error.to_string(),
    }
}

/// The whole text behind its place, or the cause alone where the value is not to be seen.
pub fn told(place: Option<&Place>, cause: String, whole: String) -> String {
    match place {
        None => whole,
        Some(place) if place.is_secret() => place.wrong(cause).to_string(),
        Some(place) => place.wrong(whole).to_string(),
    }
}
