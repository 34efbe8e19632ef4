//! The cache's knobs. The configuration file sets them in seconds and chunks; the machines read them here.

use crate::time::Span;

/// Most streams of one cache: more than one machine's network carries (our guess).
pub const STREAMS_MAX: u32 = 16_384;

/// What can be tuned of streams and pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheKnobs {
    /// A stream without a new chunk for this long is stalled (five chunks: a publisher that died must be seen within
    /// 1 s, a late one must not).
    pub stalled_after: Span,
    /// A stalled stream is ended and its memory given back after this long (our guess: an encoder that restarts
    /// comes back sooner).
    pub forget_after: Span,
    /// An ended stream is served this long for those who have not read it to its end (our guess: half a window).
    pub ended_keep: Span,
    /// How far behind the parent's newest chunk a pull begins, in chunks: 40 = 8 s, so that a viewer of this domain
    /// can begin 6 s behind at once (our guess).
    pub pull_back_chunks: u16,
    /// A pulled stream without a viewer is given up after this long (our guess: a viewer who changes channel and
    /// comes back finds it).
    pub pull_grace: Span,
    /// A parent that sends nothing for this long is left for the next (a half-open link must be seen within 3 s).
    pub parent_silent: Span,
    /// A parent that has not answered the opening for this long is left (our guess: it may have to fetch the stream
    /// itself first).
    pub parent_answers_within: Span,
    /// A pull that has not brought a first chunk by then is refused to those who wait (our guess: before a player
    /// gives up by itself).
    pub pull_give_up: Span,
}

impl Default for CacheKnobs {
    fn default() -> CacheKnobs {
        CacheKnobs {
            stalled_after: Span::from_secs(1),
            forget_after: Span::from_secs(60),
            ended_keep: Span::from_secs(25),
            pull_back_chunks: 40,
            pull_grace: Span::from_secs(30),
            parent_silent: Span::from_secs(3),
            parent_answers_within: Span::from_secs(4),
            pull_give_up: Span::from_secs(10),
        }
    }
}
