//! Fragmented MP4 (ISO/IEC 14496-12, CMAF): initialisation segments and media fragments.
//!
//! Video counts in 1/90000 s, sound in samples. Pure: HLS and recordings are made of the same bytes.
#![warn(clippy::indexing_slicing)]

mod clock;
mod entry;
mod parameter_sets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{
    Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mvex,
    Mvhd, Prft, ReferenceTime, Smhd, Stbl, Stco, Stsd, Styp, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex,
    Trun, TrunEntry, Url, Vmhd,
};
use thiserror::Error;

use crate::media::{AudioConfig, VideoCodec, VideoConfig};

pub use clock::{AudioClock, VideoClock};
pub(crate) use parameter_sets::parameter_sets;

/// Ticks of a second in video tracks.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// What a track carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackSpec {
    /// Pictures.
    Video(Arc<VideoConfig>),
    /// Sound.
    Audio(Arc<AudioConfig>),
}

/// Why no initialisation segment can be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is nothing to describe.
    #[error("no track")]
    NoTrack,
    /// The codec is not carried.
    #[error("{0:?} is not carried in MP4")]
    Codec(VideoCodec),
    /// The decoder configuration makes no sense.
    #[error("the decoder configuration is malformed")]
    Record(#[source] mp4_atom::Error),
    /// The boxes do not fit their size fields.
    #[error("the boxes cannot be written")]
    Boxes(#[source] mp4_atom::Error),
}

/// One coded frame in a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How long it lasts, in ticks of its track.
    pub duration: u32,
    /// A decoder can begin here; true of every frame of sound.
    pub is_key: bool,
    /// The frame as [`crate::media`] has it.
    pub data: Bytes,
}

/// A movie fragment of one track being filled: `moof` and `mdat`.
#[derive(Clone, Debug)]
pub struct Fragment {
    track_id: u32,
    sequence: u32,
    decode_time: u64,
    samples: Vec<Sample>,
    reference_time: Option<u64>,
    begins_segment: bool,
}

impl TrackSpec {
    /// Ticks of a second.
    pub fn timescale(&self) -> u32 {
        match self {
            Self::Video(_) => VIDEO_TIMESCALE,
            Self::Audio(config) => config.sample_rate.max(1),
        }
    }

    /// The codec's name as in RFC 6381.
    pub fn codec_name(&self) -> String {
        match self {
            Self::Video(config) => config.name.clone(),
            Self::Audio(config) => entry::audio_name(config),
        }
    }
}

/// Makes the initialisation segment of tracks; they are numbered from 1 in their order.
///
/// # Errors
/// A codec that is not carried, or a decoder configuration that cannot be read.
pub fn init_segment(tracks: &[TrackSpec]) -> Result<Bytes, InitError> {
    if tracks.is_empty() {
        return Err(InitError::NoTrack);
    }
    let mut bytes = BytesMut::new();
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 1,
        compatible_brands: vec![
            FourCC::new(b"iso6"),
            FourCC::new(b"cmfc"),
            FourCC::new(b"mp41"),
        ],
    };
    ftyp.encode(&mut bytes).map_err(InitError::Boxes)?;
    moov(tracks)?.encode(&mut bytes).map_err(InitError::Boxes)?;
    Ok(bytes.freeze())
}

impl Fragment {
    /// Begins the fragment with `sequence` (counted from 1 in a file) at a decode time in ticks.
    pub fn new(track_id: u32, sequence: u32, decode_time: u64) -> Self {
        Self {
            track_id,
            sequence,
            decode_time,
            samples: Vec::new(),
            reference_time: None,
            begins_segment: false,
        }
    }

    /// Adds the frame that comes after those already in it.
    pub fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Says when its first frame was captured, as a 64-bit NTP timestamp (RFC 5905 §6): a `prft` box.
    pub fn set_reference_time(&mut self, ntp: u64) {
        self.reference_time = Some(ntp);
    }

    /// Says that it is the first one of a segment: a `styp` box.
    pub fn set_begins_segment(&mut self) {
        self.begins_segment = true;
    }

