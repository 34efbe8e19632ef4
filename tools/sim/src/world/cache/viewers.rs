//! Viewers' connections: what they say, and what each is sent next.

use cache_core::peer_id::PeerId;
use cache_core::proto::cache::viewer::{Answer, Holdings, Next, OUTSTANDING_CHUNKS_MAX, Patience, Track, begin};
use cache_core::units::ChunkSeq;
use cache_core::wire::exchange::{
    Ended, Hello, Open, Request, Role, Skipped, StreamInfo, Subscribe, TryInstead, Unavailable, Welcome,
};
use cache_core::wire::{Frame, List, RefusalReason, Refused};

use super::super::fabric::Fabric;
use super::upload::Upload;
use super::{CacheNode, Conn};
use crate::invariants::Fact;

/// The server's default: 5 s.
const PATIENCE: Patience = Patience { skip_behind_chunks: 25 };

/// When a refused viewer may ask again, as the server has it.
const REFUSED_RETRY_MS: u32 = 1_000;

/// A viewer: a peer, or another cache.
#[derive(Debug, Default)]
pub(super) struct Viewer {
    /// Once it has opened the stream.
    track: Option<Track>,
    /// It has opened the stream, which is not there yet.
    waiting: Option<u16>,
    /// A chunk of its is in front of the uplink.
    sending: bool,
}

