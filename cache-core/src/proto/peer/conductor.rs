//! The conductor: tells each part what concerns it and carries what one part says to the others. It owns no algorithm;
//! what is decided is decided in the part named.

use super::cache_link::{self, CacheEvent, CacheLink};
use super::config::{PeerConfig, Sliding, Tuning};
use super::event::{End, Input, LinkId, Output};
use super::handshake::{Ourselves, Outcome};
use super::head::Head;
use super::join::{Join, JoinEvent};
use super::lead;
use super::neighbourhood::Neighbourhood;
use super::play_buffer::{Insert, PlayBuffer, frame_bytes};
use super::playout::Playout;
use super::scheduler::{Scheduler, UNKNOWN_EPOCH_PAUSE};
use super::stats::{Snapshot, State};
use super::turn::Turn;
use super::upload::Upload;
use super::view::Watching;
use crate::limits::WINDOW_CHUNKS;
use crate::sign::{ChunkFault, stream_id};
use crate::time::{Span, Time};
use crate::units::{CHUNK_SPAN, ChunkSeq, StreamId};
use crate::wire::exchange::{Have, Leads, Leave, StreamInfo, Unavailable};
use crate::wire::index::StreamKey;
use crate::wire::{BufferMap, ChunkHeader, Frame, List, RefusalReason, Refused};

/// How long the first chunks may take before the cache is asked once more where to begin. Our guess.
const BEGIN_PATIENCE: Span = Span::from_secs(4);

/// How often a peer that does not play looks around, and the least time between two looks at its neighbourhood. Our guess.
const LOOK_PERIOD: Span = Span::from_millis(100);

/// The parts of a peer.
#[derive(Debug)]
pub(super) struct Conductor {
    stream: StreamId,
    join: Join,
    near: Neighbourhood,
    cache: CacheLink,
    scheduler: Scheduler,
    upload: Upload,
    watching: Option<Watching>,
    /// N.
    size: u32,
    deadline: Time,
    ticked: Time,
    next_tick: Time,
    /// Something has changed that play-out, scheduler or upload must look at.
    stirred: bool,
    struck: Vec<LinkId>,
    finished: bool,
}

impl Conductor {
    pub(super) fn new(config: &PeerConfig, first_exchange: u32) -> Conductor {
        let stream = stream_id(&config.stream);
        Conductor {
            stream,
            join: Join::new(stream, first_exchange),
            near: Neighbourhood::default(),
            cache: CacheLink::new(),
            scheduler: Scheduler::default(),
            upload: Upload::default(),
            watching: None,
            size: 1,
            deadline: Time::NEVER,
            ticked: Time::ZERO,
            next_tick: Time::NEVER,
            stirred: false,
            struck: Vec::new(),
            finished: false,
        }
    }

    pub(super) fn handle(&mut self, t: &mut Turn<'_>, input: Input) {
        if self.finished {
            return;
        }
        match input {
            Input::Start if self.join.is_idle() => {
                self.deadline = t.in_ms(t.tuning().join_deadline_ms);
                self.next_tick = t.now;
                self.join.start(t);
            }
            Input::Start | Input::Tick => {}
            Input::Datagram { from, datagram } => {
                let said = self.join.datagram(t, from, &datagram);
                self.servers_said(t, said);
            }
            Input::Accepted { link, from } => {
                self.near.handshakes.accepted(t, link, from);
                self.tick_soon(t);
            }
            Input::Connected { link } => {
                let us = self.ourselves(t);
                self.near.handshakes.connected(t, link, &us);
                self.cache.connected(t, link, &us);
            }
            Input::Closed { link } => self.closed(t, link),
            Input::Frame { link, frame } => self.frame(t, link, frame),
            Input::Chunk { link, header, checked } => self.chunk(t, link, &header, checked),
            Input::ChunkSent { link, seq } => {
                self.stirred = true;
                if self.upload.sent(t, link, seq)
                    && let Some(partner) = self.near.partners.get_mut(link)
                {
                    partner.worth.uploaded();
                }
            }
            Input::Leave => self.finish(t, End::Left),
        }
        self.go_on(t);
    }

