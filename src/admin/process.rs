//! What the process takes, under the names that every Prometheus client uses.

use std::{fmt, fs, io};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::writer::Writer;
use crate::sys;

/// Read when it is asked for; what cannot be read is left out.
#[derive(Debug)]
pub(super) struct Usage;

impl Collector for Usage {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        if let Ok(open) = open_descriptors() {
            writer.gauge(("process_open_fds", "Open descriptors.", None), open as f64)?;
        }
        if let Ok(limit) = sys::nofile() {
            writer.gauge(
                ("process_max_fds", "How many descriptors may be open.", None),
                limit.soft as f64,
            )?;
        }
        if let Ok(bytes) = resident_bytes() {
            let family = ("process_resident_memory", "Resident memory.", Some(Unit::Bytes));
            writer.gauge(family, bytes as f64)?;
        }
        Ok(())
    }
}

/// From Linux 6.2 on the size of the folder says how many there are; before it is 0, and they are counted.
fn open_descriptors() -> io::Result<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder)?.len() {
        0 => Ok(fs::read_dir(folder)?.count() as u64),
        count => Ok(count),
    }
}

/// The second figure of statm: pages.
fn resident_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text.clone()))?;
    Ok(pages * sys::page_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_takes_is_told() {
        // Other tests open and close some meanwhile, seldom so many every time.
        let shows_in_the_count = || {
            let before = open_descriptors().unwrap();
            let files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            open_descriptors().unwrap() + 10 >= before + files.len() as u64
        };
        assert!((0..100).any(|_| shows_in_the_count()));
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