    /// Writes it. `None`: it is larger than the boxes' size fields, so more than 2 GiB.
    pub fn finish(self) -> Option<Bytes> {
        let data_bytes: usize = self.samples.iter().map(|sample| sample.data.len()).sum();
        let mdat_bytes = u32::try_from(data_bytes.checked_add(8)?).ok()?;
        let mut moof = self.moof()?;
        let mut bytes = BytesMut::with_capacity(data_bytes + 256 + self.samples.len() * 12);
        moof.encode(&mut bytes).ok()?;
        // The offset of the data is known once the size of what comes before is.
        let offset = i32::try_from(bytes.len() + 8).ok()?;
        let run = moof.traf.first_mut().and_then(|traf| traf.trun.first_mut());
        run?.data_offset = Some(offset);
        bytes.clear();
        self.encode_front(&mut bytes)?;
        moof.encode(&mut bytes).ok()?;
        bytes.put_u32(mdat_bytes);
        bytes.put_slice(b"mdat");
        for sample in &self.samples {
            bytes.put_slice(&sample.data);
        }
        Some(bytes.freeze())
    }

    fn encode_front(&self, bytes: &mut BytesMut) -> Option<()> {
        if self.begins_segment {
            let styp = Styp {
                major_brand: FourCC::new(b"msdh"),
                minor_version: 0,
                compatible_brands: vec![FourCC::new(b"msdh"), FourCC::new(b"cmfs")],
            };
            styp.encode(bytes).ok()?;
        }
        if let Some(ntp_timestamp) = self.reference_time {
            let prft = Prft {
                reference_track_id: self.track_id,
                ntp_timestamp,
                media_time: self.decode_time,
                utc_time_semantics: ReferenceTime::Input,
            };
            prft.encode(bytes).ok()?;
        }
        Some(())
    }

    fn moof(&self) -> Option<Moof> {
        let entries: Option<Vec<TrunEntry>> = self
            .samples
            .iter()
            .map(|sample| {
                Some(TrunEntry {
                    duration: Some(sample.duration),
                    size: Some(u32::try_from(sample.data.len()).ok()?),
                    flags: Some(if sample.is_key { KEY } else { NOT_KEY }),
                    cts: None,
                })
            })
            .collect();
        Some(Moof {
            mfhd: Mfhd {
                sequence_number: self.sequence,
            },
            traf: vec![Traf {
                tfhd: Tfhd {
                    track_id: self.track_id,
                    default_base_is_moof: true,
                    ..Tfhd::default()
                },
                tfdt: Some(Tfdt {
                    base_media_decode_time: self.decode_time,
                }),
                trun: vec![Trun {
                    data_offset: Some(0),
                    samples: entries?.into(),
                }],
                ..Traf::default()
            }],
        })
    }
}

/// Sample flags (ISO/IEC 14496-12 §8.8.3.1): depends on no other frame.
const KEY: u32 = 0x0200_0000;
/// Depends on others, and is no place to begin.
const NOT_KEY: u32 = 0x0101_0000;

fn moov(tracks: &[TrackSpec]) -> Result<Moov, InitError> {
    let mut traks = Vec::new();
    let mut trexs = Vec::new();
    for (track_id, spec) in (1..).zip(tracks) {
        traks.push(trak(track_id, spec)?);
        trexs.push(Trex {
            track_id,
            default_sample_description_index: 1,
            default_sample_duration: 0,
            default_sample_size: 0,
            default_sample_flags: 0,
        });
    }
    Ok(Moov {
        mvhd: Mvhd {
            timescale: 1000,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: u32::try_from(tracks.len()).map_or(u32::MAX, |count| count + 1),
            ..Mvhd::default()
        },
        meta: None,
        mvex: Some(Mvex {
            mehd: None,
            trex: trexs,
        }),
        trak: traks,
        udta: None,
        ainf: None,
    })
}

fn trak(track_id: u32, spec: &TrackSpec) -> Result<Trak, InitError> {
    let (handler, name, size) = match spec {
        TrackSpec::Video(config) => (b"vide", "video", (config.width, config.height)),
        TrackSpec::Audio(_) => (b"soun", "audio", (0, 0)),
    };
    let is_video = matches!(spec, TrackSpec::Video(_));
    Ok(Trak {
        tkhd: Tkhd {
            track_id,
            enabled: true,
            in_movie: true,
            volume: u8::from(!is_video).into(),
            width: size.0.into(),
            height: size.1.into(),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                timescale: spec.timescale(),
                language: "und".to_owned(),
                ..Mdhd::default()
            },
            hdlr: Hdlr {
                handler: FourCC::new(handler),
                name: name.to_owned(),
            },
            minf: Minf {
                vmhd: is_video.then(Vmhd::default),
                smhd: (!is_video).then(Smhd::default),
                dinf: Dinf {
                    dref: Dref {
                        entries: vec![DrefEntry::Url(Url::default())],
                    },
                },
                stbl: Stbl {
                    stsd: Stsd {
                        codecs: vec![entry::sample_entry(spec)?],
                    },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    })
}
