//! What a fuzzer throws bytes at: never a panic, never more memory than a few times the input.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Assembler, Coding, HOLE_WAIT};
use crate::media::VideoCodec;
use crate::packets::Packet;

/// H.264 packets, one after the other.
pub fn h264(now: Instant, input: &[u8]) {
    assemble(now, VideoCodec::H264, input);
}

/// VP8 packets, one after the other.
pub fn vp8(now: Instant, input: &[u8]) {
    assemble(now, VideoCodec::Vp8, input);
}

/// VP9 packets, one after the other.
pub fn vp9(now: Instant, input: &[u8]) {
    assemble(now, VideoCodec::Vp9, input);
}

/// AV1 packets, one after the other.
pub fn av1(now: Instant, input: &[u8]) {
    assemble(now, VideoCodec::Av1, input);
}

/// Reads the input as packets: a byte of length; a byte of marker, timestamp's and sequence number's
/// advance; the payload.
fn assemble(now: Instant, codec: VideoCodec, mut input: &[u8]) {
    let mut assembler = Assembler::new(Coding::Video(codec), HOLE_WAIT);
    let (mut sequence, mut timestamp, mut arrival) = (0, 0, now);
    let mut output_bytes = 0;
    let input_bytes = input.len();
    while let Some(([length, header], rest)) = input.split_first_chunk() {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        input = rest;
        arrival += Duration::from_millis(u64::from(header >> 2 & 3) * 100);
        timestamp += u64::from(header >> 4 & 1) * 3000;
        sequence += 1 + u64::from(header >> 5 == 7);
        let packet = Packet {
            sequence,
            timestamp,
            marker: header & 1 == 1,
            arrival,
            payload: Bytes::copy_from_slice(payload),
        };
        assembler.handle_packet(packet);
        while let Some(frame) = assembler.poll_frame() {
            output_bytes += frame.data.len();
        }
    }
    // A NAL unit of 1 byte in an aggregate takes 3; its length in the output takes 4 with it 5.
    assert!(output_bytes <= 2 * input_bytes + 64, "memory is bounded");
}
