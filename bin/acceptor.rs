//! The `acceptor` program: parse, start, wait, exit code.

mod backends;
mod doctor;
mod live;
mod options;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use live::Live;
use options::{LogFormat, Logging, Options, ProxyChoice, ServiceChoice, Task};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing_subscriber::fmt::MakeWriter;
use uring_acceptor::proxy::{LogForm, LogSink};
use uring_acceptor::server::{Handle, Phase, Server, StartError};
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

/// How long a stop may take after the second signal before the process ends without it.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How long the last lines of the access log may take before the process ends without them.
const LOG_LIMIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match options::parse() {
        Task::Serve(options) => serve(&options),
        Task::Examine(examination) => doctor::examine(*examination),
        Task::Probe => doctor::probe(),
    }
}

fn serve(options: &Options) -> ExitCode {
    let live = Live::new(options.stats_interval.is_some());
    log_to(options.logging, live.log_writer());
    match &options.service {
        ServiceChoice::Echo => run(Echo, options, live),
        ServiceChoice::Discard => run(Discard, options, live),
        ServiceChoice::Http { body } => run(Http::new(body), options, live),
        ServiceChoice::Proxy(proxy) => run_proxy(options, proxy, live),
    }
}

fn run<S: Service>(service: S, options: &Options, live: Live) -> ExitCode {
    let name = service.name().to_owned();
    run_on(&name, || Server::start(&options.config, service), options, live)
}

fn run_proxy(options: &Options, proxy: &ProxyChoice, live: Live) -> ExitCode {
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
    let code = run_on("proxy", start, options, live);
    if let Some(writer) = writer {
        finish(&writer);
    }
    code
}

fn open_log(path: &Path, form: LogForm) -> Result<(LogSink, JoinHandle<()>), String> {
    let open = || -> io::Result<Box<dyn Write + Send>> {
        match path == Path::new("-") {
            true => Ok(Box::new(io::stdout())),
            false => Ok(Box::new(File::options().create(true).append(true).open(path)?)),
        }
    };
    open().and_then(|to| LogSink::new(form, to)).map_err(|error| {
        let path = path.display();
        format!("the access log {path} cannot be opened: {error}; see --access-log")
    })
}

/// Lets the access log write its last lines. The threads that fed it have ended, and it with them
/// unless what it writes to is stuck.
fn finish(writer: &JoinHandle<()>) {
    let start = Instant::now();
    while !writer.is_finished() && start.elapsed() < LOG_LIMIT {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run_on(
    name: &str,
    start: impl FnOnce() -> Result<Server, StartError>,
    options: &Options,
    live: Live,
) -> ExitCode {
    let mut signals = match Signals::new([SIGTERM, SIGINT, SIGUSR1]) {
        Ok(signals) => signals,
        Err(error) => return fail(EXIT_FAILURE, &format!("signals cannot be handled: {error}")),
    };
    let server = match start() {
        Ok(server) => server,
        Err(error) => return fail(exit_code(&error), &error.to_string()),
    };
    let handle = server.handle();
    tracing::debug!("running on {}", handle.engine());
    let end = handle.clone();
    std::thread::spawn(move || signals.forever().for_each(|signal| on_signal(signal, &handle)));
    let mut stdout = std::io::stdout().lock();
    for address in server.addresses() {
        if let Err(error) = writeln!(stdout, "listening {address} {name}") {
            tracing::warn!("listening on {address}, but stdout cannot be written: {error}");
        }
    }
    drop(stdout);
    let code = wait(server, options.stats_interval.unwrap_or(LOOK_INTERVAL), live);
    backends::report(&end);
    code
}

/// SIGUSR1 reports. Of the others the first drains, the second stops.
fn on_signal(signal: i32, handle: &Handle) {
    match handle.phase() {
        _ if signal == SIGUSR1 => backends::report(handle),
        Phase::Serving => {
            tracing::info!("draining; a second signal stops at once");
            handle.shutdown();
        }
        Phase::Draining | Phase::Stopping => handle.stop(),
    }
}

/// Draws the live line until the server has ended.
fn wait(mut server: Server, interval: Duration, mut live: Live) -> ExitCode {
    let handle = server.handle();
    let mut stopping_since = None;
    loop {
        match server.wait(interval.min(LOOK_INTERVAL)) {
            Some(Ok(())) => break ExitCode::SUCCESS,
            Some(Err(error)) => break fail(EXIT_FAILURE, &error.to_string()),
            None => live.show(&handle.statistics()),
        }
        if handle.phase() == Phase::Stopping {
            let since: &mut Instant = stopping_since.get_or_insert_with(Instant::now);
            if since.elapsed() > STOP_LIMIT {
                break fail(EXIT_FAILURE, "the server did not stop in time");
            }
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

fn log_to<W>(logging: Logging, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt()
        .with_max_level(logging.level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(writer);
    match logging.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
