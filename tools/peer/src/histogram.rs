//! How late chunks are played: a histogram of fixed buckets.
//!
//! Range 0 to 60 s (a window is 51.2 s, nothing is played later), resolution 10 ms (a twentieth of a chunk); what is
//! later stands in the last bucket. 24 KiB, no allocation after start.

use cache_core::time::Span;
use serde::{Serialize, Serializer};

/// Width of a bucket in milliseconds.
const BUCKET_MS: u64 = 10;

/// Buckets: 60 s.
const BUCKETS: usize = 6_000;

/// Counts of lags.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one lag.
    pub(crate) fn record(&mut self, lag: Span) {
        let bucket = ((lag.millis() / BUCKET_MS) as usize).min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.total += 1;
    }

    /// The upper edge, in milliseconds, of the bucket below or in which `permille` of a thousand lags lie; `None`
    /// without any.
    pub(crate) fn quantile_ms(&self, permille: u64) -> Option<u64> {
        let wanted = (self.total * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        });
        bucket.map(|bucket| (bucket as u64 + 1) * BUCKET_MS)
    }
}

/// The buckets that are not empty: `[[lower edge in ms, count], ...]`.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        serializer.collect_seq(filled.map(|(bucket, count)| (bucket as u64 * BUCKET_MS, *count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lags_ms: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        lags_ms.into_iter().for_each(|ms| histogram.record(Span::from_millis(ms)));
        histogram
    }

    #[test]
    fn quantiles_are_upper_edges() {
        let histogram = of(0..1_000);
        assert_eq!((histogram.quantile_ms(500), histogram.quantile_ms(950)), (Some(500), Some(950)));
        assert_eq!(of([]).quantile_ms(500), None);
        assert_eq!(of([7]).quantile_ms(1), Some(10));
    }

    #[test]
    fn what_is_too_late_stands_in_the_last_bucket() {
        let histogram = of([1, 2, 2_005, 10_000_000]);
        assert_eq!(serde_json::to_string(&histogram).expect("numbers"), "[[0,2],[2000,1],[59990,1]]");
        assert_eq!(histogram.quantile_ms(1_000), Some(60_000));
    }
}
