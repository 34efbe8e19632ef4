//! What a peer counts, and what it shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::peer_id::PeerId;
use crate::units::{ChunkSeq, DomainId};

/// Most sources whose bytes are counted one by one; the others share [`Stats::bytes_other_sources`]. Our guess: more
/// partners than an evening's watching meets.
pub const SOURCES_MAX: usize = 256;

/// Counters since the start; none ever falls. Bytes are those of whole chunk frames, prefix included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Chunk bytes received from partners, wrong and duplicate ones included.
    pub bytes_from_peers: u64,
    /// Chunk bytes received from caches, wrong and duplicate ones included.
    pub bytes_from_caches: u64,
    /// The same, by where the source takes connections (or by where it connected from when it takes none).
    pub bytes_by_source: BTreeMap<SocketAddr, u64>,
    /// Bytes of sources beyond [`SOURCES_MAX`].
    pub bytes_other_sources: u64,
    /// Bytes of chunks that have left for partners.
    pub bytes_uploaded: u64,
    /// Chunks that have left for partners.
    pub chunks_uploaded: u64,

    /// Chunks received, checked and kept.
    pub chunks_verified: u64,
    /// Wrong chunks that were played or passed on. Only checked chunks are kept, so it is 0 by construction; it
    /// stands here because the report shows it.
    pub chunks_wrong: u64,
    /// Chunks whose check failed: dropped, their sender banned.
    pub chunks_refused: u64,
    /// Chunks of an epoch without a key: dropped, asked for again when the keys have come.
    pub chunks_unknown_epoch: u64,
    /// Chunks that were already held when they came.
    pub chunks_duplicate: u64,
    /// Those of them that came from caches; the others came from partners.
    pub duplicates_from_caches: u64,
    /// Those of them that were pushed by a partner.
    pub duplicates_pushed: u64,
    /// Chunks pushed by a partner and kept.
    pub chunks_pushed: u64,
    /// Chunks that nobody had asked their sender for.
    pub chunks_unrequested: u64,
    /// Chunks that came after they had left the window.
    pub chunks_late: u64,

    /// Chunks whose time to be played came, the first excepted.
    pub chunks_due: u64,
    /// Those of them that were played.
    pub chunks_played: u64,
    /// Those that were not there.
    pub chunks_missed: u64,
    /// Those left out: after an interruption of the peer itself, or in a long hole.
    pub chunks_skipped: u64,
    /// Times that play-out stood still: the publisher was silent, or the peer was interrupted.
    pub stalls: u64,

    /// Chunks asked of partners.
    pub requests_to_peers: u64,
    /// Chunks asked of caches because little time was left.
    pub requests_last_resort: u64,
    /// Chunks asked of caches as the peer responsible for them.
    pub requests_seed: u64,
    /// Requests to partners that were not answered in time.
    pub timeouts_peers: u64,
    /// Requests to caches that were not answered in time.
    pub timeouts_caches: u64,
    /// Chunks that a source said it could not give.
    pub unavailable: u64,
    /// Partners asked to lead in a sub-stream, once for each.
    pub follows: u64,
    /// Answers of partners that will not lead, or no longer.
    pub follows_refused: u64,
    /// Leaders told to end it because they were behind or did not answer.
    pub follows_ended: u64,
    /// Requests not made because the cache had enough of ours open.
    pub requests_over_limit: u64,

    /// Links made to partners.
    pub dials: u64,
    /// Links to partners that could not be made.
    pub dials_failed: u64,
    /// Links to partners that were lost or closed by them.
    pub partners_lost: u64,
    /// Partners dropped for silence.
    pub partners_silent: u64,
    /// Partners dropped for leaving requests unanswered.
    pub partners_struck: u64,
    /// Partners exchanged as the lowest by eq. (3).
    pub partners_exchanged: u64,
    /// Peers banned for a wrong chunk.
    pub peers_banned: u64,
    /// Links refused because there were enough partners (eq. (2)).
    pub accepts_refused_full: u64,
    /// Links refused for another reason: banned, another stream, a second link of a pair, ourselves.
    pub accepts_refused_other: u64,
    /// Links closed because too many were in their handshake.
    pub accepts_over_limit: u64,
    /// Links whose handshake took too long.
    pub handshakes_late: u64,
    /// Members left out because the list was full.
    pub members_evicted: u64,
    /// Frames that did not belong where they came; the link was closed.
    pub frames_unexpected: u64,
    /// Questions for partners left unanswered because they came too often.
    pub queries_over_limit: u64,
    /// Partner lists that nobody asked for, passed over.
    pub lists_unasked: u64,

    /// Requested chunks refused at once: too many waited for that partner, or they would have waited too long.
    pub uploads_over_limit: u64,
    /// Requested chunks refused because they waited too long for upload.
    pub uploads_expired: u64,
    /// Requested chunks that were already waiting for that partner.
    pub uploads_repeated: u64,
    /// Requested chunks that were not held.
    pub uploads_unavailable: u64,
    /// Chunks queued for a partner who follows in their sub-stream.
    pub uploads_pushed: u64,
    /// Chunks refused to such a partner at once; counted among the refusals above, too.
    pub pushes_refused: u64,
    /// Chunks that a partner waited for and no longer: it announced them itself.
    pub uploads_withdrawn: u64,
    /// Sub-streams that a partner wished to follow and that were not promised to it.
    pub leads_refused: u64,

    /// Links to caches that were lost or refused.
    pub cache_failovers: u64,
    /// Joins at the index server after the first.
    pub rejoins: u64,
    /// Heartbeats and questions that no index or route server answered.
    pub questions_failed: u64,
    /// Datagrams that belonged to no question.
    pub datagrams_unexpected: u64,
}

