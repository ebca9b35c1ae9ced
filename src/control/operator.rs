//! What an operator may do with a running server, by whatever way the wish comes: the control socket or a signal.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use humantime::format_rfc3339_seconds;

use super::answer::{Code, Failure, Outcome, ReloadReport, SetReport, result};
use super::connections;
use super::lists::Lists;
use super::program::{NoProgram, Program};
use super::replaced::is_being_replaced;
use super::request::{BackendChange, Request, Setting, level_name};
use super::sources::SourceList;
use super::status::{Configuration, LastReload, Status};
use super::told::explain_log;
use super::unresolved::unresolved;
use super::words::{Backlogs, backlogs, words};
use crate::config_file::{Errors, Loaded, Lookup, Places, RunSettings, Side};
use crate::server::{
    Adjusted, Adjustment, ByHand, ConnectionId, Handle, OpenError, Phase, ProcessMark, ReloadError,
    Reloaded,
};
use crate::upstream::{Forced, Upstream};

/// Most lines of the log about one reload, beside that of its outcome.
const LINES_MAX: usize = 100;

#[derive(Debug)]
struct State {
    loaded_at: SystemTime,
    last_reload: Option<LastReload>,
    by_hand: Vec<ByHand>,
    /// What runs of the settings that a reload does not reach.
    settings: RunSettings,
    /// Where what runs stands.
    places: Places,
    /// Whether the size of buffers was given at the start.
    has_buffer_size: bool,
}

/// See the module.
pub struct Operator {
    handle: Handle,
    pub(super) program: Box<dyn Program>,
    started: (Instant, SystemTime),
    state: Mutex<State>,
    pub(super) lists: Lists,
}

impl fmt::Debug for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Operator").field("file", &self.file()).finish_non_exhaustive()
    }
}

impl Operator {
    /// For a server that has just been started with these settings, which stand there.
    pub fn new(
        handle: Handle,
        (settings, places): (RunSettings, Places),
        program: impl Program,
    ) -> Self {
        let state = State {
            loaded_at: SystemTime::now(),
            last_reload: None,
            by_hand: Vec::new(),
            settings,
            has_buffer_size: places.has_buffer_size(),
            places,
        };
        let (program, started) = (Box::new(program), (Instant::now(), SystemTime::now()));
        let (state, lists) = (Mutex::new(state), Lists::default());
        Self { handle, program, started, state, lists }
    }

    /// For the server of a program that brings its service and has no file: it can be looked at, and changed but for what
    /// takes a file or another process.
    pub fn of_server(handle: Handle) -> Self {
        let settings = RunSettings { config: handle.config(), ..RunSettings::default() };
        Self::new(handle, (settings, Places::default()), NoProgram)
    }

    /// This was set by hand in the process before this one, and is so here.
    #[must_use]
    pub fn with_by_hand(self, by_hand: Vec<ByHand>) -> Self {
        self.state().by_hand = by_hand;
        self
    }

    /// What was set by hand.
    pub fn by_hand(&self) -> Vec<ByHand> {
        self.state().by_hand.clone()
    }

    /// The server that is operated.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// When it was started; and the same as the clock said then, which may have been set since.
    pub fn started(&self) -> (Instant, SystemTime) {
        self.started
    }

