//! How long a partner takes from a request to its chunk: what a request's deadline is set by.

use crate::time::Span;

/// A smoothed mean and mean deviation, as TCP keeps them of round trips (RFC 6298: weights of 1/8 and 1/4, four deviations).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    mean_us: u64,
    deviation_us: u64,
}

impl Delivery {
    /// A chunk took that long.
    pub(super) const fn observe(&mut self, took: Span) {
        // An hour is as good as never, and cannot overflow.
        let took = if took.micros() < 3_600_000_000 { took.micros() } else { 3_600_000_000 };
        if self.mean_us == 0 {
            (self.mean_us, self.deviation_us) = (took, took / 2);
        } else {
            self.deviation_us = (3 * self.deviation_us + took.abs_diff(self.mean_us)) / 4;
            self.mean_us = (7 * self.mean_us + took) / 8;
        }
    }

    /// What a chunk takes on average; `None` before the first came.
    pub(super) const fn mean(&self) -> Option<Span> {
        if self.mean_us == 0 { None } else { Some(Span::from_micros(self.mean_us)) }
    }

    /// Before that a chunk may well be on its way; `None` before the first came.
    pub(super) const fn at_most(&self) -> Option<Span> {
        if self.mean_us == 0 { None } else { Some(Span::from_micros(self.mean_us + 4 * self.deviation_us)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_deliveries_make_short_deadlines_and_scattered_ones_long() {
        let after = |times: [u64; 2]| {
            let mut delivery = Delivery::default();
            (0..100).for_each(|i| delivery.observe(Span::from_millis(times[i % 2])));
            delivery.at_most().expect("observed").millis()
        };
        assert_eq!(Delivery::default().at_most(), None);
        assert!((150..170).contains(&after([150, 150])), "{}", after([150, 150]));
        assert!(after([50, 250]) > 400, "{}", after([50, 250]));
    }
}
