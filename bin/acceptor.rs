//! The `acceptor` program: parse, start, wait, exit code.

mod announce;
mod backends;
mod configuration;
mod ctl;
mod doctor;
mod ending;
mod live;
mod log;
mod look;
mod options;
mod reopening;
mod running;
mod screen;
mod signals;
mod supervisor;
mod top;
mod upgrade;

use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use announce::announce;
use live::Live;
use log::Log;
use options::{Options, Task};
use running::{ForSignals, Running, Source};
use signal_hook::iterator::Signals;
use supervisor::Supervisor;
use upgrade::{StartedAs, Upgrading};
use uring_acceptor::admin::{Admin, ReadyAdmin};
use uring_acceptor::config::{UnixAddress, Warning};
use uring_acceptor::config_file::Places;
use uring_acceptor::control::explain;
use uring_acceptor::listener::{Inherited, Listener};
use uring_acceptor::process::{self, NoThread};
use uring_acceptor::server::{Handle, Heritage, Ready, Server, StartError};

/// Failure while running.
const EXIT_FAILURE: u8 = 1;
/// Usage or configuration.
const EXIT_USAGE: u8 = 2;
/// The machine cannot run it: EX_UNAVAILABLE of sysexits.h.
const EXIT_UNAVAILABLE: u8 = 69;

/// How often the main thread looks after the server when there is no live line to draw.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the threads may take to end, after the end of the drain timeout or a second signal, before the
/// process ends without them.
const STOP_LIMIT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    process::prepare();
    upgrade::stay_alive();
    match options::parse() {
        Task::Serve(options, take_over) => serve(&options, None, take_over.as_ref()),
        Task::Run(file) => configuration::load(file).map_or_else(
            |code| code,
            |(options, source)| serve(&options, Some(&source), source.from.take_over.as_ref()),
        ),
        Task::Print(options) => configuration::print(&options),
        Task::Call(call) => ctl::call(&call),
        Task::Look(asked) => look::status(&asked),
        Task::Watch(asked) => top::watch(&asked),
        Task::Check(file) => configuration::check(&file),
        Task::Schema => configuration::schema(),
        Task::Complete(shell) => configuration::complete(shell),
        Task::WriteManual(folder) => configuration::manual(&folder),
        Task::Examine(examination) => doctor::examine(*examination),
        Task::Probe => doctor::probe(),
    }
}

fn serve(options: &Options, from: Option<&Source>, take_over: Option<&UnixAddress>) -> ExitCode {
    // Before anything is opened.
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => return doctor::fail(&format!("sockets passed by LISTEN_FDS: {error}")),
    };
    let log = match Log::start(options.logging) {
        Ok(log) => log,
        Err(error) => return doctor::fail(&format!("the log: {}", NoThread::new(&error))),
    };
    // A panic has told itself; its line is among the last.
    let settings = Settings { options, from, take_over, inherited };
    let code = catch_unwind(AssertUnwindSafe(|| run(&settings, &log)));
    log.finish();
    code.unwrap_or(ExitCode::from(EXIT_FAILURE))
}

/// What a server is started with.
struct Settings<'a> {
    options: &'a Options,
    from: Option<&'a Source>,
    /// Whose place it takes.
    take_over: Option<&'a UnixAddress>,
    inherited: Inherited,
}

/// What is ready to listen.
struct Assembled {
    control: Option<Arc<Listener>>,
    admin: Option<ReadyAdmin>,
    server: Ready,
}

impl Settings<'_> {
    fn tell_warnings(&self) {
        if let Some(source) = self.from {
            return source.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        let config = &self.options.config;
        let warnings = config.frontends.iter().flat_map(|it| it.warnings(&config.process));
        for Warning { key, text, detail, .. } in warnings {
            tracing::warn!("--{}: {text}{detail}", key.replace('_', "-"));
        }
    }

    fn places(&self) -> Places {
        self.from.map(|source| source.places.clone()).unwrap_or_default()
    }

    /// Makes everything ready: what can fail fails here.
    fn assemble(&self, options: &Options, heritage: Heritage) -> Result<Assembled, (u8, String)> {
        let Self { from, inherited, .. } = self;
        let places = self.places();
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: String| (EXIT_FAILURE, format!("{what}: {error}"))
        };
        let control = running::listen(options, (&places, inherited));
        let control = control.map_err(failed("the control socket"))?;
        let admin = running::prepare_admin(options, (&places, inherited));
        let admin = admin.map_err(failed("the admin endpoint"))?;
        let server = Server::prepare_after(&options.config, heritage)
            .map_err(|error| (exit_code(&error), told(&error, from.is_some(), &places)))?;
        Ok(Assembled { control, admin, server })
    }
}