    pub(super) fn log_level(&self) -> &'static str {
        level_name(self.program.log_level())
    }

    /// The file that the program was started from.
    pub fn file(&self) -> Option<&Path> {
        self.program.file()
    }

    /// Where the configuration comes from, and what was set by hand.
    pub(super) fn told(&self) -> (Configuration, Vec<ByHand>) {
        let state = self.state();
        let configuration = Configuration {
            file: self.file().map(|file| file.display().to_string()),
            loaded_at: format_rfc3339_seconds(state.loaded_at).to_string(),
            last_reload: state.last_reload.clone(),
        };
        (configuration, state.by_hand.clone())
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn answer(self: &Arc<Self>, request: &Request) -> Outcome {
        self.answer_now(request).map_err(|failure| self.in_an_upgrade(failure))
    }

    fn answer_now(self: &Arc<Self>, request: &Request) -> Outcome {
        if self.handle.phase() != Phase::Serving && self.is_refused_while_draining(request) {
            return Err(ReloadError::Draining.into());
        }
        if self.is_too_late(request) {
            return Err(is_being_replaced());
        }
        match request {
            Request::Status => result(Status::of(self)),
            Request::Reload { dry_run: true } => self.preview().and_then(result),
            Request::Reload { dry_run: false } => self.reload("control socket").and_then(result),
            Request::Drain { frontend } => self.drain(frontend).and_then(result),
            Request::Backend { upstream, change } => {
                self.change_backend(upstream, change).and_then(result)
            }
            Request::Set(setting) => self.set(setting).and_then(result),
            Request::Connections { listing, limit } => {
                let list = connections::list(&self.handle, (*listing, *limit));
                list.unwrap_or_else(|| Err(is_being_changed()))
            }
            Request::Sources { frontend, sort, limit } => {
                SourceList::of(&self.handle, frontend.as_deref(), (*sort, *limit)).and_then(result)
            }
            Request::Close { id } => self.close(*id).and_then(result),
            Request::Ban { network, time } => self.ban(*network, *time).and_then(result),
            Request::Unban { network } => self.unban(*network).and_then(result),
            Request::Bans => result(self.list_bans()),
            Request::Upgrade { binary } => self.upgrade(binary.as_deref()).and_then(result),
            // What follows it is no request.
            Request::TakeOver => result(serde_json::Map::new()),
            Request::Shutdown => {
                let (open, is_first) = (self.handle.open(), self.handle.phase() == Phase::Serving);
                self.handle.shutdown();
                if is_first {
                    tracing::info!("control socket: the server drains and ends");
                    self.program.tell_draining(&self.handle, open);
                }
                result(serde_json::Map::new())
            }
        }
    }

    /// Reads the file again and changes the server to what it says. The outcome is one line of the log.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn reload(self: &Arc<Self>, by: &str) -> Result<ReloadReport, Failure> {
        let outcome = self.load().and_then(|loaded| self.change_to(loaded));
        let file = self.file().map_or_else(String::new, |file| file.display().to_string());
        let text = match &outcome {
            Ok(report) => report.summary(),
            Err(failure) => first_of(failure),
        };
        match &outcome {
            Ok(report) => {
                tracing::info!("{by}: reloaded {file}: {text}");
                tell_all(report.lines(), |line| tracing::info!("{by}: {line}"));
            }
            Err(failure) => {
                tracing::error!("{by}: not reloaded, nothing has changed: {text}");
                let others = failure.details.iter().skip(1).cloned();
                tell_all(others, |line| tracing::error!("{by}: {line}"));
            }
        }
        let at = format_rfc3339_seconds(SystemTime::now()).to_string();
        self.state().last_reload = Some(LastReload { at, ok: outcome.is_ok(), text });
        outcome
    }

    /// What a reload would do.
    ///
    /// # Errors
    /// Why it would do nothing, as far as that can be known without binding an address.
    pub fn preview(&self) -> Result<ReloadReport, Failure> {
        let loaded = self.load()?;
        let before = self.running();
        let failed = |error| Failure::of_reload(&error, &loaded.places);
        let reloaded = self.handle.preview(&loaded.settings.config).map_err(failed)?;
        let report = self.report(&before, &loaded, (reloaded, &Backlogs::new()));
        Ok(ReloadReport { dry_run: true, ..report })
    }

    fn load(&self) -> Result<Loaded, Failure> {
        if self.file().is_none() {
            return Err(Failure::new(
                Code::NoFile,
                "the server was started with options and not from a file, so there is nothing to reload",
            ));
        }
        let mut loaded = self.program.load().map_err(|errors| of_errors(&errors))?;
        // The default depends on the frontends; what runs goes on without a word.
        if !loaded.places.has_buffer_size() && !self.state().has_buffer_size {
            let running = self.handle.config().process.ring.buffer_bytes;
            loaded.settings.config.process.ring.buffer_bytes = running;
        }
        Ok(loaded)
    }

    /// What runs, with what was set by hand.
    fn running(&self) -> RunSettings {
        let config = self.handle.config();
        let mut settings = RunSettings { config, ..self.state().settings.clone() };
        settings.logging.level = self.program.log_level();
        settings
    }

    fn change_to(self: &Arc<Self>, loaded: Loaded) -> Result<ReloadReport, Failure> {
        let (before, listening) = (self.running(), listening(&self.handle));
        let failed = |error| Failure::of_reload(&error, &loaded.places);
        let reloaded = self.handle.reload(loaded.settings.config.clone()).map_err(failed)?;
        let new =
            self.handle.frontends().into_iter().flat_map(|it| it.listening().collect::<Vec<_>>());
        let new = new.filter(|line| !listening.contains(line));
        tell_all(new, |line| tracing::info!("{line}"));
        let report = self.report(&before, &loaded, (reloaded, &backlogs(&self.handle)));
        self.program.set_log_level(loaded.settings.logging.level);
        self.follow(&loaded.settings.config);
        let mut state = self.state();
        state.loaded_at = SystemTime::now();
        state.by_hand.clear();
        state.settings.config = loaded.settings.config;
        state.settings.logging.level = loaded.settings.logging.level;
        state.places = loaded.places;
        Ok(report)
    }

    /// What a change is, in sentences.
    fn report(
        &self,
        before: &RunSettings,
        after: &Loaded,
        (reloaded, backlogs): (Reloaded, &Backlogs),
    ) -> ReloadReport {
        let state = self.state();
        let sides = (
            Side { settings: before, places: &state.places },
            Side { settings: &after.settings, places: &after.places },
        );
        let words = words(sides, &reloaded, backlogs);
        let mut ended: Vec<String> = state.by_hand.iter().map(ToString::to_string).collect();
        ended.extend(words.ended);
        let file = self.file().map_or_else(String::new, |file| file.display().to_string());
        let warnings = reloaded.warnings.into_iter();
        ReloadReport {
            file,
            dry_run: false,
            changes: words.changes,
            ended,
            restart: words.restart,
            warnings: warnings.map(|warning| after.places.hide(warning)).collect(),
        }
    }

    /// Why an access log cannot be opened again, with its place in the file.
    pub fn explain_log(&self, error: &OpenError) -> String {
        explain_log(error, &self.state().places)
    }

    fn close(&self, id: ConnectionId) -> Result<SetReport, Failure> {
        if !connections::close(&self.handle, id) {
            let why = match id.process == ProcessMark::own() {
                true => "it may have ended by itself",
                false => {
                    "it was one of another process, such as the one before an upgrade: list connections again"
                }
            };
            let text = format!("there is no connection {id}; {why}");
            return Err(Failure::new(Code::Unknown, text));
        }
        tracing::info!("control socket: connection {id} is closed");
        let what = format!("connection {id}");
        Ok(SetReport { what, now: "closed".to_owned(), warnings: Vec::new() })
    }

    fn drain(&self, frontend: &str) -> Result<SetReport, Failure> {
        self.handle.drain_frontend(frontend)?;
        self.note(
            (ByHand::DRAINED, Some(frontend.to_owned())),
            ("yes".to_owned(), "no".to_owned()),
        );
        tracing::info!("control socket: frontend {frontend} drains");
        Ok(SetReport {
            what: format!("frontend {frontend}"),
            now: "draining: it accepts no new connections until the next reload".to_owned(),
            warnings: Vec::new(),
        })
    }

    fn change_backend(&self, upstream: &str, change: &BackendChange) -> Result<SetReport, Failure> {
        let all = self.handle.upstreams();
        let Some(found) = all.iter().find(|it| it.name() == upstream) else {
            let known: Vec<&str> = all.iter().map(|upstream| upstream.name()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let text = format!("there is no upstream '{upstream}'; known: {known}");
            return Err(Failure::new(Code::Unknown, text));
        };
        let (target, now) = apply(found, change)?;
        tracing::info!("control socket: backend {target} of upstream {upstream}: {now}");
        let what = format!("backend {target} of upstream {upstream}");
        Ok(SetReport { what, now, warnings: Vec::new() })
    }

    fn set(&self, setting: &Setting) -> Result<SetReport, Failure> {
        match setting {
            Setting::LogLevel(level) => {
                let before = self.log_level().to_owned();
                self.program.set_log_level(*level);
                let now = level_name(*level).to_owned();
                Ok(self.noted(("log-level", None), (before, now, Vec::new())))
            }
            Setting::MaxConnections { frontend, most } => {
                let adjustment = match frontend.clone() {
                    None => Adjustment::MaxConnections(*most),
                    Some(frontend) => Adjustment::FrontendMaxConnections { frontend, most: *most },
                };
                self.adjust(("max-connections", frontend.clone()), &adjustment)
            }
            Setting::Backlog { frontend, backlog } => {
                let frontend = frontend.clone().map_or_else(|| self.only_frontend(), Ok)?;
                let (key, backlog) = (("backlog", Some(frontend.clone())), *backlog);
                self.adjust(key, &Adjustment::Backlog { frontend, backlog })
            }
        }
    }

    fn only_frontend(&self) -> Result<String, Failure> {
        let all = self.handle.frontends();
        match &all[..] {
            [one] => Ok(one.name.clone()),
            _ => {
                let known: Vec<&str> = all.iter().map(|frontend| frontend.name.as_str()).collect();
                let text = format!("say of which frontend; known: {}", known.join(", "));
                Err(Failure::new(Code::Request, text))
            }
        }
    }

    fn adjust(
        &self,
        key: (&'static str, Option<String>),
        adjustment: &Adjustment,
    ) -> Result<SetReport, Failure> {
        let Adjusted { before, effective, warnings } = self.handle.adjust(adjustment)?;
        let before = before.map_or(ByHand::DEFAULT.to_owned(), |before| before.to_string());
        Ok(self.noted(key, (before, effective.to_string(), warnings)))
    }

    fn noted(
        &self,
        (what, frontend): (&'static str, Option<String>),
        (before, now, warnings): (String, String, Vec<String>),
    ) -> SetReport {
        self.note((what, frontend.clone()), (now.clone(), before));
        let what = match frontend {
            Some(frontend) => format!("{what} of frontend {frontend}"),
            None => what.to_owned(),
        };
        tracing::info!("control socket: {what} is {now} until the next reload");
        SetReport { what, now, warnings }
    }

    /// Remembers what was set by hand. What was set before that is not what is configured.
    fn note(&self, (what, frontend): (&str, Option<String>), (now, before): (String, String)) {
        let mut state = self.state();
        let known = state.by_hand.iter().position(|it| it.what == what && it.frontend == frontend);
        let configured = known.map_or(before, |known| state.by_hand.remove(known).configured);
        if now != configured {
            state.by_hand.push(ByHand { what: what.to_owned(), frontend, now, configured });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does it. Returns which backend, and what it is now.
fn apply(upstream: &Arc<Upstream>, change: &BackendChange) -> Result<(String, String), Failure> {
    let (target, now) = match change {
        BackendChange::Add(backend) => {
            upstream.add_backend(backend.clone())?;
            (&backend.target, format!("added, with weight {}", backend.weight.get()))
        }
        BackendChange::Remove(target) => {
            upstream.remove_backend(target)?;
            (target, "removed; its connections live on".to_owned())
        }
        BackendChange::Drain(target) => {
            upstream.set_draining(target, true)?;
            (target, "draining: it gets no new connections".to_owned())
        }
        BackendChange::Up(target) => {
            upstream.force_state(target, Forced::Up)?;
            (target, "up, whatever checks say".to_owned())
        }
        BackendChange::Down(target) => {
            upstream.force_state(target, Forced::Down)?;
            (target, "down, whatever checks say".to_owned())
        }
        BackendChange::Auto(target) => {
            upstream.force_state(target, Forced::Auto)?;
            upstream.set_draining(target, false)?;
            (target, "decided by checks and connections".to_owned())
        }
        BackendChange::Weight(target, weight) => {
            upstream.set_weight(target, *weight)?;
            (target, format!("weight {}", weight.get()))
        }
    };
    Ok((target.to_string(), now))
}

/// What is listened on, as it is told.
fn listening(handle: &Handle) -> HashSet<String> {
    handle.frontends().iter().flat_map(|it| it.listening().collect::<Vec<_>>()).collect()
}

/// A change takes longer than whoever asks may wait.
fn is_being_changed() -> Failure {
    Failure::new(Code::Busy, "a configuration change is in progress, try again".to_owned())
}

/// The first of what is wrong with a file, and all of it behind.
pub(super) fn of_errors(errors: &Errors) -> Failure {
    let details: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
    let text = details.first().cloned().unwrap_or_default();
    let details = if details.len() > 1 { details } else { Vec::new() };
    Failure { code: Code::Configuration, text, details }
}

/// A name that does not resolve is told with its line.
pub(super) fn with_its_place(error: ReloadError, lookups: &[Lookup]) -> Failure {
    let placed = match &error {
        ReloadError::Start(error) => unresolved(error, lookups),
        _ => None,
    };
    let failure = Failure::from(error);
    placed.map_or(failure.clone(), |problem| Failure { text: problem.to_string(), ..failure })
}

/// In one line.
pub(super) fn first_of(failure: &Failure) -> String {
    let text = failure.text.replace('\n', " ");
    match failure.details.len() {
        0 | 1 => text,
        count => format!("{count} errors: {text}"),
    }
}

/// Tells what the outcome only counts, not of too many.
fn tell_all(lines: impl Iterator<Item = String>, tell: impl Fn(&str)) {
    let mut lines = lines.fuse();
    lines.by_ref().take(LINES_MAX).for_each(|line| tell(&line));
    match lines.count() {
        0 => {}
        more => tell(&format!("and {more} more; only {LINES_MAX} are listed")),
    }
}
