//! PeerSim's averaging example, event-driven (its `edaggregation`): nodes wake once per cycle at a phase of their own and
//! send their number to a random neighbour, which answers with its own; both take the mean of theirs and the one received.
//! Messages cross: the mean of all numbers is kept only nearly, as in PeerSim's.
//!
//! **One event is one timer or one message delivered**, taken out of the queue: three per node and cycle (timer, number,
//! answer). A cycle is 1024 ticks; delays are drawn per message between the two bounds.

use cache_core::prng::Prng;

use super::averaging::{Averaged, Averaging, moments, overlay, peak};
use super::wheel::Wheel;
use super::{dice, fold};

/// Ticks of a cycle.
pub const CYCLE_TICKS: u64 = 1024;

/// No sender: the node's timer; answers come from nobody either, marked in `kind`.
const TIMER: u32 = u32::MAX;
const ANSWER: u32 = u32::MAX - 1;

/// 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Event {
    to: u32,
    /// The sender of a number that wants an answer, [`TIMER`] or [`ANSWER`].
    from: u32,
    value: f64,
}

const _: () = assert!(size_of::<Event>() == 16, "two events to half a cache line");

/// The least and greatest delay of a message in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// At least 1.
    pub min: u64,
    /// At most two cycles.
    pub max: u64,
}

/// Runs `example` with an event queue. The caller has checked `delays`.
pub fn run(example: &Averaging, delays: Delays) -> Averaged {
    let neighbours = overlay(example.nodes, example.degree, example.seed);
    let mut values = peak(example.nodes);
    let mut rng = dice(example.seed, 0, 1);
    let mut wheel = Wheel::new(CYCLE_TICKS.max(delays.max));
    for node in 0..example.nodes {
        wheel.push(1 + rng.below(CYCLE_TICKS as usize) as u64, Event { to: node, from: TIMER, value: 0.0 });
    }
    let mut out = Averaged {
        variance: vec![moments(&values).1],
        mean: 0.0,
        events: 0,
        digest: example.seed,
        bytes: 0,
        seconds: 0.0,
    };
    for _ in 0..example.cycles {
        let began = std::time::Instant::now();
        for _ in 0..CYCLE_TICKS {
            let due = wheel.next_tick();
            out.events += due.len() as u64;
            out.digest =
                tick(&due, example.degree as usize, delays, &neighbours, &mut values, &mut wheel, &mut rng, out.digest);
            wheel.done(due);
        }
        out.seconds += began.elapsed().as_secs_f64();
        out.variance.push(moments(&values).1);
    }
    out.mean = moments(&values).0;
    out.bytes = size_of_val(neighbours.as_slice()) + size_of_val(values.as_slice()) + wheel.bytes();
    out
}

#[allow(clippy::too_many_arguments)]
fn tick(
    due: &[Event],
    degree: usize,
    delays: Delays,
    neighbours: &[u32],
    values: &mut [f64],
    wheel: &mut Wheel<Event>,
    rng: &mut Prng,
    mut digest: u64,
) -> u64 {
    let spread = (delays.max - delays.min + 1) as usize;
    for event in due {
        let node = event.to as usize;
        let value = values[node];
        digest = fold(digest, value.to_bits() ^ u64::from(event.to) << 32 ^ u64::from(event.from));
        match event.from {
            TIMER => {
                let other = neighbours[node * degree + rng.below(degree)];
                wheel.push(delays.min + rng.below(spread) as u64, Event { to: other, from: event.to, value });
                wheel.push(CYCLE_TICKS, *event);
            }
            ANSWER => values[node] = (value + event.value) * 0.5,
            sender => {
                wheel.push(delays.min + rng.below(spread) as u64, Event { to: sender, from: ANSWER, value });
                values[node] = (value + event.value) * 0.5;
            }
        }
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Averaging = Averaging { nodes: 2_000, degree: 20, cycles: 20, seed: 3 };
    const DELAYS: Delays = Delays { min: 1, max: 100 };

    #[test]
    fn three_events_per_node_and_cycle_and_the_numbers_agree_in_the_end() {
        let out = run(&SMALL, DELAYS);
        let per_node = out.events as f64 / 40_000.0;
        assert!((2.9..=3.0).contains(&per_node), "{per_node}");
        assert!(out.variance[20] < out.variance[1] * 1e-6, "{:?}", out.variance);
    }

    #[test]
    fn same_seed_same_digest() {
        assert_eq!(run(&SMALL, DELAYS).digest, run(&SMALL, DELAYS).digest);
        assert_ne!(run(&SMALL, DELAYS).digest, run(&Averaging { seed: 9, ..SMALL }, DELAYS).digest);
    }
}
