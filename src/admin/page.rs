//! What the endpoint measures as a page, live in a browser. It fetches `/status` and `/metrics` every second,
//! and the lists of sources and bans every few seconds where there are some.

/// All of it: style, script and text, with nothing from elsewhere.
pub(super) const PAGE: &str = include_str!("page.html");

/// The media type of [`PAGE`].
pub(super) const KIND: &str = "text/html; charset=utf-8";

/// Header fields of the page. A browser runs the script and applies the style with these hashes and no others, asks
/// nobody but this server, and shows the page in no frame.
pub(super) const FIELDS: &str = concat!(
    "Content-Security-Policy: default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; ",
    include_str!("page.hashes"),
    "\r\nReferrer-Policy: no-referrer\r\n",
);

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    /// The text of the only element with this name.
    fn inside(tag: &str) -> &'static str {
        let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!((PAGE.matches(&begin).count(), PAGE.matches(&end).count()), (1, 1), "{tag}");
        let (_, rest) = PAGE.split_once(&begin).unwrap();
        rest.split_once(&end).unwrap().0
    }

    #[test]
    fn the_policy_allows_the_script_and_the_style_of_the_page() {
        let [script, style] = ["script", "style"].map(|tag| {
            format!("{tag}-src 'sha256-{}'", STANDARD.encode(Sha256::digest(inside(tag))))
        });
        let expected = format!("{script}; {style}");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/page.hashes");
            std::fs::write(path, &expected).expect("it can be written");
        } else {
            let found = include_str!("page.hashes");
            assert_eq!(found, expected, "UPDATE_GOLDEN=1 rewrites it");
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_takes_no_markup() {
        for unwanted in
            ["http:", "https:", "//cdn", "src=", "@import", "url(", "innerHTML", "outerHTML"]
        {
            assert!(!PAGE.contains(unwanted), "{unwanted}");
        }
        for unwanted in ["insertAdjacentHTML", "document.write", "eval(", "style=\"", "onclick"] {
            assert!(!PAGE.contains(unwanted), "{unwanted}");
        }
        for link in PAGE.split("href=\"").skip(1) {
            let link = link.split('"').next().unwrap();
            let own = ["status", "metrics", "connections?", "bans", "readyz", "healthz", "data:,"];
            assert!(own.iter().any(|own| link.starts_with(own)), "{link}");
        }
    }
}
