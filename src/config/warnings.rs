//! Settings that are right and do nothing, or not what they look like.

use ipnet::IpNet;

use super::{Frontend, NetworkList, Process, Refusal, RuleMode, SourceRules};

/// A setting of a frontend that is right, and may not do what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key of the setting.
    pub key: &'static str,
    /// Its place in the list of that key, from 0, where one of several values is meant.
    pub index: Option<usize>,
    /// What it does instead, without the value.
    pub text: String,
    /// What of that tells the value. It may be a secret: then it is to be left out.
    pub detail: String,
}

impl Warning {
    fn of(key: &'static str, text: &str) -> Self {
        Self { key, index: None, text: text.to_owned(), detail: String::new() }
    }
}

impl Frontend {
    /// Which of its rules by source do nothing, or not what they look like.
    pub fn warnings(&self, process: &Process) -> Vec<Warning> {
        let rules = &self.sources;
        let lists =
            [("allow", "allow_file", &rules.allow), ("deny", "deny_file", &rules.deny)].into_iter();
        let of_lists = lists.flat_map(|(key, file_key, NetworkList { own, file })| {
            let of_file = file.as_ref().and_then(|file| in_file(file_key, &file.networks));
            in_list(key, own).chain(of_file)
        });
        let rate = rules.rate_per_source.or(process.rate_per_source);
        let of_rules = [
            ban_after(rules),
            (rules.refuse == Refusal::Delay && rate.is_none()).then(|| {
                let text = "no rate of a source is limited, so nothing is delayed: it is the same as reset";
                Warning::of("refuse", text)
            }),
            (rules.refuse == Refusal::Reply(Vec::new())).then(|| {
                let text = "it is empty, so nothing is sent before the FIN; refuse = \"close\" closes at once";
                Warning::of("reply", text)
            }),
        ];
        of_rules
            .into_iter()
            .flatten()
            .chain(of_lists)
            .chain(in_list("exempt", &rules.exempt))
            .collect()
    }
}

fn ban_after(rules: &SourceRules) -> Option<Warning> {
    let Some(_) = rules.ban_after else {
        let text = "nobody is banned without ban_after";
        return (rules.ban_time != SourceRules::BAN_TIME).then(|| Warning::of("ban_time", text));
    };
    let why = match rules.mode {
        RuleMode::Observe => "source_rules = \"observe\" refuses nobody, so nobody is banned",
        RuleMode::Off => "source_rules = \"off\" refuses nobody, so nobody is banned",
        RuleMode::Enforce if rules.has_limits() => return None,
        RuleMode::Enforce => {
            "nobody is banned: the frontend has neither max_per_source nor rate_per_source, and those of [process] \
             ban nobody"
        }
    };
    Some(Warning::of("ban_after", why))
}

/// What is behind the prefix of a network is ignored, and may be a slip in the prefix.
fn has_host_bits(network: &&IpNet) -> bool {
    network.addr() != network.network()
}

fn in_list(key: &'static str, networks: &[IpNet]) -> impl Iterator<Item = Warning> {
    let wrong = networks.iter().enumerate().filter(|(_, network)| has_host_bits(network));
    wrong.map(move |(index, network)| Warning {
        index: Some(index),
        detail: format!(": the network is {}", network.trunc()),
        ..Warning::of(key, "bits behind the prefix are ignored")
    })
}

