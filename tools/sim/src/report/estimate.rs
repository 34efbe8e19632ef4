//! Means with their confidence: what a few seeds say about all.

/// A mean and how far from it the true one may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean of the values.
    pub mean: f64,
    /// Half of the 95 % confidence interval (Student's t); infinite for a single value.
    pub half: f64,
    /// How many values.
    pub count: usize,
}

/// 97.5 % quantile of Student's t by degrees of freedom 1 to 30, from the usual tables.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The quantile for `freedom` degrees, which need not be whole; at least 1. Above 30 it is off by less than 0.5 %.
fn t_quantile(freedom: f64) -> f64 {
    let whole = freedom.floor().max(1.0) as usize;
    T.get(whole - 1).copied().unwrap_or(1.96 + 2.4 / freedom)
}

fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, squares / (count - 1.0))
}

impl Estimate {
    /// Of independent `values`; `None` without any.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        let count = values.len();
        match values {
            [] => None,
            [one] => Some(Estimate { mean: *one, half: f64::INFINITY, count }),
            _ => {
                let (mean, variance) = mean_and_variance(values);
                let half = t_quantile(count as f64 - 1.0) * (variance / count as f64).sqrt();
                Some(Estimate { mean, half, count })
            }
        }
    }

    /// Of `b - a`, for values that belong together one by one: two runs of the same seed.
    pub fn of_pairs(pairs: &[(f64, f64)]) -> Option<Estimate> {
        Estimate::of(&pairs.iter().map(|(a, b)| b - a).collect::<Vec<f64>>())
    }

    /// Of the difference of means `b - a`, for values that do not belong together (Welch's t).
    pub fn of_difference(a: &[f64], b: &[f64]) -> Option<Estimate> {
        if a.is_empty() || b.is_empty() {
            return None;
        }
        let count = a.len().min(b.len());
        let ((mean_a, variance_a), (mean_b, variance_b)) = (mean_and_variance(a), mean_and_variance(b));
        let mean = mean_b - mean_a;
        if count < 2 {
            return Some(Estimate { mean, half: f64::INFINITY, count });
        }
        let (part_a, part_b) = (variance_a / a.len() as f64, variance_b / b.len() as f64);
        let sum = part_a + part_b;
        if sum == 0.0 {
            return Some(Estimate { mean, half: 0.0, count });
        }
        let freedom = sum * sum / (part_a * part_a / (a.len() as f64 - 1.0) + part_b * part_b / (b.len() as f64 - 1.0));
        Some(Estimate { mean, half: t_quantile(freedom) * sum.sqrt(), count })
    }

    /// Whether the interval leaves 0 out.
    pub fn differs_from_zero(&self) -> bool {
        self.mean.abs() > self.half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-3 * b.abs().max(1e-3)
    }

    #[test]
    fn an_interval_worked_by_hand() {
        // Mean 3, variance 2.5, five values: 2.776 * sqrt(2.5 / 5) = 1.963.
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).expect("values");
        assert!(near(estimate.mean, 3.0) && near(estimate.half, 1.963), "{estimate:?}");
        assert!(Estimate::of(&[7.0]).expect("one").half.is_infinite());
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn pairs_show_what_differences_hide() {
        let (a, b) = ([1.0, 5.0, 9.0, 13.0], [1.1, 5.2, 9.1, 13.2]);
        let pairs: Vec<(f64, f64)> = a.into_iter().zip(b).collect();
        assert!(Estimate::of_pairs(&pairs).expect("pairs").differs_from_zero());
        assert!(!Estimate::of_difference(&a, &b).expect("values").differs_from_zero());
    }

    #[test]
    fn welch_worked_by_hand() {
        // Variances 1 and 4 of three values each: sum 5/3, freedom (25/9) / (1/18 + 16/18) = 2.94, t(2) = 4.303.
        let estimate = Estimate::of_difference(&[1.0, 2.0, 3.0], &[8.0, 10.0, 12.0]).expect("values");
        assert!(near(estimate.mean, 8.0) && near(estimate.half, 4.303 * (5.0_f64 / 3.0).sqrt()), "{estimate:?}");
    }

    #[test]
    fn equal_runs_do_not_differ() {
        let same = Estimate::of_pairs(&[(0.5, 0.5), (0.7, 0.7)]).expect("pairs");
        assert_eq!((same.mean, same.half, same.differs_from_zero()), (0.0, 0.0, false));
    }
}
