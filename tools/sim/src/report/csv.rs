//! An outcome as two tables: metrics, a row for each seed; series, a row for each second of each seed.

use std::fmt::Write;

use super::Sample;
use super::metric;
use super::outcome::Outcome;

/// Metrics: one row for each seed; a number that a run has not is empty.
pub fn metrics(outcome: &Outcome) -> String {
    let names: Vec<&str> = metric::all().map(|metric| metric.name).collect();
    let mut text = format!("scenario,seed,digest,{}\n", names.join(","));
    for run in &outcome.runs {
        let report = &run.report;
        let _ = write!(text, "{},{},{}", field(&report.scenario), report.seed, report.digest);
        for name in &names {
            let value = run.values.get(*name).map_or(String::new(), f64::to_string);
            let _ = write!(text, ",{value}");
        }
        text.push('\n');
    }
    text
}

/// Series: one row for each second of each seed.
pub fn series(outcome: &Outcome) -> String {
    let mut text = "seed,at_s,viewers,playing,stalled,continuity,offload,cache_kbps\n".to_owned();
    for run in &outcome.runs {
        for sample in &run.report.series {
            let Sample { at_s, viewers, playing, continuity, offload, cache_kbps, stalled, .. } = *sample;
            let seed = run.report.seed;
            let _ = writeln!(text, "{seed},{at_s},{viewers},{playing},{stalled},{continuity},{offload},{cache_kbps}");
        }
    }
    text
}

/// A field of a table: quoted when it has to be.
pub fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::tests::outcome;

    #[test]
    fn every_row_has_as_many_fields_as_the_head() {
        let mut outcome = outcome();
        outcome.runs[0].values.remove("offload");
        for (table, rows) in [(metrics(&outcome), 3), (series(&outcome), 180)] {
            let counts: Vec<usize> = table.lines().map(|line| line.split(',').count()).collect();
            assert_eq!(counts.len(), rows + 1);
            assert!(counts.iter().all(|count| *count == counts[0]), "{table}");
        }
    }

    #[test]
    fn a_name_with_a_comma_is_one_field() {
        assert_eq!(field("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(field("plain"), "plain");
    }
}
