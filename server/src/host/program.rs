//! A server's `main`: command line, configuration, logs, then `check` or `run`, and the exit code.

use std::process::ExitCode;

use serde::de::DeserializeOwned;

use super::cli::{Cli, Command, Compile, Prepare, Role};
use super::findings::Findings;
use super::{config, limits, logs};

/// How a run ended well, or as well as it was allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked: drained, or stopped.
    AsAsked,
    /// A second signal came before the drain was over.
    CutShort,
}

/// How a run ended badly.
#[derive(Debug)]
pub enum Failed {
    /// Before anything was served.
    Start(anyhow::Error),
    /// While serving.
    Serving(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    /// What `?` meets before serving is a failure to start.
    fn from(error: E) -> Failed {
        Failed::Start(error.into())
    }
}

/// The exit code's meaning; the table stands in [`super::cli::EXIT_CODES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Ended as asked.
    AsAsked = 0,
    /// Could not start, or `check` found something in the way.
    Start = 1,
    /// Failed while serving. (2 is clap's: a wrong command line.)
    Serving = 3,
    /// Cut short by a second signal.
    CutShort = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Runs the program of `role`. `check` looks at a configuration beyond what every server needs; `run` serves until it is
/// told to end. Both get the configuration that the command line names.
pub fn main<C: DeserializeOwned + Default>(
    role: &Role,
    check: impl FnOnce(&C, &mut Findings),
    run: impl FnOnce(C) -> Result<Ended, Failed>,
) -> ExitCode {
    main_of(role, check, run, |_, _| nothing(), |_, _| nothing())
}

/// What a command says that the role does not have: [`Cli`] has refused it before.
fn nothing() -> anyhow::Result<String> {
    Err(anyhow::anyhow!("there is nothing to do"))
}

/// As [`main`], for a role that has something to prepare as root: `prepare` does it and says what it did.
pub fn main_preparing<C: DeserializeOwned + Default>(
    role: &Role,
    check: impl FnOnce(&C, &mut Findings),
    run: impl FnOnce(C) -> Result<Ended, Failed>,
    prepare: impl FnOnce(&C, &Prepare) -> anyhow::Result<String>,
) -> ExitCode {
    main_of(role, check, run, prepare, |_, _| nothing())
}

/// As [`main`], for a role with a file that is compiled beforehand: `compile` writes it and says what is in it.
pub fn main_compiling<C: DeserializeOwned + Default>(
    role: &Role,
    check: impl FnOnce(&C, &mut Findings),
    run: impl FnOnce(C) -> Result<Ended, Failed>,
    compile: impl FnOnce(&C, &Compile) -> anyhow::Result<String>,
) -> ExitCode {
    main_of(role, check, run, |_, _| nothing(), compile)
}

fn main_of<C: DeserializeOwned + Default>(
    role: &Role,
    check: impl FnOnce(&C, &mut Findings),
    run: impl FnOnce(C) -> Result<Ended, Failed>,
    prepare: impl FnOnce(&C, &Prepare) -> anyhow::Result<String>,
    compile: impl FnOnce(&C, &Compile) -> anyhow::Result<String>,
) -> ExitCode {
    let cli = Cli::of_process(role);
    if let Err(complaint) = logs::begin(cli.log.as_deref()) {
        eprintln!("{}: {complaint}", role.program);
        return ExitCode::from(2);
    }
    let configuration = config::load::<C>(cli.config.as_deref());
    let configured = |configuration: Result<C, config::ConfigError>| configuration.map_err(anyhow::Error::from);
    match &cli.command {
        Command::Run => {}
        Command::Check => return check_all(&cli, configuration, check).into(),
        Command::Prepare(asked) => return done(role, configured(configuration).and_then(|c| prepare(&c, asked))),
        Command::Compile(asked) => return done(role, configured(configuration).and_then(|c| compile(&c, asked))),
    }
    let ended = configuration.map_err(Failed::from).and_then(run);
    let (exit, error) = match ended {
        Ok(Ended::AsAsked) => return Exit::AsAsked.into(),
        Ok(Ended::CutShort) => return Exit::CutShort.into(),
        Err(Failed::Start(error)) => (Exit::Start, error),
        Err(Failed::Serving(error)) => (Exit::Serving, error),
    };
    eprintln!("{}: {error:#}", role.program);
    exit.into()
}

/// Says how a command that starts nothing ended.
fn done(role: &Role, done: anyhow::Result<String>) -> ExitCode {
    match done {
        Ok(done) => {
            println!("{done}");
            Exit::AsAsked.into()
        }
        Err(error) => {
            eprintln!("{}: {error:#}", role.program);
            Exit::Start.into()
        }
    }
}

fn check_all<C>(
    cli: &Cli,
    configuration: Result<C, config::ConfigError>,
    check: impl FnOnce(&C, &mut Findings),
) -> Exit {
    let mut findings = Findings::new();
    let source = cli.config.as_ref().map_or("defaults, no file".to_owned(), |file| file.display().to_string());
    findings.record(configuration.as_ref().map(|_| format!("configuration: {source}")));
    findings.record(limits::prepare().map(|limits| limits.to_string()));
    if let Ok(configuration) = &configuration {
        check(configuration, &mut findings);
    }
    print!("{}", findings.text());
    if findings.passed() { Exit::AsAsked } else { Exit::Start }
}
