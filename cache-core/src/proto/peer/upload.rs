//! Upload: partners' requests, answered in turn within the upload that is granted.
//!
//! Each partner has a short queue of its own, served round robin, so that a greedy one waits for itself. At most two
//! chunks per link are with the driver at once (our guess: one being sent, one ready), and of all links together what the
//! uplink carries in `AHEAD_MAX`; the rest wait here, where they can still be refused. What would wait too long is refused at
//! once, so that it can be asked of somebody else in time, and so is what would come later than its asker says that it waits:
//! a late chunk is sent for nothing. No chunk is sent twice to a
//! link at the same time. Chunks that are pushed wait and are refused like those that were asked for, but later.

use std::collections::{BTreeMap, VecDeque};

use super::config::Tuning;
use super::event::{LinkId, Output};
use super::lead::Room;
use super::play_buffer::PlayBuffer;
use super::turn::Turn;
use crate::limits::WINDOW_CHUNKS;
use crate::time::{Span, Time};
use crate::units::{BitRate, ByteCount, ChunkSeq, StreamId};
use crate::wire::RefusalReason;
use crate::wire::exchange::{Request, Unavailable};

const SENDING_MAX: usize = 2;

/// How much unused upload may be saved up. Our guess: two chunks' time.
const SAVED_MAX: Span = Span::from_millis(400);

/// How much of all partners together may be with the driver when one more chunk is handed to it. Our guess: enough for the
/// uplink never to idle. Not more: what is there stands in front of our own requests and announcements, too.
const AHEAD_MAX: Span = Span::from_millis(50);

/// A chunk that the driver has held for so long is stuck: its receiver is slow, not the uplink. Our guess.
const STUCK: Span = Span::from_secs(1);

/// Through a slow uplink that takes longer: as long as so many chunks need at what it was measured to carry, up to a bound
/// that somebody who reads nothing can make use of. Our guesses. Otherwise all that goes through it would seem stuck, more would be
/// handed over for each link, and what this peer asks for itself would wait behind that.
const STUCK_CHUNKS: u64 = 4;
const STUCK_MAX: Span = Span::from_secs(4);

/// Shortest time over which the uplink is measured. Our guess.
const MEASURED_MIN: Span = Span::from_millis(100);

/// A chunk waits as long as one and a half take through the uplink, when that is more than configured (our guess): so one waits
/// when another has left, however slow the uplink is, and it never rests.
const PATIENCE_CHUNKS: (u64, u64) = (3, 2);

/// How much longer a pushed chunk may wait than one that was asked for. Our guess: it is refused to somebody who has waited for
/// nobody else, and early.
const PUSH_PATIENCE: u64 = 2;

#[derive(Clone, Debug, Default)]
struct Queue {
    /// Chunks, and until when they wait.
    waiting: VecDeque<(ChunkSeq, Time)>,
    sending: Vec<Sending>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    seq: ChunkSeq,
    bytes: u64,
    since: Time,
}

/// What the uplink carries while chunks wait for it.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    busy_since: Option<Time>,
    bytes: u64,
    /// Smoothed, bytes per second; 0 before it was measured.
    rate: u64,
}

impl Meter {
    fn sending(&mut self, now: Time) {
        self.busy_since.get_or_insert(now);
    }

    /// Nothing is going any more: what passes now is no sending.
    fn idle(&mut self) {
        (self.bytes, self.busy_since) = (0, None);
    }

    /// `bytes` have gone; `more`: and others are still going.
    fn sent(&mut self, now: Time, bytes: u64, more: bool) {
        let Some(since) = self.busy_since else { return };
        self.bytes = self.bytes.saturating_add(bytes);
        let elapsed = now.since(since);
        if elapsed >= MEASURED_MIN || !more {
            let rate = self.bytes.saturating_mul(1_000_000) / elapsed.micros().max(1_000);
            self.rate = if self.rate == 0 { rate } else { self.rate / 4 * 3 + rate / 4 };
            (self.bytes, self.busy_since) = (0, more.then_some(now));
        }
    }
}

