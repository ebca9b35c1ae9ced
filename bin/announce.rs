//! The lines that tell where the server listens, once it accepts: `listening ADDRESS SERVICE`.
//!
//! They are on stdout, where a script waits for them, unless the access log has it: then they are on stderr.
//! There they are no lines of the log, since `-q` must not hide them, but are in its form.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::SystemTime;

use uring_acceptor::config::{LogFormat, LogTarget};
use uring_acceptor::log::Lines;
use uring_acceptor::server::{FrontendStatus, Server};

use crate::options::Options;

/// Where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr(LogFormat),
}

impl Stream {
    fn of(options: &Options) -> Self {
        let on_stdout = options.config.access_logs().any(|log| log.target == LogTarget::Stdout);
        match () {
            () if on_stdout => Self::Stderr(options.logging.format),
            _ => Self::Stdout,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr(_) => "stderr",
        }
    }

    /// In the form of the stream.
    fn lines(self, listening: &[String]) -> String {
        let line = |line: &String| match self {
            Self::Stderr(LogFormat::Json) => as_json(line),
            Self::Stderr(LogFormat::Text) | Self::Stdout => format!("{line}\n"),
        };
        listening.iter().map(line).collect()
    }

    /// Writes lines there.
    fn write(self, text: &str) -> io::Result<()> {
        let descriptor = match self {
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned()?,
            Self::Stderr(_) => io::stderr().as_fd().try_clone_to_owned()?,
        };
        let mut lines = Lines::new(File::from(descriptor));
        lines.pending().extend_from_slice(text.as_bytes());
        lines.flush().map_err(|unwritten| unwritten.error)
    }
}

/// Tells where the server listens, from a thread of its own: perhaps nobody reads there.
pub(crate) fn announce(server: &Server, options: &Options) -> io::Result<JoinHandle<()>> {
    let stream = Stream::of(options);
    let frontends = server.handle().frontends();
    let listening: Vec<String> = frontends.iter().flat_map(FrontendStatus::listening).collect();
    let text = stream.lines(&listening);
    server.handle().spawn("stdout", move || {
        if let Err(error) = stream.write(&text) {
            for line in listening {
                tracing::warn!("{line}, but {} cannot be written: {error}", stream.name());
            }
        }
    })
}

/// As the log writes a message.
fn as_json(message: &str) -> String {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let fields = serde_json::json!({ "message": message });
    let line = serde_json::json!({ "timestamp": timestamp, "level": "INFO", "fields": fields });
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_a_line_in_the_form_of_its_stream() {
        let listening = ["listening 127.0.0.1:1 proxy", "listening unix:/a proxy web"];
        let listening = listening.map(str::to_owned);
        let plain = "listening 127.0.0.1:1 proxy\nlistening unix:/a proxy web\n";
        for stream in [Stream::Stdout, Stream::Stderr(LogFormat::Text)] {
            assert_eq!(stream.lines(&listening), plain);
        }
        let json = Stream::Stderr(LogFormat::Json).lines(&listening);
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["fields"]["message"], "listening unix:/a proxy web");
    }
}
