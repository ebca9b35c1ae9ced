//! HTTP answers by their status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sum::add;
use super::{ReportError, words};
use crate::load::Outcome;

/// Whole answers of the window, those that counted as failures too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Answers by class: `2xx`.
    pub classes: BTreeMap<String, u64>,
    /// Answers by status: `200`.
    pub statuses: BTreeMap<String, u64>,
    /// Bytes of their bodies, without heads and the framing of chunks.
    pub body_bytes: u64,
}

impl Answers {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let mut answers = Self { body_bytes: outcome.body_bytes, ..Self::default() };
        for (status, count) in &outcome.statuses {
            *answers.classes.entry(format!("{}xx", status / 100)).or_default() += count;
            answers.statuses.insert(status.to_string(), *count);
        }
        answers
    }

    pub(super) fn add(&mut self, other: Self) -> Result<(), ReportError> {
        add_counts(&mut self.classes, other.classes, "answers.classes")?;
        add_counts(&mut self.statuses, other.statuses, "answers.statuses")?;
        add(&mut self.body_bytes, other.body_bytes, "answers.body_bytes")
    }

    /// `2xx 1,234; 4xx 3 (403: 1, 404: 2); bodies of 7.40 kB`.
    pub(super) fn in_words(&self) -> String {
        let class = |(class, count): (&String, &u64)| {
            let of_class = |status: &&String| status.as_bytes().first() == class.as_bytes().first();
            let each: Vec<_> =
                self.statuses.iter().filter(|(status, _)| of_class(status)).collect();
            let statuses: Vec<_> = match each.as_slice() {
                [(status, _)] => vec![(*status).clone()],
                each => each
                    .iter()
                    .map(|(status, count)| format!("{status}: {}", words::count(**count)))
                    .collect(),
            };
            format!("{class} {} ({})", words::count(*count), statuses.join(", "))
        };
        let mut parts: Vec<_> = self.classes.iter().map(class).collect();
        parts.push(format!("bodies of {}", words::bytes(self.body_bytes)));
        parts.join("; ")
    }
}

fn add_counts(
    own: &mut BTreeMap<String, u64>,
    others: BTreeMap<String, u64>,
    what: &'static str,
) -> Result<(), ReportError> {
    others.into_iter().try_for_each(|(key, count)| add(own.entry(key).or_default(), count, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::build::outcome;

    fn answers(statuses: &[(u16, u64)]) -> Answers {
        let statuses = statuses.iter().copied().collect();
        Answers::of(&Outcome { statuses, body_bytes: 7_400, ..outcome(0) })
    }

    #[test]
    fn answers_are_counted_by_class_and_status() {
        let mut answers = answers(&[(200, 1_200), (204, 34), (404, 3)]);
        assert_eq!(
            answers.in_words(),
            "2xx 1,234 (200: 1,200, 204: 34); 4xx 3 (404); bodies of 7.40 kB"
        );
        answers.add(answers.clone()).unwrap();
        assert_eq!(
            (answers.classes["2xx"], answers.statuses["404"], answers.body_bytes),
            (2_468, 6, 14_800)
        );
    }
}
