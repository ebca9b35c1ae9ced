//! Who may come in through a frontend: from its keys to the rules, and back.

use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::files::{self, BESIDE_NO_FILE};
use super::kinds::Words;
use super::names::RefusalName;
use super::reader::Reader;
use super::tables::FrontendTable;
use super::text::{Kind, OneOrMany, Text};
use crate::config::{ConfigError, NetworkList, NetworksFile, Refusal, SourceRules};

/// Most bytes of a file that lists networks.
const NETWORKS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads what a frontend, or the defaults of all, say of sources. Returns the files that were read.
pub(super) fn apply(
    reader: &mut Reader<'_, '_>,
    table: &FrontendTable,
    rules: &mut SourceRules,
) -> Vec<PathBuf> {
    reader.take("source_rules", &table.source_rules, &mut rules.mode);
    reader.take("max_per_source", &table.max_per_source, &mut rules.max_per_source);
    reader.take("rate_per_source", &table.rate_per_source, &mut rules.rate_per_source);
    reader.take("site_factor", &table.site_factor, &mut rules.site_factor);
    reader.take("ban_after", &table.ban_after, &mut rules.ban_after);
    reader.take("ban_time", &table.ban_time, &mut rules.ban_time);
    if let Some(networks) = &table.exempt {
        rules.exempt = values(reader.many("exempt", networks));
    }
    let mut read = Vec::new();
    let lists = [
        ("allow", &table.allow, "allow_file", &table.allow_file, &mut rules.allow),
        ("deny", &table.deny, "deny_file", &table.deny_file, &mut rules.deny),
    ];
    for (key, networks, file_key, file, list) in lists {
        if let Some(networks) = networks {
            list.own = values(reader.many(key, networks));
        }
        if let Some(path) = beside(reader, file_key, file) {
            match load_networks(&path) {
                Ok(networks) => {
                    let path = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
                    list.file = Some(NetworksFile { path, networks: networks.into() });
                }
                Err(why) => reader.wrong(&reader.path.key(file_key), why),
            }
            read.push(path);
        }
    }
    read.extend(apply_refusal(reader, table, rules));
    read
}

fn values<T>(read: Vec<(super::problem::KeyPath, T)>) -> Vec<T> {
    read.into_iter().map(|(_, value)| value).collect()
}

/// How connections are refused. Returns the file with the reply, if there is one.
fn apply_refusal(
    reader: &mut Reader<'_, '_>,
    table: &FrontendTable,
    rules: &mut SourceRules,
) -> Option<PathBuf> {
    let most = SourceRules::REPLY_BYTES_MAX;
    let text = reader.optional("reply", &table.reply).map(String::into_bytes);
    let file = beside(reader, "reply_file", &table.reply_file);
    let from_file = file.as_ref().and_then(|path| match files::read_whole(path, most.into()) {
        Ok(bytes) => Some(bytes),
        Err(why) => {
            reader.wrong(&reader.path.key("reply_file"), why);
            None
        }
    });
    if text.is_some() && table.reply_file.is_some() {
        let why = "reply is given already; leave one of them".to_owned();
        reader.wrong_key(&reader.path.key("reply_file"), why);
    }
    if text.as_ref().is_some_and(|text| text.len() > most as usize) {
        reader.wrong(&reader.path.key("reply"), format!("it must have at most {most} bytes"));
    }
    let reply = text.or(from_file);
    let Some(name) = reader.optional("refuse", &table.refuse) else {
        if reply.is_some() {
            rules.refuse = reply.map_or(Refusal::Reset, Refusal::Reply);
        }
        return file;
    };
    let is_reply = name == RefusalName::Reply;
    let of_defaults = match std::mem::take(&mut rules.refuse) {
        Refusal::Reply(bytes) => Some(bytes),
        _ => None,
    };
    rules.refuse = match name {
        RefusalName::Reset => Refusal::Reset,
        RefusalName::Close => Refusal::Close,
        RefusalName::Delay => Refusal::Delay,
        RefusalName::Reply => {
            Refusal::Reply(reply.or_else(|| of_defaults.clone()).unwrap_or_default())
        }
    };
    let given = table.reply.is_some() || table.reply_file.is_some();
    if is_reply && !given && of_defaults.is_none() {
        let why = "it has to be said what with: add reply = \"TEXT\" or reply_file = \"PATH\"";
        reader.wrong(&reader.path.key("refuse"), why.to_owned());
    } else if given && !is_reply {
        let why = "nothing is sent unless refuse = \"reply\"".to_owned();
        let key = if table.reply.is_some() { "reply" } else { "reply_file" };
        reader.wrong_key(&reader.path.key(key), why);
    }
    file
}

