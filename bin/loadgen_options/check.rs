//! The second stage: options that fit together become a plan.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use uring_acceptor::load::place::{Family, Place};
use uring_acceptor::load::{CloseStyle, HttpPlan, Mode, Pace, Plan, Sources, Target, Timeouts};

use super::address::HttpAddress;
use super::knee::{self, Asked};
use super::pace::check_pipeline;
use super::typed::{AnswerOptions, Common, Connecting, HttpOptions, Measured, Sizes};
use super::values::{Closing, Sink};
use super::{Command, Options, Outputs, Run, Task};
use uring_acceptor::config::human::Human;

/// What the modes do not have in common.
struct Work {
    place: Place,
    http: Option<HttpPlan>,
    mode: Mode,
    pace: Pace,
    think: Duration,
    close: CloseStyle,
    request_bytes: usize,
    response_bytes: Option<usize>,
}

impl Work {
    fn new(place: Place, mode: Mode, pace: Pace, connecting: &Connecting) -> Result<Self, String> {
        let close = close(mode, &place, connecting.close.map(|Closing(close)| close))?;
        let think = Duration::ZERO;
        Ok(Self {
            place,
            http: None,
            mode,
            pace,
            think,
            close,
            request_bytes: 0,
            response_bytes: None,
        })
    }

    fn sized(self, sizes: &Sizes) -> Self {
        Self {
            request_bytes: sizes.request_size,
            response_bytes: Some(sizes.response_size.unwrap_or(sizes.request_size)),
            ..self
        }
    }
}

impl Command {
    /// The options, or which of them cannot be, and why.
    pub(super) fn checked(self) -> Result<Options, String> {
        let asked = self.asked();
        let (work, common, warm_up) = match self {
            Self::Merge { files, outputs } => return outputs.of(Task::Merge(files)),
            Self::Report { files, outputs } => return outputs.of(Task::Report(files)),
            Self::Compare(options) => return Ok(options.checked()),
            Self::Accept { target, pace, knee, common } => common.with(|c| {
                Work::new(target.address, Mode::Accept, knee.pace(&pace, Mode::Accept)?, c)
            })?,
            Self::Crr { target, pace, knee, sizes, common } => common.with(|c| {
                let pace = knee.pace(&pace, Mode::Crr)?;
                Ok(Work::new(target.address, Mode::Crr, pace, c)?.sized(&sizes))
            })?,
            Self::Rr { target, pace, knee, sizes, common } => common.with(|c| {
                let (pace, think) = knee::kept(&knee, &pace, Mode::Rr)?;
                let work = Work::new(target.address, Mode::Rr, pace, c)?;
                Ok(Work { think, ..work.sized(&sizes) })
            })?,
            Self::Http { address, pace, knee, http, answers, common } => {
                let kept = |mode| knee::kept(&knee, &pace, mode);
                common.with(|c| http_work(address, kept, (&http, &answers), c))?
            }
            Self::Stream { target, crowd, stream, common } => common.with(|c| {
                let mode = Mode::Stream { echo: stream.echo };
                let work = Work::new(target.address, mode, crowd.pace(), c)?;
                Ok(Work { request_bytes: stream.request_size, ..work })
            })?,
            Self::Hold { target, pace, sizes, common } => {
                let pace = pace.pace(Mode::Hold)?;
                let work = Work::new(target.address, Mode::Hold, pace, &common.connecting)?;
                common.at_once(work.sized(&sizes))
            }
            Self::Storm { target, crowd, sizes, common } => {
                let work =
                    Work::new(target.address, Mode::Storm, crowd.pace(), &common.connecting)?;
                common.at_once(work.sized(&sizes))
            }
        };
        enough_work(&work.pace, common.observing.threads)?;
        let options = common.run(work, warm_up)?;
        match asked {
            Some(asked) => asked.task(options),
            None => Ok(options),
        }
    }

    /// The search for the knee that was asked for.
    fn asked(&self) -> Option<Asked> {
        match self {
            Self::Accept { knee, pace, .. } | Self::Crr { knee, pace, .. } => Asked::of(knee, pace),
            Self::Rr { knee, pace, .. } | Self::Http { knee, pace, .. } => {
                Asked::of(knee, &pace.pace)
            }
            _ => None,
        }
    }
}

fn http_work(
    address: HttpAddress,
    kept: impl Fn(Mode) -> Result<(Pace, Duration), String>,
    (http, answers): (&HttpOptions, &AnswerOptions),
    connecting: &Connecting,
) -> Result<Work, String> {
    let mode = Mode::Http { requests_per_connection: http.requests_per_connection };
    let (pace, think) = kept(mode)?;
    check_pipeline(http.pipeline, mode, pace, think)?;
    let work = Work::new(address.place.clone(), mode, pace, connecting)?;
    let plan = super::http::plan(&address, http, answers, work.close)?;
    Ok(Work { think, http: Some(plan), ..work })
}

