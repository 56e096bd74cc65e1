use std::io::Cursor;

use super::ebml::{Header, read_header, size};
use super::*;

fn vp8() -> Arc<VideoConfig> {
    Arc::new(VideoConfig {
        codec: VideoCodec::Vp8,
        width: 16,
        height: 16,
        record: Bytes::new(),
        name: "vp8".to_owned(),
    })
}

/// The beginning of a file.
pub(crate) fn begun() -> Vec<u8> {
    WebmWriter::begin(0, Some(&vp8()), None).unwrap().1.to_vec()
}

fn frame(at_us: i64, is_key: bool) -> VideoFrame {
    VideoFrame {
        config: vp8(),
        at_us,
        is_key,
        data: Bytes::from_static(b"frame"),
    }
}

#[test]
fn sizes_come_back_as_they_went_in() {
    for length in [
        0,
        1,
        126,
        127,
        128,
        16_382,
        16_383,
        2_097_150,
        2_097_151,
        1 << 40,
    ] {
        let mut bytes = vec![0xa3];
        bytes.extend(size(length));
        let header = read_header(&mut Cursor::new(&bytes)).unwrap();
        let expected = Header {
            id: 0xa3,
            size: Some(u64::try_from(length).unwrap()),
            length: u64::try_from(bytes.len()).unwrap(),
        };
        assert_eq!(header, Some(expected), "{length}");
    }
    let unknown = [&[0xa3][..], &SIZE_UNKNOWN].concat();
    let header = read_header(&mut Cursor::new(unknown)).unwrap().unwrap();
    assert_eq!(header.size, None);
}

#[test]
fn a_cluster_ends_at_a_keyframe_after_a_second_or_after_two() {
    let mut writer = WebmWriter::begin(0, Some(&vp8()), None).unwrap().0;
    assert!(writer.push_video(&frame(0, true)).is_none());
    assert!(writer.push_video(&frame(500_000, true)).is_none());
    assert!(writer.push_video(&frame(1_500_000, false)).is_none());
    assert!(writer.push_video(&frame(1_600_000, true)).is_some());
    assert!(writer.push_video(&frame(3_599_000, false)).is_none());
    assert!(writer.push_video(&frame(3_600_000, false)).is_some());
    assert!(writer.flush().is_some());
    assert!(writer.flush().is_none());
}

#[test]
fn a_finished_file_has_its_cues_at_keyframes_only() {
    let (mut writer, begin) = WebmWriter::begin(0, Some(&vp8()), None).unwrap();
    let mut bytes = begin.to_vec();
    for index in 0..100 {
        bytes.extend(
            writer
                .push_video(&frame(index * 100_000, index == 0 || index == 50))
                .unwrap_or_default(),
        );
    }
    bytes.extend(writer.flush().unwrap());
    let length = bytes.len();
    let mut file = Cursor::new(bytes);
    let finished = finish(&mut file).unwrap();
    assert_eq!(finished.duration_us, 10_000_000);
    let bytes = file.into_inner();
    let cues = &bytes[length..];
    assert_eq!(
        cues.windows(2)
            .filter(|pair| *pair == [0xbb, 0x8b] || pair[0] == 0xbb)
            .count(),
        3
    );
}

#[test]
fn what_it_cannot_carry_is_not_begun() {
    let mut h264 = vp8();
    Arc::make_mut(&mut h264).codec = VideoCodec::H264;
    assert!(WebmWriter::begin(0, Some(&h264), None).is_none());
    assert!(WebmWriter::begin(0, None, None).is_none());
}