    pub(super) fn next_timeout(&self, tuning: &Tuning) -> Time {
        if self.finished {
            return Time::NEVER;
        }
        let join = self.join.next_timeout();
        let Some(w) = &self.watching else { return self.next_tick.min(join) };
        let chunks = w.playout.next_timeout().min(self.scheduler.next_timeout());
        let partners = self.near.partners.flush_at().min(self.upload.next_timeout(tuning));
        self.next_tick.min(join).min(chunks).min(partners)
    }

    pub(super) fn snapshot(&self, now: Time) -> Snapshot {
        let watching = self.watching.as_ref();
        let state = match watching {
            _ if self.finished => State::Finished,
            Some(w) if w.playout.is_waiting() => State::Buffering,
            Some(w) if w.playout.is_stalled() => State::Stalled,
            Some(_) => State::Playing,
            None if self.join.has_joined() => State::Opening,
            None if self.join.is_idle() => State::Idle,
            None => State::Joining,
        };
        Snapshot {
            peer_id: self.join.id(),
            domain: self.join.domain(),
            seen: self.join.seen(),
            state,
            position: watching.map_or(ChunkSeq::FIRST, |w| w.buffer.position()),
            head: watching.map_or(ChunkSeq::FIRST, |w| w.head.estimate(now)),
            buffer_ms: watching.map_or(0, |w| w.buffer.contiguous() * CHUNK_SPAN.millis()),
            partners: self.near.partners.len(),
            members: self.near.members.len(),
            size: self.size,
            cache: self.cache.open().and_then(|_| self.cache.address()),
        }
    }

    /// What follows from any input and from time alone.
    fn go_on(&mut self, t: &mut Turn<'_>) {
        if self.finished || self.join.is_idle() {
            return;
        }
        // In this order: what a part leaves due at once is done by one that comes after it.
        self.next_tick = self.next_tick.min(self.cache.next_timeout(t.now, t.tuning()));
        if self.next_tick <= t.now {
            self.tick(t);
        }
        if self.join.next_timeout() <= t.now && !self.finished {
            let said = self.join.tick(t);
            self.servers_said(t, said);
        }
        self.near.partners.flush(t);
        if self.upload.would_send(t) {
            self.near.partners.flush_now(t);
        }
        while let (Some((link, seq)), Some(w)) = (self.near.partners.take_push(), &self.watching) {
            self.stirred = true;
            self.upload.push(t, link, seq, self.stream, &w.buffer);
        }
        self.watch(t);
        self.next_tick = self.next_tick.min(self.cache.next_timeout(t.now, t.tuning()));
    }

    /// What may wait for a tenth of a second: links that are late, partners that are silent or low, places to fill.
    fn tick(&mut self, t: &mut Turn<'_>) {
        let waiting = self.scheduler.requests.open_at_cache() > 0;
        let said = self.cache.tick(t, waiting);
        self.cache_said(t, said);
        if self.cache.next_timeout(t.now, t.tuning()) <= t.now {
            // It has failed just now, and the next one is dialled at once.
            self.cache.tick(t, waiting);
        }
        let map = self.map();
        for link in self.near.tick(t, self.join.id(), self.size, &map) {
            self.forget_link(t.now, link);
        }
        if self.near.is_lonely(t, self.size) {
            self.join.refresh(t);
        }
        match &mut self.watching {
            None if self.deadline <= t.now && self.join.has_joined() => return self.finish(t, End::NoCache),
            Some(w) if w.playout.is_waiting() && w.began.after(BEGIN_PATIENCE) <= t.now => {
                w.began = t.now;
                self.cache.reopen(t);
            }
            _ => {}
        }
        self.ticked = t.now;
        // Without a clock of its own to beat: nothing is played yet, or nothing is there to play.
        let beatless = self.watching.as_ref().is_none_or(|w| w.playout.next_timeout() == Time::NEVER);
        let beat = if beatless { t.now.after(LOOK_PERIOD) } else { Time::NEVER };
        self.stirred |= beatless;
        let links = self.cache.next_timeout(t.now, t.tuning()).min(self.near.next_timeout(t.tuning()));
        self.next_tick = links.min(beat).max(t.now.after(Span::from_millis(1)));
    }

