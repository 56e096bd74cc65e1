//! FLV: how RTMP and HTTP-FLV wrap pictures and sound (Adobe's Video File Format 10.1, annex E).
//!
//! What comes in is read here; what goes out is written by `write.rs`, and sent to players by
//! [`routes`]. Enhanced RTMP's headers (Veovera, v2) are read far enough to know the codec's name.
#![warn(clippy::indexing_slicing)]

pub(crate) mod aac;
pub(crate) mod avc;
mod feed;
mod http;
pub(crate) mod write;

pub use aac::AacError;
pub use avc::AvcError;
pub use feed::FlvFeed;
pub use http::{Denied, Gate, Opened, routes};

use bytes::Bytes;
use thiserror::Error;

/// What a video tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VideoBody {
    /// The `avcC` of the pictures that follow.
    Config(Bytes),
    /// NAL units after their lengths, shown so many milliseconds after they are decoded.
    Picture { composition_ms: i32, data: Bytes },
    /// The end of a sequence, or a hint for players of old.
    Nothing,
}

/// What an audio tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AudioBody {
    /// The AudioSpecificConfig of the packets that follow.
    Config(Bytes),
    /// An AAC packet without framing.
    Packet(Bytes),
    /// The end of a sequence, or how channels are laid out.
    Nothing,
}

/// Why a tag is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagError {
    /// It ends within its header.
    #[error("an FLV tag is cut short")]
    Short,
    /// We carry H264 and AAC.
    #[error("{0} is not carried; set the encoder to H264 and AAC")]
    Codec(String),
}

impl VideoBody {
    /// Reads the body of a video tag (§E.4.3; Enhanced RTMP: ExVideoTagHeader).
    ///
    /// # Errors
    /// It is too short, or not H264.
    pub(crate) fn read(body: &Bytes) -> Result<Self, TagError> {
        let (&first, rest) = body.split_first().ok_or(TagError::Short)?;
        let is_enhanced = first & 0x80 != 0;
        let frame_type = first >> 4 & 7;
        let low = first & 0x0f;
        if frame_type == COMMAND_FRAME {
            return Ok(Self::Nothing);
        }
        let (packet_type, header) = if is_enhanced {
            // Several tracks in one, and extensions nobody was told we understand.
            if low >= MULTITRACK {
                return Err(TagError::Codec(
                    "Enhanced RTMP with several tracks".to_owned(),
                ));
            }
            let code = rest.first_chunk::<4>().ok_or(TagError::Short)?;
            if code != b"avc1" {
                return Err(TagError::Codec(four_cc_name(code)));
            }
            (low, 5)
        } else {
            if low != AVC {
                return Err(TagError::Codec(video_name(low)));
            }
            (*rest.first().ok_or(TagError::Short)?, 2)
        };
        let time = body.get(header..header + 3).and_then(<[u8]>::first_chunk);
        // The legacy header always has a composition time, the enhanced one only with pictures.
        let offset = header
            + if is_enhanced && packet_type != PICTURE {
                0
            } else {
                3
            };
        let data = body.slice(offset.min(body.len())..);
        Ok(match packet_type {
            CONFIG => Self::Config(data),
            PICTURE => {
                let composition_ms = time.map(|time| i24(*time)).ok_or(TagError::Short)?;
                Self::Picture {
                    composition_ms,
                    data,
                }
            }
            PICTURE_AT_ONCE if is_enhanced => Self::Picture {
                composition_ms: 0,
                data,
            },
            _ => Self::Nothing,
        })
    }
}

impl AudioBody {
    /// Reads the body of an audio tag (§E.4.2; Enhanced RTMP: ExAudioTagHeader).
    ///
    /// # Errors
    /// It is too short, or not AAC.
    pub(crate) fn read(body: &Bytes) -> Result<Self, TagError> {
        let (&first, rest) = body.split_first().ok_or(TagError::Short)?;
        let format = first >> 4;
        let (packet_type, header) = if format == ENHANCED_AUDIO {
            let low = first & 0x0f;
            if low == CHANNEL_LAYOUT {
                return Ok(Self::Nothing);
            }
            if low > CHANNEL_LAYOUT {
                return Err(TagError::Codec(
                    "Enhanced RTMP with several tracks".to_owned(),
                ));
            }
            let code = rest.first_chunk::<4>().ok_or(TagError::Short)?;
            if code != b"mp4a" {
                return Err(TagError::Codec(four_cc_name(code)));
            }
            (low, 5)
        } else {
            if format != AAC {
                return Err(TagError::Codec(audio_name(format)));
            }
            (*rest.first().ok_or(TagError::Short)?, 2)
        };
        let data = body.slice(header.min(body.len())..);
        Ok(match packet_type {
            CONFIG => Self::Config(data),
            PICTURE => Self::Packet(data),
            _ => Self::Nothing,
        })
    }
}

