//! A viewer: the peer's machine and what its driver does for it: keeps chunks, checks them, knows links by number.
//!
//! | who misbehaves | how |
//! |---|---|
//! | a free rider | tells what it holds and refuses every request as `Busy` |
//! | a liar | announces its whole window, whatever it holds, and sends nothing |
//! | a polluter | corrupts every chunk that it sends |

use cache_core::outbox::Outbox;
use cache_core::proto::peer::quality::Quality;
use cache_core::proto::peer::{End, Input, LinkId, Output, Peer};
use cache_core::sign::ChunkFault;
use cache_core::time::{Span, Time};
use cache_core::units::{ChunkSeq, Epoch};
use cache_core::wire::exchange::Unavailable;
use cache_core::wire::{BufferMap, Frame, RefusalReason};

use super::ahead::look_at_links;
use super::event::{Event, What, news};
use super::fabric::Fabric;
use super::measure::Measure;
use crate::invariants::Fact;

/// Chunks that the driver keeps: the window, and those that are just being sent.
const KEPT: usize = 288;

/// Ticks in the queue that are remembered. A machine wants to be called at some moment, then at an earlier one, then at the
/// first one again, for which a tick is in the queue already. Our guess: it has no more reasons at a time.
const TICKS: usize = 4;

/// How a viewer misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manners {
    pub(crate) free_rider: bool,
    pub(crate) liar: bool,
    pub(crate) polluter: bool,
}

/// A viewer.
#[derive(Debug)]
pub(crate) struct PeerNode {
    node: u32,
    pub(crate) arrived: Time,
    machine: Peer,
    /// The machine's links, by its numbers for them, which grow.
    links: Vec<(u32, u32)>,
    /// Chunks by their number modulo [`KEPT`]; `u32::MAX`: none.
    kept: Box<[u32]>,
    /// Those of them whose content is not the right one, and what it is: none, unless the machine has a defect.
    wrong: Vec<(u32, u64)>,
    epochs: Vec<Epoch>,
    /// The tick that counts.
    tick_at: Time,
    /// For when a tick is in the queue; those that are past mean nothing.
    ticks: [Time; TICKS],
    quality: Quality,
    pub(crate) manners: Manners,
    ended: Option<End>,
    /// Chunk bytes from peers that came on a link which the machine does not count.
    pub(crate) unclaimed: u64,
}

impl PeerNode {
    /// A viewer that has not started.
    pub(crate) fn new(node: u32, machine: Peer, manners: Manners, now: Time) -> PeerNode {
        PeerNode {
            node,
            arrived: now,
            machine,
            links: Vec::new(),
            kept: vec![u32::MAX; KEPT].into_boxed_slice(),
            wrong: Vec::new(),
            epochs: Vec::new(),
            tick_at: Time::NEVER,
            ticks: [Time::ZERO; TICKS],
            quality: Quality::new(now),
            manners,
            ended: None,
            unclaimed: 0,
        }
    }

    pub(crate) fn machine(&self) -> &Peer {
        &self.machine
    }

    /// Some number from each of the places that every event looks at ([`super::ahead`]).
    pub(crate) fn looked_at(&self) -> u64 {
        let link = self.links.first().map_or(0, |(name, _)| u64::from(*name));
        self.tick_at.micros() ^ link ^ self.machine.next_timeout().micros()
    }

    pub(crate) fn quality(&mut self) -> &mut Quality {
        &mut self.quality
    }

