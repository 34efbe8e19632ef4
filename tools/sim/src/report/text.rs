//! An outcome as lines: what is broken first, then what was expected, then the numbers.

use std::fmt::Write;

use super::outcome::{Outcome, Run};
use super::{Violation, metric};

/// Broken invariants that are shown of a run; the rest is counted.
const VIOLATIONS_SHOWN: usize = 5;

/// The summary of an outcome.
pub fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    // String's Write cannot fail.
    let _ = write_summary(&mut text, outcome);
    text
}

fn write_summary(f: &mut String, outcome: &Outcome) -> std::fmt::Result {
    for run in outcome.runs.iter().filter(|run| !run.report.violations.is_empty()) {
        f.push_str(&violations(run));
    }
    let whole_s = outcome.scenario.duration_s as f64;
    for run in outcome.runs.iter().filter(|run| run.report.simulated_s < whole_s) {
        writeln!(f, "CUT SHORT  seed {}: {} of {whole_s} s", run.report.seed, run.report.simulated_s)?;
    }
    write_verdicts(f, outcome)?;
    let several = outcome.runs.len() > 1;
    let head = if several { format!("mean of {} seeds", outcome.runs.len()) } else { String::new() };
    writeln!(
        f,
        "{:<22} {:>14}{}",
        outcome.scenario.name,
        head,
        if several { "   95 % within      worst" } else { "" }
    )?;
    for metric in metric::all() {
        let Some(estimate) = outcome.estimate(metric.name) else { continue };
        write!(f, "  {:<20} {:>14}", metric.name, metric.shown(estimate.mean))?;
        if several {
            let worst = worst(metric, &outcome.values_of(metric.name));
            write!(f, "  ± {:<12} {:>12}", metric.shown(estimate.half), metric.shown(worst))?;
        }
        writeln!(f)?;
    }
    for run in outcome.runs.iter().take(1) {
        let (report, plus) = (&run.report, if several { ", of the first seed" } else { "" });
        writeln!(f, "seed {}, digest {}, {} events{plus}", report.seed, report.digest, report.events)?;
    }
    Ok(())
}

fn write_verdicts(f: &mut String, outcome: &Outcome) -> std::fmt::Result {
    for verdict in outcome.verdicts() {
        let word = if verdict.kept { "PASS" } else { "FAIL" };
        let value = verdict.value.map_or("no value".to_owned(), |value| format!("{value:.6}"));
        writeln!(f, "{word}  {:<32} {:>12}   {value}", verdict.bound, verdict.limit)?;
    }
    Ok(())
}

fn worst(metric: &metric::Metric, values: &[f64]) -> f64 {
    match metric.better {
        metric::Better::Higher => values.iter().copied().fold(f64::INFINITY, f64::min),
        metric::Better::Lower | metric::Better::Neither => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}

/// A run's broken invariants, with the command that shows them again.
pub fn violations(run: &Run) -> String {
    let list = &run.report.violations;
    let mut text = String::new();
    for Violation { invariant, at_s, what } in list.iter().take(VIOLATIONS_SHOWN) {
        text += &format!("BROKEN  {invariant} at {at_s:.3} s: {what}\n");
    }
    if list.len() > VIOLATIONS_SHOWN {
        text += &format!("BROKEN  {} more\n", list.len() - VIOLATIONS_SHOWN);
    }
    if !list.is_empty() {
        text += &format!("        seed {}: {}\n", run.report.seed, run.replay);
    }
    text
}

/// Every metric's name and meaning.
pub fn metrics() -> String {
    metric::all().map(|metric| format!("{:<22} {}\n", metric.name, metric.is)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::tests::outcome;

    #[test]
    fn what_is_broken_comes_first_with_its_command() {
        let text = summary(&outcome());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "BROKEN  one sequence at 31.500 s: a <fork>");
        assert_eq!(lines[1].trim(), "seed 2: weircast-sim replay 2 x.toml --set 'a.b=1'");
        assert!(lines[2].starts_with("FAIL  continuity_min"), "{text}");
        assert!(lines[3].starts_with("PASS  lag_p95_ms_max"), "{text}");
        assert!(text.contains("mean of 3 seeds"), "{text}");
    }

    #[test]
    fn one_run_has_no_confidence() {
        let mut outcome = outcome();
        outcome.runs.truncate(1);
        let text = summary(&outcome);
        assert!(!text.contains('±') && text.contains("seed 1, digest 0000000000000001, 1000 events"), "{text}");
    }

    #[test]
    fn many_violations_are_counted() {
        let mut outcome = outcome();
        let one = outcome.runs[1].report.violations[0].clone();
        outcome.runs[1].report.violations = vec![one; 8];
        assert!(summary(&outcome).contains("BROKEN  3 more"));
    }
}
