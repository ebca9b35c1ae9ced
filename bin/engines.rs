//! An [`Engine`] on a command line, of either program.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use uring_acceptor::config::Engine;

/// An [`Engine`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineName(pub(crate) Engine);

impl ValueEnum for EngineName {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Engine::Auto), Self(Engine::Uring), Self(Engine::Epoll)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            Engine::Auto => "auto",
            Engine::Uring => "uring",
            Engine::Epoll => "epoll",
        }))
    }
}
