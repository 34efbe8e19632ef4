//! The command line that all servers share:
//!
//! ```text
//! weircast-X [run]  [--config FILE] [--log LEVEL]      serve
//! weircast-X check  [--config FILE]                    look, say what was found, exit 0 or 1
//! weircast-cache prepare [--remove]                    huge pages for its memory (as root)
//! weircast-route compile --out FILE INPUT...           one file of where addresses are
//! weircast-X --version | --help
//! ```

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// What a role says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// The program's name.
    pub program: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether it has something to prepare on its host, as root.
    pub prepares: bool,
    /// Whether it has a file that is compiled beforehand.
    pub compiles: bool,
    /// What `--help` adds: what it does, where its configuration is described, an example.
    pub help: &'static str,
}

/// The exit codes, as `--help` prints them ([`super::program::Exit`]).
pub const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked: drained after SIGTERM, or stopped by SIGINT; `check` found nothing in the way
  1  could not start: configuration, limits, a missing database, a port in use; `check` found something
  2  the command line is wrong
  3  failed while serving
  4  cut short by a second signal before the drain was over

Standard output carries one line, `ready {json}`, once it serves; logs go to standard error.
A signal: SIGTERM drains and ends, SIGINT ends, a second one ends at once.";

#[derive(Debug, Parser)]
struct Raw {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file (TOML). Every key has a default; without a file all defaults hold
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, off, or a filter [default: $RUST_LOG, else warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve (what happens without a command)
    Run,
    /// Check configuration, kernel features, limits and databases; start nothing
    Check,
    /// Mount a tmpfs with huge pages for the chunks' memory (as root; may be repeated)
    Prepare(Prepare),
    /// Write one file of where addresses are, for the configuration's `compiled`
    Compile(Compile),
}

/// What to compile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Compile {
    /// The file to write; one that is there is replaced when the new one is whole
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Lists (.csv) and MaxMind databases (.mmdb); an address that one knows is not looked for in those behind it
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
}

/// What to prepare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Prepare {
    /// Undo it
    #[arg(long)]
    pub remove: bool,
    /// The user that the cache runs as [default: root]
    #[arg(long, value_name = "USER", conflicts_with = "remove")]
    pub owner: Option<String>,
}

/// The command line, read.
#[derive(Clone, Debug)]
pub struct Cli {
    /// What to do.
    pub command: Command,
    /// The configuration file, if one was named.
    pub config: Option<PathBuf>,
    /// The log level or filter, if one was given.
    pub log: Option<String>,
}

impl Cli {
    /// Reads this process's command line; prints help, version or a complaint and ends the process where that is due.
    pub fn of_process(role: &Role) -> Cli {
        Cli::read(role, std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// Reads `args`, the program's name first.
    pub fn read(role: &Role, args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, clap::Error> {
        let mut command = Raw::command()
            .name(role.program)
            .bin_name(role.program)
            .version(env!("CARGO_PKG_VERSION"))
            .about(role.about)
            .after_help(format!("{}\n\n{EXIT_CODES}", role.help))
            .mut_subcommand("prepare", |prepare| prepare.hide(!role.prepares))
            .mut_subcommand("compile", |compile| compile.hide(!role.compiles));
        let raw = Raw::from_arg_matches(&command.try_get_matches_from_mut(args)?)?;
        if matches!(raw.command, Some(Command::Prepare(_))) && !role.prepares {
            return Err(command.error(ErrorKind::InvalidSubcommand, "this server has nothing to prepare"));
        }
        if matches!(raw.command, Some(Command::Compile(_))) && !role.compiles {
            return Err(command.error(ErrorKind::InvalidSubcommand, "this server has nothing to compile"));
        }
        Ok(Cli { command: raw.command.unwrap_or(Command::Run), config: raw.config, log: raw.log })
    }
}
