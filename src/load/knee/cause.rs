//! What limited the rate.

use serde::Serialize;

use super::{Broke, Step};

/// What was at its limit in the step that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A thread of the server had no CPU time left.
    ServerCpu,
    /// The generator had no CPU time left.
    GeneratorCpu,
    /// Both.
    BothCpus,
    /// Neither.
    NeitherCpu,
    /// The generator had time left; the server was not observed.
    ServerNotObserved,
    /// This machine cannot make the rate: no ports, no descriptors.
    Generator,
    /// No rate broke.
    Nothing,
}

impl Cause {
    /// From the step at the lowest rate that broke.
    pub(super) fn of(broken: Option<&Step>) -> Self {
        let Some(step) = broken else { return Self::Nothing };
        if step.broke.iter().any(|broke| matches!(broke, Broke::Refused(_))) {
            return Self::Generator;
        }
        match (step.server_was_busy(), step.generator_was_busy()) {
            (Some(true), true) => Self::BothCpus,
            (Some(true), false) => Self::ServerCpu,
            (_, true) => Self::GeneratorCpu,
            (Some(false), false) => Self::NeitherCpu,
            (None, false) => Self::ServerNotObserved,
        }
    }

    /// Whether the knee is that of the generator, and the server's lies higher.
    pub(super) fn is_of_the_generator(self) -> bool {
        matches!(self, Self::GeneratorCpu | Self::Generator)
    }

    /// For people.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::ServerCpu => {
                "the server's CPU was the limit: one of its threads had no time left"
            }
            Self::GeneratorCpu => {
                "the generator's CPU was the limit: the server's knee lies higher; raise --threads, or \
                 generate from several processes"
            }
            Self::BothCpus => {
                "the CPUs of the server and of the generator were both at their limit"
            }
            Self::NeitherCpu => {
                "neither the server's nor the generator's CPU was at its limit: look at other programs, \
                 locks, backends and dropped SYNs"
            }
            Self::ServerNotObserved => {
                "the generator had CPU time left; give --server-pid to see whether the server had"
            }
            Self::Generator => {
                "this machine could not make a higher rate: the server's knee lies higher"
            }
            Self::Nothing => "no rate broke: the knee lies higher",
        }
    }
}
