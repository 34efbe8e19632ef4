//! What an experiment yields, and the arithmetic of paired runs.

use std::collections::BTreeMap;

use serde_json::Value;

/// Everything an experiment has to tell.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What is compared with the baseline: quotients of figures of the same run, by name.
    pub(crate) ratios: BTreeMap<String, f64>,
    /// Each single run's report.
    pub(crate) runs: Vec<Value>,
    /// What was left out and why.
    pub(crate) skipped: Vec<String>,
    /// What must not be: a wrong byte, a viewer who was not served at a number that any machine serves.
    pub(crate) failures: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(head: &[&'static str]) -> Outcome {
        Outcome { head: head.to_vec(), ..Outcome::default() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.skipped.contains(&why) {
            eprintln!("SKIP: {why}");
            self.skipped.push(why);
        }
    }

    /// A quotient for the baseline, as [`Figures::paired`] has it; nothing when it is not known.
    pub(crate) fn ratio(&mut self, name: impl Into<String>, is: Option<f64>) {
        if let Some(is) = is {
            self.ratios.insert(name.into(), is);
        }
    }

    /// As a table in Markdown.
    pub(crate) fn table(&self) -> String {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.head.clone()) + &"|---".repeat(self.head.len()) + "|\n";
        for row in &self.rows {
            text += &line(row.iter().map(String::as_str).collect());
        }
        for skipped in &self.skipped {
            text += &format!("\nSkipped: {skipped}.\n");
        }
        text
    }
}

/// Figures of the same thing from several runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(BTreeMap<String, Vec<f64>>);

impl Figures {
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.entry(name.into()).or_default().push(value);
    }

    /// The middle one; the mean of the middle two.
    pub(crate) fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.0.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        let (half, odd) = (values.len() / 2, values.len() % 2 == 1);
        Some(if odd { values[half] } else { (values[half - 1] + values[half]) / 2.0 })
    }

    /// The middle one with so many digits, or a dash.
    pub(crate) fn shown(&self, name: &str, digits: usize) -> String {
        shown(self.median(name), digits)
    }

    /// The least one, a whole number, or a dash: of viewers served, the run in which fewest were is what is told.
    pub(crate) fn fewest(&self, name: &str) -> String {
        let least = self.0.get(name).and_then(|values| values.iter().copied().min_by(f64::total_cmp));
        shown(least, 0)
    }

    /// The middle of the quotients of each pair of runs.
    pub(crate) fn paired(&self, upper: &str, lower: &str) -> Option<f64> {
        let mut quotients = Figures::default();
        for (upper, lower) in self.0.get(upper)?.iter().zip(self.0.get(lower)?).filter(|(_, lower)| **lower > 0.0) {
            quotients.add("", upper / lower);
        }
        quotients.median("")
    }
}

/// A number for a table, or a dash.
pub(crate) fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, &[f64])]) -> Figures {
        let mut figures = Figures::default();
        for (name, values) in of {
            values.iter().for_each(|value| figures.add(*name, *value));
        }
        figures
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let figures = figures(&[("three", &[9.0, 1.0, 2.0]), ("four", &[4.0, 1.0, 2.0, 9.0])]);
        assert_eq!(
            (figures.median("three"), figures.median("four"), figures.median("none")),
            (Some(2.0), Some(3.0), None)
        );
    }

    #[test]
    fn the_run_that_served_fewest_is_told() {
        let figures = figures(&[("served", &[5_000.0, 4_965.0, 5_000.0])]);
        assert_eq!((figures.fewest("served"), figures.fewest("none")), ("4965".to_owned(), "-".to_owned()));
    }

    #[test]
    fn pairs_are_divided_before_the_middle_is_taken() {
        // The machine was half as fast in the second pair: the quotients agree all the same.
        let figures = figures(&[("a", &[2.0, 4.0, 20.0]), ("b", &[1.0, 2.0, 1.0])]);
        assert_eq!(figures.paired("a", "b"), Some(2.0));
    }
}
