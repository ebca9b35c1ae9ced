//! All upstreams of a process, by name, and how a new configuration of them is applied.
//!
//! ```text
//!   configurations --prepare--> Prepared --apply--> new: added    kept: changed in place    gone: retired
//!                  validates,   nothing has         what changed is returned
//!                  resolves     changed yet
//!                  may fail, may block              cannot fail, does not block
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::Upstream;
use super::background::{Background, CHECK_THREADS_MAX, Needs};
use super::changes::UpstreamChanges;
use super::common::lock;
use super::error::UpstreamError;
use super::members::Located;
use super::record::NameRecord;
use super::resolver::{Found, Resolve, Resolver, look_up_all, resolve_by_system};
use super::sources::try_source;
use crate::config::upstream::{ActiveCheck, Backend, SourceAddress, Target, UpstreamConfig};
use crate::log::rate_limit::Look;
use crate::process::Alarm;

/// Most lines about backends that come and go that the log gets of one configuration.
const LINES_MAX: usize = 100;

/// All upstreams of a process by name, with the threads that check, resolve and tell. Dropping it ends these
/// threads; views and leases still work, but nothing is checked or resolved any more.
#[must_use = "dropping it ends health checks and the resolver"]
pub struct UpstreamRegistry {
    background: Arc<Background>,
    resolver: Arc<Resolver>,
    lists: Arc<Mutex<Lists>>,
}

#[derive(Default)]
struct Lists {
    current: BTreeMap<String, Arc<Upstream>>,
    /// Removed, and still in use.
    retired: Vec<Arc<Upstream>>,
}

/// A configuration that can be applied: its names are resolved.
#[derive(Debug)]
#[must_use = "nothing has changed before it is applied"]
pub struct Prepared {
    upstreams: Vec<(Arc<UpstreamConfig>, Vec<Located>)>,
    changes: UpstreamChanges,
    warnings: Vec<String>,
    are: Named,
}

/// What a list of upstreams is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// All that there will be.
    All,
    /// Some; the others stay as they are.
    Some,
}

impl Prepared {
    /// What will change, unless it is changed by hand in the meantime.
    pub fn changes(&self) -> &UpstreamChanges {
        &self.changes
    }

    /// What is not as it should be, and stops nothing. It is logged when this is applied.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn configs(&self) -> impl Iterator<Item = &UpstreamConfig> {
        self.upstreams.iter().map(|(config, _)| &**config)
    }
}

impl Default for UpstreamRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl UpstreamRegistry {
    /// Without upstreams and without threads. Names are resolved as this machine does.
    pub fn new() -> Self {
        Self::with_resolver(Box::new(resolve_by_system))
    }

    /// [`new`](Self::new) with a resolver of your own.
    pub fn with_resolver(resolve: Box<Resolve>) -> Self {
        Self::with(Resolver::new(resolve))
    }

    pub(super) fn with(resolver: Resolver) -> Self {
        let (background, lists) = (Background::new(true), Arc::default());
        Self { background, resolver: Arc::new(resolver), lists }
    }

    /// Until a configuration is applied, a name that has no answer has the one that it had in the process before this
    /// one.
    pub(crate) fn know(&self, names: &[NameRecord]) {
        self.resolver.set_known(names.iter().filter_map(NameRecord::read).collect());
    }

    /// The upstream of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        lock(&self.lists).current.get(name).map(Arc::clone)
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Upstream>> {
        lock(&self.lists).current.values().map(Arc::clone).collect()
    }

    /// Those that have been removed and still have connections, or somebody who may open one.
    pub fn retired(&self) -> Vec<Arc<Upstream>> {
        let mut lists = lock(&self.lists);
        lists.let_go();
        lists.retired.clone()
    }

    /// Validates these upstreams, and resolves all names that are new, several at a time. It may block for as long as
    /// the resolver takes, and changes nothing.
    ///
    /// # Errors
    /// A configuration that is wrong, a name that is given twice or does not resolve, a thread that does not start.
    pub fn prepare(&self, configs: &[UpstreamConfig]) -> Result<Prepared, UpstreamError> {
        self.prepare_named(configs, Named::All)
    }

    /// The same for some of the upstreams; the others stay as they are, with what was done to them by hand.
    ///
    /// # Errors
    /// As of [`prepare`](Self::prepare).
    pub fn prepare_some(&self, configs: &[UpstreamConfig]) -> Result<Prepared, UpstreamError> {
        self.prepare_named(configs, Named::Some)
    }

