//! A rate as the kernel's token bucket (`tc-tbf`).
//!
//! The rate is that of IP packets, as an access line is sold. The bucket counts whole Ethernet frames, so that it gets
//! their heads in addition. It saves up one frame only, so that a chunk leaves at the rate and not in a burst; a segment
//! that the sender left to the network card to cut (TSO) is cut by the bucket.

/// Bytes of TCP's payload in a full packet: 1 500 less 20 of IPv4 and 32 of TCP with time stamps.
const PAYLOAD_BYTES: u64 = 1_448;

const PACKET_BYTES: u64 = 1_500;

/// Bytes of a full packet's frame as the bucket counts it.
const FRAME_BYTES: u64 = 1_514;

/// What may leave at once: a frame, and some more, since the kernel keeps the bucket's depth as a rounded time.
const BURST_BYTES: u64 = 1_600;

/// Above some 6 Mbit/s a frame is less than what passes between two of the kernel's looks.
const BURST_US: u64 = 2_000;

/// What may wait. Nothing shall be lost for want of room here: sixteen partners with two chunks of 50 KB each.
const LIMIT_BYTES: u64 = 2 << 20;

/// One direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    kbps: u64,
}

impl Shape {
    /// So many kilobits of IP packets per second; at least 1.
    pub const fn kbps(kbps: u64) -> Shape {
        Shape { kbps: if kbps == 0 { 1 } else { kbps } }
    }

    /// What one TCP connection delivers to its reader, at the most.
    pub const fn payload_kbps(self) -> u64 {
        self.kbps * PAYLOAD_BYTES / PACKET_BYTES
    }

    /// Bits of frames per second.
    const fn frame_bps(self) -> u64 {
        self.kbps * 1_000 * FRAME_BYTES / PACKET_BYTES
    }

    const fn burst_bytes(self) -> u64 {
        let passing = self.frame_bps() / 8 * BURST_US / 1_000_000;
        if passing > BURST_BYTES { passing } else { BURST_BYTES }
    }

    /// The line of a `tc -batch` file that does `what` (`add`, `replace`) at `device`.
    pub(super) fn qdisc(self, what: &str, device: &str) -> String {
        let (rate, burst) = (self.frame_bps(), self.burst_bytes());
        format!("qdisc {what} dev {device} root tbf rate {rate}bit burst {burst} limit {LIMIT_BYTES}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_on_top() {
        let line = Shape::kbps(1_500).qdisc("add", "eth0");
        assert_eq!(line, "qdisc add dev eth0 root tbf rate 1514000bit burst 1600 limit 2097152\n");
        assert_eq!((Shape::kbps(0).kbps, Shape::kbps(3_000).payload_kbps()), (1, 2_896));
        assert_eq!(Shape::kbps(1_000_000).burst_bytes(), 252_333, "2 ms of a gigabit");
    }
}
