//! One run of `weircast-load`, and what its report says.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weircast_testbed::workdir::tail;

use super::outcome::Outcome;
use super::stage::{Server, Stage};

const GIB: f64 = (1u64 << 30) as f64;

/// What the load tool calls viewers who lack a chunk.
const LATE: &str = "chunks missed";

/// Longest run; a soak has its own (our guess).
const LIMIT: Duration = Duration::from_secs(900);

/// A command line of `weircast-load`, being put together.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    args: Vec<String>,
    limit: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) value: Value,
    pub(crate) passed: bool,
}

impl Load {
    /// `weircast-load COMMAND`.
    pub(crate) fn new(command: &str) -> Load {
        Load { args: vec![command.to_owned()], limit: LIMIT }
    }

    /// Words as they are, separated by blanks.
    pub(crate) fn words(mut self, words: &str) -> Load {
        self.args.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Load {
        self.args.extend([key.to_owned(), value.to_string()]);
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Load {
        self.limit = limit;
        self
    }

    /// Runs it against `server`. An error when it wrote no report; one that was not passed is an `Ok`.
    pub(crate) fn run(mut self, stage: &Stage, server: &Server) -> Result<Report> {
        let file = stage.fresh("report.json");
        self = self.with("--json", file.display()).with("--server-pid", server.pid());
        if stage.quick {
            self = self.words("--correctness-only");
        }
        let program = stage.programs.path("weircast-load")?;
        let mut process = stage.spawn("load", &program, &self.args, stage.cpus.load.as_deref())?;
        let passed = stage.wait(&mut process, self.limit)?;
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!(
                "weircast-load {} wrote no report:\n{}\n{}'s log:\n{}",
                self.args.join(" "),
                tail(process.log()),
                server.name,
                server.log()
            )
        })?;
        let mut value: Value = serde_json::from_str(&text).context("the load tool's report")?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("command".to_owned(), json!(without_files(&self.args.join(" "))));
            fields.insert("server_name".to_owned(), json!(server.name));
            fields.insert("passed".to_owned(), json!(passed));
        }
        let report = Report { value, passed };
        report.tell();
        Ok(report)
    }
}

impl Report {
    /// A number by its path of keys, `lateness_ms.p99`.
    pub(crate) fn number(&self, path: &str) -> Option<f64> {
        path.split('.').try_fold(&self.value, |value, key| value.get(key)).and_then(Value::as_f64)
    }

    /// The same; an error when the report lacks it.
    pub(crate) fn need(&self, path: &str) -> Result<f64> {
        let Some(number) = self.number(path) else { bail!("the load tool's report has no {path}: {}", self.value) };
        Ok(number)
    }

    /// Notes in `outcome` what must hold in every run, on the slowest machine too: no byte wrong, nobody without service.
    /// That a viewer lacks a chunk which came too late is a matter of time; where time is judged, the experiment does it.
    pub(crate) fn judge(&self, what: &str, outcome: &mut Outcome) {
        let number = |path| self.number(path).unwrap_or(0.0);
        let (viewers, served, wrong) = (number("viewers"), number("served"), number("wrong"));
        if wrong > 0.0 {
            outcome.failures.push(format!("{what}: {wrong} chunks were wrong"));
        }
        let late = self.value["not_served"][LATE].as_f64().unwrap_or(0.0);
        if served + late < viewers || served + late == 0.0 {
            outcome
                .failures
                .push(format!("{what}: {served} of {viewers} viewers were served; {}", self.value["not_served"]));
        }
    }

    /// A word about viewers who were not served in full, for whoever looks on.
    fn tell(&self) {
        let number = |path| self.number(path).unwrap_or(0.0);
        if number("served") < number("viewers") {
            eprintln!("    {} of {} were served: {}", number("served"), number("viewers"), self.value["not_served"]);
        }
    }

    /// Whether there was anything to measure; when not, `outcome` says why as a failure.
    pub(crate) fn is_measured(&self, what: &str, outcome: &mut Outcome) -> bool {
        let measured =
            self.number("server.cpu_s").is_some() && self.number("bytes_measured").is_some_and(|bytes| bytes > 0.0);
        if !measured {
            self.judge(what, outcome);
        }
        measured
    }

    /// Lateness in ms at a quantile, from the moment at which the chunk was complete at the server where that is known,
    /// else from that at which it was due there.
    pub(crate) fn lateness(&self, quantile: &str) -> Result<f64> {
        match self.number(&format!("lateness_from_upload_ms.{quantile}")) {
            Some(lateness) => Ok(lateness),
            None => self.need(&format!("lateness_ms.{quantile}")),
        }
    }

    /// What all viewers together got in a second of the measured span.
    pub(crate) fn gib_per_s(&self) -> Result<f64> {
        Ok(self.need("bytes_measured")? / GIB / self.need("seconds")?)
    }

    /// CPU time of the server for a GiB, over the measured span.
    pub(crate) fn cpu_s_per_gib(&self) -> Result<f64> {
        self.need("server.cpu_s_per_gib")
    }

    /// What the server's own (anonymous) memory grew by for each viewer, from before the first join to the end, in KiB.
    pub(crate) fn memory_kib_per_viewer(&self) -> Result<f64> {
        let grown = self.need("server.anon_kib_after")? - self.need("server.anon_kib_idle")?;
        Ok(grown / self.need("viewers")?)
    }
}

/// The command without the files of this run, which mean nothing elsewhere.
fn without_files(command: &str) -> String {
    let mut words = command.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--json" | "--times" | "--html" => {
                words.next();
            }
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_recorded_command_names_no_file_of_its_run() {
        let command = "run -n 5 --json /x/1.json --mode push --times /x/t";
        assert_eq!(super::without_files(command), "run -n 5 --mode push");
    }
}