/// Everything that partners wait for.
#[derive(Clone, Debug, Default)]
pub(super) struct Upload {
    queues: BTreeMap<LinkId, Queue>,
    /// Whose turn it was last.
    served: Option<LinkId>,
    /// Bytes that may be sent; below zero after a chunk greater than what was left.
    allowance: i64,
    refilled: Time,
    meter: Meter,
}

impl Upload {
    /// Takes in a partner's request: queues what is held, refuses the rest at once.
    pub(super) fn request(
        &mut self,
        t: &mut Turn<'_>,
        link: LinkId,
        request: &Request,
        stream: StreamId,
        buffer: Option<&PlayBuffer>,
    ) {
        if request.stream != stream {
            t.send(link, unavailable(request.stream, RefusalReason::UnknownStream, ChunkSeq::FIRST, 0));
            return;
        }
        let mut refused = Refusals { stream, link, run: None };
        let mut left = WINDOW_CHUNKS;
        let within = (request.within_ms > 0).then(|| Span::from_millis(request.within_ms.into()));
        for run in request.runs.iter() {
            for offset in 0..u64::from(run.count).min(WINDOW_CHUNKS) {
                if left == 0 {
                    // Nobody lacks more than a window; a few bytes of runs must not draw thousands of refusals.
                    t.stats.uploads_over_limit += 1;
                    return refused.flush(t);
                }
                left -= 1;
                let seq = run.first.ahead(offset);
                if let Err(reason) = self.queue(t, link, seq, buffer, (1, within)) {
                    refused.add(t, reason, seq);
                }
            }
        }
        refused.flush(t);
    }

    /// A chunk that was announced to a partner who follows in its sub-stream: queued, or refused, as if it had been asked for.
    pub(super) fn push(
        &mut self,
        t: &mut Turn<'_>,
        link: LinkId,
        seq: ChunkSeq,
        stream: StreamId,
        buffer: &PlayBuffer,
    ) {
        match self.queue(t, link, seq, Some(buffer), (PUSH_PATIENCE, None)) {
            Ok(queued) => t.stats.uploads_pushed += u64::from(queued),
            Err(reason) => {
                t.stats.pushes_refused += 1;
                t.send(link, unavailable(stream, reason, seq, 1));
            }
        }
    }

    /// A partner holds `seq` now: what waits for it in vain is not sent.
    pub(super) fn withdraw(&mut self, t: &mut Turn<'_>, link: LinkId, seq: ChunkSeq) {
        if let Some(queue) = self.queues.get_mut(&link)
            && let Some(at) = queue.waiting.iter().position(|(s, _)| *s == seq)
        {
            queue.waiting.remove(at);
            t.stats.uploads_withdrawn += 1;
        }
    }

    /// Lets a chunk wait for its turn, or says why it is not sent. Whether it did not wait or was being sent already.
    /// `patience`: how many times the configured one, and how long the asker waits, if it says so.
    fn queue(
        &mut self,
        t: &mut Turn<'_>,
        link: LinkId,
        seq: ChunkSeq,
        buffer: Option<&PlayBuffer>,
        patience: (u64, Option<Span>),
    ) -> Result<bool, RefusalReason> {
        let held = buffer.and_then(|buffer| buffer.held(seq));
        let Some(held) = held else {
            t.stats.uploads_unavailable += 1;
            let gone = buffer.is_some_and(|buffer| seq < buffer.position());
            return Err(if gone { RefusalReason::Gone } else { RefusalReason::NotYet });
        };
        let (wait, takes) = (self.wait(t, link, held.bytes), self.takes(t.tuning(), held.bytes));
        let queue = self.queues.entry(link).or_default();
        if queue.waiting.iter().any(|(s, _)| *s == seq) || queue.sending.iter().any(|s| s.seq == seq) {
            t.stats.uploads_repeated += 1;
            return Ok(false);
        }
        let (times, within) = patience;
        let (chunks, of) = PATIENCE_CHUNKS;
        let slow = Span::from_micros(takes.micros().saturating_mul(chunks) / of);
        let patience = Span::from_millis(t.tuning().upload_patience_ms).times(times).max(slow);
        let in_time = wait <= patience && within.is_none_or(|within| wait.plus(takes) <= within);
        if !in_time || queue.waiting.len() >= t.tuning().upload_queue_max {
            t.stats.uploads_over_limit += 1;
            return Err(RefusalReason::Busy);
        }
        // What was taken is worth a moment more than was reckoned, as long as its asker waits.
        queue.waiting.push_back((seq, t.now.after(within.map_or(patience, |within| within.minus(takes)))));
        Ok(true)
    }

