//! Makes small valid inputs for each target: what a fuzzer begins with.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bridge::card::Card;
use bridge::media::VideoFrame;
use bridge::packing::{H264Packer, parse_avcc};
use bridge::rtmp::{Event, Ingest, Push, Takes};
use bytes::Bytes;

/// A name for the file, and its content.
type Seed = (&'static str, Vec<u8>);

fn main() -> std::io::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "fuzz/corpus".to_owned());
    let (record, pictures) = pictures();
    let encoder = encoder();
    let seeds: [(&str, Vec<Seed>); 10] = [
        (
            "h264",
            vec![("card", packets(&payloads(&record, &pictures)))],
        ),
        (
            "vp8",
            vec![("keyframe", packets(&[VP8_KEYFRAME, VP8_NEXT]))],
        ),
        (
            "vp9",
            vec![("keyframe", packets(&[VP9_KEYFRAME, VP9_NEXT]))],
        ),
        ("av1", vec![("keyframe", packets(&[AV1_KEYFRAME]))]),
        ("rtmp_chunk", vec![("encoder", encoder.clone())]),
        (
            "amf0",
            vec![("connect", CONNECT.to_vec()), ("values", VALUES.to_vec())],
        ),
        (
            "rtmp_ingest",
            vec![("encoder", [&[255], &encoder[..]].concat())],
        ),
        ("flv_tag", flv(&record, &pictures)),
        ("avcc", vec![("card", avcc(&record, &pictures))]),
        ("hls_path", hls()),
    ];
    for (target, seeds) in seeds {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (name, content) in seeds {
            fs::write(folder.join(name), content)?;
        }
    }
    Ok(())
}

/// A decoder configuration, and a keyframe and what follows it.
fn pictures() -> (Bytes, Vec<Bytes>) {
    let card = Card::new((64, 64), "", 2).expect("a small card");
    let pictures = (0..3).map(|index| card.frame(index).1);
    (card.config().record.clone(), pictures.collect())
}

fn payloads(record: &[u8], pictures: &[Bytes]) -> Vec<Vec<u8>> {
    let packer = H264Packer::new(parse_avcc(record).expect("our own record"));
    let payloads = pictures
        .iter()
        .flat_map(|picture| packer.pack(picture).expect("our own picture"));
    payloads.map(|payload| payload.bytes.to_vec()).collect()
}

/// Packets as the targets of frames read them; what is too long for a length of one byte is cut.
fn packets(payloads: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        let payload = payload.as_ref();
        let payload = &payload[..payload.len().min(255)];
        // The last of its picture, and the next timestamp.
        bytes.extend([payload.len() as u8, 0b0001_0001]);
        bytes.extend(payload);
    }
    bytes
}

/// What an encoder sends after its handshake, with a few pictures.
fn encoder() -> Vec<u8> {
    let now = Instant::now();
    let target = "rtmp://host/live/room?token=t".parse().expect("a target");
    let mut push = Push::new(now, target, (true, None), Takes::default(), 1);
    let mut ingest = Ingest::new(now, ([127, 0, 0, 1], 1).into(), 2);
    let mut sent = Vec::new();
    exchange(now, &mut push, &mut ingest, &mut sent);
    let card = Card::new((64, 64), "", 2).expect("a small card");
    for index in 0..3_u8 {
        let (is_key, data) = card.frame(index.into());
        let at_us = i64::from(index) * 40_000;
        push.send_video(&VideoFrame {
            config: card.config(),
            at_us,
            is_key,
            data,
        });
    }
    push.finish();
    exchange(now, &mut push, &mut ingest, &mut sent);
    sent.split_off(1 + 2 * 1536)
}

fn exchange(now: Instant, push: &mut Push, ingest: &mut Ingest, sent: &mut Vec<u8>) {
    loop {
        let bytes = push.poll_transmit();
        let answer = ingest.poll_transmit();
        if bytes.is_none() && answer.is_none() {
            return;
        }
        let bytes = bytes.unwrap_or_default();
        sent.extend_from_slice(&bytes);
        ingest.handle_bytes(now, &bytes);
        push.handle_bytes(&answer.unwrap_or_default());
        while let Some(event) = ingest.poll_event() {
            if let Event::PublishRequested(_) = event {
                ingest.accept(now);
            }
        }
    }
}

fn flv(record: &[u8], pictures: &[Bytes]) -> Vec<Seed> {
    let config = [&[0x17, 0, 0, 0, 0], record].concat();
    let sound = [0xaf, 0, 0x12, 0x10];
    let mut tags = tag(9, &config);
    tags.extend(tag(8, &sound));
    for picture in pictures {
        tags.extend(tag(9, &[&[0x27, 1, 0, 0, 0], &picture[..]].concat()));
    }
    let enhanced = [b"\x90avc1", record].concat();
    vec![
        ("file", tags),
        ("config", config),
        ("sound", sound.to_vec()),
        ("enhanced", enhanced),
    ]
}

fn tag(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len())
        .expect("a small body")
        .to_be_bytes();
    let total = u32::try_from(body.len() + 11)
        .expect("a small body")
        .to_be_bytes();
    [&[kind], &length[1..], &[0; 7], body, &total].concat()
}

fn avcc(record: &[u8], pictures: &[Bytes]) -> Vec<u8> {
    let length = u16::try_from(record.len())
        .expect("a small record")
        .to_be_bytes();
    [&length, record, &pictures[0][..]].concat()
}

fn hls() -> Vec<Seed> {
    [
        ("entry", "/live/room/index.m3u8?token=abc.def.ghi"),
        (
            "playlist",
            "/live/room+name/0123/v0.m3u8?_HLS_msn=7&_HLS_part=2&_HLS_skip=YES",
        ),
        (
            "part",
            "/live/r%6fom/0123/a-s12-p3.m4s?s=abc&e=1795000000&h=0123456789abcdef",
        ),
        ("map", "/live/room/0123/v1-i0.mp4"),
        ("key", "/live/room/0123/k3.key"),
    ]
    .map(|(name, text)| (name, text.as_bytes().to_vec()))
    .into()
}

/// RFC 7741 §4.2: a descriptor with a picture id; a keyframe of 64 x 64.
const VP8_KEYFRAME: &[u8] = b"\x90\x80\x01\x10\x02\x00\x9d\x01\x2a\x40\x00\x40\x00\x00\x00";
const VP8_NEXT: &[u8] = b"\x90\x80\x02\x11\x02\x00\x00\x00";
/// RFC 9628 §4.2: beginning and end of a picture with its id; a keyframe of 64 x 64 of profile 0.
const VP9_KEYFRAME: &[u8] = b"\x8c\x01\x82\x49\x83\x42\x00\x03\xf0\x03\xf0\x00";
const VP9_NEXT: &[u8] = b"\xcc\x02\x86\x00\x00\x00";
/// AV1 RTP §4.4: a new sequence, one element after its length and a last one: a sequence header, a frame.
const AV1_KEYFRAME: &[u8] =
    b"\x28\x0b\x08\x00\x00\x00\x02\xaf\xff\x9b\x5f\x20\x08\x30\x10\x00\x00\x00";
/// AMF0 §2: a name, a number, an object with a text in it.
const CONNECT: &[u8] =
    b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\x00\x03app\x02\x00\x04live\x00\x00\x09";
/// Null, undefined, true, a list with an end, a list by length, a date, a long text.
const VALUES: &[u8] = b"\x05\x06\x01\x01\x08\0\0\0\x01\0\x01a\x05\0\0\x09\x0a\0\0\0\x01\x05\
    \x0b\0\0\0\0\0\0\0\0\0\0\x0c\0\0\0\x01a";
