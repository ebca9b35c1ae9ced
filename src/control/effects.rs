//! What requests do to a server, as far as it matters before they are followed.

use super::request::{BackendChange, Request, Setting};

impl Request {
    /// Whether a request may take long: names are looked up, or threads waited for.
    pub(super) fn is_slow(&self) -> bool {
        match self {
            Self::Status
            | Self::Shutdown
            | Self::Ban { .. }
            | Self::Unban { .. }
            | Self::Bans
            | Self::Set(Setting::LogLevel(_)) => false,
            Self::Backend { change, .. } => matches!(change, BackendChange::Add(_)),
            Self::Reload { .. }
            | Self::Drain { .. }
            | Self::Set(_)
            | Self::Connections { .. }
            | Self::Sources { .. }
            | Self::Close { .. }
            | Self::Upgrade { .. }
            | Self::TakeOver => true,
        }
    }

    /// Whether a request changes a server that goes on.
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::Status
            | Self::Bans
            | Self::Connections { .. }
            | Self::Sources { .. }
            | Self::Close { .. }
            | Self::Shutdown
            | Self::Set(Setting::LogLevel(_)) => false,
            Self::Reload { .. }
            | Self::Drain { .. }
            | Self::Backend { .. }
            | Self::Ban { .. }
            | Self::Unban { .. }
            | Self::Set(_)
            | Self::Upgrade { .. }
            | Self::TakeOver => true,
        }
    }
}
