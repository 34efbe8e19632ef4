//! Which cells make which curve, and the band of a curve's points over seeds.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::cell::{Cell, Engine, Gave};
use super::theory;
use crate::report::estimate::Estimate;

/// Mean of some seeds and half the width of its 95 % confidence interval (Student's t).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Mean.
    pub mean: f64,
    /// Half width; 0 for a single seed, which says nothing of its spread.
    pub half: f64,
    /// Seeds.
    pub seeds: usize,
}

/// The band of `values`; `None` when there are none. Nothing is drawn around a single seed.
pub fn band(values: &[f64]) -> Option<Band> {
    let Estimate { mean, half, count } = Estimate::of(values)?;
    Some(Band { mean, half: if count == 1 { 0.0 } else { half }, seeds: count })
}

/// A curve over the number of nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// For the legend.
    pub name: String,
    /// Nodes and what was seen.
    pub points: Vec<(u32, Band)>,
    /// A line of theory: drawn thin, without a band.
    pub theory: bool,
}

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// `fig5` and so on, for file names.
    pub key: String,
    /// Above the plot.
    pub title: String,
    /// At the vertical axis.
    pub y: String,
    /// What is drawn.
    pub curves: Vec<Curve>,
}

/// The records to draw from.
pub struct Records<'a> {
    /// All that are known.
    pub known: &'a BTreeMap<Cell, Gave>,
    /// Carried out by.
    pub engine: Engine,
    /// Horizontal axis.
    pub nodes: &'a [u32],
}

impl Records<'_> {
    fn curve(&self, name: String, regions: u32, cdn: bool, of: fn(&Gave) -> f64) -> Curve {
        let point = |nodes: &u32| {
            let values: Vec<f64> = self
                .known
                .iter()
                .filter(|(c, _)| (c.nodes, c.regions, c.cdn, c.engine) == (*nodes, regions, cdn, self.engine))
                .map(|(_, gave)| of(gave))
                .collect();
            Some((*nodes, band(&values)?))
        };
        Curve { name, points: self.nodes.iter().filter_map(point).collect(), theory: false }
    }

    fn line(&self, name: String, of: impl Fn(u32) -> f64) -> Curve {
        let points = self.nodes.iter().map(|n| (*n, Band { mean: of(*n), half: 0.0, seeds: 0 }));
        Curve { name, points: points.collect(), theory: true }
    }
}

/// The paper's four figures and a fifth one: continuity and offload, without which the others say little.
pub fn all(records: &Records<'_>, regions: &[u32]) -> Vec<Figure> {
    let per_region = |cdn: bool, of: fn(&Gave) -> f64| {
        regions.iter().map(|r| records.curve(format!("{r} regions"), *r, cdn, of)).collect::<Vec<_>>()
    };
    let both = |which: &[u32], of: fn(&Gave) -> f64| {
        let pairs = which.iter().filter(|r| regions.contains(r)).flat_map(|r| [(*r, true), (*r, false)]);
        let name = |r, cdn| format!("{r} regions, {} the CDN", if cdn { "with" } else { "without" });
        pairs.map(|(r, cdn)| records.curve(name(r, cdn), r, cdn, of)).collect::<Vec<_>>()
    };
    let delay: fn(&Gave) -> f64 = |gave| gave.delay_factor;
    let traffic: fn(&Gave) -> f64 = |gave| gave.inter_region_traffic;
    let figure = |key: &str, title: &str, y: &str, curves| Figure {
        key: key.to_owned(),
        title: title.to_owned(),
        y: y.to_owned(),
        curves,
    };
    let mut six = both(&[16], delay);
    six.push(records.line("random partners: 0.5214".to_owned(), |_| theory::RANDOM_DISTANCE));
    let mut seven = per_region(true, traffic);
    for r in regions.iter().filter(|r| **r == 4 || **r == 100) {
        seven.push(records.line(format!("floor (R - 1) / N, R = {r}"), |n| theory::floor(*r, n)));
    }
    let mut eight = both(&[4, 16], traffic);
    for r in regions.iter().filter(|r| **r == 4 || **r == 16) {
        eight.push(records.line(format!("random partners: 1 - 1/{r}"), |_| theory::random_share(*r)));
    }
    let mut nine = both(&[16], |gave| gave.continuity);
    nine.extend(both(&[16], |gave| gave.offload).into_iter().map(|mut curve| {
        curve.name = format!("offload, {}", curve.name);
        curve
    }));
    vec![
        figure("fig5", "Figure 5: delay between partners", "delay factor", per_region(true, delay)),
        figure("fig6", "Figure 6: the same, with and without the CDN", "delay factor", six),
        figure("fig7", "Figure 7: traffic between regions", "traffic between regions / (m N)", seven),
        figure("fig8", "Figure 8: the same, with and without the CDN", "traffic between regions / (m N)", eight),
        figure("service", "Continuity and offload of the same runs", "share", nine),
    ]
}

/// A figure's numbers.
pub fn csv(figure: &Figure) -> String {
    let mut text = String::from("nodes,curve,mean,low,high,seeds\n");
    for curve in &figure.curves {
        for (nodes, b) in &curve.points {
            let _ = writeln!(
                text,
                "{nodes},\"{}\",{:.6},{:.6},{:.6},{}",
                curve.name,
                b.mean,
                b.mean - b.half,
                b.mean + b.half,
                b.seeds
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_is_students() {
        assert_eq!(band(&[]), None);
        assert_eq!(band(&[2.0]), Some(Band { mean: 2.0, half: 0.0, seeds: 1 }));
        let b = band(&[1.0, 2.0, 3.0]).expect("three");
        assert!((b.mean - 2.0).abs() < 1e-12 && (b.half - 4.303 / 3f64.sqrt()).abs() < 1e-9, "{b:?}");
    }

    #[test]
    fn a_curve_takes_its_own_cells_only() {
        let cell = |nodes, cdn, seed| Cell { nodes, regions: 16, cdn, seed, engine: Engine::Cycle };
        let gave = |delay_factor| Gave { delay_factor, ..Gave::default() };
        let known =
            [(cell(500, true, 1), gave(0.1)), (cell(500, true, 2), gave(0.3)), (cell(500, false, 1), gave(0.9))];
        let known = known.into_iter().collect();
        let records = Records { known: &known, engine: Engine::Cycle, nodes: &[500, 1_000] };
        let figures = all(&records, &[16]);
        let five = &figures[0].curves[0];
        assert_eq!(five.points.len(), 1);
        assert!((five.points[0].1.mean - 0.2).abs() < 1e-12);
        assert!(csv(&figures[1]).contains("500,\"16 regions, without the CDN\",0.900000"));
    }
}
