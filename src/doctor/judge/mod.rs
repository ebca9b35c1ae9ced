//! From facts to checks: nothing here looks at the machine.

mod limits;
mod listen;
mod network;
mod privileges;
mod ring;

use super::check::Check;
use super::facts::Facts;

/// Judges everything, in the order in which it is read best: the kernel and its rings, the limits of
/// the process, the network's, and the addresses that were asked for.
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = ring::judge(facts);
    checks.extend(limits::judge(facts));
    checks.extend(privileges::judge(facts));
    checks.extend(network::judge(facts));
    checks.extend(listen::judge(facts));
    checks
}

/// A sysctl that cannot be read: /proc/sys is hidden, or this kernel does not have it.
fn unread(check: &str, sysctl: &str) -> Check {
    Check::skipped(check, "unknown").because(format!("{sysctl} cannot be read here"))
}
