//! Which statuses of an HTTP answer are a success.

use std::fmt;
use std::str::FromStr;

/// From this one on a status is an error, of the client's or the server's (RFC 9110, section 15).
const FIRST_ERROR: u16 = 400;
const STATUS_MIN: u16 = 100;
/// There are no others (RFC 9110, section 15).
const STATUS_MAX: u16 = 599;

/// A set of statuses, as `--expect-status` gives it: `2xx`, `204`, `200-206`, and lists of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet {
    /// Inclusive, as they were typed.
    ranges: Vec<(u16, u16)>,
}

/// All from 100 to 399.
impl Default for StatusSet {
    fn default() -> Self {
        Self { ranges: vec![(STATUS_MIN, FIRST_ERROR - 1)] }
    }
}

impl StatusSet {
    /// Whether `status` is in it.
    pub fn contains(&self, status: u16) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl FromStr for StatusSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = text.split(',').map(|item| range(item.trim())).collect::<Result<_, _>>()?;
        Ok(Self { ranges })
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = ends(text).ok_or_else(|| {
        format!("'{text}' is no status; give a class, a number, a range or a list: 2xx, 204, 200-206, 2xx,304")
    })?;
    if first > last {
        return Err(format!("'{text}' is empty: {first} is above {last}"));
    }
    if first < STATUS_MIN || last > STATUS_MAX {
        return Err(format!(
            "'{text}': a status is a number from {STATUS_MIN} to {STATUS_MAX} (RFC 9110, section 15)"
        ));
    }
    Ok((first, last))
}

/// The first and the last one, which may be no statuses.
fn ends(text: &str) -> Option<(u16, u16)> {
    if let Some(class) = text.strip_suffix("xx") {
        let hundreds = number(class).filter(|class| *class <= 9)?;
        return Some((hundreds * 100, hundreds * 100 + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((number(first)?, number(last)?))
}

/// Without a sign, which `parse` would take.
fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for StatusSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match (*first, *last) {
                (STATUS_MIN, last) if last + 1 == FIRST_ERROR => {
                    write!(formatter, "{comma}below {}", last + 1)?
                }
                (first, last) if first == last => write!(formatter, "{comma}{first}")?,
                (first, last) if first % 100 == 0 && last == first + 99 => {
                    write!(formatter, "{comma}{}xx", first / 100)?;
                }
                (first, last) => write!(formatter, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_they_name() {
        let table: [(&str, &[u16], &[u16]); 5] = [
            ("2xx", &[200, 204, 299], &[199, 300, 404]),
            ("404", &[404], &[403, 405]),
            ("200-206", &[200, 206], &[199, 207]),
            ("2xx,304", &[200, 304], &[303, 305]),
            (" 1xx , 5xx ", &[100, 599], &[200, 600]),
        ];
        for (text, inside, outside) in table {
            let set: StatusSet = text.parse().expect(text);
            assert!(inside.iter().all(|status| set.contains(*status)), "{text}");
            assert!(!outside.iter().any(|status| set.contains(*status)), "{text}");
            let again = set.to_string();
            assert_eq!(again, text.replace(' ', ""));
            assert_eq!(again.parse(), Ok(set));
        }
    }

    #[test]
    fn by_default_errors_are_outside() {
        let set = StatusSet::default();
        assert!([100, 200, 304, 399].iter().all(|status| set.contains(*status)));
        assert!(![99, 400, 404, 500, 999].iter().any(|status| set.contains(*status)));
        assert_eq!(set.to_string(), "below 400");
    }

    #[test]
    fn what_is_no_status_is_refused_with_examples() {
        for text in ["", "xx", "10xx", "2xx,", "+200", "abc", "-200", "200-", "70000"] {
            let error = text.parse::<StatusSet>().expect_err(text);
            assert!(error.contains("2xx, 204, 200-206"), "{error}");
        }
    }

    #[test]
    fn only_numbers_from_100_to_599_are_statuses() {
        for text in ["0xx", "6xx", "9xx", "99", "600", "1000", "600-700", "500-600", "2-300"] {
            let error = format!("2xx,{text}").parse::<StatusSet>().expect_err(text);
            assert!(error.contains(&format!("'{text}': ")), "{error}");
            assert!(error.contains("from 100 to 599"), "{error}");
        }
        let error = "206-200".parse::<StatusSet>().unwrap_err();
        assert!(error.contains("'206-200' is empty"), "{error}");
    }
}
