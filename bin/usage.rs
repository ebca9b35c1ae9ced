//! A command line that is wrong, of either program: the usage line of the command at hand, values that
//! begin with a dash, and where an option is to be had.

use std::ffi::OsString;

use clap::builder::Arg;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error, Parser};

/// What options are called whose values may begin with a dash. Then their own parser says what is wrong
/// with `-1`, and not clap, which takes it for an option.
const VALUES: [&str; 9] = ["N", "N|auto", "R", "K", "TIME", "BYTES", "PERCENT", "PID", "STATUS"];

/// Why a command does not have an option of another one, and what to use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absent {
    /// Command and option.
    pub(crate) of: (&'static str, &'static str),
    /// In words.
    pub(crate) why: &'static str,
}

/// Parses `arguments`, the first of which is the program's name, and checks what comes of it.
///
/// # Errors
/// Those of clap, and a text of `check` with the usage of the command that was typed.
pub(crate) fn parse<P: Parser, T>(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    absent: &[Absent],
    check: impl FnOnce(P) -> Result<T, String>,
) -> Result<T, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let mut command = P::command().mut_subcommands(|command| command.mut_args(taking_dashes));
    command.build();
    let matches = match command.try_get_matches_from_mut(&arguments) {
        Ok(matches) => matches,
        Err(error) => return Err(told(error, &mut command, &arguments, absent)),
    };
    let typed = P::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let name = matches.subcommand_name().unwrap_or_default();
    check(typed).map_err(|text| at(&mut command, name).error(ErrorKind::ValueValidation, text))
}

fn taking_dashes(arg: Arg) -> Arg {
    let names = arg.get_value_names().unwrap_or_default();
    let is_value = !arg.is_positional() && names.iter().any(|name| VALUES.contains(&name.as_str()));
    if is_value { arg.allow_hyphen_values(true) } else { arg }
}

/// The subcommand of this name, or the program itself.
fn at<'a>(command: &'a mut Command, name: &str) -> &'a mut Command {
    match command.find_subcommand(name) {
        Some(_) => command.find_subcommand_mut(name).expect("it was just there"),
        None => command,
    }
}

/// An option that the command does not have: which ones do, or what it was meant to be.
fn told(error: Error, command: &mut Command, arguments: &[OsString], absent: &[Absent]) -> Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let Some(name) = arguments.get(1).and_then(|name| name.to_str()) else { return error };
    if error.kind() != ErrorKind::UnknownArgument || command.find_subcommand(name).is_none() {
        return error;
    }
    let option = option.clone();
    let text = value_of(command, name, arguments, &option)
        .or_else(|| elsewhere(command, name, &option, absent));
    match text {
        Some(text) => at(command, name).error(ErrorKind::UnknownArgument, text),
        None => error,
    }
}

/// `option` follows one that takes a value: it is that value.
fn value_of(command: &Command, name: &str, arguments: &[OsString], option: &str) -> Option<String> {
    let at =
        arguments.iter().position(|own| own.to_str().is_some_and(|own| own.starts_with(option)))?;
    let before = arguments.get(at.checked_sub(1)?)?.to_str()?;
    let arg = command.find_subcommand(name)?.get_arguments().find(|arg| is(arg, before))?;
    let value = arguments[at].to_str()?;
    let long = arg.get_long()?;
    arg.get_action().takes_values().then(|| {
        format!(
            "--{long} needs a value, and '{value}' looks like an option; where it is the value, \
             write --{long}={value}"
        )
    })
}

fn elsewhere(command: &Command, name: &str, option: &str, absent: &[Absent]) -> Option<String> {
    let shown = |arg: &&Arg| is(arg, option) && !arg.is_hide_set();
    let has = |command: &&Command| command.get_arguments().any(|arg| shown(&arg));
    let others: Vec<&str> = command.get_subcommands().filter(has).map(Command::get_name).collect();
    if others.is_empty() {
        return None;
    }
    let long = command.get_subcommands().flat_map(Command::get_arguments).find(shown);
    let long = long.and_then(Arg::get_long).map_or(option.to_owned(), |long| format!("--{long}"));
    let why = absent.iter().find(|absent| absent.of == (name, long.as_str()));
    Some(match why {
        Some(Absent { why, .. }) => format!("{name} has no {option}: {why}"),
        None => format!("{name} has no {option}, which is an option of {}", others.join(", ")),
    })
}

/// Whether `typed` is this option.
fn is(arg: &Arg, typed: &str) -> bool {
    let long = typed.strip_prefix("--");
    let short = typed.strip_prefix('-').filter(|_| long.is_none());
    long.is_some_and(|long| arg.get_long() == Some(long))
        || short.and_then(|short| short.chars().next()).is_some_and(|c| arg.get_short() == Some(c))
}
