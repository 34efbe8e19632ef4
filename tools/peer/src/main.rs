//! `weircast-peer`: the slim client. It watches a stream together with other peers, or publishes one.
//!
//! One thread runs one event loop over non-blocking sockets; threads of their own read or write only what may block
//! (standard input, files, pipes, the terminal). No async runtime, no io_uring.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`], [`config`], [`outcome`] | command line, configuration file, exit codes |
//! | [`clock`], [`entropy`] | the places where time and chance come in |
//! | [`net`] | links, datagrams, framing |
//! | [`watch`] | drives the peer's machine (`cache_core::proto::peer`) |
//! | [`store`], [`playout`] | bytes of kept chunks; players, files and pipes |
//! | [`publish`] | a publisher's machine, its inputs, and what drives it |
//! | [`status`], [`report`], [`histogram`] | what a person and a program see of it |

mod check;
mod cli;
mod clock;
mod config;
mod entropy;
mod histogram;
mod net;
mod outcome;
mod playout;
mod publish;
mod report;
mod status;
mod store;
#[cfg(test)]
mod testing;
mod watch;
mod writer;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::clock::Clock;

fn main() -> ExitCode {
    let clock = Clock::start();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let result = log_to_stderr(cli.log.as_deref()).map_err(Into::into).and_then(|()| match &cli.command {
        Command::Watch(args) => watch::run(args, clock),
        Command::Publish(args) => publish::run(args, clock),
        Command::Check(args) => check::run(args).map_err(Into::into),
    });
    outcome::exit(result)
}

fn log_to_stderr(filter: Option<&str>) -> anyhow::Result<()> {
    let filter = match filter {
        Some(filter) => EnvFilter::try_new(filter)
            .map_err(|e| anyhow::anyhow!("--log {filter}: {e}; use error, warn, info, debug or trace"))?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
