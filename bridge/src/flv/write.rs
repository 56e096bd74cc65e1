//! Writes FLV: H264 and AAC as ever, all else with Enhanced RTMP's headers.

use bytes::Bytes;

use crate::flv::{AUDIO_TAG, SCRIPT_TAG, TAG_HEADER, VIDEO_TAG};
use crate::media::{AudioCodec, AudioConfig, VideoCodec, VideoConfig, VideoFrame};
use crate::rtmp::amf::Value;

/// What a file begins with (annex E.2), and the size of the tag before the first.
pub(crate) fn file_header(has_video: bool, has_audio: bool) -> [u8; 13] {
    let flags = u8::from(has_video) | u8::from(has_audio) << 2;
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// A tag with the size that follows it. A body of 16 MiB or more, which nobody makes, gives an empty one.
pub(crate) fn tag(kind: u8, time_ms: u32, body: &[u8]) -> Vec<u8> {
    let body = if body.len() >> 24 == 0 { body } else { &[] };
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let [top, time @ ..] = time_ms.to_be_bytes();
    let mut tag = Vec::with_capacity(TAG_HEADER + body.len() + 4);
    tag.push(kind);
    tag.extend_from_slice(&length);
    tag.extend_from_slice(&time);
    tag.extend_from_slice(&[top, 0, 0, 0]);
    tag.extend_from_slice(body);
    let size = u32::try_from(tag.len()).unwrap_or(0);
    tag.extend_from_slice(&size.to_be_bytes());
    tag
}

/// The body of the tag before the first picture, or before one with other parameters.
pub(crate) fn video_config(config: &VideoConfig) -> Bytes {
    match four_cc(config.codec) {
        None => [&[0x17, 0, 0, 0, 0], config.record.as_ref()]
            .concat()
            .into(),
        Some(code) => [&[0x90], code.as_slice(), &config.record].concat().into(),
    }
}

/// The body of a picture's tag.
pub(crate) fn video_frame(frame: &VideoFrame) -> Bytes {
    let kind = if frame.is_key { 0x10 } else { 0x20 };
    match four_cc(frame.config.codec) {
        None => [&[kind | 7, 1, 0, 0, 0], frame.data.as_ref()]
            .concat()
            .into(),
        Some(code) => [&[0x80 | kind | 1], code.as_slice(), &frame.data]
            .concat()
            .into(),
    }
}

/// The body of the tag before the first sound.
pub(crate) fn audio_config(config: &AudioConfig) -> Bytes {
    match config.codec {
        AudioCodec::Aac => [&[0xaf, 0], config.record.as_ref()].concat().into(),
        AudioCodec::Opus => [b"\x90Opus".as_slice(), &opus_head(config)].concat().into(),
    }
}

/// The body of a sound's tag.
pub(crate) fn audio_frame(codec: AudioCodec, data: &[u8]) -> Bytes {
    match codec {
        AudioCodec::Aac => [&[0xaf, 1], data].concat().into(),
        AudioCodec::Opus => [b"\x91Opus".as_slice(), data].concat().into(),
    }
}

/// The body of a script tag: `onMetaData` (annex E.5).
pub(crate) fn metadata(video: Option<&VideoConfig>, audio: Option<&AudioConfig>) -> Vec<u8> {
    let mut properties = Vec::new();
    let mut add = |name: &str, value: Value| properties.push((name.to_owned(), value));
    if let Some(video) = video {
        let codec = four_cc(video.codec).map_or(7.0, |code| f64::from(u32::from_be_bytes(*code)));
        add("width", f64::from(video.width).into());
        add("height", f64::from(video.height).into());
        add("videocodecid", codec.into());
    }
    if let Some(audio) = audio {
        let codec = match audio.codec {
            AudioCodec::Aac => 10.0,
            AudioCodec::Opus => f64::from(u32::from_be_bytes(*b"Opus")),
        };
        add("audiocodecid", codec.into());
        add("audiosamplerate", f64::from(audio.sample_rate).into());
        add("audiochannels", f64::from(audio.channels).into());
        add("stereo", Value::Boolean(audio.channels == 2));
    }
    add("encoder", "Plenum".into());
    let mut body = Vec::new();
    Value::from("onMetaData").write(&mut body);
    Value::EcmaArray(properties).write(&mut body);
    body
}

/// `None`: the codec has had a number from the beginning.
fn four_cc(codec: VideoCodec) -> Option<&'static [u8; 4]> {
    match codec {
        VideoCodec::H264 => None,
        VideoCodec::Vp8 => Some(b"vp08"),
        VideoCodec::Vp9 => Some(b"vp09"),
        VideoCodec::Av1 => Some(b"av01"),
    }
}

