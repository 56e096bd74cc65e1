//! Deliveries on a virtual clock.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[expect(
    clippy::disallowed_methods,
    reason = "virtual time starts at some moment"
)]
fn start() -> (Deliveries, Instant) {
    (Deliveries::new(1, "msg_".to_owned()), Instant::now())
}

fn push(deliveries: &mut Deliveries, now: Instant, room: &str) {
    deliveries.push(now, room, |seq| format!("{room} {seq}"));
}

/// The numbers of what is to be sent now.
fn attempts(deliveries: &mut Deliveries, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| deliveries.poll_attempt(now))
        .map(|parcel| parcel.seq)
        .collect()
}

#[test]
fn a_room_waits_for_itself_and_for_no_other() {
    let (mut deliveries, now) = start();
    for room in ["a", "a", "b", "a"] {
        push(&mut deliveries, now, room);
    }
    assert_eq!(attempts(&mut deliveries, now), [1, 3]);
    deliveries.handle_outcome(now, 3, Ok(()));
    assert_eq!(attempts(&mut deliveries, now), [0; 0]);
    deliveries.handle_outcome(now, 1, Ok(()));
    assert_eq!(attempts(&mut deliveries, now), [2]);
    deliveries.handle_outcome(now, 2, Err(Failure::Refused));
    assert_eq!(attempts(&mut deliveries, now), [0; 0]);
    let later = now + 5 * SECOND;
    assert_eq!(deliveries.poll_timeout(), Some(later));
    assert_eq!(attempts(&mut deliveries, later), [2]);
    deliveries.handle_outcome(later, 2, Ok(()));
    assert_eq!(attempts(&mut deliveries, later), [4]);
    deliveries.handle_outcome(later, 4, Ok(()));
    assert_eq!((deliveries.waiting(), deliveries.bytes), (0, 0));
    assert!(deliveries.lanes.is_empty() && deliveries.poll_timeout().is_none());
}

#[test]
fn every_try_has_the_same_id_and_body() {
    let (mut deliveries, now) = start();
    push(&mut deliveries, now, "a");
    let first = deliveries.poll_attempt(now).unwrap();
    assert_eq!((first.id.as_str(), &first.body[..]), ("msg_1", &b"a 1"[..]));
    deliveries.handle_outcome(now, 1, Err(Failure::Away));
    assert_eq!(deliveries.poll_attempt(now + 5 * SECOND), Some(first));
}

#[test]
fn what_is_refused_is_tried_ever_more_seldom_for_a_day() {
    let (mut deliveries, begun) = start();
    push(&mut deliveries, begun, "a");
    push(&mut deliveries, begun, "a");
    let mut tried = Vec::new();
    while deliveries.counts().given_up == 0 {
        let now = deliveries.poll_timeout().unwrap();
        assert_eq!(attempts(&mut deliveries, now), [1]);
        tried.push(now.duration_since(begun).as_secs());
        deliveries.handle_outcome(now, 1, Err(Failure::Refused));
    }
    let (first, last) = (&tried[..6], &tried[tried.len() - 3..]);
    assert_eq!(first, [0, 5, 15, 35, 75, 155]);
    assert_eq!(last[2], 24 * 3600);
    let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause <= 6 * 3600), "{tried:?}");
    // The next one has a day of its own.
    let now = begun + RETRY_FOR;
    assert_eq!(attempts(&mut deliveries, now), [2]);
    deliveries.handle_outcome(now, 2, Err(Failure::Refused));
    assert_eq!(deliveries.poll_timeout(), Some(now + 5 * SECOND));
}

#[test]
fn once_somebody_answers_all_are_tried_that_found_nobody() {
    let (mut deliveries, begun) = start();
    for room in ["a", "b", "c"] {
        push(&mut deliveries, begun, room);
    }
    let mut now = begun;
    for _ in 0..8 {
        for seq in attempts(&mut deliveries, now) {
            let failure = if seq == 3 {
                Failure::Refused
            } else {
                Failure::Away
            };
            deliveries.handle_outcome(now, seq, Err(failure));
        }
        now = deliveries.poll_timeout().unwrap();
    }
    assert!(now - begun > Duration::from_secs(600));
    let before = now - SECOND;
    push(&mut deliveries, before, "d");
    assert_eq!(attempts(&mut deliveries, before), [4]);
    deliveries.handle_outcome(before, 4, Ok(()));
    // The third was answered: it waits its time.
    assert_eq!(attempts(&mut deliveries, before), [1, 2]);
}

