//! Whether the server's memory grows.
//!
//! ```text
//!  0          1/3         2/3          1    of the span
//!  | warm-up   | before    | last      |    thirds
//!              |<------ judged ------->|
//! ```
//! The first third of the span is warm-up: pools fill, allocators find their size. Of what follows, *the slope* is the
//! median of the slopes between all pairs of samples (Theil 1950, Sen 1968), which up to 29 % of wild samples, or a tenth
//! at one end, cannot move far; *the trend* says how sure it is that there is one (Mann 1945, Kendall 1975): the number of pairs that rise less
//! those that fall, in standard deviations of what chance gives. There is a trend over 3 deviations (once in 740 runs by
//! chance, if samples were independent; they are not quite). A quantity with a trend grows
//!
//! | over | by more than | what that finds |
//! |---|---|---|
//! | the last third | 0.5 % of the median and 64 KiB (8 descriptors) | what has not come to rest: in half an hour 384 KiB an hour |
//! | both judged thirds | 2 % of the median and 1 MiB (16 descriptors) | steps, which a third may lack |
//!
//! The third before the last one says which growth it is: a leak grows as fast as before, what fills up slower. Neither is
//! shown to be level, so both fail; a longer run, or more churn, tells where the second levels.

use serde::Serialize;

use crate::server::Sample;

/// Parts of the span: warm-up, the one before the last, the last.
const THIRD: f64 = 1.0 / 3.0;

/// Standard deviations from which on a trend is one (our guess: see above).
const TREND_MIN: f64 = 3.0;

/// From which growth on something grows, over the last third and over both that are judged (our guesses: 16 pages in
/// ten minutes; a page or two come and go with every burst of joins).
const LAST: Bound = Bound { share: 0.005, kib: 64.0, descriptors: 8.0 };
const BOTH: Bound = Bound { share: 0.02, kib: 1024.0, descriptors: 16.0 };

/// The last third grows slower than the one before when it has grown by less than this share of that one's growth (our
/// guess: what comes to rest by halves in each third has 0.5, a leak 1).
const SLOWER: f64 = 0.75;

/// Samples that the test needs in a third: fewer have no trend of three deviations even where each is above the one before.
const SAMPLES_MIN: usize = 7;

/// Samples whose pairs are looked at: every so-manieth of more, so that a day's soak is judged in no time.
const SAMPLES_MAX: usize = 2_000;

/// What is no growth: neither a share of the median nor so much.
struct Bound {
    share: f64,
    kib: f64,
    descriptors: f64,
}

/// A quantity over a part of the span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Part {
    pub(crate) slope_per_hour: f64,
    /// From the part's beginning to its end.
    pub(crate) growth: f64,
    /// In standard deviations.
    pub(crate) trend: f64,
}

/// A quantity over the judged span.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Trend {
    pub(crate) median: f64,
    pub(crate) slope_per_hour: f64,
    /// Of the judged span.
    pub(crate) growth: f64,
    /// In standard deviations.
    pub(crate) trend: f64,
    /// The third before the last.
    pub(crate) before: Part,
    pub(crate) last: Part,
    pub(crate) verdict: Verdict,
}

/// Whether a quantity grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Level,
    /// It grows, slower in the last third than in the one before.
    Slower,
    Grows,
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
    let (judged_from_s, last_from_s) = (span_s * THIRD, span_s * 2.0 * THIRD);
    let judged: Vec<Sample> = samples.iter().filter(|sample| sample.at_s >= judged_from_s).copied().collect();
    let step = judged.len().div_ceil(SAMPLES_MAX).max(1);
    let of = |value: &dyn Fn(&Sample) -> u64, (last, both): (f64, f64)| {
        let points: Vec<(f64, f64)> = judged.iter().step_by(step).map(|s| (s.at_s, value(s) as f64)).collect();
        trend(&points, last_from_s, last, both)
    };
    Soak {
        anon_kib: of(&|sample| sample.anon_kib, (LAST.kib, BOTH.kib)),
        descriptors: of(&|sample| sample.descriptors, (LAST.descriptors, BOTH.descriptors)),
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
        let quantities = [("memory grows", "KiB", self.anon_kib), ("descriptors grow", "of them", self.descriptors)];
        let grows = |(what, unit, trend): (&str, &str, Option<Trend>)| {
            let trend = trend?;
            let how = match trend.verdict {
                Verdict::Level => return None,
                Verdict::Slower => "slower than before: a longer run, or more churn, tells where it levels",
                Verdict::Grows => "as fast as before",
            };
            let (last, before) = (trend.last.growth, trend.before.growth);
            Some(format!(
                "the server's {what}: {last:+.0} {unit} in the last third of the span, {before:+.0} in the one before \
                 ({how})"
            ))
        };
        quantities.into_iter().filter_map(grows).collect()
    }
}

