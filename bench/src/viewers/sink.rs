//! Where a viewer's machine reports what has arrived: its account, with the clock of this moment.

use super::plan::Temper;
use crate::measure::{Account, Figures, Measured, wall_us};

/// One viewer's account, open.
#[derive(Debug)]
pub(crate) struct Sink<'w> {
    pub(crate) account: &'w mut Account,
    pub(crate) figures: &'w mut Figures,
    /// The measured span, once it has begun.
    pub(crate) span: Option<Measured>,
}

/// A chunk that has arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) seq: u64,
    /// The publisher's clock.
    pub(crate) published_us: u64,
    /// When its upload was complete, if that is known.
    pub(crate) uploaded: Uploaded,
    pub(crate) bytes: u64,
    pub(crate) right: bool,
}

/// When the upload of a chunk was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    At(u64),
    /// The chunk was quicker here than the publisher in noting its end.
    JustNow,
    Unknown,
}

impl Sink<'_> {
    /// A chunk's last byte is here.
    pub(crate) fn chunk(&mut self, chunk: Arrived) {
        self.chunk_at(wall_us(), chunk);
    }

    /// A chunk's last byte came at `now`.
    pub(crate) fn chunk_at(&mut self, now: u64, chunk: Arrived) {
        self.account.bytes += chunk.bytes;
        self.account.chunks += 1;
        if self.span.is_some_and(|span| span.holds(now)) {
            self.account.span_bytes += chunk.bytes;
        }
        if !chunk.right {
            self.account.wrong += 1;
            return;
        }
        self.account.joined_us.get_or_insert(now);
        self.account.newest = self.account.newest.max(Some(chunk.seq));
        if !self.account.got.insert(chunk.seq) || !self.span.is_some_and(|span| span.holds(chunk.published_us)) {
            return;
        }
        let late_us = now.saturating_sub(chunk.published_us);
        if self.account.temper != Temper::Good {
            return self.figures.bad_lateness.record(late_us);
        }
        self.figures.lateness.record(late_us);
        match chunk.uploaded {
            Uploaded::At(at_us) => self.figures.from_upload.record(now.saturating_sub(at_us)),
            Uploaded::JustNow => self.figures.from_upload.record(0),
            Uploaded::Unknown => {}
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
        if let Some(newest) = self.account.newest {
            self.skipped(next.saturating_sub(newest + 1));
        }
    }
}
