//! The view of sources: those with a limit, what rules by source did, and bans.

use uring_acceptor::control::{BansPlace, RuleCount, SourceList, SourceSort, Status};

use super::model::{List, Model, Sample};
use super::page::{Column, Grid, Line, Mark, wrapped};
use super::words::{count, or_none, wait};

/// How many are listed.
const SHOWN: usize = 10;

/// Whose rules hold for all frontends together.
const PROCESS: &str = "all frontends";

/// Which sources are listed, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Choice {
    /// Among those that have rules by source, round and round.
    pub(super) place: usize,
    pub(super) sort: SourceSort,
}

impl Choice {
    pub(super) fn next(&mut self) {
        self.place = self.place.wrapping_add(1);
    }

    /// What to ask the endpoint for; nothing where nobody has rules by source.
    pub(super) fn target(self, status: &Status) -> Option<String> {
        let all = ruled(status);
        let (frontend, _) = all.get(self.place.checked_rem(all.len())?)?;
        let sort = match self.sort {
            SourceSort::Open => "open",
            SourceSort::Rate => "rate",
            SourceSort::Refused => "refused",
        };
        let of = frontend.map_or(String::new(), |name| format!("&frontend={name}"));
        Some(format!("/sources?sort={sort}&limit={SHOWN}{of}"))
    }
}

/// Whoever has rules by source, with their counts: frontends, and the process (`None`). Frontends that are removed
/// have none any more.
fn ruled(status: &Status) -> Vec<(Option<&str>, &[RuleCount])> {
    let frontends = status.frontends.iter().filter(|it| it.state != "removed");
    let frontends = frontends.map(|it| (Some(it.name.as_str()), it.source_rules.as_slice()));
    let process = std::iter::once((None, status.source_rules.as_slice()));
    frontends.chain(process).filter(|(_, rules)| !rules.is_empty()).collect()
}

pub(super) fn sources(model: &Model, sample: &Sample, width: usize) -> Vec<Line> {
    let status = &sample.status;
    let mut lines = match &sample.list {
        Some(List::Sources(choice, Some(list))) => listed(list, choice.sort, width),
        Some(List::Sources(_, None)) => vec![Line::new(Mark::Plain, "no rules by source")],
        _ => return super::lists::asking(),
    };
    let rules = rules(model, status);
    if !rules.is_empty() {
        lines.push(Line::new(Mark::Plain, ""));
        lines.extend(rules.lines(width));
    }
    for frontend in &status.frontends {
        for error in frontend.networks_files.iter().filter_map(|file| file.error.as_ref()) {
            lines.extend(wrapped(Mark::Bad, &format!("{}: {error}", frontend.name), width));
        }
    }
    lines.push(Line::new(Mark::Plain, ""));
    let BansPlace { active, text, active_at_accept, .. } = &status.bans;
    let bans = match active {
        0 => format!("bans: none; they would be {text}"),
        _ => format!("bans: {active}, {text}; at accept: {active_at_accept}"),
    };
    lines.extend(wrapped(Mark::Plain, &bans, width));
    lines
}

fn listed(list: &SourceList, sort: SourceSort, width: usize) -> Vec<Line> {
    let SourceList { frontend, known, capacity, sources } = list;
    let of = frontend.as_deref().unwrap_or(PROCESS);
    if *capacity == 0 {
        return wrapped(Mark::Plain, &format!("{of}: no limit by source, so none is known"), width);
    }
    let first = match sort {
        SourceSort::Open => "those with most open connections",
        SourceSort::Rate => "those that have used most of their rate",
        SourceSort::Refused => "those most often refused",
    };
    let text =
        format!("{of}: {} of {known} sources, {first} first; room for {capacity}", sources.len());
    let mut grid = Grid::new([
        Column::Text("SOURCE"),
        Column::Number("OPEN"),
        Column::Number("RATE WHOLE IN"),
        Column::Number("REFUSED"),
    ]);
    for it in sources {
        let (open, refused) = (count(it.open.into()), count(it.refused.into()));
        grid.add(Mark::Plain, [it.source.clone(), open, wait(it.rate_whole_in_ms), refused]);
    }
    let mut lines = wrapped(Mark::Plain, &text, width);
    lines.extend(grid.lines(width));
    lines
}

/// How often which rule was against a connection.
fn rules(model: &Model, status: &Status) -> Grid {
    let mut grid = Grid::new([
        Column::Text("RULES OF"),
        Column::Whole("RULE"),
        Column::Whole("ACTION"),
        Column::Number("PER SECOND"),
        Column::Number("TOTAL"),
    ]);
    let before = model.before().map(|sample| ruled(&sample.status)).unwrap_or_default();
    for (of, counts) in ruled(status) {
        for own in counts {
            let same = |it: &&RuleCount| (&it.rule, &it.action) == (&own.rule, &own.action);
            let before = before.iter().filter(|(name, _)| *name == of);
            let before = before.flat_map(|(_, counts)| counts.iter()).find(same);
            let [before, now] = [before, Some(own)].map(|it| it.map(|it| it.connections as f64));
            grid.add(
                Mark::Plain,
                [
                    of.unwrap_or(PROCESS).to_owned(),
                    own.rule.clone(),
                    own.action.clone(),
                    or_none(model.growth(before, now), count),
                    count(own.connections as f64),
                ],
            );
        }
    }
    grid
}
