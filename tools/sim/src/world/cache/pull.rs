//! The stream fetched from another cache, of this domain or another one.

use std::collections::VecDeque;
use std::net::SocketAddr;

use cache_core::outbox::Outbox;
use cache_core::peer_id::PeerId;
use cache_core::proto::cache::ingest::Verdict;
use cache_core::proto::cache::relay::{Relay, RelayInput, RelayOutput};
use cache_core::proto::cache::streams::Tenure;
use cache_core::units::DomainId;
use cache_core::wire::exchange::{Hello, Open, Role, Subscribe};
use cache_core::wire::index::{KeysQuery, Resolve, StreamKey};
use cache_core::wire::{Blob, Frame, Message, RefusalReason};

use super::super::fabric::Fabric;
use super::control::Purpose;
use super::{CacheNode, Conn};

/// Chunks that wait for keys at most; a parent that goes on without them is left.
const STUCK_MAX: usize = 64;

/// A pull.
#[derive(Debug)]
pub(super) struct Pull {
    relay: Relay,
    tenure: Tenure,
    link: Option<u32>,
    /// Chunks whose epoch has no key yet.
    stuck: VecDeque<(u32, u64)>,
}

impl Pull {
    pub(super) const fn tenure(&self) -> Tenure {
        self.tenure
    }
}

impl CacheNode {
    /// Begins to fetch the stream, or notes newer keys for what is under way.
    pub(super) fn begin_pull(
        &mut self,
        fabric: &mut Fabric,
        parents: Vec<SocketAddr>,
        keys: &[StreamKey],
    ) -> Result<(), RefusalReason> {
        let newest = keys.iter().map(|key| key.epoch).max().unwrap_or_default();
        let tenure = self.streams.open_pull(fabric.now, self.id, &self.name, newest, &mut self.decided)?;
        self.take_keys(keys);
        self.settle(fabric);
        let Some(tenure) = tenure else { return Ok(()) };
        let mut out = Outbox::new();
        let relay = Relay::start(fabric.now, self.knobs, self.addr, parents, &mut out);
        self.pull = Some(Pull { relay, tenure, link: None, stuck: VecDeque::new() });
        self.carry_out_relay(fabric, &mut out);
        Ok(())
    }

    fn relay(&mut self, fabric: &mut Fabric, input: RelayInput) {
        let mut out = Outbox::new();
        if let Some(pull) = &mut self.pull {
            pull.relay.handle(fabric.now, input, &mut out);
        }
        self.carry_out_relay(fabric, &mut out);
    }

    pub(super) fn pull_tick(&mut self, fabric: &mut Fabric) {
        if self.pull.as_ref().is_some_and(|pull| pull.relay.next_timeout() <= fabric.now) {
            self.relay(fabric, RelayInput::Tick);
        }
    }

    fn carry_out_relay(&mut self, fabric: &mut Fabric, out: &mut Outbox<RelayOutput>) {
        let outputs: Vec<RelayOutput> = out.drain().collect();
        for output in outputs {
            match output {
                RelayOutput::Ask => {
                    let resolve = Resolve { advertise: self.addr, stream: self.name.clone() };
                    self.ask(fabric, resolve, Purpose::Resolve);
                }
                RelayOutput::Connect(parent) => {
                    self.disconnect(fabric);
                    let link = fabric.dial(self.node, 0, parent);
                    self.conns.insert(link, Conn::Parent);
                    if let Some(pull) = &mut self.pull {
                        pull.link = Some(link);
                    }
                }
                RelayOutput::Disconnect => self.disconnect(fabric),
                RelayOutput::GiveUp(reason) => {
                    self.refuse_waiting(fabric, reason);
                    self.drop_pull(fabric);
                }
            }
        }
    }

    fn disconnect(&mut self, fabric: &mut Fabric) {
        if let Some(pull) = &mut self.pull {
            pull.stuck.clear();
            if let Some(link) = pull.link.take() {
                self.drop_link(fabric, link, 0);
            }
        }
    }

    /// The pull's turn is over.
    pub(super) fn drop_pull(&mut self, fabric: &mut Fabric) {
        self.disconnect(fabric);
        if let Some(pull) = self.pull.take() {
            self.streams.source_gone(fabric.now, self.id, pull.tenure, &mut self.decided);
        }
    }

