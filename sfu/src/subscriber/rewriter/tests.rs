use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::rtp::payload::PictureNumbers;

const A: SourceId = SourceId(1);
const B: SourceId = SourceId(2);

fn begun(first_in: u64, first_out: u64) -> Rewriter {
    let mut rewriter = Rewriter::new(first_out, 90_000);
    rewriter.switch(A, first_in, 0, SwitchClock::default());
    rewriter
}

fn send(rewriter: &mut Rewriter, sequence: u64) -> Option<u64> {
    match rewriter.rewrite(A, sequence, sequence * 3000) {
        Rewritten::Send { sequence, .. } => Some(sequence),
        Rewritten::TooOld => None,
    }
}

fn skip(rewriter: &mut Rewriter, sequence: u64) -> Option<u64> {
    match rewriter.skip(A, sequence, sequence * 3000) {
        Skip::Filler { sequence, .. } => Some(sequence),
        Skip::Closed => None,
    }
}

#[test]
fn drops_close_numbers_and_losses_leave_holes() {
    let mut rewriter = begun(100, 5);
    assert_eq!(send(&mut rewriter, 100), Some(5));
    assert_eq!(skip(&mut rewriter, 101), None);
    assert_eq!(send(&mut rewriter, 102), Some(6));
    // 103 and 104 are lost; 105 keeps its distance.
    assert_eq!(send(&mut rewriter, 105), Some(9));
    assert_eq!(skip(&mut rewriter, 106), None);
    assert_eq!(send(&mut rewriter, 107), Some(10));
    // Recovered: one is sent in its own place, one is not wanted and becomes a filler.
    assert_eq!(send(&mut rewriter, 103), Some(7));
    assert_eq!(skip(&mut rewriter, 104), Some(8));
    // Nothing is sent twice, and what was dropped has no number any more.
    assert_eq!(send(&mut rewriter, 103), None);
    assert_eq!(skip(&mut rewriter, 104), None);
    assert_eq!(send(&mut rewriter, 101), None);
    assert_eq!(send(&mut rewriter, 99), None);
}

#[test]
fn a_switch_goes_on_where_the_last_source_was() {
    let mut rewriter = begun(100, 5);
    assert_eq!(
        rewriter.rewrite(A, 100, 0),
        Rewritten::Send {
            sequence: 5,
            timestamp: 90_000
        },
        "the first packet has the numbers the stream began with"
    );
    rewriter.rewrite(A, 103, 3000);
    rewriter.switch(
        B,
        40,
        777_000,
        SwitchClock {
            elapsed_ticks: Some(2500),
        },
    );
    assert_eq!(rewriter.source(), Some(B));
    assert_eq!(rewriter.rewrite(A, 101, 0), Rewritten::TooOld);
    assert_eq!(rewriter.rewrite(B, 39, 774_000), Rewritten::TooOld);
    assert_eq!(
        rewriter.rewrite(B, 40, 777_000),
        Rewritten::Send {
            sequence: 9,
            timestamp: 95_500
        }
    );
    // A timestamp before the switch's own never runs into the previous source's.
    assert_eq!(
        rewriter.rewrite(B, 41, 700_000),
        Rewritten::Send {
            sequence: 10,
            timestamp: 95_500
        }
    );
    rewriter.switch(
        A,
        500,
        1,
        SwitchClock {
            elapsed_ticks: None,
        },
    );
    assert_eq!(
        rewriter.rewrite(A, 500, 1),
        Rewritten::Send {
            sequence: 11,
            timestamp: 95_501
        }
    );
}

#[test]
fn a_source_that_jumps_opens_no_hole_a_receiver_cannot_follow() {
    let mut rewriter = begun(0, 0);
    assert_eq!(send(&mut rewriter, 0), Some(0));
    assert_eq!(send(&mut rewriter, 1001), Some(1001));
    assert_eq!(send(&mut rewriter, 2003), Some(1002));
    assert_eq!(send(&mut rewriter, 1500), None);
    assert_eq!(skip(&mut rewriter, 40_000), None);
    assert_eq!(send(&mut rewriter, 40_001), Some(1003));
}

#[test]
fn what_is_too_old_to_be_known_is_not_sent() {
    let mut rewriter = begun(0, 0);
    assert_eq!(send(&mut rewriter, 1), Some(1));
    for step in 1..100 {
        assert_eq!(skip(&mut rewriter, 2 * step), None);
        assert_eq!(send(&mut rewriter, 2 * step + 1), Some(step + 1));
    }
    // 64 runs are remembered; 0 lies before them.
    assert_eq!(send(&mut rewriter, 0), None);
}

#[test]
fn elapsed_time_comes_from_reports_that_agree_with_arrivals() {
    let arrived = Duration::from_millis(500);
    let ticks = |by_clock| {
        SwitchClock::between(by_clock, arrived, 90_000)
            .elapsed_ticks
            .unwrap()
    };
    assert_eq!(ticks(None), 45_000);
    assert_eq!(ticks(Some(90_000)), 90_000);
    assert_eq!(ticks(Some(-20_000)), 0);
    assert_eq!(ticks(Some(270_000)), 45_000);
    assert_eq!(ticks(Some(-720_000)), 45_000);
    assert_eq!(ticks(Some(i64::MIN)), 45_000);
}

