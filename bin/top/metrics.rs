//! What an admin endpoint tells in the form of OpenMetrics, as values.

use std::collections::BTreeMap;

/// All that was told, by the names of the samples, suffix included.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metrics(BTreeMap<String, Vec<Series>>);

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Series {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn labels(&self) -> &[(String, String)] {
        &self.labels
    }
}

impl Metrics {
    /// Reads what is well-formed; the rest is left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, series)) = sample(line) {
                metrics.0.entry(name.to_owned()).or_default().push(series);
            }
        }
        metrics
    }

    /// All of this name.
    pub(super) fn all(&self, name: &str) -> &[Series] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sum of all of this name; `None` if there are none.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        let all = self.all(name);
        (!all.is_empty()).then(|| all.iter().map(|series| series.value).sum())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[Series])> {
        self.0.iter().map(|(name, all)| (name.as_str(), all.as_slice()))
    }
}

fn sample(line: &str) -> Option<(&str, Series)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A timestamp or an exemplar may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Series { labels, value }))
}

/// `name="value",...}` and what follows.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let (value, behind) = quoted(behind)?;
        labels.push((name.to_owned(), value));
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
}

/// The text up to the next quotation mark, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values_are_read() {
        let metrics = Metrics::parse(
            "# HELP a_total Text.\n# TYPE a counter\na_total 3\nb{x=\"1\",y=\"q\\\"},\\\\\\n\"} 2.5\nb{x=\"2\"} 1 1700000000\n\
             c{} +Inf\n# EOF\n",
        );
        assert_eq!(metrics.sum("a_total"), Some(3.0));
        assert_eq!(metrics.sum("b"), Some(3.5));
        assert_eq!(metrics.all("b")[0].label("y"), Some("q\"},\\\n"));
        assert_eq!(metrics.all("b")[1].label("y"), None);
        assert_eq!(metrics.sum("c"), Some(f64::INFINITY));
        assert_eq!(metrics.sum("d"), None);
    }

    #[test]
    fn what_is_broken_is_left_out() {
        let broken =
            "a\na{\na{x\na{x=\"\na{x=\"1\" 3\na{x=\"1\\\n{} 1\na{x=\"1\"} b\n\na{x=\"1\"} 7\n";
        let metrics = Metrics::parse(broken);
        assert_eq!(metrics.all("a").len(), 1, "{metrics:?}");
        assert_eq!(metrics.sum("a"), Some(7.0));
    }
}
