//! Opus payloads (RFC 6716, RFC 7587) and redundant audio around them (RED, RFC 2198).

use super::Descriptor;

/// Every Opus packet stands alone: each begins and ends a frame that needs no other.
pub(super) fn describe(payload: &[u8]) -> Option<Descriptor> {
    (!payload.is_empty()).then_some(Descriptor {
        keyframe: true,
        frame_start: true,
        frame_end: true,
        ..Descriptor::default()
    })
}

/// Redundant blocks we walk over at most; browsers send one or two.
const RED_BLOCKS_MAX: usize = 8;

/// The primary (newest) block of a RED payload: its payload type and its bytes.
///
/// RFC 2198 §3: each redundant block has a 4-byte header with its length, the primary's header is
/// one byte and stands last; blocks follow in the order of their headers, the primary last.
pub(crate) fn primary(red_payload: &[u8]) -> Option<(u8, &[u8])> {
    let mut headers = red_payload;
    let mut redundant_bytes = 0usize;
    for _ in 0..=RED_BLOCKS_MAX {
        let (&first, rest) = headers.split_first()?;
        if first & 0x80 == 0 {
            let block = rest.get(redundant_bytes..)?;
            return (!block.is_empty()).then_some((first, block));
        }
        let [_, high, low] = *rest.first_chunk::<3>()?;
        redundant_bytes += usize::from(u16::from_be_bytes([high & 0x03, low]));
        headers = rest.get(3..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_packet_is_a_keyframe_of_its_own() {
        let descriptor = describe(&[0x78, 1, 2, 3]).unwrap();
        assert!(descriptor.keyframe && descriptor.frame_start && descriptor.frame_end);
    }

    #[test]
    fn the_primary_block_of_red_stands_last() {
        // One redundant block of 3 bytes (timestamp offset 960), then the primary.
        let red = [0x80 | 111, 0x0f, 0x00, 0x03, 111, 1, 2, 3, 9, 8];
        assert_eq!(primary(&red), Some((111, &[9, 8][..])));
        assert_eq!(primary(&[111, 5]), Some((111, &[5][..])));
        for length in 0..9 {
            assert_eq!(primary(&red[..length]), None, "{length}");
        }
        assert_eq!(primary(&[0x80; 64]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_red_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = primary(&payload);
        }
    }
}