    fn prepare_named(
        &self,
        configs: &[UpstreamConfig],
        are: Named,
    ) -> Result<Prepared, UpstreamError> {
        UpstreamConfig::validate_all(configs)?;
        let mut warnings = Vec::new();
        for config in configs {
            warnings.extend(self.try_sources(config)?);
        }
        let mut upstreams: Vec<_> =
            configs.iter().map(|config| self.what_is_known(config)).collect();
        let mut unknown: Vec<Target> = Vec::new();
        for (backend, addresses) in upstreams.iter().flatten() {
            let is_unknown = addresses.is_none() && backend.target.is_looked_up();
            unknown.extend(is_unknown.then(|| backend.target.clone()));
        }
        unknown.sort_unstable();
        unknown.dedup();
        let found = look_up_all(&self.resolver, &unknown)?;
        let located = |(backend, known): (&Backend, Option<Vec<Found>>)| {
            let addresses = known.or_else(|| found.get(&backend.target).cloned());
            Located { backend: backend.clone(), addresses: addresses.unwrap_or_default() }
        };
        let upstreams = configs.iter().zip(upstreams.drain(..)).map(|(config, backends)| {
            (Arc::new(config.clone()), backends.into_iter().map(located).collect())
        });
        let upstreams: Vec<(_, Vec<Located>)> = upstreams.collect();
        upstreams.iter().for_each(|(config, located)| warnings.extend(unreached(config, located)));
        self.start_threads(&upstreams).map_err(UpstreamError::Thread)?;
        let changes = lock(&self.lists).changes((configs.iter(), are));
        Ok(Prepared { upstreams, changes, warnings, are })
    }

    /// Looks whether this machine has the addresses that connections are to be made from. One that the upstream has
    /// already may have gone for a while; that is a warning.
    fn try_sources(&self, config: &UpstreamConfig) -> Result<Vec<String>, UpstreamError> {
        let mut warnings = Vec::new();
        let known = self.get(&config.name).map(|upstream| upstream.config());
        for source in &config.sources {
            let Err(cause) = try_source(*source) else { continue };
            let (upstream, source_address) = (config.name.clone(), *source);
            let error = UpstreamError::Source { upstream, source_address, cause };
            match &known {
                Some(known) if known.sources.contains(source) => warnings.push(error.to_string()),
                _ => return Err(error),
            }
        }
        Ok(warnings)
    }

    /// The backends, with the addresses of those names that the upstream knows already.
    fn what_is_known<'a>(
        &self,
        config: &'a UpstreamConfig,
    ) -> Vec<(&'a Backend, Option<Vec<Found>>)> {
        let upstream = self.get(&config.name);
        let members = upstream.as_ref().map(|upstream| upstream.members());
        let known = |backend: &Backend| members.as_ref()?.addresses_of(&backend.target);
        config.backends.iter().map(|backend| (backend, known(backend))).collect()
    }

    fn start_threads(&self, upstreams: &[(Arc<UpstreamConfig>, Vec<Located>)]) -> io::Result<()> {
        let checked = upstreams.iter().filter(|(to, _)| to.active.check != ActiveCheck::None);
        let endpoints = |located: &Located| located.addresses.len().max(1);
        let checked = checked.flat_map(|(_, located)| located).map(endpoints).sum();
        let mut all = upstreams.iter().flat_map(|(to, _)| &to.backends);
        let has_names = all.any(|backend| backend.target.is_looked_up());
        self.background.scale(Needs { checked, has_names })?;
        if upstreams.is_empty() {
            return Ok(());
        }
        let lists = Arc::clone(&self.lists);
        self.background.report(move || Lists::tell_suppressed(&lists, Look::At(Instant::now())))
    }

    /// Makes the upstreams what was prepared: new ones are added, those that are gone retired, the others changed in
    /// place. A place that is given to a connection stays counted whatever changes. Returns what has changed.
    pub fn apply(&self, prepared: Prepared) -> UpstreamChanges {
        self.resolver.set_known(HashMap::new());
        let mut lists = lock(&self.lists);
        let changes = lists.changes((prepared.configs(), prepared.are));
        let mut old = match prepared.are {
            Named::All => std::mem::take(&mut lists.current),
            Named::Some => {
                let names = prepared.configs().map(|config| &config.name);
                names.filter_map(|name| lists.current.remove_entry(name)).collect()
            }
        };
        let mut lines = Vec::new();
        for (config, located) in prepared.upstreams {
            let known = old.remove(&config.name);
            let is_same = known.as_ref().is_some_and(|upstream| upstream.is_as_in(&config));
            let upstream = known.or_else(|| lists.take_retired(&config.name));
            let upstream = upstream.unwrap_or_else(|| self.new_upstream(&config));
            lists.current.insert(config.name.clone(), Arc::clone(&upstream));
            if !is_same {
                let (changes, grown) = upstream.change(config, located);
                lines.extend(changes.lines());
                // Those that had to be there were started when it was prepared.
                let _ = grown.inspect_err(|error| tracing::error!("{error}"));
            }
        }
        old.values().for_each(|upstream| upstream.retire());
        lists.retired.extend(old.into_values());
        lists.let_go();
        drop(lists);
        tell(&lines);
        prepared.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        changes
    }

    fn new_upstream(&self, config: &Arc<UpstreamConfig>) -> Arc<Upstream> {
        let shared = (Arc::clone(&self.resolver), Arc::clone(&self.background));
        Upstream::new(Arc::clone(config), shared)
    }

    /// Raised by a thread that checks, resolves or tells and panics: from then on nobody does so.
    pub fn alarm(&self) -> &Alarm {
        &self.background.alarm
    }

    /// Most checks of the present endpoints that are under way at a time; each takes a descriptor.
    pub(crate) fn checks_at_once(&self) -> usize {
        self.background.needs().checked.min(CHECK_THREADS_MAX)
    }

    #[cfg(test)]
    pub(super) fn background(&self) -> &Background {
        &self.background
    }
}