/// The trend of `points`, the last third of which begins at `last_from_s`; growth up to `last` there, or `both` in all, is
/// none.
fn trend(points: &[(f64, f64)], last_from_s: f64, last: f64, both: f64) -> Option<Trend> {
    let (early, late) = points.split_at(points.partition_point(|(at_s, _)| *at_s < last_from_s));
    if early.len().min(late.len()) < SAMPLES_MIN {
        return None;
    }
    let (in_all, in_early, in_late) = (part(points)?, part(early)?, part(late)?);
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let median = middle(&mut values);
    let over = |part: Part, share: f64, least: f64| part.trend > TREND_MIN && part.growth > (share * median).max(least);
    let grows = over(in_late, LAST.share, last) || over(in_all, BOTH.share, both);
    let verdict = match grows {
        false => Verdict::Level,
        true if in_late.growth < SLOWER * in_early.growth => Verdict::Slower,
        true => Verdict::Grows,
    };
    let Part { slope_per_hour, growth, trend } = in_all;
    Some(Trend { median, slope_per_hour, growth, trend, before: in_early, last: in_late, verdict })
}

fn part(points: &[(f64, f64)]) -> Option<Part> {
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
    let (slope, span_s) = (middle(&mut slopes), points.last()?.0 - points.first()?.0);
    Some(Part { slope_per_hour: slope * 3_600.0, growth: slope * span_s, trend: rising as f64 / deviation })
}

fn middle(values: &mut [f64]) -> f64 {
    let at = values.len() / 2;
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use cache_core::prng::Prng;

    use super::*;

    /// 300 samples in 300 s of what `kib` says, with noise up to `noise`.
    fn soak(noise: usize, kib: impl Fn(f64) -> f64) -> Soak {
        let mut chance = Prng::new(7);
        let sample = |at: u64| {
            let at_s = at as f64;
            let noise = chance.below(noise) as f64;
            Sample { at_s, rss_kib: 0, anon_kib: (kib(at_s) + noise) as u64, descriptors: 5_000 }
        };
        judge(&(0..300).map(sample).collect::<Vec<_>>(), 300.0)
    }

    fn verdict(soak: &Soak) -> Verdict {
        soak.anon_kib.expect("samples enough").verdict
    }

    #[test]
    fn what_fills_in_the_warm_up_is_no_growth() {
        let soak = soak(400, |at_s| 20_000.0 + 800.0 * at_s.min(90.0));
        assert!(soak.growing().is_empty(), "{:?}", soak.anon_kib);
    }

    #[test]
    fn a_leak_is_growth_though_steps_and_spikes_hide_it() {
        let soak = soak(400, |at_s| {
            let spike = if (at_s as u64).is_multiple_of(20) { 30_000.0 } else { 0.0 };
            40_000.0 + 512.0 * (at_s / 20.0).floor() + spike
        });
        assert_eq!((soak.growing().len(), verdict(&soak)), (1, Verdict::Grows), "{:?}", soak.anon_kib);
        assert!(soak.descriptors.is_some_and(|trend| trend.verdict == Verdict::Level));
    }

    #[test]
    fn a_slow_leak_is_growth_however_little_it_is_in_all() {
        // 300 KiB of 13 MiB, by pages, under bursts of half of a third's growth.
        let soak = soak(50, |at_s| 13_000.0 + 4.0 * (at_s / 4.0).floor());
        assert_eq!(verdict(&soak), Verdict::Grows, "{:?}", soak.anon_kib);
        let before = soak.anon_kib.expect("samples enough").before.growth;
        assert!(
            soak.growing()[0].contains(&format!("{before:+.0} in the one before (as fast")),
            "{:?}",
            soak.growing()
        );
    }

    #[test]
    fn what_fills_slower_and_slower_is_told_from_a_leak_and_from_what_is_full() {
        let filling = |time_s: f64| soak(8, |at_s| 13_000.0 - 1_500.0 * (-at_s / time_s).exp());
        let slower = filling(120.0);
        assert_eq!(verdict(&slower), Verdict::Slower, "{:?}", slower.anon_kib);
        assert!(slower.growing()[0].contains("a longer run"), "{:?}", slower.growing());
        assert_eq!(verdict(&filling(50.0)), Verdict::Level);
    }

    #[test]
    fn a_spike_at_the_end_and_a_sawtooth_are_no_growth() {
        for kib in
            [|at_s: f64| if at_s > 290.0 { 90_000.0 } else { 40_000.0 }, |at_s: f64| 40_000.0 + 700.0 * (at_s % 7.0)]
        {
            let soak = soak(400, kib);
            assert!(soak.growing().is_empty(), "{:?}", soak.anon_kib);
        }
    }

    #[test]
    fn too_few_samples_say_nothing() {
        let sample = |at: u32| Sample { at_s: f64::from(at), rss_kib: 0, anon_kib: 1, descriptors: 1 };
        let judged = |count: u32| judge(&(0..count).map(sample).collect::<Vec<_>>(), f64::from(count)).anon_kib;
        assert_eq!(judged(20), None);
        assert!(judged(21).is_some());
    }

    #[test]
    fn the_fewest_samples_that_are_judged_can_tell_a_leak() {
        let sample = |at: u32| Sample { at_s: f64::from(at), rss_kib: 0, anon_kib: 10_000, descriptors: 5_000 };
        let leak = |at: u32| Sample { anon_kib: 10_000 + 20 * u64::from(at), ..sample(at) };
        let grows = |samples: Vec<Sample>| judge(&samples, 21.0).anon_kib.map(|trend| trend.verdict);
        assert_eq!(grows((0..21).map(leak).collect()), Some(Verdict::Grows));
        assert_eq!(grows((0..21).map(sample).collect()), Some(Verdict::Level));
    }
}
