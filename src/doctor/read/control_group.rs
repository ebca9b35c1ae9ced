//! The limits of the control groups that this process is in. See cgroups(7).

use super::Root;
use crate::doctor::facts::{Bytes, ControlGroup};

/// Where the hierarchies are mounted, by convention.
const MOUNT: &str = "sys/fs/cgroup";

/// Version 1 writes no limit as the highest multiple of a page that an `i64` holds.
const UNLIMITED_BYTES: u64 = 1 << 62;

impl Root {
    pub(super) fn control_group(&self) -> ControlGroup {
        let membership = self.text("proc/self/cgroup").unwrap_or_default();
        let mut lowest = ControlGroup::default();
        for line in membership.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            for folder in folders(controllers, path) {
                lowest = lowest.lower_of(self.limits(controllers, &folder));
            }
        }
        lowest
    }

    fn limits(&self, controllers: &str, folder: &str) -> ControlGroup {
        let number = |file: &str| self.text(&format!("{folder}/{file}"))?.trim().parse().ok();
        if controllers.is_empty() {
            let cpu = self.text(&format!("{folder}/cpu.max"));
            return ControlGroup {
                memory: number("memory.max").map(Bytes),
                cpu_millis: cpu.and_then(|text| quota(&text)),
            };
        }
        let has = |name| controllers.split(',').any(|own| own == name);
        let memory = number("memory.limit_in_bytes").filter(|bytes| *bytes < UNLIMITED_BYTES);
        let cpu = || quota_millis(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
        ControlGroup {
            memory: memory.filter(|_| has("memory")).map(Bytes),
            cpu_millis: cpu().filter(|_| has("cpu")),
        }
    }
}

impl ControlGroup {
    fn lower_of(self, other: Self) -> Self {
        Self {
            memory: lower(self.memory, other.memory),
            cpu_millis: lower(self.cpu_millis, other.cpu_millis),
        }
    }
}

fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The group's own folder and all above it, whose limits hold for it too. A container may see the
/// path of the host, with only the root of it mounted: folders that are not there are no limit.
fn folders(controllers: &str, path: &str) -> Vec<String> {
    let base = match controllers {
        "" => MOUNT.to_owned(),
        // A hierarchy of several controllers is mounted under their names.
        names => format!("{MOUNT}/{names}"),
    };
    let mut folders = vec![base.clone()];
    for name in path.split('/').filter(|name| !name.is_empty() && *name != "..") {
        let below = format!("{}/{name}", folders.last().unwrap_or(&base));
        folders.push(below);
    }
    folders
}

/// `cpu.max` of version 2: quota and period in microseconds, or `max`.
fn quota(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace();
    let quota = numbers.next()?.parse().ok()?;
    quota_millis(quota, numbers.next()?.parse().ok()?)
}

fn quota_millis(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.saturating_mul(1000).checked_div(period_us)
}