/// A tag of a file or of an aggregate message: kind, time in milliseconds, body.
pub(crate) type Tag = (u8, u32, Bytes);

/// Takes the first tag, with the size that follows it, from `bytes` (§E.4.1).
///
/// `None`: there is no whole tag.
pub(crate) fn take_tag(bytes: &mut Bytes) -> Option<Tag> {
    let &[kind, a, b, c, t1, t2, t3, t0, _, _, _] = bytes.first_chunk::<TAG_HEADER>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let end = TAG_HEADER + length;
    if bytes.len() < end + 4 {
        return None;
    }
    let body = bytes.slice(TAG_HEADER..end);
    *bytes = bytes.slice(end + 4..);
    Some((kind & 0x1f, u32::from_be_bytes([t0, t1, t2, t3]), body))
}

/// Plain functions for fuzzing: any bytes, no panic.
#[doc(hidden)]
pub mod fuzz {
    use bytes::Bytes;

    use crate::packing::{H264Packer, parse_avcc};

    /// A file's tags, and what they hold.
    pub fn flv_tag(bytes: &[u8]) {
        let mut rest = Bytes::copy_from_slice(bytes);
        let _ = super::VideoBody::read(&rest).map(|body| match body {
            super::VideoBody::Config(record) => drop(super::avc::config(&record)),
            super::VideoBody::Picture { data, .. } => drop(super::avc::picture(&data, 4)),
            super::VideoBody::Nothing => {}
        });
        if let Ok(super::AudioBody::Config(record)) = super::AudioBody::read(&rest) {
            let _ = super::aac::config(&record);
        }
        while let Some((_, _, body)) = super::take_tag(&mut rest) {
            let _ = super::VideoBody::read(&body);
            let _ = super::AudioBody::read(&body);
        }
    }

    /// A decoder configuration after its length in two bytes, and a picture: from FLV to packets of a room.
    pub fn avcc(bytes: &[u8]) {
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return;
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let (record, picture) = rest.split_at(rest.len().min(length));
        if let Ok(parsed) = parse_avcc(record) {
            let _ = parsed.config();
            let _ = H264Packer::new(parsed).pack(picture);
        }
        let Ok((config, length_size)) = super::avc::config(record) else {
            return;
        };
        let picture = Bytes::copy_from_slice(picture);
        let taken = super::avc::picture(&picture, length_size);
        if let (Ok(parsed), Ok(Some(taken))) = (parse_avcc(&config.record), taken) {
            // A length takes 4 bytes, where it took 1 of them and 1 for the unit itself.
            assert!(taken.data.len() <= picture.len() * 5 / 2 + 4);
            let _ = H264Packer::new(parsed).pack(&taken.data);
        }
    }
}

fn i24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn video_name(codec: u8) -> String {
    let name = match codec {
        2 => "Sorenson H.263",
        3 | 6 => "Screen Video",
        4 | 5 => "VP6",
        12 => "HEVC",
        13 => "AV1",
        _ => return format!("FLV video codec {codec}"),
    };
    name.to_owned()
}

fn audio_name(format: u8) -> String {
    let name = match format {
        0 | 3 => "PCM",
        1 => "ADPCM",
        2 | 14 => "MP3",
        4..=6 => "Nellymoser",
        7 | 8 => "G.711",
        11 => "Speex",
        13 => "Opus",
        _ => return format!("FLV audio format {format}"),
    };
    name.to_owned()
}

fn four_cc_name(code: &[u8; 4]) -> String {
    let name = match code {
        b"hvc1" => "HEVC",
        b"vvc1" => "VVC",
        b"av01" => "AV1",
        b"vp09" => "VP9",
        b"vp08" => "VP8",
        b"Opus" => "Opus",
        b"fLaC" => "FLAC",
        b"ac-3" => "AC-3",
        b"ec-3" => "E-AC-3",
        b".mp3" => "MP3",
        _ => return format!("codec {}", code.escape_ascii()),
    };
    format!("{name} ({})", code.escape_ascii())
}

