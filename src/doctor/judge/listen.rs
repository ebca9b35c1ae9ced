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
        Ok(backlog) if backlog.clamped() => clamped(&name, *backlog),
        Ok(Backlog { effective, .. }) => {
            let reason = "as long as it was asked for";
            let reason = match &trial.notice {
                Some(notice) => format!("{reason}; {notice}"),
                None => reason.to_owned(),
            };
            Check::ok(name, format!("backlog {effective}")).because(reason)
        }
        Err(error) => refused(&name, error),
    }
}

fn clamped(name: &str, Backlog { asked, effective }: Backlog) -> Check {
    Check::warn(name, format!("backlog {effective}"))
        .because(format!("{asked} was asked for; net.core.somaxconn cuts it"))
        .mend(format!("sysctl -w net.core.somaxconn={asked}"))
}

/// The message of the error is the cause, and after a semicolon what to do.
fn refused(name: &str, error: &BindError) -> Check {
    let text = error.to_string();
    let check = Check::fail(name, "refused");
    match text.split_once("; ") {
        Some((cause, mend)) => check.because(cause).mend(mend),
        None => check.because(text),
    }
}