/// What happens to one packet of a source on its way to the subscriber.
#[derive(Clone, Debug)]
struct Fate {
    /// Places it comes late by; a large one stands for a retransmission.
    late: u8,
    lost: bool,
    dropped: bool,
    duplicated: bool,
    switches_after: bool,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let late = prop_oneof![6 => Just(0u8), 2 => 1u8..4, 1 => 10u8..40];
    let fate =
        (late, 0u8..10, 0u8..3, 0u8..10, 0u8..40).prop_map(|(late, lost, drop, twice, switch)| {
            Fate {
                late,
                lost: lost == 0,
                dropped: drop == 0,
                duplicated: twice == 0,
                switches_after: switch == 0,
            }
        });
    proptest::collection::vec(fate, 1..250)
}

/// One incoming packet: source, sequence, timestamp, whether it is wanted.
type Arrival = (SourceId, u64, u64, bool);

/// The packets of several sources in a row, in the order in which they arrive.
fn arrivals(fates: &[Fate]) -> Vec<Arrival> {
    let (mut source, mut sequence) = (1, 10_000);
    let mut timed = Vec::new();
    for (at, fate) in fates.iter().enumerate() {
        let arrival = (
            SourceId(source),
            sequence,
            sequence * 3000 + source * 7,
            !fate.dropped,
        );
        let place = at * 2 + usize::from(fate.late) * 2;
        if !fate.lost {
            timed.push((place, arrival));
        }
        if fate.duplicated && !fate.lost {
            timed.push((place + 5, arrival));
        }
        sequence += 1;
        if fate.switches_after {
            source += 1;
            sequence += 5000;
        }
    }
    timed.sort_by_key(|(place, _)| *place);
    timed.into_iter().map(|(_, arrival)| arrival).collect()
}

#[derive(Default)]
struct Log {
    /// Outgoing number to the incoming packet it was given to.
    out: BTreeMap<u64, (SourceId, u64)>,
    timestamps: BTreeMap<SourceId, (u64, u64)>,
    first_in: BTreeMap<SourceId, u64>,
    /// Packets that came while their source was the current one.
    came: BTreeSet<(SourceId, u64)>,
}

/// Feeds arrivals as a subscription does: a wanted packet of a later source begins it.
fn run(arrivals: &[Arrival]) -> Log {
    let mut rewriter = Rewriter::new(77, 1000);
    let mut log = Log::default();
    for &(source, sequence, timestamp, wanted) in arrivals {
        if wanted && rewriter.source().is_none_or(|current| current < source) {
            rewriter.switch(
                source,
                sequence,
                timestamp,
                SwitchClock {
                    elapsed_ticks: Some(10),
                },
            );
            log.first_in.insert(source, sequence);
        }
        if rewriter.source() == Some(source) {
            log.came.insert((source, sequence));
        }
        let numbers = if wanted {
            match rewriter.rewrite(source, sequence, timestamp) {
                Rewritten::Send {
                    sequence,
                    timestamp,
                } => Some((sequence, timestamp)),
                Rewritten::TooOld => None,
            }
        } else {
            match rewriter.skip(source, sequence, timestamp) {
                Skip::Filler {
                    sequence,
                    timestamp,
                } => Some((sequence, timestamp)),
                Skip::Closed => None,
            }
        };
        if let Some((out, stamp)) = numbers {
            assert_eq!(
                log.out.insert(out, (source, sequence)),
                None,
                "{out} was sent twice"
            );
            let range = log.timestamps.entry(source).or_insert((stamp, stamp));
            *range = (range.0.min(stamp), range.1.max(stamp));
        }
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn out_is_unique_in_order_and_has_no_hole_that_loss_did_not_make(fates in fates()) {
        let arrivals = arrivals(&fates);
        let log = run(&arrivals);
        let mut last: Option<(u64, (SourceId, u64))> = None;
        for (&out, &packet) in &log.out {
            if let Some((last_out, last_packet)) = last {
                prop_assert!(last_packet < packet, "order in is order out");
                let holes = out - last_out - 1;
                if last_packet.0 == packet.0 {
                    // Each hole is a packet of the same source that never came, or only after the switch.
                    let lost = (last_packet.1 + 1..packet.1)
                        .filter(|sequence| !log.came.contains(&(packet.0, *sequence)))
                        .count() as u64;
                    prop_assert!(holes <= lost, "{holes} holes, {lost} lost before {packet:?}");
                } else {
                    // A switch itself opens none; packets lost after it may.
                    let first = log.first_in[&packet.0];
                    prop_assert!(holes <= packet.1 - first);
                }
            } else {
                prop_assert_eq!(out, 77);
            }
            last = Some((out, packet));
        }
        let ranges: Vec<_> = log.timestamps.values().collect();
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].1 < pair[1].0, "timestamps rise over a switch");
        }
    }

    #[test]
    fn without_loss_and_reordering_out_counts_up_by_one(
        wanted in proptest::collection::vec(any::<bool>(), 1..300),
    ) {
        let mut rewriter = begun(1000, 0);
        let mut next = 0;
        for (sequence, wanted) in (1000..).zip(wanted) {
            if wanted {
                prop_assert_eq!(send(&mut rewriter, sequence), Some(next));
                next += 1;
            } else {
                prop_assert_eq!(skip(&mut rewriter, sequence), None);
            }
        }
    }

    #[test]
    fn no_numbers_make_it_panic_or_send_twice(
        steps in proptest::collection::vec(
            (0u8..6, 0u64..3, prop_oneof![0u64..200_000, Just(1 << 48)], any::<u64>()), 1..200,
        ),
    ) {
        let mut rewriter = Rewriter::new(0x7fff, u64::from(u32::MAX));
        let mut sent = BTreeSet::new();
        for (kind, source, sequence, timestamp) in steps {
            let source = SourceId(source);
            let out = match kind {
                0 => {
                    rewriter.switch(source, sequence, timestamp, SwitchClock::default());
                    None
                }
                1 | 2 => match rewriter.skip(source, sequence, timestamp) {
                    Skip::Filler { sequence, .. } => Some(sequence),
                    Skip::Closed => None,
                },
                _ => match rewriter.rewrite(source, sequence, timestamp) {
                    Rewritten::Send { sequence, .. } => Some(sequence),
                    Rewritten::TooOld => None,
                },
            };
            if let Some(out) = out {
                prop_assert!(sent.insert(out), "{out} was sent twice");
            }
        }
    }
}

