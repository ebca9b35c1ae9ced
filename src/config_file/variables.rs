//! `${NAME}` and `${NAME:-default}` in a value; `$$` is a dollar sign.

/// What a variable is; `None` if it is not set.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A text with variables put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) text: String,
    /// Name and value of each that was set.
    pub(super) variables: Vec<(String, String)>,
}

/// Why variables cannot be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What the part that is wrong begins with.
    pub(super) at: String,
    pub(super) text: String,
}

/// `None` for a text without a dollar sign.
pub(super) fn put_in(text: &str, environment: &Environment<'_>) -> Result<Option<Put>, Wrong> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut put = Put { text: String::with_capacity(text.len()), variables: Vec::new() };
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        put.text.push_str(before);
        rest = match behind.as_bytes().first() {
            Some(b'$') => {
                put.text.push('$');
                &behind[1..]
            }
            Some(b'{') => variable(&behind[1..], environment, &mut put)?,
            _ => {
                let name = behind.split(|c: char| !is_of_a_name(c)).next().unwrap_or_default();
                let text =
                    "a dollar sign alone; write ${NAME} for a variable, $$ for a dollar sign";
                return Err(Wrong { at: format!("${name}"), text: text.to_owned() });
            }
        };
    }
    put.text.push_str(rest);
    Ok(Some(put))
}

/// Takes what is behind `${`, and returns what is behind the `}`.
fn variable<'a>(
    text: &'a str,
    environment: &Environment<'_>,
    put: &mut Put,
) -> Result<&'a str, Wrong> {
    let wrong = |text: String, name: &str| Wrong { at: format!("${{{name}"), text };
    let Some((inner, rest)) = text.split_once('}') else {
        let text = "a variable without its end; write ${NAME}, or $$ for a dollar sign";
        return Err(wrong(text.to_owned(), ""));
    };
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        let text = format!(
            "'{name}' cannot be the name of a variable; it has letters, digits and '_', and begins with \
             no digit. Write ${{NAME}} or ${{NAME:-default}}"
        );
        return Err(wrong(text, name));
    }
    match (environment(name), default) {
        (Some(value), None) => put.set(name, value),
        (Some(value), Some(_)) if !value.is_empty() => put.set(name, value),
        (_, Some(default)) => put.text.push_str(default),
        (None, None) => {
            let text = format!(
                "the variable {name} is not set (a reload has the environment that the server was \
                     started with); set it, or write ${{{name}:-default}}"
            );
            return Err(wrong(text, name));
        }
    }
    Ok(rest)
}

impl Put {
    fn set(&mut self, name: &str, value: String) {
        self.text.push_str(&value);
        self.variables.push((name.to_owned(), value));
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(is_of_a_name)
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The same text where variables are put in.
pub(super) fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}
