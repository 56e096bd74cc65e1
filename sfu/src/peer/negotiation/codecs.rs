//! Payload types: which formats we know, which of a section we keep, and which of a receiver's payload
//! types carries what a publisher sends.

use crate::ids::PayloadType;
use crate::sfu::{Codec, Kind};

/// One payload type of a section, as offered or as agreed on, with its feedback and RTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NegotiatedCodec {
    pub(crate) payload_type: PayloadType,
    pub(crate) format: Format,
    /// The payload type of its retransmissions (RFC 4588).
    pub(crate) rtx: Option<PayloadType>,
    pub(crate) feedback: Feedback,
}

impl NegotiatedCodec {
    /// The codec; `None` for RED.
    pub(crate) fn codec(&self) -> Option<Codec> {
        match self.format {
            Format::Opus { .. } => Some(Codec::Opus),
            Format::Red { .. } => None,
            Format::Vp8 => Some(Codec::Vp8),
            Format::H264 { .. } => Some(Codec::H264),
            Format::Vp9 { .. } => Some(Codec::Vp9),
            Format::Av1 { .. } => Some(Codec::Av1),
        }
    }
}

/// A payload format with the parameters that tell its variants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 7587 §6.1; what the side that says it wants to receive, `sprop` what it sends.
    Opus {
        stereo: bool,
        sprop_stereo: bool,
        dtx: bool,
    },
    /// Redundant Opus (RFC 2198).
    Red {
        primary: PayloadType,
    },
    Vp8,
    /// RFC 6184 §8.1; `profile_level_id` is `None` when not said.
    H264 {
        packetization_mode: u8,
        profile_level_id: Option<[u8; 3]>,
        level_asymmetry: bool,
    },
    Vp9 {
        profile: u8,
    },
    Av1 {
        profile: u8,
        level: u8,
        tier: u8,
    },
}

/// The RTCP feedback of one payload type (RFC 4585 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Feedback {
    pub(crate) nack: bool,
    pub(crate) pli: bool,
    pub(crate) fir: bool,
    pub(crate) transport_cc: bool,
    pub(crate) remb: bool,
}

impl Feedback {
    /// Takes in one `a=rtcp-fb` value without its payload type.
    pub(super) fn add(&mut self, value: &str) {
        match value {
            "nack" => self.nack = true,
            "nack pli" => self.pli = true,
            "ccm fir" => self.fir = true,
            "transport-cc" => self.transport_cc = true,
            "goog-remb" => self.remb = true,
            _ => {}
        }
    }
}

impl Format {
    /// Reads `a=rtpmap` (`<name>/<clock>[/<channels>]`) and `a=fmtp`; `None` for formats we do not carry.
    pub(super) fn parse(kind: Kind, rtpmap: &str, fmtp: &str) -> Option<Self> {
        let rtpmap = rtpmap.to_ascii_lowercase();
        match (kind, rtpmap.as_str()) {
            (Kind::Audio, "opus/48000/2") => Some(Self::Opus {
                stereo: is_set(fmtp, "stereo"),
                sprop_stereo: is_set(fmtp, "sprop-stereo"),
                dtx: is_set(fmtp, "usedtx"),
            }),
            (Kind::Audio, "red/48000/2") => {
                let primary = fmtp.split('/').next()?.trim().parse().ok()?;
                Some(Self::Red {
                    primary: PayloadType(primary),
                })
            }
            (Kind::Video, "vp8/90000") => Some(Self::Vp8),
            (Kind::Video, "vp9/90000") => Some(Self::Vp9 {
                profile: number(fmtp, "profile-id", 0)?,
            }),
            (Kind::Video, "av1/90000") => Some(Self::Av1 {
                profile: number(fmtp, "profile", 0)?,
                level: number(fmtp, "level-idx", 5)?,
                tier: number(fmtp, "tier", 0)?,
            }),
            (Kind::Video, "h264/90000") => Self::parse_h264(fmtp),
            _ => None,
        }
    }

    fn parse_h264(fmtp: &str) -> Option<Self> {
        let packetization_mode = number(fmtp, "packetization-mode", 0)?;
        let profile_level_id = match parameter(fmtp, "profile-level-id") {
            Some(hex) => Some(parse_profile_level_id(hex)?),
            None => None,
        };
        // Mode 2 interleaves (RFC 6184 §6.4): packets would leave in another order than frames.
        (packetization_mode <= 1).then_some(Self::H264 {
            packetization_mode,
            profile_level_id,
            level_asymmetry: is_set(fmtp, "level-asymmetry-allowed"),
        })
    }
}