impl Outputs {
    fn of(self, task: Task) -> Result<Options, String> {
        self.no_file_twice()?;
        Ok(Options { task, outputs: self })
    }

    fn no_file_twice(&self) -> Result<(), String> {
        let sink = |sink: &Option<Sink>| sink.as_ref().map(|sink| sink.path().to_owned());
        let outputs = [
            ("--json", sink(&self.json)),
            ("--csv", sink(&self.csv)),
            ("--hdr", self.hdr.clone()),
            ("--svg", self.svg.clone()),
            ("--html", self.html.clone()),
        ];
        for (index, (option, path)) in outputs.iter().enumerate() {
            let Some(path) = path else { continue };
            let twin = outputs[..index].iter().find(|(_, other)| other.as_ref() == Some(path));
            if let Some((other, _)) = twin {
                let path = Path::display(path);
                return Err(format!("{other} {path} and {option} {path} write to the same place"));
            }
        }
        Ok(())
    }
}

impl Measured {
    fn with(
        self,
        work: impl FnOnce(&Connecting) -> Result<Work, String>,
    ) -> Result<(Work, Common, Human), String> {
        Ok((work(&self.common.connecting)?, self.common, self.warm_up))
    }
}

impl Common {
    /// Without a warm-up: what happens first is what is measured.
    fn at_once(self, work: Work) -> (Work, Common, Human) {
        (work, self, Human(Duration::ZERO))
    }

    fn run(self, work: Work, Human(warm_up): Human) -> Result<Options, String> {
        let Self { window, connecting, observing, outputs } = self;
        let sources = match connecting.source {
            none if none.is_empty() => Sources::Kernel,
            some => Sources::Rotate(some),
        };
        let plan = Plan {
            close: work.close,
            targets: Vec::new(),
            mode: work.mode,
            pace: work.pace,
            request_bytes: work.request_bytes,
            response_bytes: work.response_bytes,
            http: work.http,
            think: work.think,
            duration: window.duration.0,
            warm_up,
            count: window.count,
            threads: observing.threads,
            engine: observing.engine.0,
            timeouts: Timeouts {
                connect: connecting.connect_timeout.0,
                response: connecting.response_timeout.0,
            },
            sources,
            seed: observing.seed,
            server_pid: observing.server_pid,
        };
        let family = match (connecting.ipv4, connecting.ipv6) {
            (true, _) => Family::V4,
            (false, true) => Family::V6,
            (false, false) => Family::Any,
        };
        let (place, allow_remote) = (work.place, connecting.allow_remote);
        outputs.of(Task::Run(Box::new(Run { place, family, plan, allow_remote })))
    }
}

fn enough_work(pace: &Pace, threads: usize) -> Result<(), String> {
    let option = match pace {
        Pace::Closed { .. } | Pace::Fixed { .. } => "--connections",
        Pace::Open { .. } => "--max-inflight",
    };
    let most = pace.at_once();
    if threads > most {
        return Err(format!("--threads {threads} is more than {option} {most} can keep busy"));
    }
    Ok(())
}

fn close(mode: Mode, place: &Place, typed: Option<CloseStyle>) -> Result<CloseStyle, String> {
    let Some(close) = typed else { return Ok(default_close(mode)) };
    let name = Closing(close).to_possible_value().expect("each has a name");
    let refused = |why: &str| Err(format!("--close {}: {why}", name.get_name()));
    if close == CloseStyle::Rst && matches!(place, Place::Known(Target::Unix(_))) {
        return refused("a unix socket has no reset; use fin");
    }
    match (mode, close) {
        (_, CloseStyle::Fin | CloseStyle::Rst) => Ok(close),
        (Mode::Crr | Mode::Storm, _) => Ok(close),
        (Mode::Http { requests_per_connection: Some(_) }, _) => Ok(close),
        (Mode::Accept, CloseStyle::Server) => Ok(close),
        (Mode::Stream { .. }, CloseStyle::Half) => Ok(close),
        (Mode::Http { .. }, _) => {
            refused("connections are kept until --requests-per-connection; use fin or rst")
        }
        (Mode::Accept, _) => refused("there is no request after which to half-close; use fin"),
        (Mode::Stream { .. }, _) => refused("the server has no reason to close; use fin or half"),
        (Mode::Rr | Mode::Hold, _) => refused("connections stay open to the end; use fin or rst"),
    }
}

fn default_close(mode: Mode) -> CloseStyle {
    match mode {
        Mode::Http { requests_per_connection: Some(_) } => CloseStyle::Server,
        _ => CloseStyle::Fin,
    }
}
