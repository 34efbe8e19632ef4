//! The command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use cache_core::wire::StreamName;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::outcome::EXIT_CODES;

/// Watches and publishes live streams in a Weircast network.
#[derive(Debug, Parser)]
#[command(name = "weircast-peer", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// What is logged to standard error: error, warn, info, debug, trace, or filters such as
    /// `weircast_peer::net=debug`. RUST_LOG is the default.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Joins a stream, exchanges it with other peers and plays it out on a local URL, to a file or a pipe.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{WATCH_EXAMPLES}\n\n{EXIT_CODES}"))]
    Watch(WatchArgs),
    /// Publishes an MPEG transport stream from a file, a pipe, a UDP port or the built-in generator.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{PUBLISH_EXAMPLES}\n\n{EXIT_CODES}"))]
    Publish(PublishArgs),
    /// Checks the configuration and this machine's limits without joining anything; exit code 0 or 1.
    #[command(after_long_help = EXAMPLE_FILE)]
    Check(CheckArgs),
}

/// What `check --help` shows.
const EXAMPLE_FILE: &str = concat!("A configuration file with every key:\n\n", include_str!("../config/peer.toml"));

const WATCH_EXAMPLES: &str = "\
Examples:
  weircast-peer watch news --route 192.0.2.1:7200
      then open the printed URL in VLC, mpv or ffplay
  weircast-peer watch news --route 192.0.2.1:7200 --output - | ffplay -
  weircast-peer watch news --route 192.0.2.1:7200 --output news.ts --seconds 60 --report news.json";

const PUBLISH_EXAMPLES: &str = "\
Examples:
  ffmpeg -re -i film.mp4 -c copy -f mpegts - | weircast-peer publish film --route 192.0.2.1:7200 --input -
  weircast-peer publish film --route 192.0.2.1:7200 --input film.ts --loop
  weircast-peer publish tv --route 192.0.2.1:7200 --input udp://239.1.1.1:1234 --secret-file tv.secret
  weircast-peer publish try --route 192.0.2.1:7200 --input test:2000";

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The stream's name.
    pub(crate) stream: StreamName,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where players of this machine find the stream, IP:PORT. Default: 127.0.0.1 and any free port.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Also writes the stream into this file, or to standard output with `-`.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) output: Option<PathBuf>,
    /// Leaves a JSON report here when it ends.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) report: Option<PathBuf>,
    /// Ends so many seconds after the launch.
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// Upload to other peers that this machine can spare, in kbit/s (0: unlimited).
    #[arg(long, value_name = "N")]
    pub(crate) uplink_kbps: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// The stream's name.
    #[arg(value_name = "NAME")]
    pub(crate) stream: StreamName,
    #[command(flatten)]
    pub(crate) common: Common,
    /// The MPEG transport stream: a file (played at its own speed), `-` (standard input), `udp://IP:PORT` (plain or in
    /// RTP, also multicast) or `test:KBPS` (a built-in test stream; `test:` is 2000 kbit/s).
    #[arg(long, value_name = "INPUT")]
    pub(crate) input: String,
    /// The name's publish secret, where the operator has set one. Visible to other users of this machine: prefer
    /// --secret-file.
    #[arg(long, value_name = "S", conflicts_with = "secret_file")]
    pub(crate) secret: Option<String>,
    /// A file whose first line is the name's publish secret.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// The publisher's key, created with mode 0600 when missing; it lets a restarted publisher go on at once.
    /// Default: a new key for each run.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Takes the name over though another publisher is live.
    #[arg(long)]
    pub(crate) takeover: bool,
    /// Begins a file again at its end.
    #[arg(long = "loop")]
    pub(crate) repeat: bool,
    /// Ends the stream so many seconds after the launch.
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// A route server, IP:PORT; may be given several times, tried in order. Default: 127.0.0.1:7200.
    #[arg(long = "route", value_name = "IP:PORT")]
    pub(crate) routes: Vec<SocketAddr>,
    /// This machine's address towards the network: every socket is bound to it. Default: any address and port.
    #[arg(long, value_name = "IP[:PORT]")]
    pub(crate) bind: Option<Bind>,
    /// A configuration file (TOML); the command line has precedence.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What is shown on standard error while it runs.
    #[arg(long, value_enum, default_value_t = StatusMode::Line, value_name = "MODE")]
    pub(crate) status: StatusMode,
}

/// What is shown while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusMode {
    /// One line, rewritten on a terminal.
    Line,
    /// A JSON object on a line each second.
    Json,
    /// Nothing.
    Off,
}

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Bind(pub(crate) SocketAddr);

impl FromStr for Bind {
    type Err = String;
    fn from_str(text: &str) -> Result<Bind, String> {
        let with_port = text.parse::<SocketAddr>().ok();
        let bare = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
        with_port.or_else(bare).map(Bind).ok_or_else(|| "expected IP or IP:PORT, for example 192.0.2.7".to_owned())
    }
}

impl TryFrom<String> for Bind {
    type Error = String;
    fn try_from(text: String) -> Result<Bind, String> {
        text.parse()
    }
}

impl Bind {
    /// Any address of the family in which `route` is reached.
    pub(crate) const fn any_towards(route: SocketAddr) -> Bind {
        Bind(match route {
            SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bind_takes_a_port_or_none() {
        let bind = |text: &str| text.parse::<Bind>().map(|bind| bind.0.to_string());
        assert_eq!(bind("127.0.1.5").as_deref(), Ok("127.0.1.5:0"));
        assert_eq!(bind("127.0.1.5:9").as_deref(), Ok("127.0.1.5:9"));
        assert_eq!(bind("::1").as_deref(), Ok("[::1]:0"));
        assert_eq!(bind("[::1]:9").as_deref(), Ok("[::1]:9"));
        assert!(bind("localhost").is_err());
    }
}
