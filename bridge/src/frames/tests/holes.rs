//! Loss, reordering, repetition; what is waited for and what is given up.

use proptest::prelude::*;

use super::*;
use crate::packing::{H264Packer, parse_avcc};

#[test]
fn nothing_comes_before_a_keyframe() {
    let mut feed = Feed::h264();
    assert!(feed.assembler.needs_keyframe());
    assert_eq!(feed.frame(&[&INTER]), []);
    assert_eq!(feed.assembler.drops().waiting, 1);
    let first = feed.whole(&[&stap_a(&[&SPS, &PPS]), &IDR]);
    assert!(first.is_key && !feed.assembler.needs_keyframe());
    assert_eq!(first.data, avcc(&[&IDR]));
    assert!(!feed.whole(&[&INTER]).is_key);
}

#[test]
fn a_hole_is_waited_for_and_then_costs_everything_up_to_a_keyframe() {
    let mut feed = Feed::h264();
    feed.whole(&[&stap_a(&[&SPS, &PPS]), &IDR]);
    feed.sequence += 1;
    assert_eq!(feed.frame(&[&INTER]), []);
    let due = feed.assembler.poll_timeout().unwrap();
    assert_eq!(due, feed.now + HOLE_WAIT);
    assert!(!feed.assembler.needs_keyframe());
    feed.now += HOLE_WAIT / 2;
    assert_eq!(feed.frame(&[&INTER]), []);
    feed.assembler.handle_timeout(due);
    assert_eq!(feed.drain(), []);
    assert!(feed.assembler.needs_keyframe());
    assert_eq!(feed.assembler.poll_timeout(), None);
    assert_eq!(
        (feed.assembler.drops().lost, feed.assembler.drops().waiting),
        (1, 2)
    );
    let next = feed.whole(&[&IDR]);
    assert!(next.is_key);
    assert_eq!(next.missing, 1);
    assert_eq!(feed.whole(&[&INTER]).missing, 0);
}

#[test]
fn a_hole_that_is_filled_in_time_costs_nothing() {
    let mut feed = Feed::h264();
    feed.whole(&[&stap_a(&[&SPS, &PPS]), &IDR]);
    let (hole, timestamp) = (feed.sequence, feed.timestamp);
    feed.sequence += 1;
    feed.timestamp += 3000;
    assert_eq!(feed.frame(&[&INTER]), []);
    let after = feed.sequence;
    feed.now += HOLE_WAIT * 9 / 10;
    (feed.sequence, feed.timestamp) = (hole, timestamp);
    assert_eq!(feed.frame(&[&INTER]).len(), 2);
    feed.sequence = after;
    assert_eq!(feed.assembler.poll_timeout(), None);
    assert_eq!(feed.assembler.drops(), Drops::default());
}

#[test]
fn sound_goes_on_after_a_hole_and_says_what_is_missing() {
    let mut feed = Feed::new(Coding::Opus);
    assert!(!feed.assembler.needs_keyframe());
    assert_eq!(feed.whole(&[&[0xfc, 1]]).data, vec![0xfc, 1]);
    feed.sequence += 2;
    assert_eq!(feed.frame(&[&[0xfc, 2]]), []);
    feed.assembler.handle_timeout(feed.now + HOLE_WAIT);
    let [after] = &feed.drain()[..] else {
        panic!("one frame");
    };
    assert_eq!(
        (after.missing, after.is_key, after.config.is_none()),
        (2, true, true)
    );
    assert!(!feed.assembler.needs_keyframe());
    assert_eq!(feed.frame(&[&[]]), []);
    assert_eq!(feed.assembler.drops().empty, 1);
}

#[test]
fn a_frame_without_a_marker_ends_where_the_next_begins() {
    let mut feed = Feed::h264();
    feed.timestamp += 3000;
    assert_eq!(feed.packet(&stap_a(&[&SPS, &PPS]), false), []);
    assert_eq!(feed.packet(&IDR, false), []);
    let frames = feed.frame(&[&INTER]);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].timestamp + 3000, frames[1].timestamp);
    // Padding has the timestamp of the frame before; nothing else may come for it.
    assert_eq!(feed.packet(&[], false), []);
    assert_eq!(feed.packet(&INTER, true), []);
    assert_eq!(feed.assembler.drops().surplus, 1);
    assert!(!feed.whole(&[&INTER]).is_key);
}

#[test]
fn a_frame_has_a_greatest_size() {
    let mut feed = Feed::h264();
    feed.whole(&[&stap_a(&[&SPS, &PPS]), &IDR]);
    let long = vec![0x41; 60_000];
    feed.timestamp += 3000;
    for _ in 0..200 {
        assert_eq!(feed.packet(&long, false), []);
    }
    assert_eq!(feed.assembler.last_refusal(), Some(FrameError::TooLarge));
    assert_eq!(feed.assembler.drops().refused, 1);
    assert!(feed.assembler.needs_keyframe());
    feed.timestamp += 3000;
    for _ in 0..10_000 {
        assert_eq!(feed.packet(&[0x41], false), []);
    }
    assert_eq!(feed.assembler.drops().refused, 2);
}

