//! TURN messages on a stream: each says its own length (RFC 8656 §12.5, RFC 8489 §6.2.2).
#![warn(clippy::indexing_slicing)]

use net::cursor::u16_at;
use net::stun::{HEADER_BYTES, message_length};

/// What a stream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Not all of the first message is here.
    Unfinished,
    /// A message of `length` bytes, and behind it as many bytes as make `total`.
    Message {
        /// Without padding.
        length: usize,
        /// With padding.
        total: usize,
    },
    /// Nothing that a TURN client sends.
    Foreign,
}

/// Reads the first message of a stream.
pub(crate) fn first_frame(bytes: &[u8]) -> Frame {
    let Some(first) = bytes.first() else {
        return Frame::Unfinished;
    };
    let length = match first {
        0x00..=0x3f => match (bytes.len() >= 4, message_length(bytes)) {
            (_, Some(length)) => Some(length),
            (false, None) => return Frame::Unfinished,
            (true, None) => return Frame::Foreign,
        },
        0x40..=0x7f => u16_at(bytes, 2).map(|length| CHANNEL_HEADER_BYTES + usize::from(length)),
        _ => return Frame::Foreign,
    };
    let Some(length) = length else {
        return Frame::Unfinished;
    };
    if length > MESSAGE_BYTES_MAX {
        return Frame::Foreign;
    }
    let total = length.next_multiple_of(4);
    if total > bytes.len() {
        return Frame::Unfinished;
    }
    Frame::Message { length, total }
}

/// The longest message taken from a stream: a jumbo frame in an indication.
pub(crate) const MESSAGE_BYTES_MAX: usize = 9000 + HEADER_BYTES + 64;
const CHANNEL_HEADER_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_end_of_both_kinds_of_messages() {
        let stun = [&[0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42][..], &[7; 16]].concat();
        let channel = [&[0x40, 1, 0, 5][..], &[9; 8]].concat();
        for (bytes, length, total) in [(stun, 24, 24), (channel, 9, 12)] {
            for short in 0..total {
                assert_eq!(
                    first_frame(&bytes[..short]),
                    Frame::Unfinished,
                    "{short} bytes"
                );
            }
            let longer = [&bytes[..], &[0; 9]].concat();
            assert_eq!(first_frame(&longer), Frame::Message { length, total });
        }
    }

    #[test]
    fn turns_away_what_is_no_message_or_too_long() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            &[22, 3, 1, 2, 0],
            &[0x80, 1],
            &[0x40, 0, 0xff, 0xff],
        ] {
            assert_eq!(first_frame(bytes), Frame::Foreign, "{bytes:?}");
        }
        assert_eq!(first_frame(&[0, 1, 0xff, 0xf0, 0x21]), Frame::Foreign);
        assert_eq!(first_frame(&[0, 1, 0, 3, 0x21]), Frame::Foreign);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Frame::Message { length, total } = first_frame(&bytes) {
                prop_assert!(length <= total && total <= bytes.len() && total > 0);
            }
        }
    }
}