#[test]
fn only_so_many_requests_are_under_way() {
    let (mut deliveries, now) = start();
    for room in 0..20 {
        push(&mut deliveries, now, &format!("room {room}"));
    }
    let under_way = attempts(&mut deliveries, now);
    assert_eq!(under_way.len(), IN_FLIGHT_MAX);
    assert_eq!(deliveries.poll_timeout(), None);
    deliveries.handle_outcome(now, under_way[0], Ok(()));
    assert_eq!(attempts(&mut deliveries, now), [9]);
}

#[test]
fn when_too_many_wait_the_oldest_that_are_not_under_way_are_dropped() {
    let (mut deliveries, now) = start();
    push(&mut deliveries, now, "a");
    assert_eq!(attempts(&mut deliveries, now), [1]);
    for _ in 1..WAITING_MAX + 2 {
        push(&mut deliveries, now, "a");
    }
    assert_eq!(
        (deliveries.waiting(), deliveries.counts().dropped),
        (WAITING_MAX, 2)
    );
    deliveries.handle_outcome(now, 1, Ok(()));
    assert_eq!(attempts(&mut deliveries, now), [4]);
    // Another room's push drops one that waits for its second try.
    deliveries.handle_outcome(now, 4, Err(Failure::Away));
    for _ in 0..2 {
        push(&mut deliveries, now, "b");
    }
    assert_eq!(attempts(&mut deliveries, now), [5, 10_003]);
}

#[test]
fn bodies_are_bounded_together() {
    let (mut deliveries, now) = start();
    for _ in 0..300 {
        deliveries.push(now, "a", |_| "x".repeat(64 << 10));
    }
    assert!(deliveries.bytes <= WAITING_BYTES_MAX);
    assert_eq!(
        (deliveries.waiting(), deliveries.counts().dropped),
        (256, 300 - 256)
    );
    deliveries.push(now, "b", |_| "x".repeat(WAITING_BYTES_MAX + 1));
    assert_eq!((deliveries.waiting(), deliveries.bytes), (0, 0));
}

proptest! {
    /// Whatever happens: each event is delivered, given up, dropped or waits; those of a room in order.
    #[test]
    fn nothing_is_lost_uncounted_or_out_of_order(
        steps in proptest::collection::vec((0..4_u8, 0..3_u8, 0..20_000_u64), 1..200),
    ) {
        let (mut deliveries, begun) = start();
        let (mut now, mut pushed) = (begun, 0);
        let mut under_way: Vec<Parcel> = Vec::new();
        let mut delivered: HashMap<String, Vec<u64>> = HashMap::new();
        for (step, room, passed) in steps {
            match step {
                0 | 1 => {
                    pushed += 1;
                    push(&mut deliveries, now, &format!("room{room}"));
                }
                2 => now += Duration::from_secs(passed),
                _ => {
                    let Some(parcel) = under_way.pop() else { continue };
                    let outcome = match room {
                        0 => Ok(()),
                        1 => Err(Failure::Away),
                        _ => Err(Failure::Refused),
                    };
                    if outcome.is_ok() {
                        let text = String::from_utf8_lossy(&parcel.body);
                        let room = text.split(' ').next().unwrap().to_owned();
                        delivered.entry(room).or_default().push(parcel.seq);
                    }
                    deliveries.handle_outcome(now, parcel.seq, outcome);
                }
            }
            under_way.extend(std::iter::from_fn(|| deliveries.poll_attempt(now)));
            prop_assert!(under_way.len() <= IN_FLIGHT_MAX);
            let counts = deliveries.counts();
            let known = counts.delivered + counts.given_up + counts.dropped;
            prop_assert_eq!(known + deliveries.waiting() as u64, pushed);
            prop_assert_eq!(deliveries.due.len() + under_way.len(), deliveries.lanes.len());
        }
        for seqs in delivered.values() {
            prop_assert!(seqs.is_sorted(), "{:?}", seqs);
        }
    }
}
