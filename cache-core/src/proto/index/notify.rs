//! When N has changed by the paper's "certain scale", every peer of the stream is told, a few at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::config::IndexConfig;
use crate::peer_id::PeerId;
use crate::units::StreamId;

#[derive(Clone, Copy, Debug)]
struct Told {
    size: usize,
    /// Whom the telling has reached; `None` when it is over.
    reached: Option<PeerId>,
}

/// What size each stream's peers were told last, and how far the telling is.
#[derive(Debug, Default)]
pub struct Notices {
    told: BTreeMap<StreamId, Told>,
    telling: BTreeSet<StreamId>,
}

impl Notices {
    /// The size of `stream` is `size`: begins a telling when the rule asks for one. One that is under way tells the size
    /// of the moment, so that it need not begin anew.
    pub fn resized(&mut self, config: &IndexConfig, stream: StreamId, size: usize) {
        if size == 0 {
            self.told.remove(&stream);
            self.telling.remove(&stream);
            return;
        }
        let told = self.told.entry(stream).or_insert(Told { size, reached: None });
        if told.reached.is_none() && is_certain_scale(config, told.size, size) {
            *told = Told { size, reached: Some(PeerId::NONE) };
            self.telling.insert(stream);
        }
    }

    /// The stream to go on with, and behind whom.
    pub fn next(&self) -> Option<(StreamId, PeerId)> {
        let stream = *self.telling.first()?;
        Some((stream, self.told.get(&stream)?.reached?))
    }

    /// The telling of `stream` has reached `peer`; `None`: everybody.
    pub fn reached(&mut self, stream: StreamId, peer: Option<PeerId>) {
        if let Some(told) = self.told.get_mut(&stream) {
            told.reached = peer;
        }
        if peer.is_none() {
            self.telling.remove(&stream);
        }
    }

    /// Whether nobody is to be told.
    pub fn is_idle(&self) -> bool {
        self.telling.is_empty()
    }
}

fn is_certain_scale(config: &IndexConfig, told: usize, size: usize) -> bool {
    let (changed, told_wide) = (told.abs_diff(size) as u64, told as u64);
    let by_percent = config.size_changed_percent > 0 && changed * 100 >= told_wide * config.size_changed_percent;
    let ln_change = ((size.max(1) as f64).ln() - (told.max(1) as f64).ln()).abs();
    let by_ln = config.size_changed_ln > 0.0 && ln_change >= config.size_changed_ln;
    changed > 0 && (by_percent || by_ln)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallClock;
    use crate::units::DomainId;

    const NEWS: StreamId = StreamId(1);

    fn config() -> IndexConfig {
        IndexConfig::new(DomainId(1), WallClock::default())
    }

    #[test]
    fn twenty_percent_is_a_certain_scale() {
        let config = config();
        for (told, size, tell) in [(100, 119, false), (100, 120, true), (100, 81, false), (100, 80, true), (1, 2, true)]
        {
            assert_eq!(is_certain_scale(&config, told, size), tell, "{told} -> {size}");
        }
        let by_ln = IndexConfig { size_changed_percent: 0, size_changed_ln: 1.0, ..config };
        assert!(!is_certain_scale(&by_ln, 100, 271) && is_certain_scale(&by_ln, 100, 272));
    }

    #[test]
    fn a_telling_goes_on_where_it_stopped_and_ends() {
        let (mut notices, config) = (Notices::default(), config());
        notices.resized(&config, NEWS, 10);
        assert!(notices.is_idle(), "the first size is in everybody's answer");
        notices.resized(&config, NEWS, 12);
        assert_eq!(notices.next(), Some((NEWS, PeerId::NONE)));
        let halfway = PeerId::new(Default::default(), 5);
        notices.reached(NEWS, Some(halfway));
        notices.resized(&config, NEWS, 20);
        assert_eq!(notices.next(), Some((NEWS, halfway)), "one at a time");
        notices.reached(NEWS, None);
        assert!(notices.is_idle());
        notices.resized(&config, NEWS, 20);
        assert!(!notices.is_idle(), "what changed meanwhile is told next");
        notices.resized(&config, NEWS, 0);
        assert!(notices.is_idle());
    }
}
