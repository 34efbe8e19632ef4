//! From publishing a chunk to its first byte at one peer, on an idle cache, over Weircast's protocol; and through a bare
//! relay from socket to socket.

use std::path::Path;
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

const QUANTILES: [&str; 2] = ["p50", "p99"];

/// The relay, and whether its peer is awake when its byte comes: waking takes time that is the peer's.
const CEILINGS: [(&str, bool); 2] = [("ceiling", false), ("ceiling, the peer is awake", true)];

/// A way to run the cache, or to publish to it.
struct Variant {
    who: &'static str,
    /// Lines of the cache's configuration.
    config: &'static str,
    /// So long a chunk's upload takes; with 0 its bytes are written at once.
    upload_us: &'static str,
    /// The peer is awake when its byte comes.
    spin: bool,
}

const VARIANTS: [Variant; 4] = [
    Variant { who: "Weircast", config: "", upload_us: "0", spin: false },
    // A line of 20 Mbit/s: the check goes on meanwhile.
    Variant { who: "Weircast, uploaded in 20 ms", config: "", upload_us: "20000", spin: false },
    Variant { who: "Weircast, busy_poll_us = 100000", config: POLLING, upload_us: "0", spin: false },
    Variant { who: "Weircast, busy_poll_us = 100000, the peer is awake", config: POLLING, upload_us: "0", spin: true },
];

const POLLING: &str = "busy_poll_us = 100000";

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&["who", "to the peer's first byte, from the chunk's", "p50 us", "p99 us"]);
    let Ok(program) = stage.programs.path(EXAMPLE) else {
        outcome.skip("the example fan_out of weircast-server, which times first bytes, is not built");
        return Ok(outcome);
    };
    let mut figures = Figures::default();
    for pair in 0..stage.pairs {
        eprintln!("  run {}", pair + 1);
        for (who, spin) in CEILINGS {
            floor(stage, who, spin, &mut figures, &mut outcome)?;
        }
        for variant in &VARIANTS {
            first_bytes(stage, &program, variant, &mut figures, &mut outcome)?;
        }
    }
    for since in SINCE {
        for who in CEILINGS.iter().map(|(who, _)| *who).chain(VARIANTS.iter().map(|variant| variant.who)) {
            let [p50, p99] = QUANTILES.map(|quantile| figures.shown(&format!("{who}{since} {quantile}"), 0));
            if p50 != "-" {
                outcome.row([who.to_owned(), since.to_owned(), p50, p99]);
            }
        }
        let [ours, floor] = [VARIANTS[0].who, CEILINGS[0].0].map(|who| format!("{who}{since} p50"));
        outcome.ratio(format!("p50-since-{}-to-ceiling", since.replace(' ', "-")), figures.paired(&ours, &floor));
    }
    Ok(outcome)
}

/// The bare relay.
fn floor(stage: &Stage, who: &str, spin: bool, figures: &mut Figures, outcome: &mut Outcome) -> Result<()> {
    let mut relay = ours::relay(stage, stage.pick("500", "50"), spin)?;
    let floor = relay.wait_ready(Duration::from_secs(60))?;
    for (since, key) in SINCE.iter().zip(["since_first_byte_us", "since_last_byte_us"]) {
        for quantile in QUANTILES {
            let value = floor[key][quantile].as_f64().context("the relay tells its quantiles")?;
            figures.add(format!("{who}{since} {quantile}"), value);
        }
    }
    outcome.runs.push(json!({ "who": who, "relay": floor }));
    Ok(())
}

/// A cache of its own, one publisher, one subscriber.
fn first_bytes(
    stage: &Stage,
    program: &Path,
    variant: &Variant,
    figures: &mut Figures,
    outcome: &mut Outcome,
) -> Result<()> {
    let server = ours::cache(stage, variant.config)?;
    let said = stage.fresh("first.txt");
    let seconds = stage.pick(15, 2).to_string();
    // Its figures are on standard output, which the shell puts where they can be read.
    let mut shell =
        vec!["-c".to_owned(), format!("exec \"$0\" \"$@\" > {}", said.display()), program.display().to_string()];
    shell.extend(["--cache", &server.address.to_string(), "--pid", &server.pid().to_string()].map(str::to_owned));
    shell.extend(["--seconds", &seconds, "--upload-us", variant.upload_us, "first", "1"].map(str::to_owned));
    shell.extend(variant.spin.then(|| "--spin".to_owned()));
    let mut example = stage.spawn("fan_out", "/bin/sh".as_ref(), &shell, stage.cpus.load.as_deref())?;
    let ended_well = stage.wait(&mut example, Duration::from_secs(120))?;
    anyhow::ensure!(ended_well, "fan_out failed:\n{}\n{}", tail(example.log()), server.log());
    let text = std::fs::read_to_string(&said)?;
    for since in SINCE.into_iter().filter(|since| variant.upload_us == "0" || *since == SINCE[1]) {
        for quantile in QUANTILES {
            let value = figure(&text, since, quantile);
            let value = value.with_context(|| format!("fan_out does not tell {quantile} after {since}: {text}"))?;
            figures.add(format!("{}{since} {quantile}", variant.who), value);
        }
    }
    outcome.runs.push(json!({ "who": variant.who, "fan_out": text }));
    Ok(())
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
