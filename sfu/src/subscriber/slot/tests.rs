//! Tests of what a slot writes into the headers it sends.
#![expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]

use super::*;
use crate::ids::Rid;
use crate::publisher::encoding::Incoming;
use crate::publisher::track::Ownership;
use crate::rtp::payload::dependency_descriptor::{
    ACTIVE_TARGETS_BYTES_MAX, DESCRIPTOR_BYTES_MAX, parse, tests::keyframe,
};
use crate::sfu::{Codec, Publish, Source, View};

/// A slot with dependency descriptors that carries a track.
fn slot() -> Slot {
    let numbers = SlotNumbers {
        media: Ssrc(1),
        rtx: Ssrc(2),
        sequence: 0,
        rtx_sequence: 0,
        timestamp: 0,
        picture_id: 0,
    };
    let mut slot = Slot::new(Mid::parse(b"0").unwrap(), Kind::Video, 0, &numbers);
    slot.extensions.dependency_descriptor = Some(5);
    let mut subscription = Subscription::new(0, TrackId::new(0, 1), View::default());
    subscription.selector.target(0, &[true]);
    slot.subscription = Some(subscription);
    slot
}

/// A track with one packet: a keyframe of two spatial and two temporal layers, of which the
/// publisher has the lower spatial one active.
fn track() -> (Track, PacketId) {
    let ownership = Ownership {
        id: TrackId::new(0, 1),
        room: 0,
        owner: 0,
        route: 0,
    };
    let publish = Publish {
        mid: Mid::parse(b"0").unwrap(),
        source: Source::Camera,
        name: String::new(),
        muted: false,
        width: 640,
        height: 360,
        codec: None,
        stereo: false,
        dtx: false,
    };
    let no_rids: [Rid; 0] = [];
    let mut track = Track::new(ownership, Kind::Video, &publish, &no_rids);
    let packet = Incoming {
        sequence: 1,
        timestamp: 1,
        marker: true,
        payload_type: 45,
        codec: Codec::Av1,
        payload: &[0x18, 0x0a, 1],
        codec_offset: 0,
        audio_level: None,
        dependency_descriptor: &keyframe(60, 7),
        is_recovered: false,
    };
    let id = track.encodings[0].receive(Instant::now(), &packet).unwrap();
    (track, id)
}

/// What the slot writes about decode targets: `None` when it leaves the publisher's word as it is.
fn active_targets(slot: &mut Slot, track: &Track, id: PacketId) -> Option<Option<u32>> {
    let (meta, payload, descriptor) = track.encodings[0].layer.ring.get(id).unwrap();
    let targets = slot.targets(track, 0, meta);
    let packet = Outbound {
        meta,
        payload,
        descriptor,
        targets,
        mapping: Mapping {
            payload_type: PayloadType(45),
            rtx: None,
            unwraps_red: false,
        },
        sent: SentPacket {
            sequence: 1,
            packet: Some(id.low()),
            layer: 0,
            timestamp: 1,
            marker: true,
            picture_id: None,
            tl0: None,
        },
        is_padded: false,
    };
    let mut out = [0; DESCRIPTOR_BYTES_MAX + ACTIVE_TARGETS_BYTES_MAX];
    let length = slot.rewrite_descriptor(&packet, &mut out).unwrap();
    let parsed = parse(&out[..length], None).unwrap();
    assert_eq!(parsed.mandatory.frame_number, 107);
    targets.map(|_| parsed.active_targets)
}

#[test]
fn decode_targets_follow_the_layers_that_are_forwarded() {
    let (track, id) = track();
    let mut slot = slot();
    slot.frame_offset = 100;
    let first = Descriptor {
        keyframe: true,
        frame_start: true,
        opens_higher: true,
        ..Descriptor::default()
    };
    let select = |slot: &mut Slot, temporal: u8, descriptor: &Descriptor| {
        let selector = &mut slot.subscription.as_mut().unwrap().selector;
        selector.limit_temporal(temporal);
        selector.select(0, descriptor);
    };
    select(&mut slot, u8::MAX, &first);
    assert_eq!(active_targets(&mut slot, &track, id), None);
    select(&mut slot, 0, &first);
    assert_eq!(active_targets(&mut slot, &track, id), Some(Some(0b0001)));
    // The limit is lifted between keyframes: the receiver has to be told that as well.
    let between = Descriptor {
        keyframe: false,
        ..first
    };
    select(&mut slot, u8::MAX, &between);
    assert_eq!(active_targets(&mut slot, &track, id), Some(Some(0b0011)));
    // Nothing is said to who did not negotiate the extension.
    slot.extensions.dependency_descriptor = None;
    assert_eq!(active_targets(&mut slot, &track, id), None);
}