pub(crate) const AUDIO_TAG: u8 = 8;
pub(crate) const VIDEO_TAG: u8 = 9;
pub(crate) const SCRIPT_TAG: u8 = 18;
const TAG_HEADER: usize = 11;

const AVC: u8 = 7;
const AAC: u8 = 10;
const ENHANCED_AUDIO: u8 = 9;
const COMMAND_FRAME: u8 = 5;
const CONFIG: u8 = 0;
const PICTURE: u8 = 1;
const PICTURE_AT_ONCE: u8 = 3;
const CHANNEL_LAYOUT: u8 = 4;
const MULTITRACK: u8 = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn video(body: &[u8]) -> Result<VideoBody, TagError> {
        VideoBody::read(&Bytes::copy_from_slice(body))
    }

    fn audio(body: &[u8]) -> Result<AudioBody, TagError> {
        AudioBody::read(&Bytes::copy_from_slice(body))
    }

    #[test]
    fn h264_is_read_in_both_forms() {
        let picture = |composition_ms, data: &'static [u8]| {
            Ok(VideoBody::Picture {
                composition_ms,
                data: Bytes::from_static(data),
            })
        };
        assert_eq!(
            video(b"\x17\x00\0\0\0rec"),
            Ok(VideoBody::Config("rec".into()))
        );
        assert_eq!(video(b"\x27\x01\0\0\x28pic"), picture(40, b"pic"));
        assert_eq!(video(b"\x27\x01\xff\xff\xffpic"), picture(-1, b"pic"));
        assert_eq!(video(b"\x27\x02\0\0\0"), Ok(VideoBody::Nothing));
        assert_eq!(video(b"\x90avc1rec"), Ok(VideoBody::Config("rec".into())));
        assert_eq!(video(b"\x91avc1\0\0\x28pic"), picture(40, b"pic"));
        assert_eq!(video(b"\xa3avc1pic"), picture(0, b"pic"));
        assert_eq!(video(b"\x57\x00"), Ok(VideoBody::Nothing));
    }

    #[test]
    fn aac_is_read_in_both_forms() {
        assert_eq!(
            audio(b"\xaf\x00\x12\x10"),
            Ok(AudioBody::Config(Bytes::from_static(b"\x12\x10")))
        );
        assert_eq!(audio(b"\xaf\x01aac"), Ok(AudioBody::Packet("aac".into())));
        assert_eq!(
            audio(b"\x90mp4a\x12\x10"),
            Ok(AudioBody::Config(Bytes::from_static(b"\x12\x10")))
        );
        assert_eq!(audio(b"\x91mp4aaac"), Ok(AudioBody::Packet("aac".into())));
        assert_eq!(audio(b"\x94mp4a\0\x02"), Ok(AudioBody::Nothing));
    }

    #[test]
    fn other_codecs_are_refused_by_name() {
        let refused = [
            (video(b"\x90hvc1"), "HEVC (hvc1)"),
            (video(b"\x90av01"), "AV1 (av01)"),
            (video(b"\x90vp09"), "VP9 (vp09)"),
            (video(b"\x90\x1b[2J"), r"codec \x1b[2J"),
            (video(b"\x1c\x00\0\0\0"), "HEVC"),
            (video(b"\x12"), "Sorenson H.263"),
            (video(b"\x96"), "Enhanced RTMP with several tracks"),
        ];
        for (read, name) in refused {
            assert_eq!(read, Err(TagError::Codec(name.to_owned())));
        }
        let refused = [(audio(b"\x90Opus"), "Opus (Opus)"), (audio(b"\x2f"), "MP3")];
        for (read, name) in refused {
            assert_eq!(read, Err(TagError::Codec(name.to_owned())));
        }
    }

    #[test]
    fn an_empty_parameter_set_is_refused() {
        let sps = [0x67, 0x42, 0xc0, 0x1e, 0x65, 0x50, 0x28];
        let head = [1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 7];
        let record = [&head[..], &sps, &[1, 0, 0]].concat();
        assert!(matches!(avc::config(&record), Err(AvcError::Config(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            fuzz::flv_tag(&bytes);
            fuzz::avcc(&bytes);
        }

        #[test]
        fn any_parameter_sets_are_read_or_refused(
            tail in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let length = u8::try_from(tail.len() + 4).unwrap();
            let sps = [&[0x67, 0x64, 0, 0x1f], tail.as_slice()].concat();
            let head = [1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, length];
            let _ = avc::config(&[&head, sps.as_slice(), &[1, 0, 1, 0x68]].concat());
        }
    }
}
