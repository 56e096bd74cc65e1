//! H264's parameter sets in front of keyframes.
//!
//! They are in the sample entry, which is all that a file needs (ISO/IEC 14496-15 §5.3.3). Not all players
//! go by the entry when there is another one on the way: Chromium reads only the first one of a file, and
//! ffmpeg the first initialisation segment of a playlist.
#![warn(clippy::indexing_slicing)]

use bytes::{BufMut, Bytes, BytesMut};

use crate::media::{VideoCodec, VideoConfig};

/// What keyframes of this kind are to begin with; nothing for codecs that have it in them anyway.
pub(crate) fn parameter_sets(config: &VideoConfig) -> Bytes {
    let sets = match config.codec {
        VideoCodec::H264 => of_record(&config.record),
        _ => None,
    };
    sets.unwrap_or_default()
}

/// The parameter sets of an `avcC` record (ISO/IEC 14496-15 §5.3.3.1) as NAL units in a frame: each after
/// its length as 4 bytes.
fn of_record(record: &[u8]) -> Option<Bytes> {
    let mut sets = BytesMut::new();
    let (count, mut rest) = record.get(5..)?.split_first()?;
    let mut count = count & 0x1f;
    for _ in 0..2 {
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk()?;
            let length = u16::from_be_bytes(*length);
            let (set, after) = after.split_at_checked(length.into())?;
            sets.put_u32(length.into());
            sets.put_slice(set);
            rest = after;
        }
        // First sequence parameter sets, then picture parameter sets.
        let Some((next, after)) = rest.split_first() else {
            break;
        };
        (count, rest) = (*next, after);
    }
    Some(sets.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_come_out_of_their_record_and_cut_ones_do_not() {
        let record = [
            1, 66, 0, 31, 0xff, 0xe1, 0, 2, 0x67, 7, 1, 0, 1, 0x68, 0xfd, 0xf8,
        ];
        let sets = of_record(&record).unwrap();
        assert_eq!(sets[..], [0, 0, 0, 2, 0x67, 7, 0, 0, 0, 1, 0x68]);
        for length in [0, 5, 7, 9] {
            assert_eq!(of_record(&record[..length]), None, "{length}");
        }
    }
}