/// Chooses what of a section is kept: its formats we carry, `preference` first, else in the offer's
/// order, and RED behind Opus. Asks for REMB only of clients without transport-wide feedback.
pub(crate) fn choose_codecs(
    section: &super::Section,
    preference: &[Codec],
) -> Vec<NegotiatedCodec> {
    let mut chosen: Vec<NegotiatedCodec> = section.codecs.clone();
    let rank = |codec: &NegotiatedCodec| match codec.codec() {
        Some(name) => preference
            .iter()
            .position(|&p| p == name)
            .unwrap_or(preference.len()),
        None => usize::MAX,
    };
    chosen.sort_by_key(rank); // stable: the offer's order among equals
    let transport_cc = chosen.iter().any(|codec| codec.feedback.transport_cc);
    for codec in &mut chosen {
        codec.feedback.remb &= !transport_cc;
    }
    chosen
}

/// Finds the payload type of a receive slot that carries what `source` is; `None` when the receiver
/// cannot decode it.
///
/// H264: same packetization mode (a mode 1 receiver also takes mode 0), then the nearest profile,
/// whatever the level: encoders adapt to levels, decoders do not check them. VP9 and AV1: same profile.
pub(crate) fn map_codec<'a>(
    source: &NegotiatedCodec,
    slot: &'a [NegotiatedCodec],
) -> Option<&'a NegotiatedCodec> {
    let distance = |candidate: &NegotiatedCodec| match (source.format, candidate.format) {
        (Format::Opus { .. }, Format::Opus { .. })
        | (Format::Red { .. }, Format::Red { .. })
        | (Format::Vp8, Format::Vp8) => Some(0),
        (Format::Vp9 { profile: a }, Format::Vp9 { profile: b })
        | (Format::Av1 { profile: a, .. }, Format::Av1 { profile: b, .. }) => (a == b).then_some(0),
        (
            Format::H264 {
                packetization_mode: a,
                profile_level_id: from,
                ..
            },
            Format::H264 {
                packetization_mode: b,
                profile_level_id: to,
                ..
            },
        ) => (a <= b).then(|| 100 * u16::from(b - a) + profile_distance(from, to)),
        _ => None,
    };
    slot.iter()
        .filter_map(|candidate| Some((distance(candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The H264 profiles in the order in which a decoder of a later one usually takes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    Other,
}

impl H264Profile {
    /// RFC 6184 §8.1, table 5: the profile byte and the constraint bits that matter.
    fn of(profile_level_id: Option<[u8; 3]>) -> Self {
        // Not said: everybody who leaves it out sends constrained baseline.
        let Some([profile, constraints, _]) = profile_level_id else {
            return Self::ConstrainedBaseline;
        };
        match (profile, constraints) {
            (0x42, c) if c & 0x40 != 0 => Self::ConstrainedBaseline,
            (0x4d, c) if c & 0x80 != 0 => Self::ConstrainedBaseline,
            (0x58, c) if c & 0xc0 == 0xc0 => Self::ConstrainedBaseline,
            (0x42, _) => Self::Baseline,
            (0x58, c) if c & 0x80 != 0 => Self::Baseline,
            (0x4d, _) => Self::Main,
            (0x64, c) if c & 0x0c == 0x0c => Self::ConstrainedHigh,
            (0x64, _) => Self::High,
            _ => Self::Other,
        }
    }
}

/// Steps between two profiles; a receiver of a lower one is farther than one of a higher.
fn profile_distance(from: Option<[u8; 3]>, to: Option<[u8; 3]>) -> u16 {
    let (from, to) = (H264Profile::of(from) as u16, H264Profile::of(to) as u16);
    if to >= from {
        to - from
    } else {
        10 * (from - to)
    }
}

/// The value of `name` in `a=b;c=d`; names compare without case (RFC 8866 §6.15 leaves it to the format).
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then_some(value.trim())
    })
}

fn is_set(fmtp: &str, name: &str) -> bool {
    parameter(fmtp, name) == Some("1")
}

fn number(fmtp: &str, name: &str, default: u8) -> Option<u8> {
    parameter(fmtp, name).map_or(Some(default), |value| value.parse().ok())
}

fn parse_profile_level_id(hex: &str) -> Option<[u8; 3]> {
    if hex.len() != 6 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let [_, profile, constraints, level] = u32::from_str_radix(hex, 16).ok()?.to_be_bytes();
    Some([profile, constraints, level])
}

