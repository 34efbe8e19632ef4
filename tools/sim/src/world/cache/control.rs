//! The stream table and the index server: reports, questions, and what the table decides.

use std::net::SocketAddr;

use cache_core::proto::asker::{AskerOutput, QUESTIONS_MAX};
use cache_core::proto::cache::admission::{LOAD_FULL, Load, Room, VIEWER_PPM_MIN, load_permille};
use cache_core::proto::cache::streams::{FormerStream, StreamOutput};
use cache_core::proto::cache::viewer::Holdings;
use cache_core::time::{Span, Time};
use cache_core::units::ChunkSeq;
use cache_core::wire::datagram::Cookie;
use cache_core::wire::index::{CacheKeys, CachePullAck, CacheReport, CacheStreams, HeldStream, HoldState, StreamKey};
use cache_core::wire::{Datagram, List, Message, RefusalReason};

use super::super::fabric::Fabric;
use super::{CacheNode, Conn};
use crate::invariants::Fact;

/// As the server has them.
const ANSWER_WITHIN: Span = Span::from_secs(4);
const STREAMS_WITHIN: Span = Span::from_millis(300);
const REPORT_WITHIN: Span = Span::from_millis(600);

/// Ticks from one report to the next (1 s), and from one measurement to the next (250 ms).
const REPORT_TICKS: u64 = 20;
const MEASURE_TICKS: u64 = 5;

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether the index knows this cache; the report follows.
    Known,
    /// How this cache is; `known`: it was known before.
    Report { known: bool },
    /// Where the stream is.
    Resolve,
    /// A publisher's keys.
    PublisherKeys(u32),
    /// The keys of the stream that is being fetched.
    PullKeys,
}

impl CacheNode {
    pub(super) fn on_tick(&mut self, fabric: &mut Fabric) {
        self.ticks += 1;
        self.streams.tick(fabric.now, &mut self.decided);
        self.asker.tick(fabric.now, &mut self.asked);
        self.answers(fabric);
        self.pull_tick(fabric);
        if self.ticks.is_multiple_of(MEASURE_TICKS) {
            self.measure(fabric);
        }
        if self.ticks.is_multiple_of(REPORT_TICKS) {
            let (viewers, lowest) = (self.viewers, self.lowest());
            self.streams.viewers(fabric.now, 0, self.id, viewers, lowest);
            self.report(fabric);
        }
        self.settle(fabric);
        let next = self.next_timeout();
        if next <= fabric.now {
            fabric.fact(Fact::Timer { node: self.node, next });
        }
        let (size, max) = (self.questions.len() as u64, QUESTIONS_MAX as u64);
        fabric.fact(Fact::Size { node: self.node, what: "open questions", size, max });
    }

    /// When the machines want to be called at the latest; all of them are, at each tick.
    fn next_timeout(&self) -> Time {
        self.streams.next_timeout().min(self.asker.next_timeout()).min(self.pull_timeout())
    }

    /// What a shard measures of itself: work by the cost of a viewer as it was measured, the uplink's queue as fan-out.
    fn measure(&mut self, fabric: &Fabric) {
        self.sent_before.rotate_right(1);
        let bytes_per_s = self.bytes_sent - self.sent_before[0];
        self.sent_before[0] = self.bytes_sent;
        let host = fabric.host(self.node);
        let viewers = self.viewers;
        let busy = (u64::from(viewers) * VIEWER_PPM_MIN / 1_000).min(1_000) as u16;
        self.admission.measured(Load { busy_permille: busy, fanout: host.backlog(fabric.now), viewers, bytes_per_s });
        if host.up_bps > 0 {
            let bytes_per_s_max = host.up_bps / 8;
            let left = bytes_per_s_max.saturating_sub(bytes_per_s);
            self.admission.room(Room { bytes_per_s: left, bytes_per_s_max, memory_bytes: u64::MAX });
        }
    }

