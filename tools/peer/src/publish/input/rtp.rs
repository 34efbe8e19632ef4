//! Transport stream in a datagram: plain, or behind an RTP head (RFC 3550, section 5.1).

use cache_core::limits::TS_PACKET_BYTES;
use cache_core::media::packet::SYNC_BYTE;

/// The transport stream in `datagram`; `None` when there is none.
pub(crate) fn transport_stream(datagram: &[u8]) -> Option<&[u8]> {
    let stream = match datagram.first()? {
        &SYNC_BYTE => datagram,
        first if first >> 6 == 2 => behind_head(datagram)?,
        _ => return None,
    };
    let whole = !stream.is_empty() && stream.len().is_multiple_of(TS_PACKET_BYTES);
    (whole && stream[0] == SYNC_BYTE).then_some(stream)
}

fn behind_head(datagram: &[u8]) -> Option<&[u8]> {
    let (first, sources) = (*datagram.first()?, usize::from(datagram.first()? & 0x0F));
    let mut body = datagram.get(12 + 4 * sources..)?;
    if first & 0x10 != 0 {
        let words = u16::from_be_bytes([*body.get(2)?, *body.get(3)?]);
        body = body.get(4 + 4 * usize::from(words)..)?;
    }
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last()?);
        body = body.get(..body.len().checked_sub(padding)?)?;
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packets(count: usize) -> Vec<u8> {
        [[SYNC_BYTE].as_slice(), &[1; TS_PACKET_BYTES - 1]].concat().repeat(count)
    }

    #[test]
    fn plain_and_rtp_datagrams_hold_the_same() {
        let stream = packets(7);
        assert_eq!(transport_stream(&stream), Some(&stream[..]));
        let rtp = |first: u8, extra: &[u8], padding: &[u8]| {
            let mut datagram = vec![first, 33, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            datagram.extend_from_slice(extra);
            datagram.extend_from_slice(&stream);
            datagram.extend_from_slice(padding);
            datagram
        };
        let plain = rtp(0x80, &[], &[]);
        let sources_and_extension = rtp(0x92, &[[9; 8].as_slice(), &[0, 0, 0, 1], &[8; 4]].concat(), &[]);
        let padded = rtp(0xA0, &[], &[0, 0, 3]);
        for datagram in [plain, sources_and_extension, padded] {
            assert_eq!(transport_stream(&datagram), Some(&stream[..]));
        }
    }

    #[test]
    fn half_packets_are_no_stream() {
        assert_eq!(transport_stream(&packets(2)[..200]), None);
        assert_eq!(transport_stream(b""), None);
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(datagram in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = transport_stream(&datagram);
        }
    }
}
