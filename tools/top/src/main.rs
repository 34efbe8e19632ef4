//! `weircast`: the operator's tools. So far one: [`top`].
//!
//! ```text
//! weircast top [FILE | --pid PID] [--once | --json]
//! ```

mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "weircast", version, about = "Looks at Weircast's servers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a running cache does, from its shared memory: the cache is not asked and not disturbed, and can be
    /// looked at when it hangs.
    ///
    /// Without FILE and --pid it looks into /run/weircast/slabs and at /dev/shm/weircast-cache-*.ring, and lists what it
    /// finds when that is more than one. Keys: q ends, s sorts streams by the next column, p pauses.
    ///
    /// Exit codes: 0 shown, 1 no ring that can be shown, 2 the command line is wrong.
    Top(top::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Top(options) => top::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
