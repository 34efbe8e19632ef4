//! From publishing a chunk to its first byte at one peer, on an idle cache, over Weircast's protocol; and through a bare
//! relay from socket to socket.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use weircast_testbed::workdir::tail;

use crate::perf::ours;
use crate::perf::outcome::{Figures, Outcome};
use crate::perf::stage::Stage;

/// The example of the server's package that times first bytes.
const EXAMPLE: &str = "examples/fan_out";

/// What it times from, as it says it.
const SINCE: [&str; 2] = ["first byte sent", "last byte sent"];

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&["who", "to the peer's first byte, from the chunk's", "p50 us", "p99 us"]);
    let Ok(program) = stage.programs.path(EXAMPLE) else {
        outcome.skip("the example fan_out of weircast-server, which times first bytes, is not built");
        return Ok(outcome);
    };
    let mut figures = Figures::default();
    for _ in 0..stage.pairs {
        let chunks = stage.pick("500", "50");
        let mut relay = ours::relay(stage, chunks)?;
        let floor = relay.wait_ready(Duration::from_secs(60))?;
        for (since, key) in SINCE.iter().zip(["since_first_byte_us", "since_last_byte_us"]) {
            for quantile in ["p50", "p99"] {
                let value = floor[key][quantile].as_f64().context("the relay tells its quantiles")?;
                figures.add(format!("floor {since} {quantile}"), value);
            }
        }
        outcome.runs.push(json!({ "relay": floor }));
    }
    for pair in 0..stage.pairs {
        eprintln!("  run {}", pair + 1);
        let server = ours::cache(stage, "")?;
        let said = stage.fresh("first.txt");
        let seconds = stage.pick(20, 2).to_string();
        let args = ["--cache", &server.address.to_string(), "--pid", &server.pid().to_string(), "--seconds", &seconds]
            .map(str::to_owned);
        let args: Vec<String> = args.into_iter().chain(["first", "1"].map(str::to_owned)).collect();
        // Its figures are on standard output, which the shell puts where they can be read.
        let shell =
            ["-c".to_owned(), format!("exec \"$0\" \"$@\" > {}", said.display()), program.display().to_string()];
        let shell: Vec<String> = shell.into_iter().chain(args).collect();
        let mut example = stage.spawn("fan_out", "/bin/sh".as_ref(), &shell, stage.cpus.load.as_deref())?;
        let ended_well = stage.wait(&mut example, Duration::from_secs(120))?;
        anyhow::ensure!(ended_well, "fan_out failed:\n{}\n{}", tail(example.log()), server.log());
        let text = std::fs::read_to_string(&said)?;
        for since in SINCE {
            for quantile in ["p50", "p99"] {
                let value = figure(&text, since, quantile);
                let value = value.with_context(|| format!("fan_out does not tell {quantile} after {since}: {text}"))?;
                figures.add(format!("{since} {quantile}"), value);
            }
        }
        outcome.runs.push(json!({ "fan_out": text }));
    }
    for since in SINCE {
        let cells = |who: &str| ["p50", "p99"].map(|quantile| figures.shown(&format!("{who}{since} {quantile}"), 0));
        for (name, who) in [("ceiling", "floor "), ("Weircast", "")] {
            let [p50, p99] = cells(who);
            outcome.row([name.to_owned(), since.to_owned(), p50, p99]);
        }
        let times = figures.paired(&format!("{since} p50"), &format!("floor {since} p50"));
        outcome.ratio(format!("p50-since-{}-to-ceiling", since.replace(' ', "-")), times);
    }
    Ok(outcome)
}

/// The number behind `quantile` in the line about `since`.
fn figure(text: &str, since: &str, quantile: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(since))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != quantile);
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_example_says() {
        let text = "first byte at the viewer after first byte sent: p50 210 p90 300 p99 900 max 1000 of 99 us\n\
                    first byte at the viewer after last byte sent: p50 110 p90 200 p99 800 max 900 of 99 us\n";
        assert_eq!(figure(text, SINCE[1], "p99"), Some(800.0));
        assert_eq!(figure(text, SINCE[0], "p50"), Some(210.0));
        assert_eq!(figure(text, "nothing", "p50"), None);
    }
}