/// One for all: a file may have a hundred thousand networks.
fn in_file(key: &'static str, networks: &[IpNet]) -> Option<Warning> {
    let mut wrong = networks.iter().filter(has_host_bits);
    let first = wrong.next()?;
    let others = match wrong.count() {
        0 => String::new(),
        count => format!(", and {count} more in the file"),
    };
    Some(Warning {
        detail: format!(": {first} is the network {}{others}", first.trunc()),
        ..Warning::of(key, "bits behind the prefix are ignored")
    })
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    fn told(change: impl Fn(&mut Frontend, &mut Process)) -> Vec<String> {
        let (mut frontend, mut process) = (Frontend::new("f", Protocol::Echo), Process::default());
        change(&mut frontend, &mut process);
        let line = |it: &Warning| format!("{}: {}{}", it.key, it.text, it.detail);
        frontend.warnings(&process).iter().map(line).collect()
    }

    fn begins(all: &[String], with: &[&str]) {
        assert_eq!(all.len(), with.len(), "{all:?}");
        let pairs = all.iter().zip(with);
        pairs.for_each(|(one, with)| assert!(one.starts_with(with), "{one}"));
    }

    #[test]
    fn a_ban_needs_a_limit_that_is_enforced() {
        let bans = |frontend: &mut Frontend, mode| {
            frontend.sources.ban_after = "5".parse().ok();
            frontend.sources.max_per_source = "1".parse().ok();
            frontend.sources.mode = mode;
        };
        begins(&told(|f, _| bans(f, RuleMode::Enforce)), &[]);
        begins(
            &told(|f, _| bans(f, RuleMode::Observe)),
            &["ban_after: source_rules = \"observe\""],
        );
        begins(&told(|f, _| bans(f, RuleMode::Off)), &["ban_after: source_rules = \"off\""]);
        let of_process = |f: &mut Frontend, p: &mut Process| {
            f.sources.ban_after = "5".parse().ok();
            p.max_per_source = "1".parse().ok();
        };
        begins(&told(of_process), &["ban_after: nobody is banned"]);
        let time = |f: &mut Frontend, _: &mut Process| f.sources.ban_time *= 2;
        begins(&told(time), &["ban_time: nobody is banned without ban_after"]);
    }

    #[test]
    fn what_is_delayed_comes_too_fast() {
        let delay = |f: &mut Frontend| f.sources.refuse = Refusal::Delay;
        let of_connections = |f: &mut Frontend, _: &mut Process| {
            delay(f);
            f.sources.max_per_source = "1".parse().ok();
        };
        begins(&told(of_connections), &["refuse: no rate of a source is limited"]);
        let own = |f: &mut Frontend, _: &mut Process| {
            delay(f);
            f.sources.rate_per_source = "1/s".parse().ok();
        };
        begins(&told(own), &[]);
        // Rates of the process are refused as the frontend says.
        let of_process = |f: &mut Frontend, p: &mut Process| {
            delay(f);
            p.rate_per_source = "1/s".parse().ok();
        };
        begins(&told(of_process), &[]);
    }

    #[test]
    fn an_empty_reply_is_no_reply() {
        let reply = |bytes: &[u8]| told(|f, _| f.sources.refuse = Refusal::Reply(bytes.to_vec()));
        begins(&reply(b""), &["reply: it is empty"]);
        begins(&reply(b"x"), &[]);
    }

    #[test]
    fn networks_with_bits_behind_the_prefix_are_told() {
        let network = |text: &str| super::super::human::network(text).unwrap();
        let all = told(|f, _| {
            f.sources.allow.own = ["10.0.0.0/8", "10.0.0.5/8", "10.0.0.5"].map(network).into();
            f.sources.deny.own = vec![network("2001:db8::1/64")];
            f.sources.exempt = vec![network("::ffff:10.1.2.3/112")];
        });
        let expected = [
            "allow: bits behind the prefix are ignored: the network is 10.0.0.0/8",
            "deny: bits behind the prefix are ignored: the network is 2001:db8::/64",
            "exempt: bits behind the prefix are ignored: the network is 10.1.0.0/16",
        ];
        assert_eq!(all, expected);
        let file = ["10.0.0.0/8", "192.0.2.7/24", "192.0.2.8/24"].map(network);
        let all = told(|f, _| {
            let networks = file.to_vec().into();
            let file = super::super::NetworksFile { path: "denied".into(), networks };
            f.sources.deny.file = Some(file);
        });
        let expected = "deny_file: bits behind the prefix are ignored: 192.0.2.7/24 is the network 192.0.2.0/24, and 1 \
                        more in the file";
        assert_eq!(all, [expected]);
    }
}