fn wide(id: u16, tl0: u8) -> PictureNumbers {
    PictureNumbers {
        picture_id: Some((id, true)),
        tl0: Some(tl0),
    }
}

#[test]
fn picture_numbers_run_on_over_drops_and_switches() {
    let mut vp8 = Vp8Rewriter::new(0x7ffe, 250);
    assert_eq!(vp8.rewrite(wide(100, 9)), Some((Some(0x7ffe), Some(251))));
    assert_eq!(vp8.rewrite(wide(100, 9)), Some((Some(0x7ffe), Some(251))));
    vp8.skip(wide(101, 9));
    vp8.skip(wide(101, 9));
    assert_eq!(vp8.rewrite(wide(102, 10)), Some((Some(0x7fff), Some(252))));
    // 103 is lost and comes late; a packet of the dropped frame does not come back.
    assert_eq!(vp8.rewrite(wide(104, 11)), Some((Some(1), Some(253))));
    assert_eq!(vp8.rewrite(wide(103, 10)), Some((Some(0), Some(252))));
    assert_eq!(vp8.rewrite(wide(101, 9)), None);
    // Half of a frame was sent: dropping the rest closes nothing.
    vp8.skip(wide(104, 11));
    vp8.switch();
    assert_eq!(vp8.rewrite(wide(0x7fff, 255)), Some((Some(2), Some(254))));
    assert_eq!(vp8.rewrite(wide(0x7ffe, 254)), None);
    assert_eq!(vp8.rewrite(wide(0, 0)), Some((Some(3), Some(255))));
    assert_eq!(vp8.rewrite(wide(1, 1)), Some((Some(4), Some(0))));
}

#[test]
fn narrow_and_missing_picture_ids_work() {
    let narrow = |id| PictureNumbers {
        picture_id: Some((id, false)),
        tl0: None,
    };
    let mut vp8 = Vp8Rewriter::new(10, 0);
    assert_eq!(vp8.rewrite(narrow(126)), Some((Some(10), None)));
    assert_eq!(vp8.rewrite(narrow(127)), Some((Some(11), None)));
    assert_eq!(vp8.rewrite(narrow(0)), Some((Some(12), None)));
    assert_eq!(vp8.rewrite(narrow(127)), Some((Some(11), None)));
    let mut vp8 = Vp8Rewriter::new(10, 0);
    assert_eq!(vp8.rewrite(PictureNumbers::default()), Some((None, None)));
}

proptest! {
    #[test]
    fn picture_ids_of_different_frames_differ(
        frames in proptest::collection::vec((any::<bool>(), 0u8..10, 0u8..20), 1..200), first: u16,
    ) {
        let mut vp8 = Vp8Rewriter::new(first, 0);
        let mut given = BTreeMap::new();
        let mut next = first & 0x7fff;
        let mut lost = 0;
        for (at, (wanted, loss, switch)) in (0u16..).zip(frames) {
            let numbers = wide(at.wrapping_add(first / 3) & 0x7fff, 0);
            if loss == 0 {
                lost += 1;
            } else if wanted || given.is_empty() {
                if switch == 0 || given.is_empty() {
                    vp8.switch();
                    lost = 0;
                }
                let (id, _) = vp8.rewrite(numbers).unwrap();
                let id = id.unwrap();
                prop_assert_eq!(id, (next + lost) & 0x7fff, "no hole but for lost frames");
                prop_assert!(given.insert(id, at).is_none());
                next = (id + 1) & 0x7fff;
                lost = 0;
            } else {
                vp8.skip(numbers);
            }
        }
    }
}
