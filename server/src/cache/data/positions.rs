//! Where the viewers of each stream are: the lowest position among them, told to control once a second, so that the ring
//! takes nothing from under them when memory is short (`cache_core::proto::cache::replacement`).
//!
//! A round goes over all streams, each stream's viewers in one go; a turn ends it for now after [`VIEWERS_PER_TURN`]
//! viewers, so that nobody waits long for it.

use cache_core::ring::StreamSlot;
use cache_core::time::Span;
use cache_core::units::ChunkSeq;

use super::connection::{Connection, Phase};
use super::shard::Shard;
use super::streams::{State, StreamKey};

/// How often a round begins. A position of a second ago is lower than the one now: what it protects is enough.
const ROUND_EVERY: Span = Span::from_secs(1);

/// Viewers looked at before others have their turn, but for one stream's, which are looked at together (our guess: tens
/// of nanoseconds each).
const VIEWERS_PER_TURN: usize = 1024;

impl Shard {
    /// Begins a round if it is time, and goes on with the one that has begun.
    pub(super) fn look_at_positions(&mut self) {
        if self.positions_at <= self.now && self.positions_next.is_none() {
            self.positions_at = self.now.after(ROUND_EVERY);
            self.positions_next = Some(0);
        }
        let Some(mut next) = self.positions_next else { return };
        let mut looked = 0;
        while looked < VIEWERS_PER_TURN {
            let Some(key) = self.streams.at_or_after(next) else {
                self.positions_next = None;
                return;
            };
            next = key + 1;
            looked += 1 + self.streams.get(key).viewers.len();
            let lowest = self.lowest_position(key);
            self.streams.set_lowest(key, lowest);
        }
        self.positions_next = Some(next);
    }

    fn lowest_position(&self, stream: StreamKey) -> Option<ChunkSeq> {
        let State::Live(slot) = self.streams.get(stream).state else { return None };
        let head = self.sender.reader().head(slot)?;
        let viewers = self.streams.get(stream).viewers.iter();
        viewers.filter_map(|key| position(&self.connections[*key as usize], stream, slot, head)).min()
    }
}

/// The oldest chunk of the stream that the connection is being sent or is about to be.
fn position(connection: &Connection, stream: StreamKey, slot: StreamSlot, head: ChunkSeq) -> Option<ChunkSeq> {
    let sending = connection.sending.map(|sending| sending.chunk).filter(|chunk| chunk.slot == slot);
    let next = match &connection.phase {
        Phase::Native(native) => {
            let joined = native.joined.iter().find(|joined| joined.stream == stream);
            joined.and_then(|joined| joined.track.needs_from(head))
        }
        Phase::Http(http) => http.playout.needs_from(head),
        _ => None,
    };
    sending.map(|chunk| chunk.seq).into_iter().chain(next).min()
}
