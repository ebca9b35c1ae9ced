//! The views of lists that the server makes only for whoever looks: connections, and their clients.

use std::time::Duration;

use uring_acceptor::control::{ClientList, ConnectionEntry, ConnectionList, Status};

use super::model::{List, Sample};
use super::page::{Column, Grid, Line, Mark, wrapped};
use super::words::{bytes, count, or_none, span, wait};
use crate::options::Order;

pub(super) fn asking() -> Vec<Line> {
    vec![Line::new(Mark::Plain, "asking for the list")]
}

/// A line of words and what is below it.
fn headed(text: &str, grid: &Grid, width: usize) -> Vec<Line> {
    let mut lines = wrapped(Mark::Plain, text, width);
    lines.extend(grid.lines(width));
    lines
}

pub(super) fn connections(sample: &Sample, width: usize) -> Vec<Line> {
    let Some(List::Connections(order, list)) = &sample.list else { return asking() };
    let ConnectionList { total, connections, accept_queue_waits_since } = list;
    let first = match order {
        Order::Age => "the oldest",
        Order::Idle => "the longest idle",
        Order::Bytes => "those with the most bytes",
        Order::Wait => "the longest in the accept queue",
        Order::Stall => "the longest stalled",
    };
    let mut text = format!("{} of {total} connections, {first} first", connections.len());
    if let (Order::Wait, Some(since)) = (order, accept_queue_waits_since) {
        text = format!("{text}; WAIT recorded since {since}");
    }
    headed(&text, &grid_of(connections, *order, &sample.status), width)
}

/// Without the columns that say the same of all. What the list is sorted by is not left out.
fn grid_of(connections: &[ConnectionEntry], order: Order, status: &Status) -> Grid {
    let (with_frontend, with_backend) = (status.frontends.len() > 1, !status.upstreams.is_empty());
    let number = |heading, is_kept| match is_kept {
        true => Column::Number(heading),
        false => Column::Spare(heading),
    };
    let is_new = matches!(order, Order::Wait | Order::Stall);
    let mut columns = vec![Column::Whole("ID")];
    columns.extend(with_frontend.then_some(Column::Text("FRONTEND")));
    columns.push(Column::Text("CLIENT"));
    columns.extend(with_backend.then_some(Column::SpareText("BACKEND")));
    columns.extend([
        Column::Whole("STAGE"),
        Column::Number("AGE"),
        number("IDLE", !is_new),
        number("WAIT", order == Order::Wait),
        number("STALL", order == Order::Stall),
        number("BYTES IN", !is_new),
        number("OUT", !is_new),
    ]);
    let mut grid = Grid::new(columns);
    for it in connections {
        let time = |millis| span(Duration::from_millis(millis));
        let mut cells = vec![it.id.clone()];
        cells.extend(with_frontend.then(|| it.frontend.clone()));
        cells.push(or_none(it.client.clone(), |client| client));
        cells.extend(with_backend.then(|| or_none(it.backend.clone(), |backend| backend)));
        cells.extend([it.stage.clone(), time(it.age_ms), time(it.idle_ms)]);
        cells.extend([or_none(it.accept_queue_wait_ms, wait), or_none(it.stalled_ms, time)]);
        cells.extend([bytes(it.bytes_in as f64), bytes(it.bytes_out as f64)]);
        grid.add(Mark::Plain, cells);
    }
    grid
}

pub(super) fn clients(sample: &Sample, width: usize) -> Vec<Line> {
    let Some(List::Clients(list)) = &sample.list else { return asking() };
    let ClientList { total, clients_total, clients } = list;
    let text = format!(
        "{} of {clients_total} clients with {total} connections, those with most connections first",
        clients.len()
    );
    let mut grid = Grid::new([
        Column::Text("CLIENT"),
        Column::Number("CONNECTIONS"),
        Column::Number("OLDEST"),
        Column::Number("BYTES IN"),
        Column::Number("BYTES OUT"),
    ]);
    for it in clients {
        let cells = [
            or_none(it.client.clone(), |client| client),
            count(it.connections as f64),
            span(Duration::from_millis(it.oldest_ms)),
            bytes(it.bytes_in as f64),
            bytes(it.bytes_out as f64),
        ];
        grid.add(Mark::Plain, cells);
    }
    headed(&text, &grid, width)
}
