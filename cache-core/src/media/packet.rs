//! One transport stream packet, read in place (ISO/IEC 13818-1, 2.4.3).
//!
//! ```text
//!  0    1                3                   4              4 + adaptation        188
//! +----+----------------+-------------------+--------------+---------------------+
//! | 47 | err unit - PID | scr adapt counter | adaptation   | payload             |
//! +----+----------------+-------------------+--------------+---------------------+
//! ```
//! Reading never fails: a field that runs over its packet's end is absent.

use super::pcr::Pcr;
use crate::limits::TS_PACKET_BYTES;

/// First byte of every packet.
pub const SYNC_BYTE: u8 = 0x47;

/// A packet identifier, 0..=8191: which of the multiplexed streams a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(pub u16);

impl Pid {
    /// The program association table's.
    pub const PAT: Pid = Pid(0);
    /// Null packets'; as a program's PCR PID it means that there is none.
    pub const NULL: Pid = Pid(0x1FFF);
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a>(pub &'a [u8; TS_PACKET_BYTES]);

/// What an adaptation field says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adaptation {
    /// The PID's counters or the stream's clock do not go on from before.
    pub discontinuity: bool,
    /// A decoder can begin with the unit that starts here.
    pub random_access: bool,
    /// The stream's clock at this packet.
    pub pcr: Option<Pcr>,
}

impl<'a> Packet<'a> {
    /// Whose packet it is.
    pub const fn pid(self) -> Pid {
        Pid(((self.0[1] as u16 & 0x1F) << 8) | self.0[2] as u16)
    }

    /// Whether the sender knows the packet to be damaged.
    pub const fn is_damaged(self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// Whether a PES packet (or, on a PID of tables, a section) starts here.
    pub const fn starts_unit(self) -> bool {
        self.0[1] & 0x40 != 0
    }

    /// Whether the payload is scrambled.
    pub const fn is_scrambled(self) -> bool {
        self.0[3] & 0xC0 != 0
    }

    /// The PID's counter, 0..=15; it stands still in packets without payload.
    pub const fn continuity(self) -> u8 {
        self.0[3] & 0x0F
    }

    /// Whether the packet has payload.
    pub const fn has_payload(self) -> bool {
        self.0[3] & 0x10 != 0
    }

    /// The adaptation field; all absent when there is none.
    pub fn adaptation(self) -> Adaptation {
        let len = usize::from(self.0[4]);
        if self.0[3] & 0x20 == 0 || len == 0 || len > TS_PACKET_BYTES - 5 {
            return Adaptation::default();
        }
        let flags = self.0[5];
        let pcr = if flags & 0x10 != 0 && len >= 7 { self.0[6..].first_chunk().map(Pcr::read) } else { None };
        Adaptation { discontinuity: flags & 0x80 != 0, random_access: flags & 0x40 != 0, pcr }
    }

    /// The payload; empty when there is none.
    pub fn payload(self) -> &'a [u8] {
        if !self.has_payload() {
            return &[];
        }
        let adaptation = if self.0[3] & 0x20 != 0 { 1 + usize::from(self.0[4]) } else { 0 };
        self.0.get(4 + adaptation..).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adaptation_field_longer_than_its_packet_is_absent() {
        let mut bytes = [0xFF; TS_PACKET_BYTES];
        bytes[..5].copy_from_slice(&[SYNC_BYTE, 0x41, 0x00, 0x30, 184]);
        let packet = Packet(&bytes);
        assert_eq!(packet.pid(), Pid(0x100));
        assert_eq!(packet.adaptation(), Adaptation::default());
        assert!(packet.payload().is_empty());
    }
}
