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
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use announce::announce;
use live::Live;
use log::Log;
use options::{Options, ProxyChoice, ServiceChoice, Task};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use uring_acceptor::process;
use uring_acceptor::proxy::{LogForm, LogSink};
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
        Err(error) => return doctor::fail(&format!("no thread can be made for the log: {error}")),
    };
    let run = || match &options.service {
        ServiceChoice::Echo => run(Echo, options, &log),
        ServiceChoice::Discard => run(Discard, options, &log),
        ServiceChoice::Http { body } => run(Http::new(body), options, &log),
        ServiceChoice::Proxy(proxy) => run_proxy(options, proxy, &log),
    };
    // A panic has told itself; its line is among the last.
    let code = catch_unwind(AssertUnwindSafe(run)).unwrap_or(ExitCode::from(EXIT_FAILURE));
    log.finish();
    code
}

fn run<S: Service>(service: S, options: &Options, log: &Log) -> ExitCode {
    let name = service.name().to_owned();
    run_on(&name, || Server::start(&options.config, service), options, log)
}

fn run_proxy(options: &Options, proxy: &ProxyChoice, log: &Log) -> ExitCode {
    let opened = match &proxy.access_log {
        Some((path, form)) => {
            open_log(path, *form).map(|(sink, writer)| (Some(sink), Some(writer)))
        }
        None => Ok((None, None)),
    };
    let (sink, writer) = match opened {
        Ok(log) => log,
        Err(text) => return fail(EXIT_FAILURE, &text),
    };
    let start = || Server::start_proxy(&options.config, &proxy.config, sink);
    let code = run_on("proxy", start, options, log);
    if let Some(writer) = writer {
        finish(&writer);
    }
    code
}

fn open_log(path: &Path, form: LogForm) -> Result<(LogSink, JoinHandle<()>), String> {
    let open = || -> io::Result<Box<dyn Write + Send>> {
        match path == Path::new("-") {
            true => Ok(Box::new(stdout()?)),
            false => Ok(Box::new(File::options().create(true).append(true).open(path)?)),
        }
    };
    open().and_then(|to| LogSink::new(form, to)).map_err(|error| {
        let path = path.display();
        format!("the access log {path} cannot be opened: {error}; see --access-log")
    })
}

/// stdout without a buffer.
fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Lets a thread that writes do its last lines: of the access log, or of stdout. What it is fed by has
/// ended, and it with that unless what it writes to is stuck.
fn finish(writer: &JoinHandle<()>) {
    let start = Instant::now();
    while !writer.is_finished() && start.elapsed() < log::LIMIT {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run_on(
    name: &str,
    start: impl FnOnce() -> Result<Server, StartError>,
    options: &Options,
    log: &Log,
) -> ExitCode {
    let mut received = match Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP]) {
        Ok(received) => received,
        Err(error) => return fail(EXIT_FAILURE, &format!("signals cannot be handled: {error}")),
    };
    let server = match start() {
        Ok(server) => server,
        Err(error) => return fail(exit_code(&error), &error.to_string()),
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
        Err(error) => return fail(EXIT_FAILURE, &format!("no thread can be made: {error}")),
    };
    let live = Live::new(log.outlet.clone(), options.stats_interval.is_some());
    let code = wait(server, options.stats_interval.unwrap_or(LOOK_INTERVAL), live);
    finish(&announced);
    code
}

/// Draws the live line until the server has ended, or ought to have. This thread depends on no other: one
/// that is stuck, in a service or in the kernel, keeps the program no longer than it says.
fn wait(mut server: Server, interval: Duration, mut live: Live) -> ExitCode {
    let handle = server.handle();
    let interval = interval.min(LOOK_INTERVAL);
    loop {
        let limit = handle.over_since().map(|since| since + STOP_LIMIT);
        let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        match server.wait(left.unwrap_or(interval).min(interval)) {
            Some(result) => {
                let code = result.map_or_else(
                    |error| fail(EXIT_FAILURE, &error.to_string()),
                    |()| ExitCode::SUCCESS,
                );
                backends::report(&handle);
                ending::tell_stopped(&handle);
                return code;
            }
            // What a thread that is stuck has locked is not asked for.
            None if left.is_some_and(|left| left.is_zero()) => {
                let code = fail(EXIT_FAILURE, &ending::stuck(&server, STOP_LIMIT));
                ending::tell_cut_off(&server);
                return code;
            }
            None => live.show(&handle.statistics()),
        }
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
