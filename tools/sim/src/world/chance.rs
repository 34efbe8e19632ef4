//! Chance: streams of numbers that follow from the run's seed, one for each purpose, so that a change in one part of the
//! world does not change the luck of all others.
//!
//! Session lengths are log-normal. `exp` and `ln` here are sums of plain additions, multiplications and divisions, which
//! IEEE 754 defines to the last bit; the ones of a system's mathematics library may differ from host to host.

use cache_core::prng::{Prng, mix};

use crate::scenario::LogNormal;

/// The stream of chance for `purpose` in a run with `seed`.
pub(crate) fn stream(seed: u64, purpose: &str) -> Prng {
    Prng::new(purpose.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte))))
}

/// A number from 0 up to, and without, 1.
pub(crate) fn unit(rng: &mut Prng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// True with probability `share`.
pub(crate) fn happens(rng: &mut Prng, share: f64) -> bool {
    share > 0.0 && unit(rng) < share
}

/// A length of time in microseconds, at least a second and at most ten years.
pub(crate) fn session_us(rng: &mut Prng, law: LogNormal) -> u64 {
    let seconds = exp(law.mu + law.sigma * normal(rng));
    (seconds.clamp(1.0, 3e8) * 1e6) as u64
}

/// Standard normal (Marsaglia's polar method).
fn normal(rng: &mut Prng) -> f64 {
    loop {
        let (u, v) = (2.0 * unit(rng) - 1.0, 2.0 * unit(rng) - 1.0);
        let s = u * u + v * v;
        if s > 0.0 && s < 1.0 {
            return u * (-2.0 * ln(s) / s).sqrt();
        }
    }
}

/// e to the `x`, for |x| below 700: halved until it is small, a Taylor sum, squared back.
fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0) / 1024.0;
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..16 {
        term = term * x / f64::from(n);
        sum += term;
    }
    (0..10).fold(sum, |power, _| power * power)
}

/// The natural logarithm of a positive number: scaled to near 1, then 2 artanh((x-1)/(x+1)).
pub(crate) fn ln(mut x: f64) -> f64 {
    const LN_2: f64 = std::f64::consts::LN_2;
    let mut whole = 0.0;
    while x > 1.5 {
        x /= 2.0;
        whole += LN_2;
    }
    while x < 0.75 {
        x *= 2.0;
        whole -= LN_2;
    }
    let y = (x - 1.0) / (x + 1.0);
    let (square, mut power, mut sum) = (y * y, y, 0.0);
    for n in 0..24 {
        sum += power / f64::from(2 * n + 1);
        power *= square;
    }
    whole + 2.0 * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_ln_are_those_of_the_books() {
        for x in [-20.0f64, -1.0, -0.3, 0.0, 0.5, 1.0, 4.29, 12.0] {
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-10, "{x}");
        }
        for x in [1e-9f64, 0.1, 0.74, 1.0, 1.5, 2.0, 1e6] {
            assert!((ln(x) - x.ln()).abs() < 1e-10, "{x}");
        }
    }

    #[test]
    fn sessions_have_the_law_that_was_asked_for() {
        let mut rng = stream(1, "test");
        let law = LogNormal { mu: 4.29, sigma: 1.28 };
        let mut logs: Vec<f64> = (0..20_000).map(|_| ln(session_us(&mut rng, law) as f64 / 1e6)).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        logs.sort_by(f64::total_cmp);
        assert!((mean - 4.29).abs() < 0.05, "{mean}");
        let below_one_sigma = logs.iter().filter(|l| **l < 4.29 + 1.28).count() as f64 / logs.len() as f64;
        assert!((below_one_sigma - 0.8413).abs() < 0.01, "{below_one_sigma}");
    }

    #[test]
    fn purposes_have_streams_of_their_own() {
        let first = |seed, purpose| stream(seed, purpose).next_u64();
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_eq!(first(1, "a"), first(1, "a"));
    }
}
