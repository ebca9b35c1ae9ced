//! One HTML file with the pictures and the figures; nothing is loaded from elsewhere.

use super::chart::{STYLE, escape};
use super::{Card, Report, ReportError, picture, table, words};

const PAGE_STYLE: &str = "\
:root{color-scheme:light dark}
body{font:15px/1.45 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;background:#fff;color:#222}
svg{display:block;width:100%;height:auto;margin:1rem 0}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.25rem .8rem;border-bottom:1px solid #8886;text-align:left}
td.figure,th.figure{text-align:right;font-variant-numeric:tabular-nums}
.invalid{color:#b00020;font-weight:bold}
@media (prefers-color-scheme:dark){body{background:#181818;color:#ddd}.invalid{color:#ff6b7d}}
";

/// A page about these reports: the pictures with all of them, then the figures of each. It is
/// well-formed XML as well.
///
/// # Errors
/// There is no report.
pub fn html(reports: &[(&str, &Report)]) -> Result<String, ReportError> {
    let pictures = picture::inline(reports)?;
    let sections: String = reports.iter().map(|(name, report)| section(name, report)).collect();
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n\
         <meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>loadgen report</title>\n<style>\n{PAGE_STYLE}{STYLE}</style>\n</head>\n\
         <body>\n<h1>loadgen report</h1>\n{pictures}{sections}</body>\n</html>\n"
    ))
}

fn section(name: &str, report: &Report) -> String {
    let plan = escape(&words::plan(&report.plan, report.elapsed_ns));
    let heading =
        if name.is_empty() { String::new() } else { format!("<h2>{}</h2>\n", escape(name)) };
    format!(
        "{heading}<p>{plan}</p>\n{}{}{}{}{}{}",
        verdict(report),
        facts(report),
        latencies(report),
        faults(report),
        notes(report),
        report.cards.iter().map(card).collect::<String>(),
    )
}

fn verdict(report: &Report) -> String {
    if report.verdict.valid {
        return "<p>Verdict: valid.</p>\n".to_owned();
    }
    let heading = "<p class=\"invalid\">Verdict: invalid, do not use these figures.</p>\n";
    format!("{heading}{}", list(&report.verdict.reasons))
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
    format!("<ul>\n{items}</ul>\n")
}

fn facts(report: &Report) -> String {
    let row = |(name, value): (&str, String)| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(&value))
    };
    let rows: String = table::facts(report).into_iter().map(row).collect();
    format!("<table>\n{rows}</table>\n")
}

fn latencies(report: &Report) -> String {
    let head = |name| format!("<th scope=\"col\" class=\"figure\">{name}</th>");
    let headings: String = table::headings().into_iter().map(head).collect();
    let row = |(name, latency)| {
        let cell = |text| format!("<td class=\"figure\">{text}</td>");
        let cells: String = table::cells(latency).into_iter().map(cell).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(name))
    };
    let rows: String = table::rows(&report.latencies).into_iter().map(row).collect();
    format!("<table>\n<tr><th scope=\"col\">latency</th>{headings}</tr>\n{rows}</table>\n")
}

fn faults(report: &Report) -> String {
    let row = |(phase, fault, count): (String, &str, String)| {
        let fault = escape(fault);
        format!("<tr><td>{phase}</td><td>{fault}</td><td class=\"figure\">{count}</td></tr>\n")
    };
    let rows: String = table::fault_rows(report).into_iter().map(row).collect();
    let idle: Vec<String> = table::idle_fault(report).into_iter().collect();
    if rows.is_empty() {
        return list(&idle);
    }
    let head = "<tr><th scope=\"col\">failed in</th><th scope=\"col\">why</th>\
                <th scope=\"col\" class=\"figure\">operations</th></tr>\n";
    format!("<table>\n{head}{rows}</table>\n{}", list(&idle))
}

fn notes(report: &Report) -> String {
    list(&table::notes(report))
}

fn card(card: &Card) -> String {
    let text = format!(
        "{}, {} CPUs, Linux {}, loadgen {}",
        card.cpu_model, card.cpus, card.kernel_release, card.program_version
    );
    let sysctls: Vec<String> =
        card.sysctls.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!("<details>\n<summary>{}</summary>\n{}</details>\n", escape(&text), list(&sysctls))
}
