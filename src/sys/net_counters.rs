//! What the kernel counts for a network namespace, in /proc/net/snmp and /proc/net/netstat.

/// A counter in the text of one of these files. Each group is two lines that begin with its name, as in `TcpExt:`: the
/// names, then the figures.
///
/// # Errors
/// Names a counter that is not there.
pub fn net_counter(text: &str, group: &str, name: &str) -> Result<u64, String> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, figures) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut pairs = names.split_whitespace().zip(figures.split_whitespace());
    let figure = pairs.find(|(own, _)| *own == name).and_then(|(_, figure)| figure.parse().ok());
    figure.ok_or_else(|| format!("the kernel does not count {group}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stands_under_its_name() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: A\nIpExt: 3\n";
        assert_eq!(net_counter(text, "TcpExt:", "B"), Ok(2));
        assert_eq!(net_counter(text, "IpExt:", "A"), Ok(3));
        let error = net_counter(text, "IpExt:", "B").unwrap_err();
        assert_eq!(error, "the kernel does not count IpExt:B");
        assert!(net_counter("TcpExt: A\n", "TcpExt:", "A").is_err());
    }
}
