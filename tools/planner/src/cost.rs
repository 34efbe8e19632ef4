//! What sending a chunk costs a core: between the rates that were measured, in a straight line over the chunk's bytes.
//!
//! ```text
//!  core-seconds
//!  for a chunk |                  ___*   every * is one rate's capacity: cores / (viewers x 5 chunks)
//!              |          *---''''    :
//!              |        .' :          :  above the last: on, through it and the nearest cheaper one
//!              |      *'   :          :
//!              |  _.-':    :          :  below the first: back, through it and the nearest dearer one; through nothing
//!              |-'    :    :          :  when that line costs less than nothing for no bytes
//!              '------'----'----------'- bytes of a chunk
//!                  4 Mbit/s  8        16
//! ```
//! A larger chunk is never cheaper than a smaller one. Where rounds that scatter say so, the mean of the rates concerned
//! stands for each of them, and [`SendCost::mended`] tells which. One rate alone: bytes alone cost.

use crate::calibration::{Capacity, Way};
use crate::sizes::{CHUNKS_PER_S, chunk_bytes};
use crate::trust::middle;

/// Neighbouring rates further apart than by this factor leave what is between them open: the cost bends over the bytes
/// (recorded/README.md: by a factor of four a prediction half-way is off by 15 %).
pub const GAP_MAX: f64 = 2.5;

/// What sending costs a core.
#[derive(Clone, Debug, PartialEq)]
pub struct SendCost {
    /// The way that was measured: another one than asked for when that was not.
    pub measured: Way,
    /// By rate, ascending; at least one.
    points: Vec<Point>,
}

/// One rate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    kbps: f64,
    bytes: f64,
    /// Core-seconds for a chunk, as planned with.
    core_s: f64,
    /// As measured.
    seen_s: f64,
}

/// Where a rate lies among those that were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// At one of them, or between two neighbours.
    Between(f64, f64),
    /// Below the lowest.
    Below(f64),
    /// Above the highest.
    Above(f64),
}

impl SendCost {
    /// From capacities by `way`, whatever else is among them; `None` of none. Of several at one rate (on other numbers of
    /// cores) the middle cost counts.
    pub fn of<'a>(way: Way, capacities: impl Iterator<Item = &'a Capacity>) -> Option<SendCost> {
        let capacities: Vec<&Capacity> = capacities.filter(|capacity| capacity.way == way).collect();
        let mut rates: Vec<f64> = capacities.iter().map(|capacity| capacity.kbps).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let point = |kbps: f64| {
            let at = capacities.iter().filter(|capacity| capacity.kbps == kbps);
            let core_s = middle(at.map(|at| at.cores / (at.viewers * CHUNKS_PER_S)).collect())?;
            Some(Point { kbps, bytes: chunk_bytes(kbps) as f64, core_s, seen_s: core_s })
        };
        let points = rises(rates.into_iter().filter_map(point).collect());
        (!points.is_empty()).then_some(SendCost { measured: way, points })
    }

    /// Core-seconds for a chunk of `bytes`.
    pub fn core_s(&self, bytes: u64) -> f64 {
        let (bytes, points) = (bytes as f64, &self.points);
        let (first, last) = (points[0], points[points.len() - 1]);
        let origin = Point { kbps: 0.0, bytes: 0.0, core_s: 0.0, seen_s: 0.0 };
        if bytes <= first.bytes {
            let dearer = points.iter().find(|point| point.core_s > first.core_s);
            let line = dearer.filter(|dearer| on_line(&first, dearer, 0.0) >= 0.0).unwrap_or(&origin);
            return on_line(&first, line, bytes);
        }
        if bytes > last.bytes {
            let cheaper = points.iter().rev().find(|point| point.core_s < last.core_s);
            return on_line(&last, cheaper.unwrap_or(&origin), bytes);
        }
        let next = points.partition_point(|point| point.bytes < bytes);
        on_line(&points[next], &points[next - 1], bytes)
    }

    /// The most viewers of a stream of `kbps` on `cores`.
    pub fn viewers_max(&self, kbps: f64, cores: f64) -> f64 {
        cores / (self.core_s(chunk_bytes(kbps)) * CHUNKS_PER_S)
    }

    /// Where `kbps` lies.
    pub fn place(&self, kbps: f64) -> Place {
        let rates = || self.points.iter().map(|point| point.kbps);
        let below = rates().filter(|rate| *rate <= kbps).reduce(f64::max);
        let above = rates().filter(|rate| *rate >= kbps).reduce(f64::min);
        match (below, above) {
            (Some(below), Some(above)) => Place::Between(below, above),
            (Some(below), None) => Place::Above(below),
            (None, above) => Place::Below(above.unwrap_or_default()),
        }
    }

    /// Rates at which another cost is planned with than was measured, because a larger chunk came out cheaper.
    pub fn mended(&self) -> Vec<f64> {
        self.points.iter().filter(|point| point.core_s != point.seen_s).map(|point| point.kbps).collect()
    }

    /// Every rate and its cost, in words.
    pub fn text(&self) -> String {
        let each = self.points.iter().map(|point| format!("{:.2} us at {} kbit/s", 1e6 * point.core_s, point.kbps));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Between(below, above) if below == above => write!(out, "at {below}"),
            Place::Between(below, above) => write!(out, "between {below} and {above}"),
            Place::Below(lowest) => write!(out, "below {lowest}, the lowest"),
            Place::Above(highest) => write!(out, "above {highest}, the highest"),
        }
    }
}