/// The payload type an RTX payload type repairs (`apt`, RFC 4588 §8.1).
pub(super) fn associated_payload_type(fmtp: &str) -> Option<PayloadType> {
    parameter(fmtp, "apt")?.parse().ok().map(PayloadType)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(payload_type: u8, packetization_mode: u8, hex: &str) -> NegotiatedCodec {
        let fmtp = format!("packetization-mode={packetization_mode};profile-level-id={hex}");
        codec(
            payload_type,
            Format::parse(Kind::Video, "H264/90000", &fmtp).unwrap(),
        )
    }

    fn codec(payload_type: u8, format: Format) -> NegotiatedCodec {
        let feedback = Feedback::default();
        NegotiatedCodec {
            payload_type: PayloadType(payload_type),
            format,
            rtx: None,
            feedback,
        }
    }

    fn mapped(source: &NegotiatedCodec, slot: &[NegotiatedCodec]) -> Option<u8> {
        map_codec(source, slot).map(|codec| codec.payload_type.0)
    }

    #[test]
    fn h264_maps_by_packetization_mode_then_nearest_profile_ignoring_level() {
        let slot = [
            h264(102, 1, "42001f"),
            h264(104, 0, "42001f"),
            h264(108, 1, "42e01f"),
            h264(116, 1, "4d001f"),
            h264(120, 1, "64001f"),
        ];
        assert_eq!(mapped(&h264(1, 1, "42e034"), &slot), Some(108));
        assert_eq!(mapped(&h264(1, 1, "42c01e"), &slot), Some(108));
        assert_eq!(mapped(&h264(1, 1, "42001e"), &slot), Some(102));
        assert_eq!(mapped(&h264(1, 0, "42e01f"), &slot), Some(104));
        assert_eq!(mapped(&h264(1, 1, "640c1f"), &slot), Some(120));
        assert_eq!(mapped(&h264(1, 1, "640028"), &slot[..4]), Some(116));
        assert_eq!(mapped(&h264(1, 0, "42e01f"), &slot[3..]), Some(116));
        assert_eq!(mapped(&h264(1, 1, "42e01f"), &slot[1..2]), None);
    }

    #[test]
    fn vp9_and_av1_map_by_profile_and_nothing_else_maps_across() {
        let slot = [
            codec(96, Format::Vp8),
            codec(98, Format::Vp9 { profile: 0 }),
            codec(100, Format::Vp9 { profile: 2 }),
            codec(
                45,
                Format::Av1 {
                    profile: 0,
                    level: 5,
                    tier: 0,
                },
            ),
        ];
        assert_eq!(
            mapped(&codec(1, Format::Vp9 { profile: 2 }), &slot),
            Some(100)
        );
        assert_eq!(mapped(&codec(1, Format::Vp9 { profile: 1 }), &slot), None);
        let av1 = Format::Av1 {
            profile: 0,
            level: 13,
            tier: 1,
        };
        assert_eq!(mapped(&codec(1, av1), &slot), Some(45));
        assert_eq!(mapped(&h264(1, 1, "42e01f"), &slot), None);
        assert_eq!(mapped(&codec(120, Format::Vp8), &slot), Some(96));
    }

    #[test]
    fn unknown_or_broken_formats_are_not_ours() {
        let parse = Format::parse;
        assert_eq!(parse(Kind::Audio, "PCMU/8000", ""), None);
        assert_eq!(parse(Kind::Audio, "VP8/90000", ""), None);
        assert_eq!(parse(Kind::Video, "red/90000", ""), None);
        assert_eq!(
            parse(Kind::Video, "H264/90000", "packetization-mode=2"),
            None
        );
        assert_eq!(
            parse(Kind::Video, "H264/90000", "profile-level-id=42e0"),
            None
        );
        assert_eq!(
            parse(Kind::Video, "H264/90000", "profile-level-id=+2e01f"),
            None
        );
        assert_eq!(parse(Kind::Video, "VP9/90000", "profile-id=300"), None);
        assert_eq!(parse(Kind::Video, "vp8/90000", ""), Some(Format::Vp8));
        let opus = Format::Opus {
            stereo: true,
            sprop_stereo: false,
            dtx: true,
        };
        assert_eq!(
            parse(Kind::Audio, "OPUS/48000/2", "Stereo=1; usedtx=1"),
            Some(opus)
        );
    }
}
