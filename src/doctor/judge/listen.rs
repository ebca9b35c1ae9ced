//! The addresses that were asked for.

use crate::doctor::check::Check;
use crate::doctor::facts::{Facts, Trial};
use crate::listener::{Backlog, BindError};

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    facts.trials.iter().map(trial).collect()
}

fn trial(trial: &Trial) -> Check {
    let name = format!("listen {}", trial.address);
    match &trial.outcome {
        Ok(backlog) => listening(name, *backlog, trial.notice.as_deref()),
        Err(error) => refused(&name, error),
    }
}

/// The table shows the value alone of what is well.
fn listening(
    name: String,
    backlog @ Backlog { asked, effective }: Backlog,
    notice: Option<&str>,
) -> Check {
    let (family, notice) = match notice {
        Some(notice) => (", IPv4 only", format!("; {notice}")),
        None => ("", String::new()),
    };
    let value = format!("backlog {effective}{family}");
    if backlog.clamped() {
        return Check::warn(name, value)
            .because(format!("{asked} was asked for; net.core.somaxconn cuts it{notice}"))
            .fix(format!("sysctl -w net.core.somaxconn={asked}"));
    }
    Check::ok(name, value).because(format!("as long as it was asked for{notice}"))
}

/// The message of the error is the cause, and after a semicolon what to do.
fn refused(name: &str, error: &BindError) -> Check {
    let text = error.to_string();
    let check = Check::fail(name, "refused");
    match text.split_once("; ") {
        Some((cause, fix)) => check.because(cause).fix(fix),
        None => check.because(text),
    }
}
