//! `acceptor top`: ask an admin endpoint again and again, and draw what it tells.
//!
//! ```text
//!   this thread: keys, drawing --what to ask for--> a thread: HTTP
//!                              <-----a sample-----
//! ```
//!
//! So a server that is stuck keeps nobody from quitting.

mod lists;
mod metrics;
mod model;
mod page;
mod pages;
mod screen;
mod sources;
#[cfg(test)]
mod tests;
mod times;
mod words;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use uring_acceptor::config::AdminAddress;
use uring_acceptor::control::LIST_DEFAULT;

use crate::EXIT_FAILURE;
use crate::configuration::write;
use crate::ctl::usage;
use crate::doctor::fail;
use crate::look::{self, fetch, fetch_status, parsed};
use crate::options::{Top, View};
use metrics::Metrics;
use model::{List, Model, Sample, Times, Wanted};
use page::{Line, Mark};
use screen::{Reaction, Screen, wanted};
use sources::Choice;

/// How long a key or a sample may be there before it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long the loop may take to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The width of a picture that nobody looks at in a terminal.
const WIDTH: usize = 80;

/// Until it is told to quit.
pub(crate) fn watch(asked: &Top) -> ExitCode {
    let address = match look::address(&asked.endpoint) {
        Ok(address) => address,
        Err(text) => return usage(&text),
    };
    if !asked.once && !io::stdout().is_terminal() {
        return usage("stdout is not a terminal; --once prints one picture as text");
    }
    let view = asked.view.unwrap_or(View::Listeners);
    let list = wanted(view, asked.sort, Choice::default());
    // Whoever cannot reach the server reads why where it stays.
    let first = match ask(&address, list) {
        Ok(sample) => sample,
        Err(text) => return fail(&text),
    };
    if asked.once {
        return print(asked, &address, first);
    }
    let mut model = Model::new(Times::Recent, asked.interval.0);
    model.take(first);
    let mut screen = Screen::new(model, address.to_string(), view, asked.sort);
    match on_terminal(&mut screen, address, asked.interval.0) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the screen cannot be drawn: {error}")),
    }
}

/// All that there is to know now.
fn ask(address: &AdminAddress, list: Option<Wanted>) -> Result<Sample, String> {
    let (status, _) = fetch_status(address)?;
    let metrics = Metrics::parse(&fetch(address, "/metrics")?);
    let at = Instant::now();
    let listed = |wanted| match wanted {
        Wanted::Connections(order) => {
            let target = format!("/connections?sort={}&limit={LIST_DEFAULT}", order.name());
            Ok::<_, String>(List::Connections(order, parsed(address, &fetch(address, &target)?)?))
        }
        Wanted::Clients => {
            let target = format!("/connections?by=client&limit={LIST_DEFAULT}");
            Ok(List::Clients(parsed(address, &fetch(address, &target)?)?))
        }
        Wanted::Sources(choice) => {
            let list = |target: String| parsed(address, &fetch(address, &target)?);
            Ok(List::Sources(choice, choice.target(&status).map(list).transpose()?))
        }
    };
    let list = list.map(listed).transpose()?;
    Ok(Sample { at, status, metrics, list })
}

/// One picture, with the rates of one interval.
fn print(asked: &Top, address: &AdminAddress, first: Sample) -> ExitCode {
    let mut model = Model::new(Times::All, asked.interval.0);
    let list = asked.view.and_then(|view| wanted(view, asked.sort, Choice::default()));
    model.take(first);
    thread::sleep(asked.interval.0);
    match ask(address, list) {
        Ok(sample) => model.take(sample),
        Err(text) => return fail(&text),
    }
    let width = match ratatui::crossterm::terminal::size() {
        Ok((width @ 1.., _)) if io::stdout().is_terminal() => usize::from(width),
        _ => WIDTH,
    };
    match write(&picture(&model, &address.to_string(), asked.view, width)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("stdout cannot be written: {error}")),
    }
}

/// The view, or all that cost nothing, as text.
fn picture(model: &Model, address: &str, view: Option<View>, width: usize) -> String {
    let mut lines = pages::head(model, address, width);
    for each in View::ALL {
        let is_shown = view.map_or(!each.is_list(), |view| view == each);
        if is_shown {
            lines.push(Line::new(Mark::Plain, ""));
            lines.push(Line::new(Mark::Heading, screen::title(each)));
            lines.extend(pages::view(model, each, width));
        }
    }
    lines.into_iter().map(|line| line.text + "\n").collect()
}

fn on_terminal(screen: &mut Screen, address: AdminAddress, interval: Duration) -> io::Result<()> {
    let told_to_end = Arc::new(AtomicBool::new(false));
    end_on_signals(Arc::clone(&told_to_end))?;
    let (asks, asked) = channel();
    let (answers, answered) = channel();
    // It is not waited for: the process ends without it.
    thread::Builder::new()
        .name("asking".to_owned())
        .spawn(move || answer(&address, &asked, &answers))?;
    // A panic undoes it, too.
    let mut terminal = ratatui::try_init()?;
    let ended = follow(&mut terminal, screen, (&asks, &answered), interval, &told_to_end);
    ratatui::try_restore()?;
    ended
}

/// Lets the loop end, and the process without it if it does not: reading from a terminal that is gone finds its end
/// for ever, in a call that does not return. Then nothing is left to restore either.
fn end_on_signals(told_to_end: Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let watch = move || {
        if signals.forever().next().is_some() {
            told_to_end.store(true, Ordering::Relaxed);
            thread::sleep(END_LIMIT);
            // Of a terminal that is there and takes nothing; this needs no room in it.
            let _ = ratatui::crossterm::terminal::disable_raw_mode();
            std::process::exit(EXIT_FAILURE.into());
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}

type Answer = Result<Sample, String>;

fn answer(address: &AdminAddress, asked: &Receiver<Option<Wanted>>, answers: &Sender<Answer>) {
    while let Ok(list) = asked.recv() {
        if answers.send(ask(address, list)).is_err() {
            return;
        }
    }
}

fn follow(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    (asks, answered): (&Sender<Option<Wanted>>, &Receiver<Answer>),
    interval: Duration,
    told_to_end: &AtomicBool,
) -> io::Result<()> {
    let (mut next, mut is_asked, mut is_new) = (Instant::now() + interval, false, true);
    while !told_to_end.load(Ordering::Relaxed) {
        if is_new {
            terminal.draw(|frame| screen.draw(frame))?;
        }
        is_new = false;
        if !is_asked && Instant::now() >= next {
            is_asked = asks.send(screen.list()).is_ok();
            next = Instant::now() + interval;
        }
        if has_event()? {
            is_new = true;
            match react(screen, &event::read()?) {
                Reaction::Draw => {}
                Reaction::Ask => next = Instant::now(),
                Reaction::Quit => return Ok(()),
            }
        }
        match answered.try_recv() {
            Ok(answer) => {
                (is_asked, is_new) = (false, true);
                screen.failure = answer.map(|sample| screen.model.take(sample)).err();
            }
            Err(TryRecvError::Empty) => {}
            // It has panicked, which has undone what was done to the terminal.
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other("the thread that asks has ended"));
            }
        }
    }
    Ok(())
}

/// Waits for one a little. A signal is none.
fn has_event() -> io::Result<bool> {
    match event::poll(LOOK_INTERVAL) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        found => found,
    }
}

fn react(screen: &mut Screen, event: &Event) -> Reaction {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => screen.press(*key),
        // A new size, or the focus.
        _ => Reaction::Draw,
    }
}
