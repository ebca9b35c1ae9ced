//! The `acceptor` program: parse, start, wait, exit code.

mod announce;
mod backends;
mod doctor;
mod ending;
mod live;
mod log;
mod options;
mod screen;
mod signals;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use announce::announce;
use live::Live;
use log::Log;
use options::{Options, Task};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use uring_acceptor::config::{LogFormat, Protocol};
use uring_acceptor::process::{self, NoThread};
use uring_acceptor::proxy::{AccessLog, LogSink};
use uring_acceptor::server::{Server, StartError};
use uring_acceptor::service::http::Http;
use uring_acceptor::service::{Discard, Echo, Service};

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
    match options::parse() {
        Task::Serve(options) => serve(&options),
        Task::Examine(examination) => doctor::examine(*examination),
        Task::Probe => doctor::probe(),
    }
}

fn serve(options: &Options) -> ExitCode {
    let log = match Log::start(options.logging) {
        Ok(log) => log,
        Err(error) => return doctor::fail(&format!("the log: {}", NoThread::new(&error))),
    };
    let context = Context { options, log: &log, access_log: None };
    let run = || match &options.config.frontends[0].protocol {
        Protocol::Discard => run(Discard, context),
        Protocol::Http(http) => run(Http::new(&http.body), context),
        Protocol::Proxy(_) => run_proxy(context),
        Protocol::Echo | Protocol::Service => run(Echo, context),
    };
    // A panic has told itself; its line is among the last.
    let code = catch_unwind(AssertUnwindSafe(run)).unwrap_or(ExitCode::from(EXIT_FAILURE));
    log.finish();
    code
}

/// What a run goes by.
struct Context<'a> {
    options: &'a Options,
    log: &'a Log,
    access_log: Option<AccessLog>,
}

fn run<S: Service>(service: S, context: Context<'_>) -> ExitCode {
    let (name, config) = (service.name().to_owned(), &context.options.config);
    run_on(&name, || Server::start(config, service), context)
}

fn run_proxy(context: Context<'_>) -> ExitCode {
    let log = context.options.config.access_logs().next();
    let opened = log.map(|log| open_log(&log.path, log.format)).transpose();
    let (sink, access_log) = match opened {
        Ok(opened) => opened.unzip(),
        Err(text) => return fail(EXIT_FAILURE, &text),
    };
    let config = &context.options.config;
    let start = || Server::start_proxy(config, sink);
    run_on("proxy", start, Context { access_log, ..context })
}

fn open_log(path: &Path, form: LogFormat) -> Result<(LogSink, AccessLog), String> {
    if path != Path::new("-") {
        return AccessLog::open(path, form).map_err(|error| format!("{error}; see --access-log"));
    }
    let to = stdout().map_err(|error| format!("stdout cannot be written: dup(2): {error}"))?;
    let made = AccessLog::new(form, "on stdout".into(), Box::new(to));
    made.map_err(|no_thread| format!("the access log: {no_thread}"))
}

/// stdout without a buffer.
fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Lets the thread that writes to stdout do its last lines. It has ended by then unless stdout is stuck.
fn finish(writer: &JoinHandle<()>) {
    let start = Instant::now();
    while !writer.is_finished() && start.elapsed() < log::LIMIT {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run_on(
    name: &str,
    start: impl FnOnce() -> Result<Server, StartError>,
    Context { options, log, access_log }: Context<'_>,
) -> ExitCode {
    let mut received = match Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP]) {
        Ok(received) => received,
        Err(error) => return fail(EXIT_FAILURE, &format!("signals cannot be handled: {error}")),
    };
    let server = match start() {
        Ok(server) => server,
        Err(error) => return fail(exit_code(&error), &told(&error)),
    };
    let handle = server.handle();
    tracing::debug!("running on {}", handle.engine());
    handle.watch(&log.alarm);
    let on_signal = {
        let handle = handle.clone();
        move || signals::follow(received.forever(), &handle)
    };
    let started = handle.spawn("signals", on_signal).and_then(|_| announce(&server, name, options));
    let announced = match started {
        Ok(announced) => announced,
        Err(error) => return fail(EXIT_FAILURE, &NoThread::new(&error).to_string()),
    };
    let live = Live::new(log.outlet.clone(), options.stats_interval.is_some());
    let interval = options.stats_interval.unwrap_or(LOOK_INTERVAL);
    let code = wait(server, interval, (live, access_log));
    finish(&announced);
    code
}

/// Draws the live line and looks after the access log until the server has ended, or ought to have. This thread
/// depends on no other: one that is stuck, in a service or in the kernel, keeps the program no longer than it
/// says.
fn wait(
    mut server: Server,
    interval: Duration,
    (mut live, mut access_log): (Live, Option<AccessLog>),
) -> ExitCode {
    let handle = server.handle();
    let interval = interval.min(LOOK_INTERVAL);
    loop {
        let limit = handle.over_since().map(|since| since + STOP_LIMIT);
        let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        if let Some(result) = server.wait(left.unwrap_or(interval).min(interval)) {
            let failure = result.err().map(|error| fail(EXIT_FAILURE, &error.to_string()));
            access_log.map(|log| log.finish(log::LIMIT));
            backends::report(&handle);
            ending::tell_stopped(&handle);
            return failure.unwrap_or(ExitCode::SUCCESS);
        }
        if left.is_some_and(|left| left.is_zero()) {
            let code = fail(EXIT_FAILURE, &ending::stuck(&server, STOP_LIMIT));
            access_log.map(|log| log.finish(log::LIMIT));
            // What a thread that is stuck has locked is not asked for.
            ending::tell_cut_off(&server);
            return code;
        }
        live.show(&handle.statistics());
        access_log.iter_mut().for_each(AccessLog::look);
    }
}

/// The error, and by which option a server may start all the same.
fn told(error: &StartError) -> String {
    match error {
        StartError::Refused(refusal) if refusal.wants_memory() => {
            format!("{error}, or ask for smaller rings with --cq-entries and --buffers")
        }
        _ => error.to_string(),
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
