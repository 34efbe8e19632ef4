//! Offload accounting adds up: what peers say they received from peers and uploaded is what the network carried, up to
//! what is on its way and what was lost with a link.
//!
//! ```text
//!  sent = delivered + lost + in flight     uploaded = sent - untold     received = delivered - unclaimed
//! ```

use cache_core::time::Time;

use super::{Accounts, Fact, Invariant};

/// The checker.
#[derive(Debug)]
pub struct Accounting;

impl Invariant for Accounting {
    fn name(&self) -> &'static str {
        "accounting"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        let Fact::Accounts(a) = fact else { return None };
        let Accounts { received, uploaded, sent, delivered, lost, in_flight, untold, unclaimed } = *a;
        let sums = [
            ("sent", sent, "delivered, lost or in flight", delivered + lost + in_flight),
            ("sent", sent, "uploaded, or not told of", uploaded + untold),
            ("delivered", delivered, "received, or unclaimed", received + unclaimed),
        ];
        let wrong = sums.into_iter().find(|(_, one, _, other)| one != other);
        wrong.map(|(of, one, as_, other)| format!("{one} bytes were {of}, {other} are {as_}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_do_not_agree_are_seen() {
        let good = Accounts {
            received: 70,
            uploaded: 90,
            sent: 100,
            delivered: 75,
            lost: 5,
            in_flight: 20,
            untold: 10,
            unclaimed: 5,
        };
        let see = |accounts| Accounting.see(Time::ZERO, &Fact::Accounts(accounts)).is_some();
        assert!(!see(good));
        assert!(see(Accounts { received: 71, ..good }));
        assert!(see(Accounts { uploaded: 89, ..good }));
        assert!(see(Accounts { lost: 4, ..good }));
    }
}