    /// Hands chunks to the driver as far as links and allowance go.
    pub(super) fn pump(&mut self, t: &mut Turn<'_>, stream: StreamId, buffer: &PlayBuffer) {
        self.refill(t);
        while let Some(link) = self.next_turn(t) {
            self.served = Some(link);
            if !self.is_sending(t.now) {
                self.meter.idle();
            }
            let Some(queue) = self.queues.get_mut(&link) else { return };
            let Some((seq, until)) = queue.waiting.pop_front() else { return };
            match buffer.held(seq) {
                None => {
                    t.stats.uploads_unavailable += 1;
                    t.send(link, unavailable(stream, RefusalReason::Gone, seq, 1));
                }
                Some(_) if until < t.now => {
                    t.stats.uploads_expired += 1;
                    t.send(link, unavailable(stream, RefusalReason::Busy, seq, 1));
                }
                Some(held) => {
                    queue.sending.push(Sending { seq, bytes: held.bytes, since: t.now });
                    self.meter.sending(t.now);
                    self.allowance -= held.bytes as i64;
                    t.out.push(Output::SendChunk { link, seq });
                }
            }
        }
    }

    /// A chunk has left. Whether it was one of ours.
    pub(super) fn sent(&mut self, t: &mut Turn<'_>, link: LinkId, seq: ChunkSeq) -> bool {
        let Some(queue) = self.queues.get_mut(&link) else { return false };
        let Some(at) = queue.sending.iter().position(|s| s.seq == seq) else { return false };
        let Sending { bytes, .. } = queue.sending.swap_remove(at);
        let more = self.is_sending(t.now);
        self.meter.sent(t.now, bytes, more);
        t.stats.bytes_uploaded += bytes;
        t.stats.chunks_uploaded += 1;
        true
    }

    /// The link is dead.
    pub(super) fn drop_link(&mut self, now: Time, link: LinkId) {
        self.queues.remove(&link);
        if !self.is_sending(now) {
            self.meter.idle();
        }
    }

    /// Whether anything is with the driver that the uplink, and no slow receiver, holds up.
    fn is_sending(&self, now: Time) -> bool {
        let mut sending = self.queues.values().flat_map(|queue| &queue.sending);
        sending.any(|s| s.since.after(self.stuck_after(s.bytes)) > now)
    }

    /// Bytes per second that the uplink carries or that are granted, whatever is less; 0 while neither is known.
    fn rate(&self, tuning: &Tuning) -> u64 {
        match (tuning.upload_kbps.saturating_mul(125), self.meter.rate) {
            (0, rate) | (rate, 0) => rate,
            (granted, measured) => granted.min(measured),
        }
    }

    /// What may be promised to partners who follow, in a stream of `stream_kbps`.
    pub(super) fn room(&self, tuning: &Tuning, stream_kbps: u64) -> Room {
        Room::of(self.rate(tuning) / 125, stream_kbps, Span::from_millis(tuning.upload_patience_ms))
    }

    /// How long one more chunk of `bytes` for `link` would wait: what is being sent, what goes before it in the round, and
    /// what was sent in advance of the allowance.
    fn wait(&self, t: &Turn<'_>, link: LinkId, bytes: u64) -> Span {
        let rate = self.rate(t.tuning());
        if rate == 0 {
            return Span::ZERO;
        }
        let own = self.queues.get(&link).map_or(0, |queue| queue.waiting.len());
        let before: usize = self
            .queues
            .iter()
            .map(|(other, queue)| if *other == link { own } else { queue.waiting.len().min(own + 1) })
            .sum();
        let owed = if t.tuning().upload_kbps == 0 { self.ahead(t.now) } else { self.allowance.min(0).unsigned_abs() };
        let bytes = bytes.saturating_mul(before as u64).saturating_add(owed);
        Span::from_micros(bytes.saturating_mul(1_000_000) / rate)
    }

