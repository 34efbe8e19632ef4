//! What is put into the queue: 24 bytes each, large bodies boxed.

use cache_core::units::ChunkSeq;
use cache_core::wire::exchange::Have;
use cache_core::wire::{Datagram, Frame, List};

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's machine is to be told that time has passed, unless it was told meanwhile.
    Tick { node: u32 },
    Datagram {
        to: u32,
        from: u32,
        bytes: u16,
        /// It has been through the receiver's downlink.
        through: bool,
        body: Box<Datagram>,
    },
    Link {
        link: u32,
        /// The end that sent it.
        side: u8,
        through: bool,
        what: What,
    },
    /// The last byte of a chunk has left a node's uplink.
    Sent { node: u32, link: u32, chunk: u32 },
    /// The publisher's encoder has cut a chunk.
    Cut,
    /// A second of the scenario is over.
    Second,
    /// A viewer comes; `stays`: it leaves by a fault only.
    Arrive { stays: bool },
    /// A viewer's session is over.
    Depart { node: u32, how: Departure },
    /// A viewer is replaced by another one, and the next one will be.
    Churn,
    /// A fault of the scenario begins, or is over.
    Fault { number: u32, over: bool },
}

/// How a viewer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// With a farewell; another one comes.
    Replaced,
    /// With a farewell, for good.
    Left,
    /// Without a word, for good.
    Killed,
}

/// What goes over a link.
#[derive(Debug)]
pub(crate) enum What {
    /// A link is asked for.
    Syn,
    /// It stands.
    SynAck,
    /// The sender's end is closed, or the link could not be made.
    Closed,
    Frame {
        bytes: u32,
        frame: Box<Frame>,
    },
    /// A [`Have`] of one chunk, the most frequent frame: it travels without a box.
    News {
        seq: ChunkSeq,
    },
    Chunk {
        chunk: u32,
        content: u64,
    },
}

/// The frame that [`What::News`] stands for.
pub(crate) fn news(seq: ChunkSeq) -> Frame {
    Have { seqs: List::first_of([seq]) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_small() {
        assert!(std::mem::size_of::<Event>() <= 24, "{}", std::mem::size_of::<Event>());
    }
}