/// A file that is named beside the configuration file.
fn beside(reader: &mut Reader<'_, '_>, key: &str, file: &Option<Text<PathBuf>>) -> Option<PathBuf> {
    let file = reader.optional(key, file)?;
    match reader.document.folder() {
        Some(folder) => Some(folder.join(file)),
        None => {
            reader.wrong(&reader.path.key(key), BESIDE_NO_FILE.to_owned());
            None
        }
    }
}

/// Reads a file of networks: one in a line, with comments behind `#`.
///
/// # Errors
/// Why it cannot be read, or the first line that is wrong.
pub fn load_networks(path: &Path) -> Result<Vec<IpNet>, String> {
    let text = files::text(path, NETWORKS_BYTES_MAX)?;
    networks(&text).map_err(|(line, why)| format!("{}:{line}: {why}", path.display()))
}

/// The same of a text.
///
/// # Errors
/// The number of the first line that is wrong, and why.
pub fn networks(text: &str) -> Result<Vec<IpNet>, (usize, String)> {
    let mut networks = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let network = line.split('#').next().unwrap_or_default().trim();
        if !network.is_empty() {
            networks.push(
                <IpNet as Kind>::read(network)
                    .map_err(|why| (number + 1, format!("'{}': {why}", network.escape_debug())))?,
            );
        }
    }
    Ok(networks)
}

/// Writes what differs from saying nothing.
pub(super) fn print(table: &mut FrontendTable, rules: &SourceRules) -> Result<(), ConfigError> {
    let SourceRules {
        mode,
        allow,
        deny,
        exempt,
        max_per_source,
        rate_per_source,
        site_factor,
        refuse,
        ban_after,
        ban_time,
    } = rules;
    let list = |networks: &[IpNet]| (!networks.is_empty()).then(|| OneOrMany::of(networks));
    let file = |list: &NetworkList| list.file.as_ref().map(|file| Text::of(&file.path));
    table.source_rules = Some(Text::of(mode));
    (table.allow, table.allow_file) = (list(&allow.own), file(allow));
    (table.deny, table.deny_file) = (list(&deny.own), file(deny));
    table.exempt = list(exempt);
    table.max_per_source = max_per_source.as_ref().map(Text::of);
    table.rate_per_source = rate_per_source.as_ref().map(Text::of);
    table.site_factor = Some(Text::of(site_factor));
    table.ban_after = ban_after.as_ref().map(Text::of);
    table.ban_time = Some(Text::of(ban_time));
    let name = match refuse {
        Refusal::Reset => RefusalName::Reset,
        Refusal::Close => RefusalName::Close,
        Refusal::Delay => RefusalName::Delay,
        Refusal::Reply(bytes) => {
            let text = String::from_utf8(bytes.clone()).map_err(|_| {
                let text = "a reply that is no text cannot stand in a file; use reply_file";
                ConfigError::new(text)
            })?;
            table.reply = Some(Words::write(&text).into());
            RefusalName::Reply
        }
    };
    table.refuse = Some(Text::of(&name));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_networks_has_one_in_a_line() {
        let text = "# office\n10.0.0.0/8\n\n  192.0.2.7   # a printer\n2001:db8::/32\n";
        let read: Vec<_> = networks(text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    }

    #[test]
    fn the_first_line_that_is_wrong_is_told() {
        for (text, line) in [("10.0.0.0/33", 1), ("10.0.0.1\nhost\n", 2), ("1.1.1.1 2.2.2.2", 1)] {
            let (number, why) = networks(text).unwrap_err();
            assert_eq!(number, line);
            assert!(why.contains("such as 10.0.0.0/8"), "{why}");
        }
    }
}