    /// Who is near has changed: places may be to be filled.
    fn tick_soon(&mut self, t: &Turn<'_>) {
        self.next_tick = self.next_tick.min(self.ticked.after(LOOK_PERIOD).max(t.now));
    }

    /// Plays, asks and uploads, if something has changed or is due.
    fn watch(&mut self, t: &mut Turn<'_>) {
        let Some(w) = self.watching.as_mut().filter(|_| !self.finished) else { return };
        let (beat, asks) = (w.playout.next_timeout() <= t.now, self.scheduler.next_timeout() <= t.now);
        if !(beat || asks || std::mem::take(&mut self.stirred) || self.upload.next_timeout(t.tuning()) <= t.now) {
            return;
        }
        let base = w.buffer.map().base();
        w.playout.advance(t, &mut w.buffer, &w.head);
        if w.playout.is_ended() {
            return self.finish(t, End::StreamEnded);
        }
        if !w.playout.is_waiting() {
            self.cache.ask_help(t, self.join.id());
        }
        if w.buffer.map().base() > base {
            self.scheduler.requests.forget_before(w.buffer.map().base());
            t.out.push(Output::Forget { before: w.buffer.map().base() });
        }
        let busy = self.upload.busy(t.now);
        let view = w.view(self.stream, self.join.id(), &self.near.members, self.cache.help(), busy);
        let mut struck = std::mem::take(&mut self.struck);
        self.scheduler.run(t, &view, &mut self.near.partners, &mut self.cache, &mut struck);
        self.upload.pump(t, self.stream, &w.buffer);
        for link in struck.drain(..) {
            t.stats.partners_struck += 1;
            self.near.strike(t, link);
            self.forget_link(t.now, link);
        }
        self.struck = struck;
    }

    fn servers_said(&mut self, t: &mut Turn<'_>, said: Option<JoinEvent>) {
        match said {
            Some(JoinEvent::Joined(joined)) => {
                self.size = joined.size;
                self.cache.caches(&joined.caches);
                self.take_keys(t, joined.keys.into_vec());
                self.near.learn(t, self.join.id(), self.size, &joined.members);
                self.next_tick = t.now;
            }
            Some(JoinEvent::Size(size)) => {
                self.size = size;
                self.tick_soon(t);
            }
            Some(JoinEvent::Keys(keys)) => self.take_keys(t, keys),
            Some(JoinEvent::Failed(end)) => self.finish(t, end),
            None => {}
        }
    }

    /// Keys replace those known. None is what an index says that was restarted and has not heard of the publisher yet:
    /// what was good goes on being good.
    fn take_keys(&mut self, t: &mut Turn<'_>, keys: Vec<StreamKey>) {
        if !keys.is_empty() {
            t.out.push(Output::Keys { keys });
            self.scheduler.requests.keys_came();
            self.stirred = true;
        }
    }

    fn closed(&mut self, t: &mut Turn<'_>, link: LinkId) {
        self.tick_soon(t);
        if self.near.handshakes.closed(t, link, &mut self.near.members) {
            return;
        }
        self.lost(t, link, false);
        let said = self.cache.closed(t, link);
        self.cache_said(t, said);
    }

    fn frame(&mut self, t: &mut Turn<'_>, link: LinkId, frame: Frame) {
        if self.cache.link() == Some(link) {
            let said = self.cache.frame(t, frame, self.stream);
            return self.cache_said(t, said);
        }
        if !self.near.handshakes.has(link) {
            // Nearly every frame: what a handshake needs is not reckoned for it.
            return self.partner_said(t, link, frame);
        }
        let us = self.ourselves(t);
        match self.near.handshakes.frame(t, link, &frame, &us, &self.near.partners, &mut self.near.members) {
            Some(Outcome::Partner { partner, replaces }) => {
                if let Some(older) = replaces {
                    self.near.partners.remove(older);
                    self.forget_link(t.now, older);
                    t.close(older);
                }
                self.near.members.forget(partner.id);
                let map = self.map();
                self.near.partners.add(t, link, *partner, &map);
                self.tick_soon(t);
            }
            Some(Outcome::Nothing) => self.tick_soon(t),
            None => self.partner_said(t, link, frame),
        }
    }

