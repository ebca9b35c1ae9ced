//! A source file as tokens: strings and comments cannot be mistaken for code.

use std::str::FromStr;

use proc_macro2::{Delimiter, LineColumn, TokenStream, TokenTree};

/// One token and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

/// What a token is; groups are laid flat between `Open` and `Close`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    Punct(char),
    Open(Delimiter),
    Close(Delimiter),
    /// As it is written; empty for a doc comment.
    Literal(String),
}

impl Token {
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }

    pub(crate) fn is_punct(&self, punct: char) -> bool {
        self.kind == Kind::Punct(punct)
    }
}

/// A function: its name, where it starts and how many lines it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// A path and its text, read in three ways.
pub(crate) struct Source {
    /// Relative to the package, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with the inside of strings and characters blanked; comments are kept.
    pub(crate) unquoted: String,
    pub(crate) tokens: Vec<Token>,
    /// `tokens` without what is compiled for tests only.
    pub(crate) shipped: Vec<Token>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let stream = TokenStream::from_str(text)
            .unwrap_or_else(|error| panic!("{path} is not made of Rust tokens: {error}"));
        let mut unquoted: Vec<Vec<char>> =
            text.lines().map(|line| line.chars().collect()).collect();
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens, &mut unquoted);
        let shipped = if is_test_file(path) { Vec::new() } else { without_tests(&tokens) };
        let unquoted = unquoted.into_iter().map(String::from_iter).collect::<Vec<_>>().join("\n");
        Self { path: path.to_owned(), text: text.to_owned(), unquoted, tokens, shipped }
    }

    /// The modules from the crate's root down to this file: `src/ring/uring.rs` is ring, uring.
    pub(crate) fn modules(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or_default();
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        inner.split('/').filter(|part| !matches!(*part, "" | "mod" | "lib")).collect()
    }

    /// Whether this file lies under `folder` (or is that module's only file).
    pub(crate) fn is_under(&self, folder: &str) -> bool {
        self.path.starts_with(&format!("{folder}/")) || self.path == format!("{folder}.rs")
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>, unquoted: &mut [Vec<char>]) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(word) => {
                tokens.push(Token { line, kind: Kind::Word(word.to_string()) });
            }
            TokenTree::Punct(punct) => {
                tokens.push(Token { line, kind: Kind::Punct(punct.as_char()) });
            }
            TokenTree::Literal(literal) => {
                let is_doc = is_doc(unquoted, literal.span().start());
                blank(unquoted, literal.span().start(), literal.span().end());
                let text = if is_doc { String::new() } else { literal.to_string() };
                tokens.push(Token { line, kind: Kind::Literal(text) });
            }
            TokenTree::Group(group) => {
                tokens.push(Token { line, kind: Kind::Open(group.delimiter()) });
                let end = group.span_close().end().line;
                flatten(group.stream(), tokens, unquoted);
                tokens.push(Token { line: end, kind: Kind::Close(group.delimiter()) });
            }
        }
    }
}

/// A doc comment is a literal too, one that starts with a slash.
fn is_doc(unquoted: &[Vec<char>], start: LineColumn) -> bool {
    matches!(unquoted[start.line - 1].get(start.column), None | Some('/'))
}

/// Doc comments stay.
fn blank(unquoted: &mut [Vec<char>], start: LineColumn, end: LineColumn) {
    if is_doc(unquoted, start) {
        return;
    }
    for line in start.line..=end.line {
        let row = &mut unquoted[line - 1];
        let from = if line == start.line { start.column } else { 0 };
        let to = if line == end.line { end.column.min(row.len()) } else { row.len() };
        row[from..to].fill('_');
    }
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at += item_end(&tokens[at..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// `#[cfg(test)]` and `#[cfg(all(test, ...))]`, but not `#[cfg(not(test))]`.
fn is_test_attribute(tokens: &[Token]) -> bool {
    if !(tokens[0].is_punct('#') && tokens.get(2).is_some_and(|token| token.is("cfg"))) {
        return false;
    }
    let inside = &tokens[..matching(tokens, 1) + 1];
    inside.iter().any(|token| token.is("test")) && !inside.iter().any(|token| token.is("not"))
}

/// The number of tokens up to the end of the item that starts here, with its attributes.
fn item_end(tokens: &[Token]) -> usize {
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].kind {
            Kind::Punct(';') => return at + 1,
            Kind::Open(Delimiter::Brace) => return matching(tokens, at) + 1,
            Kind::Open(_) => at = matching(tokens, at) + 1,
            Kind::Close(_) => return at,
            _ => at += 1,
        }
    }
    at
}

/// The index of the token that closes the group which opens at `open`.
pub(crate) fn matching(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) if depth == 1 => return index,
            Kind::Close(_) => depth -= 1,
            _ => {}
        }
    }
    tokens.len() - 1
}

/// Every function that has a body.
pub(crate) fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut functions = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let Kind::Word(name) = &pair[1].kind else { continue };
        if !pair[0].is("fn") {
            continue;
        }
        let end = at + item_end(&tokens[at..]) - 1;
        if tokens[end].kind == Kind::Close(Delimiter::Brace) {
            let line = pair[0].line;
            functions.push(Function {
                name: name.clone(),
                line,
                lines: tokens[end].line - line + 1,
            });
        }
    }
    functions
}

/// The first names behind `root::`, with their lines: `root::a::b` and `root::{a, b::c}`.
pub(crate) fn names_behind(tokens: &[Token], root: &str) -> Vec<(String, usize)> {
    (0..tokens.len())
        .filter(|&at| tokens[at].is(root))
        .flat_map(|at| names_after_colons(&tokens[at + 1..]))
        .collect()
}

/// Names that `super` reaches in the crate's root, from a file that lies `depth` modules deep.
pub(crate) fn names_above(tokens: &[Token], depth: usize) -> Vec<(String, usize)> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut climbed = 0;
        while tokens.get(at).is_some_and(|token| token.is("super")) {
            climbed += 1;
            at += 1;
            let more = names_after_colons(&tokens[at..]).first().is_some_and(|n| n.0 == "super");
            at += if more { 2 } else { 0 };
        }
        if climbed > 0 && climbed >= depth {
            names.extend(names_after_colons(&tokens[at..]));
        }
        at += 1;
    }
    names
}

fn names_after_colons(tokens: &[Token]) -> Vec<(String, usize)> {
    let [first, second, third, ..] = tokens else { return Vec::new() };
    if !(first.is_punct(':') && second.is_punct(':')) {
        return Vec::new();
    }
    match &third.kind {
        Kind::Word(name) => vec![(name.clone(), third.line)],
        Kind::Open(Delimiter::Brace) => heads(&tokens[2..=matching(tokens, 2)]),
        _ => Vec::new(),
    }
}

/// The names that stand directly behind the opening brace or behind a comma of that brace.
fn heads(group: &[Token]) -> Vec<(String, usize)> {
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    for pair in group.windows(2) {
        match pair[0].kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth -= 1,
            _ => {}
        }
        let begins = matches!(pair[0].kind, Kind::Open(_) | Kind::Punct(','));
        if let (true, 1, Kind::Word(name)) = (begins, depth, &pair[1].kind) {
            heads.push((name.clone(), pair[1].line));
        }
    }
    heads
}
