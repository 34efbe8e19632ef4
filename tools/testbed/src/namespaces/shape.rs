//! A rate as the kernel's token bucket (`tc-tbf`).
//!
//! The rate is the payload's: what a TCP connection delivers to its reader. The bucket counts whole Ethernet frames, so
//! that it gets the headers' share in addition. It saves up two frames only, so that a chunk leaves at the rate and not in
//! a burst; a segment that the sender left to the network card to cut (TSO) is cut by the bucket.

/// Bytes of payload in a full frame: 1 500 less 20 of IPv4 and 32 of TCP with time stamps.
const PAYLOAD_BYTES: u64 = 1_448;

/// Bytes of a full frame as the bucket counts it: 1 500 and 14 of Ethernet.
const FRAME_BYTES: u64 = 1_514;

/// Frames that may leave at once; the kernel needs one at the least.
const BURST_FRAMES: u64 = 2;

/// Above some 12 Mbit/s two frames are less than what passes between two of the kernel's looks.
const BURST_US: u64 = 2_000;

/// What may wait. Nothing shall be lost for want of room here: sixteen partners with two chunks of 50 KB each.
const LIMIT_BYTES: u64 = 2 << 20;

/// One direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    payload_kbps: u64,
}

impl Shape {
    /// So many kilobits of payload per second; at least 1.
    pub const fn kbps(payload_kbps: u64) -> Shape {
        Shape { payload_kbps: if payload_kbps == 0 { 1 } else { payload_kbps } }
    }

    /// What was asked for.
    pub const fn payload_kbps(self) -> u64 {
        self.payload_kbps
    }

    /// Bits of frames per second.
    const fn frame_bps(self) -> u64 {
        self.payload_kbps * 1_000 * FRAME_BYTES / PAYLOAD_BYTES
    }

    const fn burst_bytes(self) -> u64 {
        let frames = BURST_FRAMES * FRAME_BYTES;
        let passing = self.frame_bps() / 8 * BURST_US / 1_000_000;
        if frames > passing { frames } else { passing }
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
        let line = Shape::kbps(1_448).qdisc("add", "eth0");
        assert_eq!(line, "qdisc add dev eth0 root tbf rate 1514000bit burst 3028 limit 2097152\n");
        assert_eq!(Shape::kbps(0).payload_kbps(), 1);
        assert_eq!(Shape::kbps(1_000_000).burst_bytes(), 261_395, "2 ms of a gigabit");
    }
}
