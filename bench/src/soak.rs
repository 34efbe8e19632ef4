//! Whether the server's memory grows.
//!
//! The first third of the span is warm-up: pools fill, allocators find their size. Of what follows, *the slope* is the
//! median of the slopes between all pairs of samples (Theil 1950, Sen 1968), which up to 29 % of wild samples cannot
//! move; *the trend* says how sure it is that there is one (Mann 1945, Kendall 1975): the number of pairs that rise less
//! those that fall, in standard deviations of what chance gives. Memory grows when the trend is over 3 deviations (once in
//! 740 runs by chance, if samples were independent; they are not quite) *and* the slope over the judged span comes to more
//! than 2 % of the median and 1 MiB (16 descriptors): a trend of a few pages is none that anybody would meet in a month.

use serde::Serialize;

use crate::server::Sample;

/// Share of the span that is warm-up.
const WARM_UP: f64 = 1.0 / 3.0;

/// Standard deviations from which on a trend is one (our guess: see above).
const TREND_MIN: f64 = 3.0;

/// Share of the median from which on a growth is one (our guess).
const GROWTH_MIN: f64 = 0.02;

/// Samples that the test needs: below, nothing is said.
const SAMPLES_MIN: usize = 10;

/// Samples whose pairs are looked at: every so-manieth of more, so that a day's soak is judged in no time.
const SAMPLES_MAX: usize = 2_000;

/// A quantity over time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Trend {
    pub(crate) median: f64,
    pub(crate) slope_per_hour: f64,
    /// Of the judged span.
    pub(crate) growth: f64,
    /// In standard deviations.
    pub(crate) trend: f64,
    pub(crate) grows: bool,
}

/// What a soak found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Soak {
    pub(crate) anon_kib: Option<Trend>,
    pub(crate) descriptors: Option<Trend>,
    pub(crate) samples: Vec<Sample>,
    /// Where the warm-up ends.
    pub(crate) judged_from_s: f64,
}

/// Judges samples over a span of `span_s`.
pub(crate) fn judge(samples: &[Sample], span_s: f64) -> Soak {
    let judged_from_s = span_s * WARM_UP;
    let judged: Vec<Sample> = samples.iter().filter(|sample| sample.at_s >= judged_from_s).copied().collect();
    let step = judged.len().div_ceil(SAMPLES_MAX).max(1);
    let of = |value: &dyn Fn(&Sample) -> u64, least: f64| {
        let points: Vec<(f64, f64)> = judged.iter().step_by(step).map(|s| (s.at_s, value(s) as f64)).collect();
        trend(&points, least)
    };
    Soak {
        anon_kib: of(&|sample| sample.anon_kib, 1024.0),
        descriptors: of(&|sample| sample.descriptors, 16.0),
        samples: samples.to_vec(),
        judged_from_s,
    }
}

impl Soak {
    /// Whether there was enough to look at for a word on the server's memory.
    pub(crate) fn is_judged(&self) -> bool {
        self.anon_kib.is_some()
    }

    /// What grows, in words.
    pub(crate) fn growing(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(trend) = self.anon_kib.filter(|trend| trend.grows) {
            words.push(format!("the server's memory grows by {:.0} KiB an hour", trend.slope_per_hour));
        }
        if let Some(trend) = self.descriptors.filter(|trend| trend.grows) {
            words.push(format!("the server's descriptors grow by {:.0} an hour", trend.slope_per_hour));
        }
        words
    }
}

fn trend(points: &[(f64, f64)], least: f64) -> Option<Trend> {
    if points.len() < SAMPLES_MIN {
        return None;
    }
    let (mut slopes, mut rising) = (Vec::new(), 0i64);
    for (at, (from_s, from)) in points.iter().enumerate() {
        for (to_s, to) in &points[at + 1..] {
            slopes.push((to - from) / (to_s - from_s).max(1e-6));
            rising += i64::from(to > from) - i64::from(to < from);
        }
    }
    let count = points.len() as f64;
    // Without the correction for equal values, which makes it only more careful.
    let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let (slope, median) = (middle(&mut slopes), middle(&mut values));
    let span_s = points.last()?.0 - points.first()?.0;
    let (growth, trend) = (slope * span_s, rising as f64 / deviation);
    let grows = trend > TREND_MIN && growth > (GROWTH_MIN * median).max(least);
    Some(Trend { median, slope_per_hour: slope * 3_600.0, growth, trend, grows })
}

fn middle(values: &mut [f64]) -> f64 {
    let at = values.len() / 2;
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use cache_core::prng::Prng;

    use super::*;

    /// 300 samples in 300 s of what `kib` says, with some noise.
    fn soak(kib: impl Fn(f64) -> f64) -> Soak {
        let mut chance = Prng::new(7);
        let sample = |at: u64| {
            let at_s = at as f64;
            let noise = chance.below(400) as f64;
            Sample { at_s, rss_kib: 0, anon_kib: (kib(at_s) + noise) as u64, descriptors: 5_000 }
        };
        judge(&(0..300).map(sample).collect::<Vec<_>>(), 300.0)
    }

    #[test]
    fn what_fills_in_the_warm_up_is_no_growth() {
        let soak = soak(|at_s| 20_000.0 + 800.0 * at_s.min(90.0));
        assert!(soak.growing().is_empty(), "{:?}", soak.anon_kib);
    }

    #[test]
    fn a_leak_is_growth_though_steps_and_spikes_hide_it() {
        let soak = soak(|at_s| {
            let spike = if (at_s as u64).is_multiple_of(20) { 30_000.0 } else { 0.0 };
            40_000.0 + 512.0 * (at_s / 20.0).floor() + spike
        });
        assert_eq!(soak.growing().len(), 1, "{:?}", soak.anon_kib);
        assert!(soak.descriptors.is_some_and(|trend| !trend.grows));
    }

    #[test]
    fn a_spike_at_the_end_and_a_sawtooth_are_no_growth() {
        for kib in
            [|at_s: f64| if at_s > 280.0 { 90_000.0 } else { 40_000.0 }, |at_s: f64| 40_000.0 + 700.0 * (at_s % 7.0)]
        {
            let soak = soak(kib);
            assert!(soak.growing().is_empty(), "{:?}", soak.anon_kib);
        }
    }

    #[test]
    fn too_few_samples_say_nothing() {
        let sample = Sample { at_s: 9.0, rss_kib: 0, anon_kib: 1, descriptors: 1 };
        assert_eq!(judge(&[sample; 5], 9.0).anon_kib, None);
    }
}