    /// How long a chunk of `bytes` takes through the uplink; zero while that is not known.
    fn takes(&self, tuning: &Tuning, bytes: u64) -> Span {
        Span::from_micros(bytes.saturating_mul(1_000_000).checked_div(self.rate(tuning)).unwrap_or(0))
    }

    /// Whether [`Upload::pump`] would hand over a chunk now.
    pub(super) fn would_send(&mut self, t: &Turn<'_>) -> bool {
        self.refill(t);
        self.next_turn(t).is_some()
    }

    /// Bytes with the driver that the uplink, not a slow receiver, holds up: those handed to it, less what the uplink has carried
    /// since.
    fn ahead(&self, now: Time) -> u64 {
        let sending = self.queues.values().flat_map(|queue| &queue.sending);
        let going = sending.filter(|s| s.since.after(self.stuck_after(s.bytes)) > now);
        let (bytes, since) = going.fold((0, now), |(bytes, since), s| (bytes + s.bytes, since.min(s.since)));
        bytes.saturating_sub(BitRate(self.meter.rate.saturating_mul(8)).over(now.since(since)).0)
    }

    /// How long a chunk of `bytes` may take before its receiver, and not the uplink, is what is slow.
    fn stuck_after(&self, bytes: u64) -> Span {
        let needs_us = bytes.saturating_mul(STUCK_CHUNKS * 1_000_000).checked_div(self.meter.rate);
        Span::from_micros(needs_us.unwrap_or(0)).min(STUCK_MAX).max(STUCK)
    }

    /// How long the uplink is taken by what is with the driver: what is said now waits for it.
    pub(super) fn busy(&self, now: Time) -> Span {
        match self.meter.rate {
            0 => Span::ZERO,
            rate => Span::from_micros(self.ahead(now).saturating_mul(1_000_000) / rate),
        }
    }

    /// When [`Upload::pump`] has something to do that no input brings about: the upload granted has grown enough.
    pub(super) fn next_timeout(&self, tuning: &Tuning) -> Time {
        let waits = |queue: &Queue| !queue.waiting.is_empty() && queue.sending.len() < SENDING_MAX;
        if tuning.upload_kbps == 0 || self.allowance > 0 || !self.queues.values().any(waits) {
            return Time::NEVER;
        }
        let bits = self.allowance.unsigned_abs().saturating_add(1).saturating_mul(8);
        self.refilled.after(Span::from_micros(bits.saturating_mul(1_000).div_ceil(tuning.upload_kbps)))
    }

    fn refill(&mut self, t: &Turn<'_>) {
        let rate = BitRate::from_kbps(t.tuning().upload_kbps);
        let elapsed = t.now.since(self.refilled);
        let ByteCount(earned) = rate.over(elapsed);
        // Less than a byte: the time is kept for the next turn.
        if earned > 0 || self.refilled == Time::ZERO {
            self.refilled = t.now;
            let saved_max = rate.over(SAVED_MAX).0 as i64;
            self.allowance = self.allowance.saturating_add(earned as i64).min(saved_max);
        }
    }

    /// The next link, after the one served last, that can be sent a chunk.
    fn next_turn(&self, t: &Turn<'_>) -> Option<LinkId> {
        if t.tuning().upload_kbps > 0 && self.allowance <= 0 {
            return None;
        }
        let rate = self.meter.rate;
        if rate > 0 && self.ahead(t.now) > BitRate(rate.saturating_mul(8)).over(AHEAD_MAX).0 {
            return None;
        }
        let ready = |(link, queue): (&LinkId, &Queue)| {
            (!queue.waiting.is_empty() && queue.sending.len() < SENDING_MAX).then_some(*link)
        };
        let after = self.served.map_or(LinkId(0), |LinkId(n)| LinkId(n.saturating_add(1)));
        self.queues.range(after..).find_map(ready).or_else(|| self.queues.iter().find_map(ready))
    }
}