    /// Streams go first: an index that does not know this cache is told their names and keys behind the report.
    pub(super) fn report(&mut self, fabric: &mut Fabric) {
        if self.heard {
            let streams = List::first_of(self.held());
            let (first, within) = (CacheStreams { advertise: self.addr, streams }, STREAMS_WITHIN);
            self.ask_within(fabric, first, Purpose::Known, within);
        } else {
            self.say_report(fabric, false);
        }
    }

    fn say_report(&mut self, fabric: &mut Fabric, known: bool) {
        let viewers = self.viewers;
        let max = if self.terms.viewers_max == 0 { u32::MAX } else { self.terms.viewers_max };
        let full = self.terms.admits && self.admission.closed().is_some();
        let busy = (u64::from(viewers) * VIEWER_PPM_MIN / 1_000).min(1_000) as u16;
        let report = CacheReport {
            advertise: self.addr,
            load_permille: if full { LOAD_FULL } else { load_permille(viewers, max, busy) },
            viewers,
            draining: false,
        };
        self.ask_within(fabric, report, Purpose::Report { known }, REPORT_WITHIN);
    }

    fn held(&self) -> Option<HeldStream> {
        self.streams.held(self.id)
    }

    pub(super) fn ask(&mut self, fabric: &mut Fabric, message: impl Into<Message>, purpose: Purpose) {
        self.ask_within(fabric, message, purpose, ANSWER_WITHIN);
    }

    fn ask_within(&mut self, fabric: &mut Fabric, message: impl Into<Message>, purpose: Purpose, within: Span) {
        let until = fabric.now.after(within);
        let question = self.asker.ask(fabric.now, &self.indexes, message.into(), until, &mut self.asked);
        match question {
            Some(question) => _ = self.questions.insert(question, purpose),
            None => self.answered(fabric, purpose, None),
        }
        self.carry_out_asked(fabric);
    }

    fn tell(&mut self, fabric: &mut Fabric, message: impl Into<Message>) {
        let Some(index) = self.indexes.first().copied() else { return };
        self.asker.tell(index, message.into(), &mut self.asked);
        self.carry_out_asked(fabric);
    }

    /// Sends what the asker has to send; answers wait for [`CacheNode::answers`].
    fn carry_out_asked(&mut self, fabric: &mut Fabric) {
        let mut rest = Vec::new();
        for output in self.asked.drain() {
            match output {
                AskerOutput::Send { to, datagram } => fabric.datagram(self.node, to, datagram),
                other => rest.push(other),
            }
        }
        rest.into_iter().for_each(|output| self.asked.push(output));
    }

    fn answers(&mut self, fabric: &mut Fabric) {
        self.carry_out_asked(fabric);
        let outputs: Vec<AskerOutput> = self.asked.drain().collect();
        for output in outputs {
            let (question, answer) = match output {
                AskerOutput::Answered { question, message, .. } => (question, Some(message)),
                AskerOutput::Failed { question } => (question, None),
                AskerOutput::Send { .. } => continue,
            };
            if let Some(purpose) = self.questions.remove(&question) {
                self.answered(fabric, purpose, answer);
            }
        }
    }

    fn answered(&mut self, fabric: &mut Fabric, purpose: Purpose, answer: Option<Message>) {
        match purpose {
            Purpose::Known => {
                let known = answer.is_some_and(|said| !said.refuses(RefusalReason::NotJoined));
                self.say_report(fabric, known);
            }
            Purpose::Report { known } => {
                self.heard = matches!(answer, Some(Message::CacheReportAck(_)));
                self.others.clear();
                if let Some(Message::CacheReportAck(ack)) = answer {
                    self.others.extend(ack.others.iter().map(|other| other.addr));
                }
                if self.heard && !known {
                    self.tell_all(fabric);
                }
            }
            Purpose::Resolve => self.resolved(fabric, answer),
            Purpose::PublisherKeys(link) => self.publisher_keys(fabric, link, answer),
            Purpose::PullKeys => self.pull_keys(fabric, answer),
        }
    }

    /// The stream's name and keys, and what it is here.
    fn tell_all(&mut self, fabric: &mut Fabric) {
        let Some(held) = self.held() else { return };
        if !self.keys.is_empty() {
            let keys = List::first_of(self.keys.iter().cloned());
            self.tell(fabric, CacheKeys { advertise: self.addr, stream: self.name.clone(), keys });
        }
        self.tell(fabric, CacheStreams { advertise: self.addr, streams: List::first_of([held]) });
    }