impl CacheNode {
    /// A connection's first frame.
    pub(super) fn greeted(&mut self, fabric: &mut Fabric, link: u32, frame: Frame) {
        let Frame::Hello(Hello { role, .. }) = frame else { return self.drop_link(fabric, link, 1) };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.rng.next_u64().to_be_bytes());
        let conn = match role {
            Role::Publisher => Conn::Publisher(Upload::new(nonce)),
            Role::Cache => Conn::Viewer(Viewer::default()),
            Role::Peer | Role::Viewer => {
                let full = self.terms.viewers_max > 0 && self.viewers >= self.terms.viewers_max;
                if full || (self.terms.admits && self.admission.join().is_err()) {
                    let caches = List::first_of(self.others.iter().copied());
                    self.say(fabric, link, TryInstead { caches });
                    self.say(fabric, link, Refused::for_now(RefusalReason::Full, REFUSED_RETRY_MS));
                    return self.drop_link(fabric, link, 1);
                }
                Conn::Viewer(Viewer::default())
            }
        };
        self.viewers += u32::from(matches!(conn, Conn::Viewer(_)));
        self.conns.insert(link, conn);
        self.say(fabric, link, Welcome { peer: PeerId::NONE, nonce });
    }

    pub(super) fn viewer_said(&mut self, fabric: &mut Fabric, link: u32, frame: Frame) {
        match frame {
            Frame::Open(open) => self.on_open(fabric, link, &open),
            Frame::Request(request) => self.on_request(fabric, link, &request),
            Frame::Subscribe(subscribe) => self.on_subscribe(fabric, link, &subscribe),
            Frame::Unsubscribe(_) => {
                if let Some(track) = self.track(link) {
                    track.unsubscribe();
                }
            }
            Frame::Gossip(_) | Frame::Have(_) | Frame::PartnersQuery(_) | Frame::Partners(_) => {}
            _ => self.drop_link(fabric, link, 1),
        }
    }

    fn on_open(&mut self, fabric: &mut Fabric, link: u32, open: &Open) {
        if open.stream != self.name {
            return self.unavailable(fabric, link, RefusalReason::UnknownStream, ChunkSeq::FIRST, 0);
        }
        let ready = self.ring.head().is_some();
        let ended = self.ended;
        let Some(Conn::Viewer(viewer)) = self.conns.get_mut(&link) else { return };
        let track = viewer.track.get_or_insert_with(Track::new);
        if let Some(last) = ended {
            track.ended(last);
        }
        viewer.waiting = (!ready).then_some(open.back);
        if ready {
            self.tell_info(fabric, link, open.back);
        } else {
            self.want(fabric);
        }
    }

    /// Answers all who wait for the stream's first chunk.
    pub(super) fn ready(&mut self, fabric: &mut Fabric) {
        for (link, back) in self.take_waiting() {
            self.tell_info(fabric, link, back);
        }
    }

    /// Tells all who wait that they wait in vain.
    pub(super) fn refuse_waiting(&mut self, fabric: &mut Fabric, reason: RefusalReason) {
        for (link, _) in self.take_waiting() {
            self.unavailable(fabric, link, reason, ChunkSeq::FIRST, 0);
        }
    }

    fn take_waiting(&mut self) -> Vec<(u32, u16)> {
        let waiting = |(link, conn): (&u32, &mut Conn)| match conn {
            Conn::Viewer(viewer) => viewer.waiting.take().map(|back| (*link, back)),
            _ => None,
        };
        self.conns.iter_mut().filter_map(waiting).collect()
    }

    fn tell_info(&mut self, fabric: &mut Fabric, link: u32, back: u16) {
        let (Some(newest), Some(begin)) = (self.ring.newest(), begin(&self.ring, u64::from(back))) else {
            return self.unavailable(fabric, link, RefusalReason::UnknownStream, ChunkSeq::FIRST, 0);
        };
        let header = fabric.chunks.header(newest.chunk);
        let info = StreamInfo {
            stream: self.id,
            epoch: header.epoch,
            oldest: self.ring.oldest().unwrap_or(newest.seq),
            head: newest.seq,
            head_published: header.published,
            begin,
            spare_permille: self.admission.spare_permille(),
        };
        self.say(fabric, link, info);
    }

    fn on_request(&mut self, fabric: &mut Fabric, link: u32, request: &Request) {
        if self.ring.head().is_none() || request.stream != self.id {
            for run in request.runs.iter() {
                self.unavailable(fabric, link, RefusalReason::UnknownStream, run.first, run.count);
            }
            return;
        }
        let mut said = Vec::new();
        if let Some(Conn::Viewer(Viewer { track: Some(track), .. })) = self.conns.get_mut(&link) {
            for run in request.runs.iter() {
                let room = OUTSTANDING_CHUNKS_MAX.saturating_sub(track.outstanding());
                track.request(run.first, run.count, room, &self.ring, |answer| said.push(answer));
            }
            let (size, max) = (u64::from(track.outstanding()), u64::from(OUTSTANDING_CHUNKS_MAX));
            fabric.fact(Fact::Size { node: self.node, what: "chunks owed to a viewer", size, max });
        }
        for answer in said {
            self.answer(fabric, link, answer);
        }
        self.pump(fabric, link);
    }

    fn on_subscribe(&mut self, fabric: &mut Fabric, link: u32, subscribe: &Subscribe) {
        if self.ring.head().is_none() {
            return self.unavailable(fabric, link, RefusalReason::UnknownStream, ChunkSeq::FIRST, 0);
        }
        if let Some(Conn::Viewer(Viewer { track: Some(track), .. })) = self.conns.get_mut(&link) {
            track.subscribe(subscribe.from, &self.ring);
        }
        self.pump(fabric, link);
    }

    fn track(&mut self, link: u32) -> Option<&mut Track> {
        match self.conns.get_mut(&link) {
            Some(Conn::Viewer(viewer)) => viewer.track.as_mut(),
            _ => None,
        }
    }

    fn unavailable(&mut self, fabric: &mut Fabric, link: u32, reason: RefusalReason, first: ChunkSeq, count: u16) {
        let stream = self.id;
        self.say(fabric, link, Unavailable { stream, reason, first, count });
    }

    fn answer(&mut self, fabric: &mut Fabric, link: u32, answer: Answer) {
        let stream = self.id;
        match answer {
            Answer::Unavailable { reason, first, count } => self.unavailable(fabric, link, reason, first, count),
            Answer::Skipped(next) => self.say(fabric, link, Skipped { stream, next }),
            Answer::Ended(last) => self.say(fabric, link, Ended { stream, last }),
        }
    }

    /// The stream has grown, or is over: everybody is looked at, from another one on each time.
    pub(super) fn pump_all(&mut self, fabric: &mut Fabric) {
        let mut links: Vec<u32> = self.conns.keys().copied().collect();
        if !links.is_empty() {
            let from = self.rng.below(links.len());
            links.rotate_left(from);
        }
        links.into_iter().for_each(|link| self.pump(fabric, link));
    }

    /// Sends a viewer what is next for it, a chunk at a time.
    pub(super) fn pump(&mut self, fabric: &mut Fabric, link: u32) {
        let paced = fabric.host(self.node).up_bps > 0;
        loop {
            let Some(Conn::Viewer(Viewer { track: Some(track), sending, .. })) = self.conns.get_mut(&link) else {
                return;
            };
            if *sending {
                return;
            }
            match track.next(&self.ring, PATIENCE) {
                Next::Idle => return,
                Next::Say(answer) => self.answer(fabric, link, answer),
                Next::Chunk(seq) => match self.ring.get(seq) {
                    Some(slot) => {
                        *sending = paced;
                        self.bytes_sent += if paced { 0 } else { fabric.chunks.frame_bytes() };
                        fabric.send_chunk(link, 1, slot.chunk, slot.content);
                    }
                    None => {
                        if let Some(answer) = track.lost(seq) {
                            self.answer(fabric, link, answer);
                        }
                    }
                },
            }
        }
    }

    /// A chunk's last byte has left.
    pub(crate) fn on_sent(&mut self, fabric: &mut Fabric, link: u32) {
        if let Some(Conn::Viewer(viewer)) = self.conns.get_mut(&link) {
            viewer.sending = false;
            self.bytes_sent += fabric.chunks.frame_bytes();
            self.pump(fabric, link);
        }
    }

    /// The stream is over, or goes on after all.
    pub(super) fn stream_ended(&mut self, fabric: &mut Fabric, last: Option<ChunkSeq>) {
        self.ended = last;
        for conn in self.conns.values_mut() {
            if let Conn::Viewer(Viewer { track: Some(track), .. }) = conn {
                match last {
                    Some(last) => track.ended(last),
                    None => track.resumed(),
                }
            }
        }
        self.pump_all(fabric);
    }

    /// The oldest chunk that a viewer is still to be sent.
    pub(super) fn lowest(&self) -> Option<ChunkSeq> {
        let head = self.ring.head()?;
        let needs = |conn: &Conn| match conn {
            Conn::Viewer(Viewer { track: Some(track), .. }) => track.needs_from(head, PATIENCE),
            _ => None,
        };
        self.conns.values().filter_map(needs).min()
    }
}