/// A picture: whether it is a keyframe, and the lengths of its slices.
fn pictures() -> impl Strategy<Value = Vec<(bool, Vec<usize>)>> {
    let slices = prop::collection::vec(prop_oneof![5..60usize, 1100..4000usize], 1..4);
    prop::collection::vec((prop::bool::weighted(0.2), slices), 1..30)
}

fn slices(is_key: bool, lengths: &[usize], seed: usize) -> Vec<Vec<u8>> {
    let header: u8 = if is_key { 0x65 } else { 0x41 };
    let slice = |(place, length): (usize, &usize)| {
        // first_mb_in_slice, slice_type 5 or 7, pic_parameter_set_id 0
        let beginning = match (place, is_key) {
            (0, true) => [0b1000_1000, 0x80],
            (0, false) => [0b1001_1010, 0x80],
            _ => [0b0010_1001, 0b1010_0000],
        };
        let filling = (0..*length).map(move |at| [1, 3, 77, 201, 0][(at * 7 + seed + place) % 5]);
        std::iter::once(header)
            .chain(beginning)
            .chain(filling)
            .collect()
    };
    lengths.iter().enumerate().map(slice).collect()
}

/// Which frames come out: those of which no packet is lost, from a keyframe on.
fn expected(pictures: &[(bool, Vec<bool>)]) -> Vec<usize> {
    let (mut is_waiting, mut knows_sets, mut out) = (true, false, Vec::new());
    for (place, (is_key, lost)) in pictures.iter().enumerate() {
        // Parameter sets alone may be lost where others came before.
        let sets_alone = *is_key && knows_sets && !lost[1..].contains(&true);
        if lost.contains(&true) && !sets_alone {
            is_waiting = true;
        } else if *is_key || !is_waiting {
            is_waiting = false;
            knows_sets |= *is_key && !lost[0];
            out.push(place);
        } else {
            continue;
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_comes_out_went_in_whole_and_follows_a_keyframe(
        mut pictures in pictures(),
        losses in prop::collection::vec(prop::bool::weighted(0.03), 400),
        delays in prop::collection::vec(0..120u64, 400),
        doubles in prop::collection::vec(prop::bool::weighted(0.05), 400),
    ) {
        pictures[0].0 = true;
        let record = video_config(&SPS, &[&PPS]).unwrap().record;
        let packer = H264Packer::new(parse_avcc(&record).unwrap());
        let zero = start();
        let (mut arrivals, mut lost, mut units, mut sequence) = (Vec::new(), Vec::new(), Vec::new(), 0usize);
        for (place, (is_key, lengths)) in pictures.iter().enumerate() {
            let slices = slices(*is_key, lengths, place);
            let unit = avcc(&slices.iter().map(|slice| &slice[..]).collect::<Vec<_>>());
            let payloads = packer.pack(&unit).unwrap();
            let mut lost_here = Vec::new();
            for payload in payloads {
                // The first packet is what the order is counted from.
                let is_first = sequence == 0;
                let dice = sequence % 400;
                lost_here.push(losses[dice] && !is_first);
                let delay = if is_first { 0 } else { delays[dice] };
                let arrival = zero + Duration::from_millis(place as u64 * 33 + delay);
                let packet = Packet {
                    sequence: 70_000 + sequence as u64,
                    timestamp: 5_000_000_000 + place as u64 * 2970,
                    marker: payload.marker,
                    arrival,
                    payload: payload.bytes,
                };
                sequence += 1;
                if !lost_here.last().unwrap() {
                    arrivals.extend(std::iter::repeat_n(packet, 1 + usize::from(doubles[dice])));
                }
            }
            lost.push((*is_key, lost_here));
            units.push(unit);
        }
        arrivals.sort_by_key(|packet| packet.arrival);
        let mut assembler = Assembler::new(Coding::Video(VideoCodec::H264), HOLE_WAIT);
        let mut frames = Vec::new();
        for packet in arrivals {
            assembler.handle_packet(packet);
            frames.extend(std::iter::from_fn(|| assembler.poll_frame()));
        }
        while let Some(due) = assembler.poll_timeout() {
            assembler.handle_timeout(due);
            frames.extend(std::iter::from_fn(|| assembler.poll_frame()));
        }
        let place = |frame: &Assembled| usize::try_from((frame.timestamp - 5_000_000_000) / 2970);
        let out: Vec<_> = frames.iter().map(|frame| place(frame).unwrap()).collect();
        prop_assert_eq!(&out, &expected(&lost));
        for (frame, place) in frames.iter().zip(out) {
            prop_assert_eq!(&frame.data, &units[place]);
            prop_assert_eq!(frame.is_key, pictures[place].0);
            prop_assert!(Arc::ptr_eq(frame.config.as_ref().unwrap(), frames[0].config.as_ref().unwrap()));
        }
        let drops = assembler.drops();
        prop_assert_eq!((drops.full, drops.refused_beyond_torn()), (0, 0));
    }
}

impl Drops {
    /// Refused frames that no hole explains.
    fn refused_beyond_torn(&self) -> u64 {
        if self.lost == 0 { self.refused } else { 0 }
    }
}
