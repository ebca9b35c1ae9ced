//! What keys do, and how all of it is drawn.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Drawn, Span, Text};
use uring_acceptor::control::SourceSort;

use super::model::{Model, Wanted};
use super::page::{Line, Mark};
use super::pages;
use super::sources::Choice;
use crate::options::{Order, View};

const KEYS: &str =
    "1-7 Tab view  sort: a age i idle b bytes w wait s stall  up down scroll  q quit";

const KEYS_OF_SOURCES: &str =
    "1-7 Tab view  sort: o open r rate x refused  f frontend  up down scroll  q quit";

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Draw.
    Draw,
    /// Ask, and draw.
    Ask,
    Quit,
}

/// What is looked at.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) model: Model,
    pub(super) address: String,
    pub(super) view: View,
    pub(super) order: Order,
    pub(super) sources: Choice,
    /// Why there is nothing newer.
    pub(super) failure: Option<String>,
    /// Lines that are scrolled past.
    scrolled: usize,
    /// Lines of a view that there was room for.
    room: usize,
}

impl Screen {
    pub(super) fn new(model: Model, address: String, view: View, order: Order) -> Self {
        let sources = Choice::default();
        Self { model, address, view, order, sources, failure: None, scrolled: 0, room: 1 }
    }

    /// The list that is to be asked for.
    pub(super) fn list(&self) -> Option<Wanted> {
        wanted(self.view, self.order, self.sources)
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Reaction {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Reaction::Quit,
            KeyCode::Char('c') if is_control => Reaction::Quit,
            KeyCode::Char(digit @ '1'..='7') => self.show(View::ALL[digit as usize - '1' as usize]),
            KeyCode::Tab | KeyCode::Right => self.step(1),
            KeyCode::BackTab | KeyCode::Left => self.step(View::ALL.len() - 1),
            KeyCode::Char('a') => self.sort(Order::Age),
            KeyCode::Char('i') => self.sort(Order::Idle),
            KeyCode::Char('b') => self.sort(Order::Bytes),
            KeyCode::Char('w') => self.sort(Order::Wait),
            KeyCode::Char('s') => self.sort(Order::Stall),
            KeyCode::Char('o') => self.sort_sources(SourceSort::Open),
            KeyCode::Char('r') => self.sort_sources(SourceSort::Rate),
            KeyCode::Char('x') => self.sort_sources(SourceSort::Refused),
            KeyCode::Char('f') => {
                self.sources.next();
                self.show(View::Sources)
            }
            KeyCode::Down | KeyCode::Char('j') => self.scroll(self.scrolled + 1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(self.scrolled.saturating_sub(1)),
            KeyCode::PageDown => self.scroll(self.scrolled + self.room),
            KeyCode::PageUp => self.scroll(self.scrolled.saturating_sub(self.room)),
            KeyCode::Home => self.scroll(0),
            _ => Reaction::Draw,
        }
    }

    fn show(&mut self, view: View) -> Reaction {
        (self.view, self.scrolled) = (view, 0);
        if view.is_list() { Reaction::Ask } else { Reaction::Draw }
    }

    fn step(&mut self, by: usize) -> Reaction {
        let place = View::ALL.iter().position(|view| *view == self.view).unwrap_or_default();
        self.show(View::ALL[(place + by) % View::ALL.len()])
    }

    fn sort(&mut self, order: Order) -> Reaction {
        self.order = order;
        self.show(View::Connections)
    }

    fn sort_sources(&mut self, sort: SourceSort) -> Reaction {
        self.sources.sort = sort;
        self.show(View::Sources)
    }

    fn scroll(&mut self, to: usize) -> Reaction {
        self.scrolled = to;
        Reaction::Draw
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let width = usize::from(frame.area().width);
        let head = pages::head(&self.model, &self.address, width);
        let rows = [
            Constraint::Length(u16::try_from(head.len()).unwrap_or(u16::MAX)),
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
        ];
        let [above, tabs, body, below] = Layout::vertical(rows).areas(frame.area());
        let lines = pages::view(&self.model, self.view, width);
        self.room = usize::from(body.height).max(1);
        self.scrolled = self.scrolled.min(lines.len().saturating_sub(self.room));
        frame.render_widget(text(&head), above);
        frame.render_widget(self.tabs(), tabs);
        frame.render_widget(text(&lines[self.scrolled..]), body);
        frame.render_widget(self.foot(), below);
    }

    fn tabs(&self) -> Drawn<'static> {
        let tab = |(number, view): (usize, &View)| {
            // With a space behind each, seven would not fit into 80 columns.
            let name = format!(" {} {}", number + 1, title(*view));
            let is_shown = *view == self.view;
            let style =
                if is_shown { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
            Span::styled(name, style)
        };
        Drawn::from_iter(View::ALL.iter().enumerate().map(tab))
    }

    fn foot(&self) -> Drawn<'static> {
        match &self.failure {
            Some(failure) => Drawn::styled(failure.clone(), style(Mark::Bad)),
            None => Drawn::styled(keys(self.view), Style::new().add_modifier(Modifier::DIM)),
        }
    }
}

fn keys(view: View) -> &'static str {
    if view == View::Sources { KEYS_OF_SOURCES } else { KEYS }
}

/// The list that a view shows.
pub(super) fn wanted(view: View, order: Order, sources: Choice) -> Option<Wanted> {
    match view {
        View::Connections => Some(Wanted::Connections(order)),
        View::Clients => Some(Wanted::Clients),
        View::Sources => Some(Wanted::Sources(sources)),
        View::Listeners | View::Workers | View::Upstreams | View::Times => None,
    }
}

pub(super) fn title(view: View) -> &'static str {
    match view {
        View::Listeners => "Listeners",
        View::Workers => "Workers",
        View::Upstreams => "Upstreams",
        View::Connections => "Connections",
        View::Clients => "Clients",
        View::Times => "Times",
        View::Sources => "Sources",
    }
}

fn text(lines: &[Line]) -> Text<'_> {
    lines.iter().map(|line| Drawn::styled(line.text.as_str(), style(line.mark))).collect()
}

fn style(mark: Mark) -> Style {
    match mark {
        Mark::Plain => Style::new(),
        Mark::Heading => Style::new().add_modifier(Modifier::BOLD),
        Mark::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}
