//! Which metrics and labels a query in PromQL names. Whether it is a query at all is for promtool.

use std::collections::BTreeSet;

/// A metric, or none where labels are grouped or joined by, and a label of it with the values that are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    Metric(String),
    /// Of the metric before; the values are literal, one or several.
    Matcher(String, Vec<String>),
    /// Behind `by`, `on` and their like.
    Grouping(String),
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const BEHIND_A_FUNCTION: [&str; 3] = ["(", "by", "without"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// A word, a text in quotes, or a character of something else.
fn tokens(query: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), query);
    while let Some(first) = rest.chars().next() {
        let is_word = |it: char| it.is_ascii_alphanumeric() || "_:.$".contains(it);
        let length = match first {
            '"' => rest[1..].find('"').expect("a text ends") + 2,
            _ if is_word(first) => rest.find(|it| !is_word(it)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        if !token.trim().is_empty() {
            tokens.push(token.to_owned());
        }
        rest = behind;
    }
    tokens
}

/// The values in quotes behind a label, without those that a dashboard fills in.
fn values(text: &str) -> Vec<String> {
    let values = text.trim_matches('"').split('|');
    values.filter(|value| !value.starts_with('$')).map(str::to_owned).collect()
}

/// All that the query names.
pub(super) fn named(query: &str) -> Vec<Named> {
    let tokens = tokens(query);
    let is_word = |text: &str| text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    let mut found = Vec::new();
    let (mut in_braces, mut in_grouping) = (false, false);
    for (place, token) in tokens.iter().enumerate() {
        let next = tokens.get(place + 1).map_or("", String::as_str);
        match token.as_str() {
            "{" => in_braces = true,
            "}" => in_braces = false,
            ")" => in_grouping = false,
            word if GROUPING.contains(&word) => in_grouping = true,
            word if is_word(word) && in_braces => {
                let text = tokens[place..].iter().find(|it| it.starts_with('"'));
                found.push(Named::Matcher(word.to_owned(), values(text.expect("a value"))));
            }
            word if is_word(word) && in_grouping => found.push(Named::Grouping(word.to_owned())),
            word if is_word(word)
                && !BEHIND_A_FUNCTION.contains(&next)
                && !OPERATORS.contains(&word) =>
            {
                found.push(Named::Metric(word.to_owned()));
            }
            _ => {}
        }
    }
    found
}

/// The names of labels in a text: behind `start`, as in `{{instance}}` or `$labels.instance`.
pub(super) fn labels_in<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    let ends =
        |rest: &'a str| rest.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').next();
    text.split(start).skip(1).filter_map(ends).filter(|word| !word.is_empty()).collect()
}

#[test]
fn all_that_a_query_names_is_found() {
    let query = "sum by (job, le) (rate(a_total{b=~\"c|d\", e=\"$f\"}[5m])) > 0.9\n and on (g) h or 2 * i[$__x]";
    let text = |text: &str| text.to_owned();
    let expected = [
        Named::Grouping(text("job")),
        Named::Grouping(text("le")),
        Named::Metric(text("a_total")),
        Named::Matcher(text("b"), vec![text("c"), text("d")]),
        Named::Matcher(text("e"), vec![]),
        Named::Grouping(text("g")),
        Named::Metric(text("h")),
        Named::Metric(text("i")),
    ];
    assert_eq!(named(query), expected);
    assert_eq!(labels_in("{{a}} b {{c_d}} {{ $e }}", "{{"), BTreeSet::from(["a", "c_d"]));
}
