//! How the program ends: exit codes, each with the one sentence that goes to stderr.

use std::io::Write;
use std::process::ExitCode;

use cache_core::wire::RefusalReason;

/// Exit codes, as `--help` documents them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  ended as wished: the stream or the input ended, --seconds passed, SIGINT or SIGTERM
  1  usage, configuration, file or start failure
  2  refused: no such stream, not authorised, or the name is taken
  3  the connection is lost for good: no route, index or cache server can be reached";

/// An end other than the wished one.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Code 1: the person's side has to be mended; the text says how.
    Usage(String),
    /// Code 2: a server said no.
    Refused(String),
    /// Code 3: nobody to talk to.
    Lost(String),
}

impl Failure {
    /// The process' exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 1,
            Failure::Refused(_) => 2,
            Failure::Lost(_) => 3,
        }
    }

    /// A server's refusal with what mends it.
    pub(crate) fn refused(what: &str, reason: RefusalReason) -> Failure {
        let cure = match reason {
            RefusalReason::UnknownStream => "check the name, or wait until its publisher is live",
            RefusalReason::NotAuthorised => "give the name's publish secret with --secret or --secret-file",
            RefusalReason::NameTaken => "choose another name, or add --takeover with the name's secret",
            RefusalReason::Fenced => {
                "another publisher took the name over; publish again with --takeover to get it back"
            }
            RefusalReason::Version => "install the version of weircast-peer that the servers run",
            RefusalReason::NoDomain => "ask the operator to add your address to a domain of the route server",
            RefusalReason::NoCache => "ask the operator whether a cache server of your domain is up",
            RefusalReason::AreaFull | RefusalReason::Full | RefusalReason::Busy => "try again later",
            RefusalReason::NotTransportStream => "publish an MPEG transport stream (ffmpeg: -f mpegts)",
            _ => "try again; if it stays, ask the operator",
        };
        Failure::Refused(format!("{what} was refused: {reason}; {cure}"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Failure::Usage(text) | Failure::Refused(text) | Failure::Lost(text)) = self;
        f.write_str(text)
    }
}

/// The one line that says that the program is serving: on standard output, or on standard error when standard output
/// carries the stream. Nobody has to read it.
pub(crate) fn say_ready(ready: &serde_json::Value, to_stderr: bool) {
    let line = format!("ready {ready}\n");
    let _ = if to_stderr {
        std::io::stderr().write_all(line.as_bytes())
    } else {
        std::io::stdout().write_all(line.as_bytes())
    };
}

/// Turns any start failure into code 1.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Usage(format!("{error:#}"))
    }
}

/// The code of a finished run, its failure told on stderr.
pub(crate) fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("weircast-peer: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
