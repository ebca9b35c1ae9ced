//! What the operator changes at an upstream while it runs, and how that differs from its configuration. The next
//! configuration that is applied ends it.

use std::fmt;
use std::sync::Arc;

use super::error::UpstreamError;
use super::members::{Member, Members};
use super::standing::Forced;
use super::{Upstream, locate};
use crate::config::upstream::{Backend, Target, UpstreamConfig, Weight};

/// How a backend differs from what is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not configured.
    Added(Backend),
    /// It is configured and was removed.
    Removed(Target),
    /// It has another weight.
    Weight {
        /// Which backend.
        target: Target,
        /// As configured.
        configured: Weight,
        /// As it is.
        now: Weight,
    },
    /// It gets no new connections.
    Draining(Target),
    /// Its health is what the operator says.
    Forced(Target, Forced),
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(backend) => write!(formatter, "backend {backend} was added"),
            Self::Removed(target) => write!(formatter, "backend {target} was removed"),
            Self::Weight { target, configured, now } => {
                let (configured, now) = (configured.get(), now.get());
                write!(formatter, "backend {target} has weight {now} in place of {configured}")
            }
            Self::Draining(target) => write!(formatter, "backend {target} drains"),
            Self::Forced(target, forced) => {
                write!(formatter, "backend {target} is forced {forced}")
            }
        }
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl Upstream {
    /// Adds a backend. A name is resolved, which may take long.
    ///
    /// # Errors
    /// It is there already, there are too many, its name does not resolve, a thread does not start.
    pub fn add_backend(self: &Arc<Self>, backend: Backend) -> Result<(), UpstreamError> {
        // Before the look-up, which may take long, and again after it.
        Self::may_add(&self.members(), &backend)?;
        let located = locate(&self.resolver, std::slice::from_ref(&backend), |_| None)?;
        let mut members = self.members();
        Self::may_add(&members, &backend)?;
        located.into_iter().for_each(|located| members.add(located));
        self.publish(&mut members)
    }

    fn may_add(members: &Members, backend: &Backend) -> Result<(), UpstreamError> {
        let all = members.backends().iter().map(|member| &member.backend).chain([backend]);
        let all: Vec<Backend> = all.cloned().collect();
        Ok(UpstreamConfig::validate_backends(&all)?)
    }

    /// Removes a backend. Connections that it has live on.
    ///
    /// # Errors
    /// There is no such backend, or it is the last one.
    pub fn remove_backend(self: &Arc<Self>, target: &Target) -> Result<(), UpstreamError> {
        let mut members = self.members();
        find(&mut members, target)?;
        if members.backends().len() == 1 {
            return Err(UpstreamError::Last(target.clone()));
        }
        members.remove(target);
        self.publish(&mut members)
    }

    /// Lets a backend get no new connections, or again. Those it has live on.
    ///
    /// # Errors
    /// There is no such backend.
    pub fn set_draining(
        self: &Arc<Self>,
        target: &Target,
        draining: bool,
    ) -> Result<(), UpstreamError> {
        let mut members = self.members();
        find(&mut members, target)?.draining = draining;
        self.publish(&mut members)
    }

    /// Changes the weight of a backend, of each address if it is a name.
    ///
    /// # Errors
    /// There is no such backend.
    pub fn set_weight(
        self: &Arc<Self>,
        target: &Target,
        weight: Weight,
    ) -> Result<(), UpstreamError> {
        Backend::new(target.clone(), weight)?;
        let mut members = self.members();
        find(&mut members, target)?.backend.weight = weight;
        self.publish(&mut members)
    }

    /// Says that a backend is up or down, whatever checks and connections say, or lets them say again.
    ///
    /// # Errors
    /// There is no such backend.
    pub fn force_state(
        self: &Arc<Self>,
        target: &Target,
        forced: Forced,
    ) -> Result<(), UpstreamError> {
        let mut members = self.members();
        find(&mut members, target)?.forced = forced;
        self.publish(&mut members)
    }

    /// How it differs from its configuration by what was done by hand: in the order of the configuration, what was
    /// added behind it.
    pub fn differences(&self) -> Vec<Difference> {
        let members = self.members();
        let config = self.config();
        let configured = config.backends.iter().flat_map(|backend| {
            let same = |member: &&Member| member.backend.target == backend.target;
            match members.backends().iter().find(same) {
                None => vec![Difference::Removed(backend.target.clone())],
                Some(member) => of_member(member, backend.weight),
            }
        });
        let is_new = |member: &&Member| {
            !config.backends.iter().any(|backend| backend.target == member.backend.target)
        };
        let added = members.backends().iter().filter(is_new).flat_map(|member| {
            let mut all = vec![Difference::Added(member.backend.clone())];
            all.extend(of_member(member, member.backend.weight));
            all
        });
        configured.chain(added).collect()
    }
}

fn of_member(member: &Member, configured: Weight) -> Vec<Difference> {
    let target = || member.backend.target.clone();
    let now = member.backend.weight;
    let weight =
        (now != configured).then(|| Difference::Weight { target: target(), configured, now });
    let draining = member.draining.then(|| Difference::Draining(target()));
    let forced = member.forced != Forced::Auto;
    let forced = forced.then(|| Difference::Forced(target(), member.forced));
    [weight, draining, forced].into_iter().flatten().collect()
}

fn find<'a>(members: &'a mut Members, target: &Target) -> Result<&'a mut Member, UpstreamError> {
    members.member_mut(target).ok_or_else(|| UpstreamError::Unknown(target.clone()))
}