impl Stats {
    /// Chunks played in time of those due; 1 before the first is due.
    pub fn continuity(&self) -> f64 {
        if self.chunks_due == 0 { 1.0 } else { self.chunks_played as f64 / self.chunks_due as f64 }
    }

    /// The partners' share of all chunk bytes received; 0 before the first.
    pub fn offload(&self) -> f64 {
        match self.bytes_from_peers + self.bytes_from_caches {
            0 => 0.0,
            all => self.bytes_from_peers as f64 / all as f64,
        }
    }

    /// Counts `bytes` of a chunk from `source`.
    pub(crate) fn received(&mut self, source: SocketAddr, from_cache: bool, bytes: u64) {
        if from_cache {
            self.bytes_from_caches += bytes;
        } else {
            self.bytes_from_peers += bytes;
        }
        if self.bytes_by_source.len() < SOURCES_MAX || self.bytes_by_source.contains_key(&source) {
            *self.bytes_by_source.entry(source).or_default() += bytes;
        } else {
            self.bytes_other_sources += bytes;
        }
    }
}

/// Where a peer stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not started.
    #[default]
    Idle,
    /// Asking route and index servers.
    Joining,
    /// Joined, looking for a cache that opens the stream.
    Opening,
    /// Collecting the first chunks.
    Buffering,
    /// Playing.
    Playing,
    /// Standing still until the publisher goes on.
    Stalled,
    /// It is over.
    Finished,
}

/// How a peer is at a moment: for a status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id; [`PeerId::NONE`] before the route server gave one.
    pub peer_id: PeerId,
    /// Its domain, once known.
    pub domain: Option<DomainId>,
    /// The address that the index (before that, the route) server sees.
    pub seen: Option<SocketAddr>,
    /// Where it stands.
    pub state: State,
    /// The chunk played next.
    pub position: ChunkSeq,
    /// The newest chunk as far as is known or estimated.
    pub head: ChunkSeq,
    /// Media held without a gap from the play position on, in milliseconds (200 per chunk).
    pub buffer_ms: u64,
    /// Partners connected.
    pub partners: usize,
    /// Members known and not connected.
    pub members: usize,
    /// N: peers of the stream in the domain.
    pub size: u32,
    /// The cache that is connected.
    pub cache: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_bounded_and_no_byte_is_lost() {
        let mut stats = Stats::default();
        for port in 0..1_000u16 {
            stats.received(SocketAddr::from(([127, 0, 0, 1], port)), port % 4 == 0, 10);
        }
        assert_eq!(stats.bytes_by_source.len(), SOURCES_MAX);
        let listed: u64 = stats.bytes_by_source.values().sum();
        assert_eq!(listed + stats.bytes_other_sources, 10_000);
        assert_eq!(stats.offload(), 0.75);
    }
}