    fn partner_said(&mut self, t: &mut Turn<'_>, link: LinkId, frame: Frame) {
        if self.near.partners.get_mut(link).is_none() {
            return;
        }
        self.near.partners.heard(link, t.now);
        let buffer = self.watching.as_ref().map(|w| &w.buffer);
        match frame {
            Frame::Gossip(gossip) => {
                if let Some((before, map)) =
                    self.near.partners.gossip(link, gossip.map, buffer.map(PlayBuffer::position))
                {
                    self.stirred |= self.scheduler.wants_of(&map, &before);
                }
            }
            Frame::Have(have) => {
                if let Some(w) = &self.watching {
                    self.near.partners.have(link, &have, w.buffer.map());
                    have.seqs.iter().for_each(|seq| self.upload.withdraw(t, link, *seq));
                    self.stirred |= self.scheduler.wants(have.seqs.iter().copied());
                    let view = w.view(
                        self.stream,
                        self.join.id(),
                        &self.near.members,
                        self.cache.help(),
                        self.upload.busy(t.now),
                    );
                    self.scheduler.announced(t, &view, &mut self.near.partners, link, &have);
                }
            }
            Frame::Request(request) => {
                self.upload.request(t, link, &request, self.stream, buffer);
                self.stirred = true;
            }
            Frame::Unavailable(said) => self.not_from_partner(t, link, &said),
            Frame::Follow(wish) => self.lead(t, link, wish.subs),
            Frame::Leads(said) => self.scheduler.follow.answered(t, link, said.subs),
            Frame::PartnersQuery(_) => self.near.partners.answer(t, link),
            Frame::Partners(list) if self.near.partners.was_asked(link) => {
                self.near.learn(t, self.join.id(), self.size, &list.peers);
                self.tick_soon(t);
            }
            Frame::Partners(_) => t.stats.lists_unasked += 1,
            Frame::Leave(Leave { reason }) | Frame::Refused(Refused { reason, .. }) => {
                t.close(link);
                self.lost(t, link, reason == RefusalReason::Full);
            }
            _ => {
                t.stats.frames_unexpected += 1;
                self.part(t, link, RefusalReason::BadMessage);
            }
        }
    }

    /// A partner has not got what it was asked for.
    fn not_from_partner(&mut self, t: &mut Turn<'_>, link: LinkId, said: &Unavailable) {
        self.stirred = true;
        let Some(partner) = self.near.partners.get_mut(link) else { return };
        for seq in run(said) {
            if !self.scheduler.requests.settle(link, seq) {
                continue;
            }
            let in_time = self.scheduler.requests.given_up(link, seq, false);
            partner.refused(seq, in_time, said.reason == RefusalReason::Busy);
            if in_time {
                t.stats.unavailable += 1;
                if self.scheduler.follow.is_led_by(link, seq) {
                    self.scheduler.follow.behind(t, seq);
                }
            }
        }
    }

    /// A partner wishes to be pushed these sub-streams, and no others.
    fn lead(&mut self, t: &mut Turn<'_>, link: LinkId, wanted: u8) {
        let kbps = self.watching.as_ref().map_or(0, |w| w.buffer.stream_kbps());
        let (room, ours) = (self.upload.room(t.tuning(), kbps), self.scheduler.follow.wanted_of(link));
        let subs = lead::grant(&self.near.partners, link, wanted, ours, room);
        let Some(partner) = self.near.partners.get_mut(link) else { return };
        partner.followed = subs;
        t.stats.leads_refused += u64::from((wanted & !subs).count_ones());
        t.send(link, Leads { subs });
    }

    fn cache_said(&mut self, t: &mut Turn<'_>, said: CacheEvent) {
        self.stirred |= said != CacheEvent::Nothing;
        match said {
            CacheEvent::Nothing => {}
            CacheEvent::Info(info) => self.opened(t, &info),
            CacheEvent::Unavailable(said) => self.not_from_cache(t, &said),
            CacheEvent::Ended(last) => {
                if let Some(w) = &mut self.watching {
                    w.head.exists(last, t.now);
                    w.buffer.ends_with(last);
                }
            }
            CacheEvent::Lost(link) => self.scheduler.requests.drop_cache(link),
        }
    }

