//! Every timer fires or is cancelled: after a machine has been called at its time it names a later one, and it does not
//! want to be called again and again without time passing.

use cache_core::time::{Span, Time};

use super::{Fact, Invariant};

/// Calls in one window of time after which a machine counts as spinning. Our guess: peers are called about 25 times a
/// second (each tenth of a second, and for each chunk they play), the servers at most a few hundred times.
const CALLS_MAX: u32 = 1_000;
const WINDOW: Span = Span::from_secs(1);

/// The checker: calls of each machine in the present second.
#[derive(Debug, Default)]
pub struct Timers {
    calls: Vec<(u64, u32)>,
}

impl Invariant for Timers {
    fn name(&self) -> &'static str {
        "timers"
    }

    fn see(&mut self, at: Time, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Timer { node, next } if next <= at => {
                let late = at.since(next).micros();
                Some(format!("node {node} was called and still wants to be called {late} us ago"))
            }
            Fact::Woken { node } => {
                if self.calls.len() <= node as usize {
                    self.calls.resize(node as usize + 1, (0, 0));
                }
                let (window, calls) = &mut self.calls[node as usize];
                let present = at.micros() / WINDOW.micros();
                if *window != present {
                    (*window, *calls) = (present, 0);
                }
                *calls += 1;
                (*calls == CALLS_MAX).then(|| format!("node {node} was called {CALLS_MAX} times within a second"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_the_past_is_seen() {
        let see = |next| {
            let fact = Fact::Timer { node: 1, next: Time::from_millis(next) };
            Timers::default().see(Time::from_millis(10), &fact).is_some()
        };
        assert!(see(9) && see(10) && !see(11));
    }

    #[test]
    fn a_machine_that_spins_is_seen_once_a_second() {
        let mut timers = Timers::default();
        let mut calls =
            |ms| (0..5_000).filter(|_| timers.see(Time::from_millis(ms), &Fact::Woken { node: 2 }).is_some()).count();
        assert_eq!((calls(500), calls(1_500)), (1, 1));
        let mut timers = Timers::default();
        assert!((0..5_000).all(|n| timers.see(Time::from_millis(n * 10), &Fact::Woken { node: 2 }).is_none()));
    }
}
