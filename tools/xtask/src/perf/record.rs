//! Where results go: the raw runs, the table in `perf/README.md`, the comparison with `perf/baseline.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::facts;
use super::outcome::Outcome;

/// What a ratio was when it was last looked at, and how much worse it may get.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    pub(crate) ratio: f64,
    /// Share by which it may get worse; noise here is about a tenth.
    pub(crate) tolerance: f64,
    /// Whether a greater ratio is the better one.
    pub(crate) greater_is_better: bool,
}

/// By experiment, then by ratio.
pub(crate) type Baselines = BTreeMap<String, BTreeMap<String, Baseline>>;

/// Reads `perf/baseline.toml`.
pub(crate) fn baselines(perf: &Path) -> Result<Baselines> {
    let path = perf.join("baseline.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} does not hold what it should", path.display()))
}

/// A line for each ratio of `outcome`, and whether one got worse than its tolerance allows.
pub(crate) fn compare(name: &str, outcome: &Outcome, baselines: &Baselines) -> (Vec<String>, bool) {
    let mut worse = false;
    let lines = outcome.ratios.iter().map(|(ratio, is)| {
        let Some(base) = baselines.get(name).and_then(|experiment| experiment.get(ratio)) else {
            return format!("{name}.{ratio}: {is:.3} (no baseline)");
        };
        let change = is / base.ratio - 1.0;
        let loss = if base.greater_is_better { -change } else { change };
        let verdict = if loss > base.tolerance {
            worse = true;
            "WORSE THAN ITS TOLERANCE"
        } else {
            "holds"
        };
        format!("{name}.{ratio}: {is:.3}, baseline {:.3} ({:+.0} %): {verdict}", base.ratio, 100.0 * change)
    });
    (lines.collect(), worse)
}

/// Writes the raw record; returns its path below `perf`.
pub(crate) fn raw(perf: &Path, name: &str, command: &str, host: &Value, outcome: &Outcome) -> Result<String> {
    let place = format!("results/{}-{name}.json", facts::today());
    let record = json!({
        "experiment": name, "command": command, "date": facts::today(), "host": host,
        "head": outcome.head, "rows": outcome.rows, "ratios": outcome.ratios,
        "skipped": outcome.skipped, "failures": outcome.failures, "runs": outcome.runs,
    });
    let path = perf.join(&place);
    std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
    let text = serde_json::to_string_pretty(&record)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(place)
}

/// Puts `table` between the experiment's markers in `perf/README.md`.
pub(crate) fn into_readme(perf: &Path, name: &str, table: &str) -> Result<()> {
    let path = perf.join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = between_markers(&text, name, table).with_context(|| format!("in {}", path.display()))?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn between_markers(text: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let Some((before, rest)) = text.split_once(&begin) else { bail!("there is no line {begin}") };
    let Some((_, after)) = rest.split_once(&end) else { bail!("there is no line {end} behind {begin}") };
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ratio: f64) -> Outcome {
        Outcome { ratios: BTreeMap::from([("share".to_owned(), ratio)]), ..Outcome::default() }
    }

    fn baseline(greater_is_better: bool) -> Baselines {
        let base = Baseline { ratio: 1.0, tolerance: 0.15, greater_is_better };
        BTreeMap::from([("get".to_owned(), BTreeMap::from([("share".to_owned(), base)]))])
    }

    #[test]
    fn a_ratio_may_get_better_without_end_and_worse_to_its_tolerance() {
        for (is, greater_is_better, expected) in [
            (0.9, true, false),
            (0.8, true, true),
            (5.0, true, false),
            (1.1, false, false),
            (1.2, false, true),
            (0.1, false, false),
        ] {
            let (lines, worse) = compare("get", &outcome(is), &baseline(greater_is_better));
            assert_eq!(worse, expected, "{lines:?}");
        }
    }

    #[test]
    fn a_ratio_without_baseline_is_told_and_fails_nothing() {
        let (lines, worse) = compare("native", &outcome(0.1), &baseline(true));
        assert!(!worse && lines[0].contains("no baseline"));
    }

    #[test]
    fn a_table_replaces_the_one_before() {
        let page = "a\n<!-- get: begin -->\nold\n<!-- get: end -->\nb\n";
        let once = between_markers(page, "get", "| new |\n").expect("markers");
        assert_eq!(once, "a\n<!-- get: begin -->\n| new |\n<!-- get: end -->\nb\n");
        assert_eq!(between_markers(&once, "get", "| new |\n").expect("markers"), once);
        assert!(between_markers(page, "native", "").is_err());
    }

    #[test]
    fn the_repository_s_baseline_and_page_can_be_read() {
        let perf = crate::cargo::root().expect("a root").join("perf");
        let known: Vec<&str> = super::super::experiments::ALL.iter().map(|experiment| experiment.name).collect();
        for (name, ratios) in baselines(&perf).expect("a baseline") {
            assert!(known.contains(&name.as_str()), "{name} is no experiment");
            assert!(ratios.values().all(|base| base.ratio > 0.0 && base.tolerance > 0.0), "{name}");
        }
        let page = std::fs::read_to_string(perf.join("README.md")).expect("a page");
        for name in known {
            between_markers(&page, name, "").expect("every experiment has its place in perf/README.md");
        }
    }
}