fn unavailable(stream: StreamId, reason: RefusalReason, first: ChunkSeq, count: u16) -> Unavailable {
    Unavailable { stream, reason, first, count }
}

/// Refused chunks, neighbours put together.
struct Refusals {
    stream: StreamId,
    link: LinkId,
    run: Option<(RefusalReason, ChunkSeq, u16)>,
}

impl Refusals {
    fn add(&mut self, t: &mut Turn<'_>, reason: RefusalReason, seq: ChunkSeq) {
        match &mut self.run {
            Some((r, first, count)) if *r == reason && first.ahead(u64::from(*count)) == seq && *count < 256 => {
                *count += 1
            }
            _ => {
                self.flush(t);
                self.run = Some((reason, seq, 1));
            }
        }
    }

    fn flush(&mut self, t: &mut Turn<'_>) {
        if let Some((reason, first, count)) = self.run.take() {
            t.send(self.link, unavailable(self.stream, reason, first, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::play_buffer::tests::drawn;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::wire::exchange::Run;
    use crate::wire::{Frame, List};

    const STREAM: StreamId = StreamId(1);

    fn request(runs: &[(u64, u16)]) -> Request {
        let runs = runs.iter().map(|(first, count)| Run { first: ChunkSeq::new(*first), count: *count });
        Request { stream: STREAM, runs: List::first_of(runs), within_ms: 0 }
    }

    /// What was decided: `1>100` a chunk to a link, `1:Gone 100+2` a refusal.
    fn said(world: &mut TestWorld) -> Vec<String> {
        let text = |o| match o {
            Output::SendChunk { link, seq } => format!("{}>{seq}", link.0),
            Output::Send { link, frame: Frame::Unavailable(u) } => {
                format!("{}:{:?} {}+{}", link.0, u.reason, u.first, u.count)
            }
            other => format!("{other:?}"),
        };
        world.outputs().into_iter().map(text).collect()
    }

    fn ask(upload: &mut Upload, world: &mut TestWorld, buffer: &PlayBuffer, link: u32, runs: &[(u64, u16)]) {
        upload.request(&mut world.turn(), LinkId(link), &request(runs), STREAM, Some(buffer));
        upload.pump(&mut world.turn(), STREAM, buffer);
    }

    #[test]
    fn what_is_held_is_sent_the_rest_refused_in_runs() {
        let (mut world, mut upload, buffer) = (TestWorld::new(Tuning::default()), Upload::default(), drawn(100, "##"));
        ask(&mut upload, &mut world, &buffer, 1, &[(98, 6)]);
        assert_eq!(said(&mut world), ["1:Gone 98+2", "1:NotYet 102+2", "1>100", "1>101"]);
    }

    /// An uplink of 400 kbit/s, through which a chunk takes a second, and what it says to a request of one chunk.
    fn asked_of_a_slow_uplink(
        upload: &mut Upload,
        world: &mut TestWorld,
        link: u32,
        seq: u64,
        within_ms: u16,
    ) -> String {
        let buffer = drawn(100, "########");
        let request = Request { within_ms, ..request(&[(seq, 1)]) };
        upload.request(&mut world.turn(), LinkId(link), &request, STREAM, Some(&buffer));
        upload.pump(&mut world.turn(), STREAM, &buffer);
        said(world).concat()
    }

    #[test]
    fn what_would_come_later_than_its_asker_waits_is_refused() {
        let mut world = TestWorld::new(Tuning { upload_kbps: 400, ..Tuning::default() });
        let mut upload = Upload::default();
        let mut ask = |link, seq, within_ms| asked_of_a_slow_uplink(&mut upload, &mut world, link, seq, within_ms);
        assert_eq!(ask(1, 100, 900), "1:Busy 100+1", "a second in 900 ms");
        assert_eq!(ask(1, 100, 1_100), "1>100");
        assert_eq!(ask(2, 101, 1_500), "2:Busy 101+1", "one goes before it");
        assert_eq!(ask(2, 101, 2_500), "", "it waits, though a second is more than upload_patience_ms");
        assert_eq!(ask(3, 102, 0), "3:Busy 102+1", "one is sent and one waits");
        world.pass(1_600);
        upload.sent(&mut world.turn(), LinkId(1), ChunkSeq::new(100));
        upload.pump(&mut world.turn(), STREAM, &drawn(100, "########"));
        assert_eq!(said(&mut world), ["2:Busy 101+1"], "its asker waits no longer");
    }

    #[test]
    fn links_take_turns_and_two_chunks_are_under_way_at_most() {
        let (mut world, mut upload, buffer) =
            (TestWorld::new(Tuning::default()), Upload::default(), drawn(100, "#####"));
        ask(&mut upload, &mut world, &buffer, 1, &[(100, 4)]);
        assert_eq!(said(&mut world), ["1>100", "1>101"]);
        ask(&mut upload, &mut world, &buffer, 2, &[(100, 1)]);
        assert_eq!(said(&mut world), ["2>100"]);
        assert!(upload.sent(&mut world.turn(), LinkId(1), ChunkSeq::new(100)));
        upload.pump(&mut world.turn(), STREAM, &buffer);
        assert_eq!(said(&mut world), ["1>102"]);
        assert_eq!((world.stats.chunks_uploaded, world.stats.bytes_uploaded), (1, 50_152));
        assert!(!upload.sent(&mut world.turn(), LinkId(1), ChunkSeq::new(100)), "once");
    }

    #[test]
    fn a_chunk_is_never_under_way_twice_to_a_link() {
        let (mut world, mut upload, buffer) =
            (TestWorld::new(Tuning::default()), Upload::default(), drawn(100, "####"));
        ask(&mut upload, &mut world, &buffer, 1, &[(100, 3), (100, 3)]);
        ask(&mut upload, &mut world, &buffer, 1, &[(100, 1)]);
        assert_eq!(said(&mut world), ["1>100", "1>101"]);
        assert_eq!(world.stats.uploads_repeated, 4);
    }

    #[test]
    fn a_slow_uplink_is_not_taken_for_a_slow_receiver() {
        let (mut world, mut upload, buffer) =
            (TestWorld::new(Tuning::default()), Upload::default(), drawn(100, "####"));
        ask(&mut upload, &mut world, &buffer, 1, &[(100, 1)]);
        assert_eq!(said(&mut world), ["1>100"]);
        world.pass(1_500);
        upload.sent(&mut world.turn(), LinkId(1), ChunkSeq::new(100));
        ask(&mut upload, &mut world, &buffer, 2, &[(101, 1)]);
        assert_eq!(said(&mut world), ["2>101"]);
        world.pass(1_200);
        ask(&mut upload, &mut world, &buffer, 3, &[(102, 1)]);
        assert!(said(&mut world).is_empty(), "the one before takes 1.5 s as well");
        world.pass(300);
        upload.pump(&mut world.turn(), STREAM, &buffer);
        assert_eq!(said(&mut world), ["3>102"], "but not longer than that");
    }

    #[test]
    fn a_slow_receiver_does_not_make_the_uplink_seem_slow() {
        let (mut world, mut upload, buffer) =
            (TestWorld::new(Tuning::default()), Upload::default(), drawn(100, "####"));
        let mut carries = |upload: &mut Upload, link: u32, seq: u64| {
            ask(upload, &mut world, &buffer, link, &[(seq, 1)]);
            world.pass(100);
            upload.sent(&mut world.turn(), LinkId(link), ChunkSeq::new(seq));
            world.pass(5_000);
            upload.meter.rate
        };
        let rate = carries(&mut upload, 2, 100);
        ask(&mut upload, &mut TestWorld::new(Tuning::default()), &buffer, 1, &[(100, 1)]);
        for seq in [101, 102] {
            assert_eq!(carries(&mut upload, 2, seq), rate, "chunk {seq}");
        }
        upload.drop_link(Time::from_millis(60_000), LinkId(1));
        assert_eq!(carries(&mut upload, 2, 103), rate);
    }

    #[test]
    fn a_greedy_partner_is_refused_beyond_its_queue() {
        let tuning = Tuning { upload_queue_max: 2, ..Tuning::default() };
        let (mut world, mut upload, buffer) = (TestWorld::new(tuning), Upload::default(), drawn(100, "########"));
        ask(&mut upload, &mut world, &buffer, 1, &[(100, 8)]);
        assert_eq!(said(&mut world), ["1:Busy 102+6", "1>100", "1>101"]);
        assert_eq!(world.stats.uploads_over_limit, 6);
    }

    #[test]
    fn what_is_pushed_waits_or_is_refused_like_what_was_asked_for() {
        let tuning = Tuning { upload_queue_max: 1, ..Tuning::default() };
        let (mut world, mut upload, buffer) = (TestWorld::new(tuning), Upload::default(), drawn(100, "###"));
        for seq in [100, 100, 101, 103] {
            upload.push(&mut world.turn(), LinkId(1), ChunkSeq::new(seq), STREAM, &buffer);
        }
        upload.pump(&mut world.turn(), STREAM, &buffer);
        assert_eq!(said(&mut world), ["1:Busy 101+1", "1:NotYet 103+1", "1>100"]);
        let stats = &world.stats;
        assert_eq!((stats.uploads_pushed, stats.pushes_refused, stats.uploads_repeated), (1, 2, 1));
    }

    #[test]
    fn what_a_partner_has_got_elsewhere_is_not_sent() {
        let (mut world, mut upload, buffer) = (TestWorld::new(Tuning::default()), Upload::default(), drawn(100, "###"));
        [100, 101]
            .into_iter()
            .for_each(|seq| upload.push(&mut world.turn(), LinkId(1), ChunkSeq::new(seq), STREAM, &buffer));
        upload.withdraw(&mut world.turn(), LinkId(1), ChunkSeq::new(100));
        upload.withdraw(&mut world.turn(), LinkId(2), ChunkSeq::new(101));
        upload.pump(&mut world.turn(), STREAM, &buffer);
        assert_eq!((said(&mut world), world.stats.uploads_withdrawn), (vec!["1>101".to_owned()], 1));
    }

    #[test]
    fn one_request_draws_a_window_of_answers_at_most() {
        let (mut world, mut upload) = (TestWorld::new(Tuning::default()), Upload::default());
        let buffer = drawn(100, &"#.".repeat(100));
        let tuning = Tuning { upload_queue_max: 1, ..Tuning::default() };
        world.config.tuning = tuning;
        ask(&mut upload, &mut world, &buffer, 1, &[(100, 256); 32]);
        assert!(said(&mut world).len() <= 256 + 2, "each answered run is a frame");
    }

    #[test]
    fn the_cap_holds_over_time_and_what_would_wait_too_long_is_refused() {
        let tuning = Tuning { upload_kbps: 1_000, ..Tuning::default() };
        let (mut world, mut upload, buffer) = (TestWorld::new(tuning), Upload::default(), drawn(100, "##########"));
        upload.pump(&mut world.turn(), STREAM, &buffer);
        let mut bytes = 0;
        for turn in 0..100 {
            world.pass(100);
            ask(&mut upload, &mut world, &buffer, turn % 3, &[(100, 10)]);
            for o in world.outputs() {
                if let Output::SendChunk { link, seq } = o {
                    bytes += 50_152;
                    upload.sent(&mut world.turn(), link, seq);
                }
            }
        }
        let most = 1_000 * 10 / 8 * 1_000 + 2 * 50_152;
        assert!((most - 200_000..=most).contains(&bytes), "10 s at 1 Mbit/s are 1 250 000 bytes, not {bytes}");
        assert!(world.stats.uploads_over_limit > 0, "refused at once");
    }
}
