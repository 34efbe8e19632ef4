//! The most viewers that are served in time: levels upwards until one fails, then the gap in halves.
//!
//! ```text
//!   1000  2000  3000  4000          all in time
//!                           5000    the first that is not: no level above it is tried, a queue never recovers
//!                      4500         in time
//!                          4750     not
//!                        4625       in time: the largest, within an eighth of the step
//! ```

use anyhow::Result;

use crate::options::Ramp;

/// The gap is halved down to this part of the step.
const FINEST: usize = 8;

/// Tries levels with `try_level`, which says whether a number of viewers was served in time. Returns the largest that
/// was; `None` when not even the first was.
pub(crate) fn climb(ramp: Ramp, mut try_level: impl FnMut(usize) -> Result<bool>) -> Result<Option<usize>> {
    let mut good = None;
    let mut failed = None;
    for viewers in (ramp.from..=ramp.to).step_by(ramp.step) {
        if try_level(viewers)? {
            good = Some(viewers);
        } else {
            failed = Some(viewers);
            break;
        }
    }
    let (Some(mut good), Some(mut failed)) = (good, failed) else { return Ok(good) };
    while failed - good > (ramp.step / FINEST).max(1) {
        let middle = good + (failed - good) / 2;
        if try_level(middle)? {
            good = middle;
        } else {
            failed = middle;
        }
    }
    Ok(Some(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is tried of 1000 to 6000 by 1000 when `most` are served in time.
    fn climbed(most: usize) -> (Option<usize>, Vec<usize>) {
        let mut tried = Vec::new();
        let ramp = Ramp { from: 1_000, to: 6_000, step: 1_000 };
        let largest = climb(ramp, |viewers| {
            tried.push(viewers);
            Ok(viewers <= most)
        });
        (largest.expect("no error"), tried)
    }

    #[test]
    fn the_first_level_that_fails_is_the_last_that_is_so_large() {
        let (largest, tried) = climbed(4_700);
        assert_eq!(largest, Some(4_625));
        assert_eq!(tried, [1_000, 2_000, 3_000, 4_000, 5_000, 4_500, 4_750, 4_625]);
    }

    #[test]
    fn all_and_none() {
        assert_eq!(climbed(9_999), (Some(6_000), vec![1_000, 2_000, 3_000, 4_000, 5_000, 6_000]));
        assert_eq!(climbed(500), (None, vec![1_000]));
    }
}
