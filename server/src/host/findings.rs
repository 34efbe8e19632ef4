//! What `check` found: lines for a person and one verdict.

use std::fmt::Write;

use super::config::ConfigError;

/// How a line bears on the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// It runs, with less.
    Warning,
    /// It would not start.
    Failure,
}

/// The lines, in the order they were found.
#[derive(Debug, Default)]
pub struct Findings(Vec<(Mark, String)>);

impl Findings {
    /// Nothing looked at.
    pub const fn new() -> Findings {
        Findings(Vec::new())
    }

    /// Something is as it should be.
    pub fn good(&mut self, line: impl Into<String>) {
        self.0.push((Mark::Good, line.into()));
    }

    /// Something is degraded.
    pub fn warn(&mut self, line: impl Into<String>) {
        self.0.push((Mark::Warning, line.into()));
    }

    /// Something prevents a start.
    pub fn fail(&mut self, line: impl Into<String>) {
        self.0.push((Mark::Failure, line.into()));
    }

    /// Good with the first line, or a failure with the error.
    pub fn record<E: std::fmt::Display>(&mut self, result: Result<String, E>) {
        match result {
            Ok(line) => self.good(line),
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Whether `listen` can be had. A port in use is a warning: mostly it is this very server that has it.
    pub fn record_listen(&mut self, result: Result<String, ConfigError>) {
        match result {
            Err(error @ ConfigError::PortInUse(_)) => {
                self.warn(format!("{error} (or is this server running already?)"))
            }
            result => self.record(result),
        }
    }

    /// Whether it would start.
    pub fn passed(&self) -> bool {
        self.0.iter().all(|(mark, _)| *mark != Mark::Failure)
    }

    /// The lines, each with its mark.
    pub fn lines(&self) -> &[(Mark, String)] {
        &self.0
    }

    /// As `check` prints them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (mark, line) in &self.0 {
            let mark = match mark {
                Mark::Good => "ok     ",
                Mark::Warning => "warning",
                Mark::Failure => "FAILED ",
            };
            let _ = writeln!(text, "{mark}  {line}");
        }
        text
    }
}