    /// A cache has said where to begin, or answered a probe.
    fn opened(&mut self, t: &mut Turn<'_>, info: &StreamInfo) {
        match &mut self.watching {
            Some(w) if !w.playout.is_waiting() || info.begin <= w.buffer.position() => w.head.exists(info.head, t.now),
            _ => {
                let (window, history) = (t.tuning().window_chunks, t.tuning().history_chunks);
                let buffer = match t.tuning().sliding {
                    Sliding::Clock => PlayBuffer::new(info.begin, window, history),
                    Sliding::Strict => PlayBuffer::strict(info.begin, window, history),
                };
                self.scheduler.requests.forget_before(buffer.map().base());
                self.near.partners.begin(buffer.position());
                let (head, playout) = (Head::new(info.head, t.now), Playout::new(t.tuning()));
                self.watching = Some(Watching { buffer, head, playout, began: t.now });
            }
        }
    }

    fn not_from_cache(&mut self, t: &mut Turn<'_>, said: &Unavailable) {
        let (Some(link), Some(w)) = (self.cache.open(), &self.watching) else { return };
        let until = t.now.after(cache_link::hold_off(said.reason));
        for seq in run(said).filter(|seq| w.buffer.map().slot(*seq).is_some()) {
            self.scheduler.requests.settle(link, seq);
            if self.scheduler.requests.given_up(link, seq, true) {
                t.stats.unavailable += 1;
                self.scheduler.requests.hold_off_cache(seq, until);
            }
        }
        let first = w.buffer.position();
        if w.playout.is_waiting() && said.reason == RefusalReason::Gone && run(said).any(|seq| seq == first) {
            self.cache.reopen(t);
        }
    }

    /// A chunk came: accounted to its sender, judged, and if it is good and was asked for, taken in.
    fn chunk(&mut self, t: &mut Turn<'_>, link: LinkId, header: &ChunkHeader, checked: Result<(), ChunkFault>) {
        let seq = header.seq;
        let from_cache = self.cache.link() == Some(link);
        let source = if from_cache { self.cache.address() } else { self.near.partners.get_mut(link).map(|p| p.source) };
        let Some(source) = source else {
            t.stats.chunks_unrequested += 1;
            return;
        };
        t.stats.received(source, from_cache, frame_bytes(header));
        if from_cache {
            self.cache.heard(t.now);
        } else {
            self.near.partners.heard(link, t.now);
        }
        let asked = self.scheduler.requests.settle(link, seq);
        let took = self.scheduler.requests.asked_at(link, seq).map(|at| t.now.since(at));
        if from_cache {
            self.scheduler.cache_sent(t.now, self.scheduler.requests.asked_cache_at(seq));
        }
        let in_time = self.scheduler.requests.given_up(link, seq, from_cache);
        match checked {
            Ok(()) if asked => self.take_in(t, link, header, in_time, took),
            Ok(()) => {
                t.stats.chunks_unrequested += 1;
                if self.near.partners.get_mut(link).is_some_and(super::partners::Partner::sent_unasked) {
                    self.part(t, link, RefusalReason::BadMessage);
                }
            }
            Err(ChunkFault::UnknownEpoch(_)) => {
                self.stirred = true;
                t.stats.chunks_unknown_epoch += 1;
                if asked {
                    self.scheduler.requests.hold_off(seq, t.now.after(UNKNOWN_EPOCH_PAUSE));
                    self.join.want_keys(t);
                }
                self.charge(link, in_time);
            }
            Err(_) => {
                t.stats.chunks_refused += 1;
                self.wrong_chunk(t, link);
            }
        }
    }