    /// Why it has finished, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        self.ended
    }

    /// The links that it has, as the network numbers them.
    pub(crate) fn links(&self) -> impl Iterator<Item = u32> + '_ {
        self.links.iter().map(|(_, link)| *link)
    }

    fn link(&self, name: LinkId) -> Option<u32> {
        self.links.binary_search_by_key(&name.0, |(name, _)| *name).ok().map(|at| self.links[at].1)
    }

    fn forget_link(&mut self, name: LinkId) -> Option<u32> {
        let at = self.links.binary_search_by_key(&name.0, |(name, _)| *name).ok()?;
        Some(self.links.remove(at).1)
    }

    /// One transition of the machine, carried out.
    pub(crate) fn tell(&mut self, io: &mut Io<'_>, input: Input, arrived: Option<(u32, u64)>) {
        if self.ended.is_some() {
            return;
        }
        let mut out = std::mem::take(io.out);
        self.machine.handle(io.fabric.now, input, &mut out);
        if out.as_slice().len() > 1 {
            let to = |output: &Output| if let Output::Send { link, .. } = output { self.link(*link) } else { None };
            look_at_links(io.fabric, out.as_slice().iter().filter_map(to));
        }
        for output in out.drain() {
            self.carry_out(io, output, arrived);
        }
        *io.out = out;
        self.arm(io.fabric);
    }

    /// Sees to it that the machine is called at its time.
    fn arm(&mut self, fabric: &mut Fabric) {
        let next = self.machine.next_timeout();
        if next <= fabric.now {
            fabric.fact(Fact::Timer { node: self.node, next });
        }
        // A machine that wants what is past is called again, but not at once: time must pass.
        let next = if next <= fabric.now { fabric.now.after(Span::from_millis(1)) } else { next };
        if next < self.tick_at {
            self.tick_at = next;
            if self.ticks.contains(&next) {
                return;
            }
            if let Some(past) = self.ticks.iter_mut().find(|at| **at <= fabric.now) {
                *past = next;
            }
            fabric.at(next, Event::Tick { node: self.node });
        }
    }

    /// It was to be called now.
    pub(crate) fn tick(&mut self, io: &mut Io<'_>) {
        if self.tick_at != io.fabric.now {
            return;
        }
        self.tick_at = Time::NEVER;
        if self.machine.next_timeout() <= io.fabric.now {
            io.fabric.fact(Fact::Woken { node: self.node });
            self.tell(io, Input::Tick, None);
        } else {
            self.arm(io.fabric);
        }
    }

    /// After a standstill ticks are missed: it is called at once.
    pub(crate) fn go_on(&mut self, io: &mut Io<'_>) {
        self.tick_at = Time::NEVER;
        self.tell(io, Input::Tick, None);
    }

    /// Something came on one of its links.
    pub(crate) fn on_link(&mut self, io: &mut Io<'_>, link: u32, side: usize, what: What) {
        let other = io.fabric.links[link as usize].nodes[1 - side];
        let name = LinkId(io.fabric.links[link as usize].names[side]);
        match what {
            What::Syn => {
                let name = self.machine.new_link();
                io.fabric.links[link as usize].names[side] = name.0;
                self.links.push((name.0, link));
                let from = io.fabric.source(other);
                io.fabric.answer_dial(link, true);
                self.tell(io, Input::Accepted { link: name, from }, None);
            }
            What::SynAck => self.tell(io, Input::Connected { link: name }, None),
            What::Closed => {
                self.forget_link(name);
                self.tell(io, Input::Closed { link: name }, None);
            }
            What::Frame { frame, .. } => match *frame {
                Frame::Request(request) if self.manners.free_rider => {
                    for run in request.runs.iter() {
                        let (stream, reason) = (request.stream, RefusalReason::Busy);
                        let no = Unavailable { stream, reason, first: run.first, count: run.count };
                        io.fabric.send(link, side, no.into());
                    }
                }
                frame => self.tell(io, Input::Frame { link: name, frame }, None),
            },
            What::News { seq } => self.tell(io, Input::Frame { link: name, frame: news(seq) }, None),
            What::Chunk { chunk, content } => self.on_chunk(io, name, other, chunk, content),
        }
    }

    fn on_chunk(&mut self, io: &mut Io<'_>, name: LinkId, from: u32, chunk: u32, content: u64) {
        let header = io.fabric.chunks.header(chunk);
        let checked = if !self.epochs.contains(&header.epoch) {
            Err(ChunkFault::UnknownEpoch(header.epoch))
        } else if content != io.fabric.chunks.content(chunk) {
            Err(ChunkFault::Payload(header.seq))
        } else {
            Ok(())
        };
        io.fabric.count_chunk(from, self.node, true);
        let (sender, me) = (io.fabric.host(from), io.fabric.host(self.node));
        if sender.role == super::fabric::Role::Peer {
            let domains = (sender.domain, me.domain);
            io.fabric.fact(Fact::Passed { from, to: self.node, domains });
            let before = self.machine.stats().bytes_from_peers;
            self.tell(io, Input::Chunk { link: name, header, checked }, Some((chunk, content)));
            if self.machine.stats().bytes_from_peers == before {
                self.unclaimed += io.fabric.chunks.frame_bytes();
            }
        } else {
            self.tell(io, Input::Chunk { link: name, header, checked }, Some((chunk, content)));
        }
    }

    /// A chunk's last byte has left.
    pub(crate) fn on_sent(&mut self, io: &mut Io<'_>, link: u32, chunk: u32) {
        let Some((name, _)) = self.links.iter().find(|(_, l)| *l == link).copied() else { return };
        let seq = io.fabric.chunks.get(chunk).seq;
        self.tell(io, Input::ChunkSent { link: LinkId(name), seq }, None);
    }

    /// A chunk and its content.
    fn kept(&self, fabric: &Fabric, seq: ChunkSeq) -> Option<(u32, u64)> {
        let chunk = self.kept[(seq.get() % KEPT as u64) as usize];
        if chunk == u32::MAX || fabric.chunks.get(chunk).seq != seq {
            return None;
        }
        let wrong = self.wrong.iter().find(|(wrong, _)| *wrong == chunk);
        Some((chunk, wrong.map_or_else(|| fabric.chunks.content(chunk), |(_, content)| *content)))
    }

    fn keep(&mut self, seq: ChunkSeq, chunk: u32, content: u64, right: u64) {
        self.kept[(seq.get() % KEPT as u64) as usize] = chunk;
        self.wrong.retain(|(wrong, _)| *wrong != chunk);
        if content != right {
            if self.wrong.len() == KEPT {
                self.wrong.remove(0);
            }
            self.wrong.push((chunk, content));
        }
    }

    fn carry_out(&mut self, io: &mut Io<'_>, output: Output, arrived: Option<(u32, u64)>) {
        let Io { fabric, measure, .. } = io;
        match output {
            Output::Datagram { to, datagram } => fabric.datagram(self.node, to, datagram),
            Output::Connect { link, to } => {
                let place = fabric.dial(self.node, link.0, to);
                self.links.push((link.0, place));
            }
            Output::Send { link, mut frame } => {
                let Some(place) = self.link(link) else { return };
                if self.manners.liar
                    && let Frame::Gossip(gossip) = &mut frame
                {
                    let mut all = BufferMap::from_wire(&gossip.map, measure.newest);
                    (0..256).for_each(|n| _ = all.set(all.base().ahead(n), true));
                    gossip.map = all.to_wire();
                }
                let side = side_of(fabric, place, self.node, link);
                fabric.send(place, side, frame);
            }
            Output::SendChunk { link, seq } => {
                let (Some(place), Some((chunk, content))) = (self.link(link), self.kept(fabric, seq)) else { return };
                let side = side_of(fabric, place, self.node, link);
                if self.manners.liar {
                    // It says that it has sent; a moment passes, or it would be asked to send the next at once.
                    let soon = fabric.now.after(Span::from_millis(10));
                    fabric.sent_at(soon, self.node, place, chunk);
                } else {
                    let content = content ^ u64::from(self.manners.polluter);
                    fabric.send_chunk(place, side, chunk, content);
                }
            }
            Output::Close { link } => {
                if let Some(place) = self.forget_link(link) {
                    let side = side_of(fabric, place, self.node, link);
                    fabric.close(place, side);
                }
            }
            Output::Keys { keys } => self.epochs = keys.iter().map(|key| key.epoch).collect(),
            Output::Keep { seq } => {
                let Some((chunk, content)) = arrived else { return };
                let right = fabric.chunks.content(chunk);
                self.keep(seq, chunk, content, right);
                fabric.fact(Fact::Kept { node: self.node, seq, content, right });
            }
            // The next lap overwrites it.
            Output::Forget { .. } => {}
            Output::Play { seq } => self.play(io, seq),
            Output::Missed { seq } => {
                self.quality.missed(fabric.now, seq);
                measure.missed();
                fabric.fold(seq.get() ^ 1 << 63);
            }
            Output::Finished { end } => self.ended = Some(end),
        }
    }

    fn play(&mut self, io: &mut Io<'_>, seq: ChunkSeq) {
        let Io { fabric, measure, .. } = io;
        let now = fabric.now;
        let Some((chunk, content)) = self.kept(fabric, seq) else {
            // What is played is kept: a defect, which shows as wrong content.
            fabric.fact(Fact::Played { node: self.node, seq, content: 0, right: 1 });
            return;
        };
        let right = fabric.chunks.content(chunk);
        fabric.fact(Fact::Played { node: self.node, seq, content, right });
        fabric.fold(content ^ u64::from(self.node));
        let header = fabric.chunks.header(chunk);
        let had = self.quality.startup();
        self.quality.played(now, seq, Span::from_millis(u64::from(header.duration_ms)));
        measure.played(now.since(fabric.chunks.get(chunk).at), had.is_none());
        if let (None, Some(startup)) = (had, self.quality.startup()) {
            measure.started(startup);
        }
    }
}

/// Which end of a link is this node's.
fn side_of(fabric: &Fabric, place: u32, node: u32, name: LinkId) -> usize {
    let link = &fabric.links[place as usize];
    usize::from(link.nodes[0] != node || link.names[0] != name.0)
}

/// What a driver needs of the world while it has a turn.
pub(crate) struct Io<'a> {
    pub(crate) fabric: &'a mut Fabric,
    pub(crate) measure: &'a mut Measure,
    pub(crate) out: &'a mut Outbox<Output>,
}