    pub(super) fn resolved(&mut self, fabric: &mut Fabric, answer: Option<Message>) {
        let input = match answer {
            Some(Message::Resolved(resolved)) => {
                self.take_keys(&resolved.keys);
                RelayInput::Parents(resolved.parents.into_vec())
            }
            Some(Message::Refused(no)) => RelayInput::Unresolved(no.reason),
            Some(_) => RelayInput::Unresolved(RefusalReason::BadMessage),
            None => RelayInput::Unresolved(RefusalReason::NoCache),
        };
        self.relay(fabric, input);
    }

    pub(super) fn parent_connected(&mut self, fabric: &mut Fabric, link: u32) {
        let hello = Hello {
            role: Role::Cache,
            peer: PeerId::NONE,
            stream: self.id,
            domain: DomainId(0),
            listen: None,
            ticket: Blob::default(),
        };
        fabric.send(link, 0, hello.into());
        let open = Open { stream: self.name.clone(), back: self.knobs.pull_back_chunks };
        fabric.send(link, 0, open.into());
    }

    /// Whether this link is the present parent's.
    fn is_present(&self, link: u32) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.link == Some(link))
    }

    pub(super) fn parent_lost(&mut self, fabric: &mut Fabric, link: u32) {
        if self.is_present(link) {
            if let Some(pull) = &mut self.pull {
                pull.link = None;
            }
            self.relay(fabric, RelayInput::Lost);
        }
    }

    fn leave_parent(&mut self, fabric: &mut Fabric, link: u32, why: RelayInput) {
        if self.is_present(link) {
            self.disconnect(fabric);
            self.relay(fabric, why);
        }
    }

    pub(super) fn parent_said(&mut self, fabric: &mut Fabric, link: u32, frame: Frame) {
        if !self.is_present(link) {
            return;
        }
        match frame {
            Frame::Welcome(_) => {}
            Frame::StreamInfo(info) if info.stream == self.id => {
                self.relay(fabric, RelayInput::Heard);
                let from = self.ring.newest().map_or(info.begin, |newest| newest.seq.next());
                fabric.send(link, 0, Subscribe { stream: self.id, from }.into());
            }
            Frame::Skipped(_) => self.relay(fabric, RelayInput::Heard),
            Frame::Ended(_) => {
                if let Some(pull) = &self.pull {
                    self.streams.source_ended(fabric.now, self.id, pull.tenure, &mut self.decided);
                }
            }
            _ => self.leave_parent(fabric, link, RelayInput::Lost),
        }
    }

    pub(super) fn chunk_of_parent(&mut self, fabric: &mut Fabric, link: u32, chunk: u32, content: u64) {
        let Some(pull) = self.pull.as_mut().filter(|pull| pull.link == Some(link)) else { return };
        pull.stuck.push_back((chunk, content));
        if pull.stuck.len() > STUCK_MAX {
            return self.leave_parent(fabric, link, RelayInput::Lost);
        }
        if pull.stuck.len() == 1 && !self.take_stuck(fabric, link) {
            // The publisher has come back under a new key.
            let stream = self.name.clone();
            self.ask(fabric, KeysQuery { stream }, Purpose::PullKeys);
        }
    }

    /// Takes in what waits, as far as there are keys; false when the next one has none.
    fn take_stuck(&mut self, fabric: &mut Fabric, link: u32) -> bool {
        loop {
            let Some(pull) = &self.pull else { return true };
            let Some((chunk, content)) = pull.stuck.front().copied() else { return true };
            let tenure = pull.tenure;
            if !self.has_key(fabric.chunks.get(chunk).epoch) {
                return false;
            }
            if let Some(pull) = &mut self.pull {
                pull.stuck.pop_front();
            }
            if content != fabric.chunks.content(chunk) {
                self.leave_parent(fabric, link, RelayInput::Lied);
                return true;
            }
            match self.append(fabric, tenure, chunk, content) {
                Verdict::Append { .. } | Verdict::Duplicate => self.relay(fabric, RelayInput::Chunk),
                Verdict::Fenced => self.leave_parent(fabric, link, RelayInput::Lost),
                Verdict::OutOfRange => self.leave_parent(fabric, link, RelayInput::Lied),
            }
        }
    }

    pub(super) fn pull_keys(&mut self, fabric: &mut Fabric, answer: Option<Message>) {
        if let Some(Message::Keys(keys)) = answer {
            self.take_keys(&keys.keys);
        }
        let Some(link) = self.pull.as_ref().and_then(|pull| pull.link) else { return };
        if !self.take_stuck(fabric, link) {
            self.leave_parent(fabric, link, RelayInput::Lost);
        }
    }
}
