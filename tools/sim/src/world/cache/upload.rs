//! A publisher's connection.

use cache_core::proto::cache::ingest::Verdict;
use cache_core::proto::cache::streams::Tenure;
use cache_core::sign::{check_publish, stream_id};
use cache_core::units::{ChunkSeq, Epoch};
use cache_core::wire::exchange::{Ack, Publish, PublishOk};
use cache_core::wire::index::{KeysQuery, StreamKey};
use cache_core::wire::{Frame, Message, RefusalReason, Refused};

use super::super::fabric::Fabric;
use super::control::Purpose;
use super::{CacheNode, Conn};
use crate::invariants::Fact;

/// One publisher.
#[derive(Debug)]
pub(super) struct Upload {
    nonce: [u8; 16],
    publish: Option<Publish>,
    tenure: Option<Tenure>,
}

impl Upload {
    pub(super) fn new(nonce: [u8; 16]) -> Upload {
        Upload { nonce, publish: None, tenure: None }
    }

    pub(super) const fn tenure(&self) -> Option<Tenure> {
        self.tenure
    }
}

impl CacheNode {
    pub(super) fn publisher_said(&mut self, fabric: &mut Fabric, link: u32, frame: Frame) {
        let Some(Conn::Publisher(upload)) = self.conns.get_mut(&link) else { return };
        match frame {
            Frame::Publish(publish) if upload.publish.is_none() => {
                let id = stream_id(&publish.stream);
                let (key, nonce) = (publish.key, upload.nonce);
                if id != self.id || !check_publish(&key, id, publish.epoch, &nonce, &publish.signature) {
                    return self.refuse_publisher(fabric, link, RefusalReason::BadSignature);
                }
                upload.publish = Some(publish);
                let stream = self.name.clone();
                self.ask(fabric, KeysQuery { stream }, Purpose::PublisherKeys(link));
            }
            _ => self.refuse_publisher(fabric, link, RefusalReason::BadMessage),
        }
    }

    fn refuse_publisher(&mut self, fabric: &mut Fabric, link: u32, reason: RefusalReason) {
        self.say(fabric, link, Refused::because(reason));
        if let Some(Conn::Publisher(upload)) = self.conns.remove(&link) {
            self.publisher_lost(fabric, &upload);
        }
        fabric.close(link, 1);
    }

    /// The index has said which keys the stream has, or not answered.
    pub(super) fn publisher_keys(&mut self, fabric: &mut Fabric, link: u32, answer: Option<Message>) {
        let Some(Conn::Publisher(Upload { publish: Some(publish), .. })) = self.conns.get(&link) else { return };
        let (epoch, key) = (publish.epoch, publish.key);
        let keys = match answer {
            Some(Message::Keys(keys)) => keys.keys.into_vec(),
            Some(Message::Refused(no)) => return self.refuse_publisher(fabric, link, no.reason),
            _ => return self.refuse_publisher(fabric, link, RefusalReason::NoCache),
        };
        if !keys.contains(&StreamKey { epoch, key }) {
            return self.refuse_publisher(fabric, link, RefusalReason::NotAuthorised);
        }
        let now = fabric.now;
        let opened = self.streams.open_publisher(now, self.id, &self.name, epoch, ChunkSeq::FIRST, &mut self.decided);
        match opened {
            Ok((tenure, next)) => {
                self.keys = keys;
                if let Some(Conn::Publisher(upload)) = self.conns.get_mut(&link) {
                    upload.tenure = Some(tenure);
                }
                let stream = self.id;
                self.say(fabric, link, PublishOk { stream, next });
            }
            Err(reason) => self.refuse_publisher(fabric, link, reason),
        }
    }

    pub(super) fn chunk_of_publisher(&mut self, fabric: &mut Fabric, link: u32, chunk: u32, content: u64) {
        let Some(Conn::Publisher(Upload { tenure: Some(tenure), .. })) = self.conns.get(&link) else {
            return self.refuse_publisher(fabric, link, RefusalReason::BadMessage);
        };
        let tenure = *tenure;
        if content != fabric.chunks.content(chunk) {
            return self.refuse_publisher(fabric, link, RefusalReason::BadSignature);
        }
        let seq = fabric.chunks.get(chunk).seq;
        match self.append(fabric, tenure, chunk, content) {
            Verdict::Append { .. } | Verdict::Duplicate => {
                let stream = self.id;
                fabric.fact(Fact::Acknowledged { node: self.node, seq });
                self.say(fabric, link, Ack { stream, seq });
            }
            Verdict::Fenced => self.refuse_publisher(fabric, link, RefusalReason::Fenced),
            Verdict::OutOfRange => self.refuse_publisher(fabric, link, RefusalReason::BadMessage),
        }
    }

    /// A publisher's connection is over.
    pub(super) fn publisher_lost(&mut self, fabric: &mut Fabric, upload: &Upload) {
        if let Some(tenure) = upload.tenure {
            self.streams.source_gone(fabric.now, self.id, tenure, &mut self.decided);
        }
    }

    /// Judges a chunk that was checked, and stores it.
    pub(super) fn append(&mut self, fabric: &mut Fabric, tenure: Tenure, chunk: u32, content: u64) -> Verdict {
        let header = fabric.chunks.header(chunk);
        let verdict = self.streams.judge(self.id, tenure, header.epoch, header.seq);
        if let Verdict::Append { .. } = verdict {
            let (seq, right) = (header.seq, fabric.chunks.content(chunk));
            self.ring.append(seq, chunk, content, header.is_join_point());
            fabric.fact(Fact::Stored { node: self.node, seq, content, right });
            fabric.fold(content ^ u64::from(self.node) << 32);
            self.streams.stored(fabric.now, self.id, &header, &mut self.decided);
            self.settle(fabric);
            self.pump_all(fabric);
        }
        verdict
    }

    /// Whether chunks of an epoch can be checked.
    pub(super) fn has_key(&self, epoch: Epoch) -> bool {
        self.keys.iter().any(|key| key.epoch == epoch)
    }
}
