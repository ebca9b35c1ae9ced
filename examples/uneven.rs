//! An echo that burns 200 us of CPU time for long requests: what do connections wait that have the bad
//! luck to share a worker with such a one? `scripts/compare --work uneven` measures it.
//!
//! `cargo run --release --example uneven -- 127.0.0.1:7002 [WORKERS [ACCEPTORS [OVERLOAD [PATIENCE]]]]`; ACCEPTORS is
//! `auto`, or a number as of `acceptor --acceptors`; OVERLOAD is an action as of `acceptor --overload`, PATIENCE a number of
//! milliseconds: `scripts/overload` measures them.

use std::num::NonZeroUsize;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use uring_acceptor::config::{Acceptors, OverloadAction, OverloadConfig};
use uring_acceptor::server::Server;
use uring_acceptor::service::{Action, ConnectionInfo, Input, Outbox, Responder};

/// The client decides who burns: requests of at least so many bytes do.
const BURNING_BYTES: usize = 128;
const BURN: Duration = Duration::from_micros(200);

struct Uneven;

impl Responder for Uneven {
    type Session = ();

    fn name(&self) -> &str {
        "uneven"
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, (): &mut (), input: &Input<'_>, outbox: &mut Outbox) -> Action {
        if input.bytes().len() >= BURNING_BYTES {
            burn();
        }
        outbox.echo(0..input.bytes().len());
        Action::Continue
    }
}

/// CPU time, not time: on a CPU that is shared it takes longer.
fn burn() {
    let start = thread_cpu_time();
    while thread_cpu_time() - start < BURN {
        std::hint::spin_loop();
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn acceptors(text: &str) -> Result<Acceptors, std::num::ParseIntError> {
    if text == "auto" {
        return Ok(Acceptors::Auto);
    }
    Ok(NonZeroUsize::new(text.parse()?).map_or(Acceptors::Inline, Acceptors::Dedicated))
}

fn overload(action: Option<&str>, patience: Option<u64>) -> Result<OverloadConfig, String> {
    let named = |name: &str| {
        let found = OverloadAction::ALL.into_iter().find(|action| action.name() == name);
        found.ok_or_else(|| format!("there is no action '{name}'"))
    };
    let action = action.map(named).transpose()?.unwrap_or_default();
    let patience = patience.map(Duration::from_millis);
    Ok(OverloadConfig { action, patience, ..OverloadConfig::default() })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7002".into());
    let workers = arguments.next().map(|text| text.parse()).transpose()?;
    let accepting = arguments.next().map_or(Ok(Acceptors::Auto), |text| acceptors(&text))?;
    let (action, patience) = (arguments.next(), arguments.next());
    let patience = patience.map(|text| text.parse()).transpose()?;
    let overload = overload(action.as_deref(), patience)?;
    let server = Server::builder(Uneven)
        .listen(address.parse()?)
        .process(|process| {
            process.threads.workers = workers;
            process.threads.acceptors = accepting;
        })
        .frontend(|frontend| frontend.overload = overload)
        .start()?;
    for address in server.addresses() {
        println!("listening {address} uneven");
    }
    server.join()?;
    Ok(())
}