/// Core-seconds for `bytes` on the line through two points of different bytes.
fn on_line(a: &Point, b: &Point, bytes: f64) -> f64 {
    a.core_s + (b.core_s - a.core_s) / (b.bytes - a.bytes) * (bytes - a.bytes)
}

/// The nearest costs that never fall: neighbours that do stand for each other with their mean.
fn rises(points: Vec<Point>) -> Vec<Point> {
    // Each with how many points it stands for.
    let mut groups: Vec<(f64, usize)> = Vec::new();
    for point in &points {
        let mut group = (point.core_s, 1);
        while let Some((core_s, count)) = groups.pop_if(|(core_s, _)| *core_s > group.0) {
            let all = count + group.1;
            group = ((core_s * count as f64 + group.0 * group.1 as f64) / all as f64, all);
        }
        groups.push(group);
    }
    let costs = groups.into_iter().flat_map(|(core_s, count)| std::iter::repeat_n(core_s, count));
    points.into_iter().zip(costs).map(|(point, core_s)| Point { core_s, ..point }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capacity at which a chunk costs a core so many microseconds.
    fn at(kbps: f64, us: f64) -> Capacity {
        let rounds = vec![];
        let viewers = 1e6 / (CHUNKS_PER_S * us);
        Capacity { way: Way::Http, kbps, cores: 1.0, viewers, p99_ms: 150.0, cpu_s_per_gib: 0.3, rounds }
    }

    fn of(points: &[(f64, f64)]) -> SendCost {
        let capacities: Vec<Capacity> = points.iter().map(|(kbps, us)| at(*kbps, *us)).collect();
        SendCost::of(Way::Http, capacities.iter()).expect("there is one")
    }

    fn us(cost: &SendCost, kbps: f64) -> f64 {
        (cost.core_s(chunk_bytes(kbps)) * 1e9).round() / 1e3
    }

    #[test]
    fn a_bent_cost_is_followed_from_rate_to_rate() {
        // 17.7 us at 100 KB, 38 at 200, 55 at 400: steeper, then flatter. Half-way 27.85 and 46.5; a line through the ends
        // would say 30.1 at 200 KB.
        let cost = of(&[(16_000.0, 55.0), (4_000.0, 17.7), (8_000.0, 38.0)]);
        assert_eq!([4e3, 6e3, 8e3, 12e3, 16e3].map(|kbps| us(&cost, kbps)), [17.7, 27.85, 38.0, 46.5, 55.0]);
        // 38 us, 5 times a second; two cores.
        assert!((cost.viewers_max(8_000.0, 2.0) - 2e6 / 190.0).abs() < 1e-6);
        // Above: 17 us for each 200 000 bytes on. Below: the line would be at -2.6 us for nothing, so bytes alone cost:
        // 50 152 of 100 152 bytes.
        assert_eq!(us(&cost, 32_000.0), 55.0 + 2.0 * 17.0);
        assert_eq!(us(&cost, 2_000.0), 8.863);
    }

    #[test]
    fn below_the_first_rate_a_chunk_costs_what_the_line_says_of_it() {
        // 10 us at 50 152 bytes, 15 at 100 152: 25 000 bytes fewer are 2.5 us fewer; 152 bytes are 5.0.
        let cost = of(&[(2_000.0, 10.0), (4_000.0, 15.0)]);
        assert_eq!((us(&cost, 1_000.0), us(&cost, 0.0)), (7.5, 5.0));
    }

    #[test]
    fn of_one_rate_bytes_alone_cost() {
        let cost = of(&[(2_000.0, 10.0)]);
        assert_eq!((us(&cost, 2_000.0), us(&cost, 1_000.0)), (10.0, 5.015));
        assert_eq!(us(&cost, 8_000.0), 39.909, "200 152 of 50 152 bytes");
    }

    #[test]
    fn a_larger_chunk_is_never_cheaper() {
        // 30 and 20 stand for each other with 25; then 24 for both: 24.67.
        let cost = of(&[(2_000.0, 10.0), (4_000.0, 30.0), (8_000.0, 20.0), (16_000.0, 24.0), (32_000.0, 50.0)]);
        assert_eq!(
            [2e3, 4e3, 6e3, 8e3, 16e3, 32e3].map(|kbps| us(&cost, kbps)),
            [10.0, 24.667, 24.667, 24.667, 24.667, 50.0]
        );
        assert_eq!(cost.mended(), [4_000.0, 8_000.0, 16_000.0]);
        assert_eq!(of(&[(4_000.0, 10.0), (8_000.0, 10.0)]).mended(), [0.0; 0], "as dear is no fault");
        // At the ends the flat piece is no slope: on from the nearest cheaper, back from the nearest dearer one.
        let top = of(&[(2_000.0, 10.0), (4_000.0, 22.0), (6_000.0, 18.0)]);
        assert_eq!(us(&top, 8_000.0), 25.0, "10 us for the 100 000 bytes before, 5 for 50 000 more");
        let flat = of(&[(2_000.0, 11.0), (4_000.0, 9.0)]);
        assert_eq!((us(&flat, 3_000.0), us(&flat, 1_000.0)), (10.0, 5.015));
        assert_eq!(us(&flat, 8_000.0), 19.985, "200 152 of 100 152 bytes");
    }

    #[test]
    fn the_middle_of_several_numbers_of_cores_counts() {
        let two = Capacity { cores: 2.0, ..at(4_000.0, 10.0) };
        let cost = SendCost::of(Way::Http, [at(4_000.0, 16.0), two].iter()).expect("two");
        assert_eq!(us(&cost, 4_000.0), 18.0, "16 and 20");
        assert_eq!(SendCost::of(Way::Pull, [at(4_000.0, 16.0)].iter()), None);
    }

    #[test]
    fn a_rate_has_a_place_among_the_measured() {
        let cost = of(&[(2_000.0, 10.0), (4_000.0, 15.0)]);
        let said = |kbps| cost.place(kbps).to_string();
        assert_eq!([said(2_000.0), said(3_000.0)], ["at 2000", "between 2000 and 4000"]);
        assert_eq!([said(1_000.0), said(5_000.0)], ["below 2000, the lowest", "above 4000, the highest"]);
    }
}
