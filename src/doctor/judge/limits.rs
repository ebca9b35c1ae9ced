//! What the process may have: descriptors, CPU time, memory.

use crate::config::{Config, ConfigError};
use crate::doctor::check::Check;
use crate::doctor::facts::{Bytes, Facts};
use crate::server::{Capacity, capacity};

/// Fewer connections than this are no front door.
const FEW_CONNECTIONS: usize = 1024;

const FIX_DESCRIPTORS: &str =
    "LimitNOFILE=1048576 in systemd, --ulimit nofile=1048576 in Docker, or: ulimit -Hn 1048576";

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let capacity = capacity(&facts.config, &facts.cpus, facts.nofile.hard);
    let (workers, connections, buffers) = match &capacity {
        Ok(capacity) => (
            cpu_quota(facts, capacity.workers),
            connections(facts, capacity),
            memory(facts, capacity),
        ),
        Err(error) => (
            Check::skipped("cpu-quota", "not judged"),
            Check::fail("connections", "none").because(error.to_string()).fix(FIX_DESCRIPTORS),
            Check::skipped("memory-limit", "not judged"),
        ),
    };
    vec![connections, open_files(facts), threads(&capacity), workers, buffers]
}

fn connections(facts: &Facts, capacity: &Capacity) -> Check {
    let nofile = facts.nofile;
    let value = format!(
        "{} (RLIMIT_NOFILE: soft {}, hard {})",
        capacity.max_connections,
        limit(nofile.soft),
        limit(nofile.hard)
    );
    if let Some(warning) = &capacity.warning {
        return Check::warn("connections", value).because(warning.clone()).fix(FIX_DESCRIPTORS);
    }
    if capacity.max_connections < FEW_CONNECTIONS {
        return Check::warn("connections", value)
            .because("that is the default of --max-connections; more wait in the accept queue")
            .fix(FIX_DESCRIPTORS);
    }
    Check::ok("connections", value)
        .because("that is --max-connections; the soft limit is raised to the hard one at start")
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() }
}

/// The whole machine's descriptors, which all processes share.
fn open_files(facts: &Facts) -> Check {
    let number = |name| facts.sysctls.number(name);
    let (Some(most), Some(open)) = (number("fs.file-max"), number("fs.file-nr")) else {
        return super::unread("open-files", "fs.file-max");
    };
    let value = format!("{open} of {} (fs.file-max)", limit(most));
    let ceiling = number("fs.nr_open").unwrap_or(u64::MAX);
    let wanted = capacity(&facts.config, &facts.cpus, facts.nofile.hard)
        .map_or(0, |capacity| (capacity.max_connections as u64).min(ceiling));
    if most.saturating_sub(open) < wanted {
        return Check::warn("open-files", value)
            .because(format!("all processes together cannot hold {wanted} connections more"))
            .fix(format!("sysctl -w fs.file-max={}", wanted.saturating_mul(2)));
    }
    Check::ok("open-files", value)
        .because(format!("one process may be given {} (fs.nr_open)", limit(ceiling)))
}

/// More threads than CPUs.
fn threads(capacity: &Result<Capacity, ConfigError>) -> Check {
    match capacity {
        Err(_) => Check::skipped("threads", "not judged"),
        Ok(Capacity { workers, crowded: None, .. }) => Check::ok("threads", count(*workers)),
        Ok(Capacity { workers, crowded: Some(crowded), .. }) => {
            Check::warn("threads", count(*workers))
                .because(crowded.clone())
                .fix("leave out --workers: there is one for each CPU then")
        }
    }
}

fn cpu_quota(facts: &Facts, workers: usize) -> Check {
    let Some(millis) = facts.control_group.cpu_millis else {
        return Check::ok("cpu-quota", "none")
            .because(format!("{} may use all they get", count(workers)));
    };
    let value = format!("{} for {}", cpus(millis), count(workers));
    let enough = usize::try_from(millis.div_ceil(1000)).unwrap_or(usize::MAX).max(1);
    if workers <= enough {
        return Check::ok("cpu-quota", value);
    }
    Check::warn("cpu-quota", value)
        .because(
            "when the quota of a period is spent, all workers stand still until the next one, \
             and connections wait for tens of milliseconds",
        )
        .fix(format!("--workers {enough}, or a quota of {workers} CPUs"))
}

fn count(workers: usize) -> String {
    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") }
}

/// `0.5 CPUs`, `2 CPUs`.
fn cpus(millis: u64) -> String {
    let hundredths = millis / 10;
    match (hundredths / 100, hundredths % 100) {
        (1, 0) => "1 CPU".to_owned(),
        (whole, 0) => format!("{whole} CPUs"),
        (whole, rest) if rest % 10 == 0 => format!("{whole}.{} CPUs", rest / 10),
        (whole, rest) => format!("{whole}.{rest:02} CPUs"),
    }
}

/// Buffers are resident only once they were used, so this is the worst case.
fn memory(facts: &Facts, capacity: &Capacity) -> Check {
    let Some(most) = facts.control_group.memory else {
        return Check::ok("memory-limit", "none");
    };
    let buffers = Bytes(capacity.buffer_bytes);
    if buffers < most {
        return Check::ok("memory-limit", most.to_string())
            .because(format!("receive buffers take at most {buffers}"));
    }
    Check::warn("memory-limit", most.to_string())
        .because(format!(
            "receive buffers can take {buffers} when every connection sends at once; beyond the \
             limit the kernel kills the process"
        ))
        .fix(format!("--buffers {}", buffers_within(most, capacity.workers, &facts.config)))
}

/// Half of the memory for buffers.
fn buffers_within(memory: Bytes, workers: usize, config: &Config) -> u64 {
    let each = u64::from(config.process.ring.buffer_bytes).max(1) * workers.max(1) as u64;
    (memory.0 / 2 / each).max(1)
}
