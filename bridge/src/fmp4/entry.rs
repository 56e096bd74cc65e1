//! Sample entries: what a decoder must know, as `stsd` has it.

use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Codec, Dops, Esds, Mp4a, Opus, Visual, Vp09, VpcC,
};

use super::{InitError, TrackSpec};
use crate::media::{AudioCodec, AudioConfig, VideoCodec, VideoConfig};

/// The sample entry of a track.
pub(super) fn sample_entry(spec: &TrackSpec) -> Result<Codec, InitError> {
    match spec {
        TrackSpec::Video(config) => video(config),
        TrackSpec::Audio(config) => audio(config),
    }
}

/// RFC 6381: AAC by its object type, Opus by its name.
pub(super) fn audio_name(config: &AudioConfig) -> String {
    match config.codec {
        AudioCodec::Opus => "opus".to_owned(),
        AudioCodec::Aac => {
            // The first five bits of the AudioSpecificConfig are the object type; 2 is AAC-LC.
            let kind = config.record.first().map_or(2, |byte| byte >> 3);
            format!("mp4a.40.{kind}")
        }
    }
}

fn video(config: &VideoConfig) -> Result<Codec, InitError> {
    let visual = Visual {
        data_reference_index: 1,
        width: config.width,
        height: config.height,
        ..Visual::default()
    };
    match config.codec {
        VideoCodec::H264 => Ok(Codec::Avc1(Avc1 {
            visual,
            avcc: record::<Avcc>(&config.record)?,
            ..Avc1::default()
        })),
        VideoCodec::Vp9 => Ok(Codec::Vp09(Vp09 {
            visual,
            vpcc: record::<VpcC>(&config.record)?,
            btrt: None,
            colr: None,
            pasp: None,
            spatial: None,
        })),
        VideoCodec::Av1 => Ok(Codec::Av01(Av01 {
            visual,
            av1c: record::<Av1c>(&config.record)?,
            btrt: None,
            ccst: None,
            colr: None,
            pasp: None,
            taic: None,
            spatial: None,
        })),
        VideoCodec::Vp8 => Err(InitError::Codec(VideoCodec::Vp8)),
    }
}

fn audio(config: &AudioConfig) -> Result<Codec, InitError> {
    let audio = Audio {
        data_reference_index: 1,
        channel_count: config.channels.into(),
        sample_size: 16,
        // 16 bits before the point: higher rates stand in the decoder's configuration only.
        sample_rate: u16::try_from(config.sample_rate).unwrap_or(0).into(),
    };
    Ok(match config.codec {
        AudioCodec::Opus => Codec::Opus(Opus {
            audio,
            dops: record::<Dops>(&config.record)?,
            btrt: None,
        }),
        AudioCodec::Aac => Codec::Mp4a(Mp4a {
            audio,
            esds: esds(config),
            btrt: None,
            taic: None,
        }),
    })
}

/// ISO/IEC 14496-1 §7.2.6.
fn esds(config: &AudioConfig) -> Esds {
    Esds {
        es_desc: EsDescriptor {
            es_id: 0,
            depends_on_es_id: None,
            url: None,
            ocr_es_id: None,
            stream_priority: 0,
            dec_config: DecoderConfig {
                object_type_indication: 0x40,
                stream_type: 5,
                up_stream: 0,
                buffer_size_db: [0; 3].into(),
                max_bitrate: 0,
                avg_bitrate: 0,
                dec_specific: Some(DecoderSpecific {
                    profile: 0,
                    freq_index: 0,
                    chan_conf: 0,
                    raw: config.record.to_vec(),
                }),
            },
            sl_config: SLConfig {},
        },
    }
}

fn record<A: Atom>(mut bytes: &[u8]) -> Result<A, InitError> {
    A::decode_body(&mut bytes).map_err(InitError::Record)
}
