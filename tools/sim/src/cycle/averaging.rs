//! PeerSim's averaging example: every node holds a number, picks a random neighbour, and both take the mean.
//!
//! The overlay is random, of fixed out-degree, as PeerSim's `WireKOut` makes it. Numbers begin as a peak: one node holds
//! N, all others 0, so the mean is 1 and must stay so. The variance falls by a constant factor per cycle: 1 / (2 sqrt(e)) =
//! 0.303 for nodes that act once per cycle (Jelasity, Montresor, Babaoglu 2005).
//!
//! Here the cycle-driven form: in each cycle all nodes act in the order of their numbers. **One event is one node's
//! action** (draw a neighbour, read and write both numbers).

use super::{dice, fold};

/// The example's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Averaging {
    /// Nodes.
    pub nodes: u32,
    /// Neighbours of each.
    pub degree: u32,
    /// Cycles.
    pub cycles: u32,
    /// Seed.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Averaged {
    /// Variance after each cycle, the start's first.
    pub variance: Vec<f64>,
    /// The mean at the end; 1 but for rounding.
    pub mean: f64,
    /// Events carried out.
    pub events: u64,
    /// All events in order, folded.
    pub digest: u64,
    /// Bytes of the arrays.
    pub bytes: usize,
    /// Time of the cycles alone, without building the overlay and without the observer.
    pub seconds: f64,
}

/// A random overlay: row `i` are the `degree` neighbours of node `i`, never itself; one may be there twice.
pub fn overlay(nodes: u32, degree: u32, seed: u64) -> Vec<u32> {
    let mut rng = dice(seed, u64::MAX, 0);
    let others = nodes.saturating_sub(1).max(1) as usize;
    let mut rows = Vec::with_capacity(nodes as usize * degree as usize);
    for node in 0..nodes {
        for _ in 0..degree {
            let other = rng.below(others) as u32;
            rows.push(if other >= node && nodes > 1 { other + 1 } else { other });
        }
    }
    rows
}

/// The peak: node 0 holds N.
pub fn peak(nodes: u32) -> Vec<f64> {
    let mut values = vec![0.0; nodes as usize];
    values[0] = f64::from(nodes);
    values
}

/// Mean and variance.
pub fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n)
}

impl Averaging {
    /// Runs the sweep.
    pub fn run(&self) -> Averaged {
        let neighbours = overlay(self.nodes, self.degree, self.seed);
        let mut values = peak(self.nodes);
        let mut out = Averaged {
            variance: vec![moments(&values).1],
            mean: 0.0,
            events: 0,
            digest: self.seed,
            bytes: size_of_val(neighbours.as_slice()) + size_of_val(values.as_slice()),
            seconds: 0.0,
        };
        for cycle in 0..self.cycles {
            let began = std::time::Instant::now();
            out.digest = self.sweep(cycle, &neighbours, &mut values, out.digest);
            out.seconds += began.elapsed().as_secs_f64();
            out.events += u64::from(self.nodes);
            out.variance.push(moments(&values).1);
        }
        out.mean = moments(&values).0;
        out
    }

    fn sweep(&self, cycle: u32, neighbours: &[u32], values: &mut [f64], mut digest: u64) -> u64 {
        let mut rng = dice(self.seed, u64::from(cycle), 0);
        for (node, row) in neighbours.chunks_exact(self.degree as usize).enumerate() {
            let other = row[rng.below(row.len())] as usize;
            let mean = (values[node] + values[other]) * 0.5;
            (values[node], values[other]) = (mean, mean);
            digest = fold(digest, mean.to_bits() ^ other as u64);
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Averaging = Averaging { nodes: 5_000, degree: 20, cycles: 12, seed: 3 };

    #[test]
    fn the_mean_stays_and_the_variance_falls_as_theory_says() {
        let out = SMALL.run();
        assert!((out.mean - 1.0).abs() < 1e-9, "{}", out.mean);
        let factor = (out.variance[12] / out.variance[4]).powf(1.0 / 8.0);
        assert!((0.25..0.36).contains(&factor), "1 / (2 sqrt e) = 0.303, seen {factor}");
        assert_eq!(out.events, 60_000);
    }

    #[test]
    fn same_seed_same_digest() {
        let digest = |seed| Averaging { seed, ..SMALL }.run().digest;
        assert_eq!(digest(3), digest(3));
        assert_ne!(digest(3), digest(4));
    }

    #[test]
    fn nobody_neighbours_itself() {
        let rows = overlay(50, 8, 1);
        assert!(rows.chunks(8).enumerate().all(|(node, row)| row.iter().all(|n| *n != node as u32 && *n < 50)));
    }
}
