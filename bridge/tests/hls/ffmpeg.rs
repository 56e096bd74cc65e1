//! Frames of real encoders: ffmpeg makes them, in an MP4 with a fragment for each.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bridge::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec, VideoConfig, VideoFrame};
use bytes::Bytes;
use mp4_atom::{Any, Atom, Codec, DecodeMaybe, Moof, Moov};

/// One track of a file.
#[derive(Clone, Debug)]
pub(crate) enum Track {
    Video(Vec<VideoFrame>),
    Audio(Vec<AudioFrame>),
}

/// Runs ffmpeg with some arguments and reads the MP4 it writes.
pub(crate) fn encode(name: &str, arguments: &[&str]) -> Vec<Track> {
    let file = std::env::temp_dir().join(format!("plenum-hls-{}-{name}.mp4", std::process::id()));
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments)
        .args(["-f", "mp4", "-movflags"])
        .arg("empty_moov+default_base_moof+frag_every_frame+delay_moov")
        .arg(&file)
        .status()
        .unwrap();
    assert!(status.success());
    let tracks = read(&file);
    std::fs::remove_file(&file).unwrap();
    tracks
}

fn read(file: &Path) -> Vec<Track> {
    let bytes = std::fs::read(file).unwrap();
    let mut cursor = std::io::Cursor::new(&bytes);
    let (mut tracks, mut moof) = (Vec::new(), None);
    while let Some(atom) = Any::decode_maybe(&mut cursor).unwrap() {
        match atom {
            Any::Moov(moov) => tracks = tracks_of(&moov),
            Any::Moof(header) => moof = Some(header),
            Any::Mdat(mdat) => frames_of(&moof.take().unwrap(), &mdat.data, &mut tracks),
            _ => {}
        }
    }
    tracks.into_iter().map(|reading| reading.track).collect()
}

struct Reading {
    id: u32,
    timescale: u64,
    video: Option<Arc<VideoConfig>>,
    audio: Option<Arc<AudioConfig>>,
    track: Track,
}

fn tracks_of(moov: &Moov) -> Vec<Reading> {
    let track = |trak: &mp4_atom::Trak| {
        let codec = &trak.mdia.minf.stbl.stsd.codecs[0];
        let (video, audio) = (video_of(codec).map(Arc::new), audio_of(codec).map(Arc::new));
        Reading {
            id: trak.tkhd.track_id,
            timescale: trak.mdia.mdhd.timescale.into(),
            track: match video {
                Some(_) => Track::Video(Vec::new()),
                None => Track::Audio(Vec::new()),
            },
            video,
            audio,
        }
    };
    moov.trak.iter().map(track).collect()
}

fn body<A: Atom>(atom: &A) -> Bytes {
    let mut bytes = Vec::new();
    atom.encode_body(&mut bytes).unwrap();
    bytes.into()
}

fn video_of(codec: &Codec) -> Option<VideoConfig> {
    let (codec, visual, record, name) = match codec {
        Codec::Avc1(avc1) => {
            let avcc = &avc1.avcc;
            let (profile, constraints) = (avcc.avc_profile_indication, avcc.profile_compatibility);
            let level = avcc.avc_level_indication;
            let name = format!("avc1.{profile:02x}{constraints:02x}{level:02x}");
            (VideoCodec::H264, &avc1.visual, body(avcc), name)
        }
        Codec::Vp09(vp09) => {
            let name = format!("vp09.{:02}.{:02}.08", vp09.vpcc.profile, vp09.vpcc.level);
            (VideoCodec::Vp9, &vp09.visual, body(&vp09.vpcc), name)
        }
        Codec::Av01(av01) => {
            let level = av01.av1c.seq_level_idx_0;
            let name = format!("av01.{}.{level:02}M.08", av01.av1c.seq_profile);
            (VideoCodec::Av1, &av01.visual, body(&av01.av1c), name)
        }
        _ => return None,
    };
    Some(VideoConfig {
        codec,
        width: visual.width,
        height: visual.height,
        record,
        name,
    })
}

fn audio_of(codec: &Codec) -> Option<AudioConfig> {
    let (codec, audio, record) = match codec {
        Codec::Opus(opus) => (AudioCodec::Opus, &opus.audio, body(&opus.dops)),
        Codec::Mp4a(mp4a) => {
            let specific = mp4a.esds.es_desc.dec_config.dec_specific.as_ref()?;
            (AudioCodec::Aac, &mp4a.audio, specific.raw.clone().into())
        }
        _ => return None,
    };
    Some(AudioConfig {
        codec,
        sample_rate: audio.sample_rate.integer().into(),
        channels: u8::try_from(audio.channel_count).unwrap(),
        record,
        priming: 0,
    })
}

fn frames_of(moof: &Moof, mut data: &[u8], tracks: &mut [Reading]) {
    for traf in &moof.traf {
        let track = tracks
            .iter_mut()
            .find(|track| track.id == traf.tfhd.track_id)
            .unwrap();
        let mut at = traf.tfdt.as_ref().unwrap().base_media_decode_time;
        for entry in traf.trun.iter().flat_map(|run| run.samples.iter()) {
            let size = entry.size.or(traf.tfhd.default_sample_size).unwrap();
            let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap();
            let duration = entry
                .duration
                .or(traf.tfhd.default_sample_duration)
                .unwrap();
            let (frame, rest) = data.split_at(usize::try_from(size).unwrap());
            data = rest;
            let at_us = i64::try_from(at * 1_000_000 / track.timescale).unwrap();
            at += u64::from(duration);
            let bytes = Bytes::copy_from_slice(frame);
            match (&mut track.track, &track.video, &track.audio) {
                (Track::Video(frames), Some(config), _) => frames.push(VideoFrame {
                    config: Arc::clone(config),
                    at_us,
                    is_key: flags & 0x1_0000 == 0,
                    data: bytes,
                }),
                (Track::Audio(frames), _, Some(config)) => frames.push(AudioFrame {
                    config: Arc::clone(config),
                    at_us,
                    samples: duration,
                    data: bytes,
                }),
                _ => panic!("a track that is neither"),
            }
        }
    }
}
