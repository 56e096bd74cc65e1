//! Tests of what a subscriber queues of a track's packets, in the order they come in.
#![expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]

use super::*;
use crate::ids::{Mid, Rid, Ssrc};
use crate::publisher::encoding::Incoming;
use crate::publisher::track::Ownership;
use crate::sfu::{Codec, Publish, Source};
use crate::subscriber::slot::SlotNumbers;
use crate::subscriber::subscription::Subscription;

/// A subscriber with one slot that waits for the keyframe of a track of one layer.
struct Watching {
    subscriber: Subscriber,
    track: Track,
}

impl Watching {
    fn new() -> Self {
        let id = TrackId::new(0, 1);
        let ownership = Ownership {
            id,
            room: 0,
            owner: 0,
            route: 0,
        };
        let mid = Mid::parse(b"0").unwrap();
        let publish = Publish {
            mid,
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
        let numbers = SlotNumbers {
            media: Ssrc(1),
            rtx: Ssrc(2),
            sequence: 0,
            rtx_sequence: 0,
            timestamp: 0,
            picture_id: 0,
        };
        let mut slot = Slot::new(mid, Kind::Video, 0, &numbers);
        let mut subscription = Subscription::new(0, id, View::default());
        subscription.selector.target(0, &[true]);
        slot.subscription = Some(subscription);
        let mut subscriber = Subscriber::new(Instant::now(), Wants::All);
        subscriber.slots.push(slot);
        Self {
            subscriber,
            track: Track::new(ownership, Kind::Video, &publish, &no_rids),
        }
    }

    /// Takes in a packet that is a VP8 frame of its own; returns the numbers queued for it.
    fn receive(&mut self, sequence: u16, keyframe: bool) -> Vec<u64> {
        let payload = [0x10, 0x10 | u8::from(!keyframe), 0, 0];
        let packet = Incoming {
            sequence,
            timestamp: u32::from(sequence) * 3000,
            marker: true,
            payload_type: 96,
            codec: Codec::Vp8,
            payload: &payload,
            codec_offset: 0,
            audio_level: None,
            dependency_descriptor: &[],
            is_recovered: false,
        };
        let encoding = &mut self.track.encodings[0];
        let id = encoding.receive(Instant::now(), &packet).unwrap();
        let received = Received {
            track: 0,
            encoding: 0,
            packet: id,
            is_keyframe: keyframe,
            is_first: false,
            is_resorted: false,
        };
        let offered = Offered::new(&self.track, &received).unwrap();
        self.subscriber.offer(0, &offered);
        let ring = &self.track.encodings[0].layer.ring;
        let queued = self.subscriber.video_queue.drain(..);
        queued
            .map(|queued| ring.get(queued.packet).unwrap().0.sequence - (1 << 16))
            .collect()
    }
}

#[test]
fn what_overtook_a_keyframe_is_queued_behind_it() {
    let mut watching = Watching::new();
    assert_eq!(watching.receive(9, false), []);
    for sequence in 11..40 {
        assert_eq!(watching.receive(sequence, false), []);
    }
    assert_eq!(watching.receive(10, true), Vec::from_iter(10..40));
    assert_eq!(watching.receive(40, false), [40]);
}

#[test]
fn one_packet_may_be_far_ahead_of_a_keyframe() {
    let mut watching = Watching::new();
    watching.receive(9, false);
    // It took a quicker way; the rest comes in order.
    watching.receive(200, false);
    assert_eq!(watching.receive(10, true), [10, 200]);
    assert_eq!(watching.receive(11, false), [11]);
}

#[test]
fn a_keyframe_that_too_much_overtook_begins_nothing() {
    let mut watching = Watching::new();
    watching.receive(9, false);
    for sequence in 11..120 {
        watching.receive(sequence, false);
    }
    // What would be left out behind it was not lost: a hole there would never be filled.
    assert_eq!(watching.receive(10, true), []);
    assert_eq!(watching.receive(120, false), []);
    assert_eq!(watching.receive(121, true), [121]);
    assert_eq!(watching.receive(122, false), [122]);
}

#[test]
fn a_stream_never_begins_again_before_its_end() {
    let mut watching = Watching::new();
    for (sequence, keyframe) in [(10, true), (11, false), (13, false)] {
        assert_eq!(watching.receive(sequence, keyframe), [u64::from(sequence)]);
    }
    // The queue was full, say: another keyframe is needed.
    let subscription = watching.subscriber.slots[0].subscription.as_mut().unwrap();
    subscription.selector.restart();
    assert_eq!(watching.receive(12, true), []);
    assert_eq!(watching.receive(14, false), []);
    assert_eq!(watching.receive(15, true), [15]);
}
