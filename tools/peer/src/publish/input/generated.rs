//! The built-in test stream, live: each frame at its time.

use cache_core::media::{Generator, GeneratorConfig};
use cache_core::time::{Span, Time};
use cache_core::units::BitRate;

use super::{Input, InputError, Step};

/// Later than this the generator skips what it missed: the program was stopped. Our guess: more than any pause of the
/// scheduler.
const BEHIND_MAX: Span = Span::from_secs(1);

/// The generator.
#[derive(Debug)]
pub(crate) struct Generated {
    generator: Generator,
    begun: Option<Time>,
}

impl Generated {
    /// A picture at `rate`.
    pub(crate) fn new(rate: BitRate) -> Generated {
        let generator = Generator::new(GeneratorConfig { rate, ..GeneratorConfig::default() });
        Generated { generator, begun: None }
    }
}

impl Input for Generated {
    fn next(&mut self, now: Time) -> Result<Step, InputError> {
        let begun = self.begun.get_or_insert(now);
        let mut due = begun.after(self.generator.due());
        if now.since(due) > BEHIND_MAX {
            *begun = begun.after(now.since(due));
            due = now;
        }
        if due > now {
            return Ok(Step::Wait(due));
        }
        let mut bytes = Vec::new();
        self.generator.next_frame(&mut bytes);
        Ok(Step::Bytes(bytes.into()))
    }
}