    /// A good chunk that was asked for.
    fn take_in(&mut self, t: &mut Turn<'_>, link: LinkId, header: &ChunkHeader, in_time: bool, took: Option<Span>) {
        let seq = header.seq;
        let Some(w) = &mut self.watching else { return };
        w.head.came(seq, header.published, t.now);
        // A player without a beat goes on by what comes.
        self.stirred |= w.playout.next_timeout() == Time::NEVER || header.end;
        match w.buffer.insert(header) {
            Insert::Kept => {
                self.scheduler.came(t, link, seq, true);
                t.stats.chunks_verified += 1;
                t.out.push(Output::Keep { seq });
                self.near.partners.announce(t, seq, self.upload.busy(t.now));
                // Who holds it is not told by the announcement, and need not send it.
                for other in self.scheduler.requests.owing(seq).filter(|other| self.near.partners.has(*other)) {
                    t.send(other, Have { seqs: List::first_of([seq]) });
                }
            }
            Insert::Duplicate => {
                self.scheduler.came(t, link, seq, false);
                t.stats.duplicates_from_caches += u64::from(self.cache.link() == Some(link));
            }
            Insert::TooOld | Insert::TooNew => t.stats.chunks_late += 1,
        }
        if let Some(other) = self.scheduler.requests.arrived(link, seq)
            && let Some(partner) = self.near.partners.get_mut(other)
        {
            partner.rate.withdrawn();
        }
        if let Some(partner) = self.near.partners.get_mut(link) {
            partner.delivered(seq, in_time, took);
        }
    }

    /// A request that was open at this partner has come to nothing.
    fn charge(&mut self, link: LinkId, was_open: bool) {
        if let Some(partner) = self.near.partners.get_mut(link).filter(|_| was_open) {
            partner.rate.failed();
        }
    }

    /// Who sends a wrong chunk is not asked again: a peer is banned, a cache left for the next.
    fn wrong_chunk(&mut self, t: &mut Turn<'_>, link: LinkId) {
        if self.cache.link() == Some(link) {
            let said = self.cache.fail(t, true);
            return self.cache_said(t, said);
        }
        self.near.ban(t, link);
        self.forget_link(t.now, link);
    }

    /// Ends a partnership from our side.
    fn part(&mut self, t: &mut Turn<'_>, link: LinkId, reason: RefusalReason) {
        self.near.part(t, link, reason);
        self.forget_link(t.now, link);
    }

    /// A partnership was ended by the other side.
    fn lost(&mut self, t: &mut Turn<'_>, link: LinkId, full: bool) {
        self.near.lost(t, link, self.join.id(), self.size, full);
        self.forget_link(t.now, link);
    }

    /// What was asked of a link that is gone can be asked elsewhere; what it asked for is not sent.
    fn forget_link(&mut self, now: Time, link: LinkId) {
        self.stirred = true;
        self.scheduler.requests.drop_partner(link);
        self.scheduler.follow.drop_link(link);
        self.upload.drop_link(now, link);
    }

    /// Says farewell to everybody and ends.
    fn finish(&mut self, t: &mut Turn<'_>, end: End) {
        for link in self.near.partners.links() {
            t.send(link, Leave { reason: RefusalReason::Leaving });
            t.close(link);
        }
        let rest = self.near.handshakes.take_links().into_iter().chain(self.cache.link());
        rest.for_each(|link| t.close(link));
        self.join.leave(t);
        t.out.push(Output::Finished { end });
        self.finished = true;
    }

    fn ourselves(&self, t: &Turn<'_>) -> Ourselves {
        let kbps = self.watching.as_ref().map_or(0, |w| w.buffer.stream_kbps());
        let accepted_max = t.tuning().accepted_limit(self.size, kbps);
        let domain = self.join.domain().unwrap_or_default();
        Ourselves { id: self.join.id(), stream: self.stream, domain, accepted_max }
    }

    fn map(&self) -> BufferMap {
        self.watching.as_ref().map_or(BufferMap::new(ChunkSeq::FIRST), |w| *w.buffer.map())
    }
}

/// The chunks that a refusal names, a window's worth at most.
fn run(said: &Unavailable) -> impl Iterator<Item = ChunkSeq> + use<> {
    let first = said.first;
    (0..u64::from(said.count).min(WINDOW_CHUNKS)).map(move |offset| first.ahead(offset))
}
