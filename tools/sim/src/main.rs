//! `weircast-sim`: runs scenarios, compares them, replays seeds.

use clap::{Parser, Subcommand};
use weircast_sim::cycle::cli::{AveragingArgs, SwarmArgs};
use weircast_sim::paper::cli::PaperArgs;

#[derive(Debug, Parser)]
#[command(name = "weircast-sim", about = "Weircast's swarm in virtual time")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Averaging(AveragingArgs),
    Swarm(SwarmArgs),
    Paper(PaperArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Averaging(args) => args.run(),
        Command::Swarm(args) => args.run(),
        Command::Paper(args) => args.run(),
    }
}