/// The identification header of RFC 7845 §5.1 out of the `dOps` box, which has the same fields in
/// network order.
fn opus_head(config: &AudioConfig) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    let Some((&[_, channels, skip_1, skip_0, r3, r2, r1, r0, gain_1, gain_0], mapping)) =
        config.record.split_first_chunk()
    else {
        return head;
    };
    head.extend_from_slice(&[channels, skip_0, skip_1, r0, r1, r2, r3, gain_0, gain_1]);
    head.extend_from_slice(mapping);
    head
}

/// The kind of tag sound is in.
pub(crate) const AUDIO: u8 = AUDIO_TAG;
/// The kind of tag pictures are in.
pub(crate) const VIDEO: u8 = VIDEO_TAG;
/// The kind of tag metadata are in.
pub(crate) const SCRIPT: u8 = SCRIPT_TAG;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flv::{AudioBody, TagError, VideoBody, take_tag};

    fn config(codec: VideoCodec) -> Arc<VideoConfig> {
        let record = Bytes::from_static(b"record");
        Arc::new(VideoConfig {
            codec,
            width: 2,
            height: 2,
            record,
            name: String::new(),
        })
    }

    #[test]
    fn what_is_written_is_read() {
        let config = config(VideoCodec::H264);
        let data = Bytes::from_static(b"data");
        let frame = VideoFrame {
            config: config.clone(),
            at_us: 0,
            is_key: true,
            data: data.clone(),
        };
        let read = VideoBody::read(&video_config(&config));
        assert_eq!(read, Ok(VideoBody::Config("record".into())));
        let read = VideoBody::read(&video_frame(&frame));
        assert_eq!(
            read,
            Ok(VideoBody::Picture {
                composition_ms: 0,
                data: data.clone()
            })
        );
        let read = AudioBody::read(&audio_frame(AudioCodec::Aac, &data));
        assert_eq!(read, Ok(AudioBody::Packet(data)));
    }

    #[test]
    fn times_of_tags_have_32_bits() {
        for time in [0, 0xff_ffff, 0x0100_0000, u32::MAX] {
            let mut bytes = Bytes::from([tag(VIDEO, time, b"body"), vec![1]].concat());
            assert_eq!(
                take_tag(&mut bytes),
                Some((VIDEO, time, Bytes::from_static(b"body")))
            );
            assert_eq!(bytes, [1].as_slice());
        }
    }

    #[test]
    fn other_codecs_have_enhanced_headers() {
        let config = config(VideoCodec::Vp9);
        assert_eq!(video_config(&config), b"\x90vp09record".as_slice());
        let refused = VideoBody::read(&video_config(&config));
        assert_eq!(refused, Err(TagError::Codec("VP9 (vp09)".to_owned())));
        let data = Bytes::from_static(b"d");
        let frame = VideoFrame {
            config,
            at_us: 0,
            is_key: false,
            data,
        };
        assert_eq!(video_frame(&frame), b"\xa1vp09d".as_slice());
    }

    #[test]
    fn opus_is_described_as_in_ogg() {
        let record = Bytes::from_static(&[0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]);
        let codec = AudioCodec::Opus;
        let config = AudioConfig {
            codec,
            sample_rate: 48_000,
            channels: 2,
            record,
            priming: 312,
        };
        let expected = b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0".as_slice();
        assert_eq!(audio_config(&config), expected);
    }
}