/// Lets the thread that writes to stdout do its last lines. It has ended by then unless stdout is stuck.
fn finish(writer: &JoinHandle<()>) {
    let start = Instant::now();
    while !writer.is_finished() && start.elapsed() < log::LIMIT {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run(settings: &Settings<'_>, log: &Log) -> ExitCode {
    let Settings { options, from, take_over, inherited } = settings;
    let started_as = StartedAs::now();
    let ends_at_once = Arc::new(AtomicBool::new(true));
    let received = match signals::receive(&ends_at_once) {
        Ok(received) => received,
        Err(error) => return fail(EXIT_FAILURE, &format!("signals cannot be handled: {error}")),
    };
    settings.tell_warnings();
    supervisor::restore(inherited);
    let mut taking = match upgrade::ask(*take_over, inherited, &ends_at_once) {
        Ok(taking) => taking,
        Err(error) => return not_taken_over(&error),
    };
    let stored = inherited.own_names();
    let mut options = (*options).clone();
    let (heritage, by_hand) = upgrade::inherit(taking.as_ref(), inherited, &mut options);
    log.level.set(options.logging.level);
    let Assembled { control, admin, server } = match settings.assemble(&options, heritage) {
        Ok(assembled) => assembled,
        Err((code, error)) => {
            taking.iter().for_each(|taking| taking.give_up(&error));
            return fail(code, &error);
        }
    };
    let reserved =
        match upgrade::wait_to_serve(taking.as_mut(), (&server, inherited), &ends_at_once) {
            Ok(reserved) => reserved,
            Err(error) => return not_taken_over(&error),
        };
    if taking.is_some() {
        // The old process answers on it until this one has everything.
        control.iter().for_each(|listener| listener.give_away());
    }
    let server = server.serve();
    running::close_rest(inherited);
    let handle = server.handle();
    tracing::debug!("running on {}", handle.engine());
    handle.watch(&log.alarm);
    let admin = match admin.map(running::serve_admin).transpose() {
        Ok(admin) => admin,
        Err(error) => return fail(EXIT_FAILURE, &format!("the admin endpoint: {error}")),
    };
    let listened = (control.clone(), admin.as_ref().map(Admin::handle), inherited.clone());
    let upgrading = Upgrading::new(handle.clone(), listened, (started_as, taking.is_some()));
    let level = (log.level.clone(), by_hand);
    let running = Running::start(&handle, (&options, *from), level, (control, upgrading.clone()));
    let mut running = match running {
        Ok(running) => running,
        Err(error) => return fail(EXIT_FAILURE, &running::no_thread(&error)),
    };
    if let Some(admin) = &admin {
        running.show_on(admin);
    }
    let followed = follow(received, &handle, running.for_signals());
    let started = followed.and_then(|_| announce(&server, &options));
    let announced = match started {
        Ok(announced) => announced,
        Err(error) => return fail(EXIT_FAILURE, &NoThread::new(&error).to_string()),
    };
    let taken = taking.is_none_or(|taking| upgrading.take(taking, reserved));
    running.has_taken_over();
    let live = Live::new(log.outlet.clone(), options.stats_interval.is_some());
    // One that has not taken over is not the one that is supervised.
    let supervisor = taken.then(|| Supervisor::ready(handle.clone(), stored));
    let code = wait(server, options.stats_interval, live, supervisor);
    running.finish();
    finish(&announced);
    if taken { code } else { ExitCode::from(EXIT_FAILURE) }
}

fn not_taken_over(error: &dyn Display) -> ExitCode {
    fail(EXIT_FAILURE, &format!("upgrade: not taken over: {error}"))
}

/// Acts on signals, on a thread of its own.
fn follow(
    mut received: Signals,
    handle: &Handle,
    running: ForSignals,
) -> io::Result<JoinHandle<()>> {
    let steered = handle.clone();
    handle.spawn("signals", move || signals::follow(received.forever(), &steered, &running))
}

/// Draws the live line and looks after the access log until the server has ended, or ought to have. This thread
/// depends on no other: one that is stuck, in a service or in the kernel, keeps the program no longer than it
/// says.
fn wait(
    mut server: Server,
    interval: Option<Duration>,
    mut live: Live,
    mut supervisor: Option<Supervisor>,
) -> ExitCode {
    let handle = server.handle();
    let mut progress = ending::Progress::default();
    let beats = supervisor.as_ref().and_then(Supervisor::interval);
    let interval =
        interval.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL).min(beats.unwrap_or(LOOK_INTERVAL));
    loop {
        let limit = handle.over_since().map(|since| since + STOP_LIMIT);
        let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        if let Some(result) = server.wait(left.unwrap_or(interval).min(interval)) {
            let failure = result.err().map(|error| fail(EXIT_FAILURE, &error.to_string()));
            supervisor.iter_mut().for_each(Supervisor::look);
            handle.finish_logs(log::LIMIT);
            backends::report(&handle);
            ending::tell_stopped(&handle);
            return failure.unwrap_or(ExitCode::SUCCESS);
        }
        if left.is_some_and(|left| left.is_zero()) {
            let code = fail(EXIT_FAILURE, &ending::stuck(&server, STOP_LIMIT));
            handle.finish_logs(log::LIMIT);
            // What a thread that is stuck has locked is not asked for.
            ending::tell_cut_off(&server);
            return code;
        }
        live.show(&handle.statistics());
        handle.look_after_logs();
        handle.watch_queues();
        supervisor.iter_mut().for_each(Supervisor::look);
        progress.look(&handle);
    }
}

/// The error with its place in the file, or by which option a server may start all the same.
fn told(error: &StartError, is_from_file: bool, places: &Places) -> String {
    match error {
        StartError::Refused(refusal) if refusal.wants_memory() => {
            format!(
                "{error}, or ask for smaller rings with --cq-entries and --buffers \
                 (cq_entries and buffers in a file)"
            )
        }
        StartError::AccessLog(error) if !is_from_file => format!("{error}; see --access-log"),
        _ => explain(error, places),
    }
}

fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Config(_) => EXIT_USAGE,
        StartError::Refused(_) => EXIT_UNAVAILABLE,
        _ => EXIT_FAILURE,
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    tracing::error!("{text}");
    ExitCode::from(code)
}
