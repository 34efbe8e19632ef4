//! Where a viewer's machine reports what has arrived: its account, with the clock of this moment.

use crate::measure::{Account, Durations, Measured, wall_us};

/// One viewer's account, open.
#[derive(Debug)]
pub(crate) struct Sink<'w> {
    pub(crate) account: &'w mut Account,
    pub(crate) lateness: &'w mut Durations,
    /// The measured span, once it has begun.
    pub(crate) span: Option<Measured>,
    /// The newest number seen in a push, to count what is skipped.
    pub(crate) newest: &'w mut Option<u64>,
}

impl Sink<'_> {
    /// A chunk's last byte is here.
    pub(crate) fn chunk(&mut self, seq: u64, published_us: u64, bytes: u64, right: bool) {
        self.chunk_at(wall_us(), seq, published_us, bytes, right);
    }

    /// A chunk's last byte came at `now`.
    pub(crate) fn chunk_at(&mut self, now: u64, seq: u64, published_us: u64, bytes: u64, right: bool) {
        self.account.bytes += bytes;
        self.account.chunks += 1;
        if !right {
            self.account.wrong += 1;
            return;
        }
        self.account.joined_us.get_or_insert(now);
        *self.newest = Some(self.newest.map_or(seq, |newest| newest.max(seq)));
        if self.account.got.insert(seq) && self.span.is_some_and(|span| span.holds(published_us)) {
            self.lateness.record(now.saturating_sub(published_us));
        }
    }

    /// So many wrong packets came.
    pub(crate) fn wrong(&mut self, count: u64) {
        self.account.wrong += count;
    }

    /// The cache leaves `count` chunks out.
    pub(crate) fn skipped(&mut self, count: u64) {
        self.account.skipped += count;
    }

    /// The cache goes on at `next` and leaves out what is between.
    pub(crate) fn skipped_to(&mut self, next: u64) {
        if let Some(newest) = *self.newest {
            self.skipped(next.saturating_sub(newest + 1));
        }
    }
}