impl Drop for UpstreamRegistry {
    fn drop(&mut self) {
        self.background.stop();
        Lists::tell_suppressed(&self.lists, Look::Last);
    }
}

impl fmt::Debug for UpstreamRegistry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.all()).finish()
    }
}

impl Lists {
    /// What has to change, with what ends that was done by hand.
    fn changes<'a>(
        &self,
        (new, are): (impl Iterator<Item = &'a UpstreamConfig>, Named),
    ) -> UpstreamChanges {
        let new: Vec<_> = new.collect();
        let is_meant = |name: &str| are == Named::All || new.iter().any(|new| new.name == name);
        let old = self.current.values().filter(|upstream| is_meant(upstream.name()));
        let old: Vec<_> = old.map(|upstream| upstream.config()).collect();
        let old = old.iter().map(|config| &**config);
        let mut changes = UpstreamChanges::between(old, new.iter().copied());
        for UpstreamConfig { name, .. } in new {
            if let Some(upstream) = self.current.get(name) {
                changes.add_undone(name, upstream.differences());
            }
        }
        changes
    }

    /// One that comes back while it is in use is the one that it was, so that its limits hold.
    fn take_retired(&mut self, name: &str) -> Option<Arc<Upstream>> {
        let place = self.retired.iter().position(|upstream| upstream.name() == name)?;
        Some(self.retired.swap_remove(place))
    }

    fn let_go(&mut self) {
        self.retired.retain(|upstream| {
            let is_in_use = upstream.is_in_use();
            if !is_in_use {
                upstream.catch_up(Look::Last);
            }
            is_in_use
        });
    }

    /// Tells what was suppressed of all of them. Nobody waits for the lists meanwhile.
    fn tell_suppressed(lists: &Mutex<Self>, look: Look) {
        let all: Vec<_> = {
            let mut lists = lock(lists);
            lists.let_go();
            lists.current.values().chain(&lists.retired).map(Arc::clone).collect()
        };
        all.iter().for_each(|upstream| upstream.catch_up(look));
    }
}

/// The names for none of whose addresses there is a source.
fn unreached(config: &UpstreamConfig, located: &[Located]) -> Vec<String> {
    let warning = |Located { backend, addresses }: &Located| {
        let addresses: Vec<_> = addresses.iter().map(|found| found.address).collect();
        let why = SourceAddress::unreached(&config.sources, &addresses)?;
        let (upstream, target) = (&config.name, &backend.target);
        Some(format!("upstream {upstream}: no source for the backend {target}: {why}"))
    };
    located.iter().filter_map(warning).collect()
}

/// Tells of backends that come and go, not of too many.
fn tell(lines: &[String]) {
    let (told, left_out) = lines.split_at(lines.len().min(LINES_MAX));
    told.iter().for_each(|line| tracing::info!("{line}"));
    if !left_out.is_empty() {
        let count = left_out.len();
        tracing::info!("{count} more backends were added or removed; only {LINES_MAX} are listed");
    }
}