    pub(super) fn on_datagram(&mut self, fabric: &mut Fabric, from: SocketAddr, datagram: &Datagram) {
        let taken = self.asker.handle(fabric.now, from, datagram, &mut self.asked);
        self.answers(fabric);
        if taken || !self.indexes.contains(&from) {
            return;
        }
        if let Message::CachePull(order) = &datagram.message
            && order.stream == self.name
            && self.begin_pull(fabric, order.parents.to_vec(), &order.keys).is_ok()
        {
            let ack = CachePullAck { stream: self.id };
            let datagram = Datagram { exchange: datagram.exchange, cookie: Cookie::default(), message: ack.into() };
            fabric.datagram(self.node, from, datagram);
        }
    }

    /// Newer keys replace what is known.
    pub(super) fn take_keys(&mut self, keys: &[StreamKey]) {
        let newest = |keys: &[StreamKey]| keys.iter().map(|key| key.epoch).max();
        if newest(keys).is_some() && newest(keys) >= newest(&self.keys) {
            self.keys = keys.to_vec();
        }
    }

    /// Viewers want the stream, which is not here.
    pub(super) fn want(&mut self, fabric: &mut Fabric) {
        if self.streams.get(self.id).is_none()
            && let Err(reason) = self.begin_pull(fabric, Vec::new(), &[])
        {
            self.refuse_waiting(fabric, reason);
        }
    }

    /// Carries out what the table has decided, until it decides nothing more.
    pub(super) fn settle(&mut self, fabric: &mut Fabric) {
        loop {
            let decided: Vec<StreamOutput> = self.decided.drain().collect();
            if decided.is_empty() {
                return;
            }
            for output in decided {
                self.carry_out(fabric, output);
            }
        }
    }

    fn carry_out(&mut self, fabric: &mut Fabric, output: StreamOutput) {
        match output {
            StreamOutput::Ready(_) => self.ready(fabric),
            StreamOutput::Changed(_) => {
                let Some(held) = self.held() else { return };
                if held.state != HoldState::Ended && self.ended.is_some() {
                    self.stream_ended(fabric, None);
                }
                self.tell(fabric, CacheStreams { advertise: self.addr, streams: List::first_of([held]) });
            }
            StreamOutput::Dismiss { tenure, .. } => {
                if self.pull.as_ref().is_some_and(|pull| pull.tenure() == tenure) {
                    return self.drop_pull(fabric);
                }
                let link = self.conns.iter().find_map(|(link, conn)| match conn {
                    Conn::Publisher(upload) if upload.tenure() == Some(tenure) => Some(*link),
                    _ => None,
                });
                if let Some(link) = link {
                    self.drop_link(fabric, link, 1);
                }
            }
            StreamOutput::Ended { last, .. } => self.stream_ended(fabric, Some(last)),
            StreamOutput::Forgotten { held, .. } => {
                self.ring.clear();
                self.keys.clear();
                self.refuse_waiting(fabric, RefusalReason::UnknownStream);
                self.tell(fabric, CacheStreams { advertise: self.addr, streams: List::first_of([held]) });
            }
        }
    }

    /// Goes on with the stream that the process before this one left in the ring.
    pub(super) fn take_over(&mut self, fabric: &mut Fabric) {
        let Some(newest) = self.ring.newest() else { return };
        let was = FormerStream {
            name: self.name.clone(),
            epoch: fabric.chunks.get(newest.chunk).epoch,
            head: newest.seq,
            next: newest.seq.next(),
            end: false,
            pulled: self.pulled,
        };
        self.streams.inherit(fabric.now, self.id, was, &mut self.decided);
        if self.pulled {
            let _ = self.begin_pull(fabric, Vec::new(), &[]);
        }
        self.settle(fabric);
    }

    /// The newest chunk in the ring.
    pub(crate) fn head(&self) -> Option<ChunkSeq> {
        self.ring.head()
    }
}
