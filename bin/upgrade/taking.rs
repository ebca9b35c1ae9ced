//! How this process takes the place of another: whom it asks, and what it starts with.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use uring_acceptor::config::UnixAddress;
use uring_acceptor::control::{Request, connect, parse_answer};
use uring_acceptor::listener::Inherited;
use uring_acceptor::server::{ByHand, Heritage, Ready, Reserved};
use uring_acceptor::upgrade::{self, Channel, START_LIMIT, Taking};

use super::{STDIN, VARIABLE};
use crate::options::Options;

/// What says that this process is to take over from another.
const OPTION: &str = "--take-over";

/// The longest answer to the wish to take over.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Signals that are for the server that this process is to become do not end it before it is that, if it takes over from
/// another: `pkill -HUP` is for both. It has read nothing yet, so there is nothing to do about them.
pub(crate) fn stay_alive() {
    let takes_over = |argument: OsString| argument.as_bytes().starts_with(OPTION.as_bytes());
    if env::var(VARIABLE).as_deref() != Ok(STDIN) && !env::args_os().any(takes_over) {
        return;
    }
    for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
        // Where that is refused, it will be told when they are to be received.
        let _ = flag::register(signal, Arc::default());
    }
}

/// Tells the process that has started this one to take over why it does not even ask to.
pub(crate) fn tell_failure(reason: &str) {
    if env::var(VARIABLE).as_deref() == Ok(STDIN)
        && let Ok(channel) = Channel::from_stdin()
    {
        channel.give_up(reason);
    }
}

/// Asks the process that this one is to take over from, if there is one. If there is none, signals no longer end this one at
/// once.
///
/// # Errors
/// Why it does not agree.
pub(crate) fn ask(
    from: Option<&UnixAddress>,
    inherited: &Inherited,
    ends_at_once: &AtomicBool,
) -> Result<Option<Taking>, String> {
    let taking = ask_one(from, inherited)?;
    ends_at_once.store(taking.is_some(), Ordering::Release);
    Ok(taking)
}

fn ask_one(from: Option<&UnixAddress>, inherited: &Inherited) -> Result<Option<Taking>, String> {
    let failed = |what: &dyn Display, error: io::Error| format!("{what}: {error}");
    let channel = match (env::var(VARIABLE).as_deref(), from) {
        (Ok(STDIN), _) => Channel::from_stdin().map_err(|error| failed(&VARIABLE, error))?,
        (_, Some(address)) => match from_address(address)? {
            Some(stream) => Channel::new(stream).map_err(|error| failed(address, error))?,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let taking = Taking::ask(channel, inherited).map_err(|error| error.to_string())?;
    let (pid, version) = taking.from();
    tracing::info!("upgrade: taking over from process {pid} (version {version})");
    Ok(Some(taking))
}

/// `None` if nobody listens there: then there is nobody to take over from.
fn from_address(address: &UnixAddress) -> Result<Option<UnixStream>, String> {
    let failed = |error: io::Error| format!("{address}: {error}");
    let stream = match connect(address) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            tracing::info!(
                "upgrade: nobody listens on {address}, so there is nothing to take over"
            );
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    stream.set_read_timeout(Some(START_LIMIT)).map_err(failed)?;
    // One that refuses has answered and closed already; then this fails, and the answer is there.
    let sent = (&stream).write_all(Request::TakeOver.to_line().as_bytes());
    let line = read_line(&stream).map_err(|error| failed(sent.err().unwrap_or(error)))?;
    match parse_answer(&line)? {
        Ok(_) => Ok(Some(stream)),
        Err(failure) => Err(format!("{address}: {failure}")),
    }
}

/// Not a byte behind it.
fn read_line(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < ANSWER_MAX_BYTES {
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(line);
        }
        line.push(byte[0]);
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Waits until this process is to serve, if there is one before it: with what that still has.
///
/// # Errors
/// The one before it goes on.
pub(crate) fn wait_to_serve(
    taking: Option<&mut Taking>,
    (server, inherited): (&Ready, &Inherited),
    ends_at_once: &AtomicBool,
) -> Result<Reserved, upgrade::UpgradeError> {
    let reserved = match taking {
        Some(taking) => taking.wait_to_serve(&server.handle(), inherited)?,
        None => Reserved::default(),
    };
    ends_at_once.store(false, Ordering::Release);
    Ok(reserved)
}

/// What a server is to start with that takes the place of another: what was set by hand there is set in the settings, and
/// returned.
pub(crate) fn inherit(
    taking: Option<&Taking>,
    inherited: &Inherited,
    settings: &mut Options,
) -> (Heritage, Vec<ByHand>) {
    let (names, set) = taking.map(|it| (it.names(), it.by_hand())).unwrap_or_default();
    let (config, level) = (&mut settings.config, &mut settings.logging.level);
    let (stays, ended) = ByHand::carry_over(set.to_vec(), config, level);
    stays.iter().for_each(|it| tracing::info!("upgrade: still by hand: {it}"));
    ended.iter().for_each(|it| tracing::info!("upgrade: overruled by the configuration: {it}"));
    (Heritage::new(inherited, names.to_vec(), &stays), stays)
}
