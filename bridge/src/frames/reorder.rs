//! Packets in the order they were sent.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::packets::Packet;

/// Holds packets back that came too early.
///
/// Holds: what is popped ascends, and each number that is passed over is told as part of a hole.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    packets: BTreeMap<u64, Packet>,
    bytes: usize,
    /// The number that is due. `None`: nothing came yet.
    next: Option<u64>,
    hole_since: Option<Instant>,
    is_given_up: bool,
    is_restarted: bool,
    restart: Option<Restart>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Popped {
    Packet(Packet),
    /// As many packets never came; 0: the sender began anew, nobody knows how many.
    Hole(u64),
}

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Late,
    Duplicate,
    Full,
}

/// A row of numbers far behind what is due: a sender that began anew.
#[derive(Clone, Copy, Debug)]
struct Restart {
    last: u64,
    count: u32,
}

impl Reorder {
    pub(super) fn insert(&mut self, packet: Packet) -> Result<(), Refusal> {
        let next = *self.next.get_or_insert(packet.sequence);
        if packet.sequence < next && !self.is_restart(next, packet.sequence) {
            return Err(Refusal::Late);
        }
        if packet.sequence < next {
            self.packets.clear();
            self.bytes = 0;
            self.next = Some(packet.sequence);
            self.is_restarted = true;
        }
        self.restart = None;
        if self.packets.contains_key(&packet.sequence) {
            return Err(Refusal::Duplicate);
        }
        if self.packets.len() >= 2 * PACKETS_MAX || self.bytes >= 2 * BYTES_MAX {
            return Err(Refusal::Full);
        }
        self.bytes += packet.payload.len();
        let arrival = packet.arrival;
        self.packets.insert(packet.sequence, packet);
        if self.front_is_hole() {
            self.hole_since.get_or_insert(arrival);
            // Twice that is allowed, so that nothing is lost between giving up and popping.
            let is_full = self.packets.len() >= PACKETS_MAX || self.bytes >= BYTES_MAX;
            self.is_given_up |= is_full;
        } else {
            self.hole_since = None;
            self.is_given_up = false;
        }
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Popped> {
        let (&front, _) = self.packets.first_key_value()?;
        let due = self.next?;
        // Nobody may take what follows either for a continuation.
        if self.is_given_up || self.is_restarted {
            self.is_given_up = false;
            self.is_restarted = false;
            self.hole_since = None;
            self.next = Some(front);
            return Some(Popped::Hole(front - due));
        }
        if front != due {
            return None;
        }
        let (_, packet) = self.packets.pop_first()?;
        self.bytes -= packet.payload.len();
        self.next = Some(front + 1);
        let follower = self.packets.first_key_value();
        self.hole_since = follower
            .filter(|(sequence, _)| **sequence != front + 1)
            .map(|(_, follower)| follower.arrival);
        Some(Popped::Packet(packet))
    }

    /// The hole that is due is not waited for any longer.
    pub(super) fn give_up(&mut self) {
        self.is_given_up |= self.front_is_hole();
    }

    /// When the hole that is due was seen.
    pub(super) fn hole_since(&self) -> Option<Instant> {
        self.hole_since.filter(|_| !self.is_given_up)
    }

    fn front_is_hole(&self) -> bool {
        let front = self.packets.first_key_value();
        front.is_some_and(|(front, _)| Some(*front) != self.next)
    }

    /// Whether a late packet is one of a row that shows that the sender began anew.
    fn is_restart(&mut self, next: u64, sequence: u64) -> bool {
        if next - sequence <= LATE_MAX {
            return false;
        }
        let count = match self.restart {
            Some(row) if row.last.checked_add(1) == Some(sequence) => row.count + 1,
            _ => 1,
        };
        self.restart = Some(Restart {
            last: sequence,
            count,
        });
        count >= RESTART_PACKETS
    }
}

/// Two seconds of 8 Mbit/s.
const PACKETS_MAX: usize = 2048;
/// Two seconds of 16 Mbit/s.
const BYTES_MAX: usize = 4 << 20;
/// Nothing is retransmitted that is further behind (RFC 3550 §A.1 has 100).
const LATE_MAX: u64 = 1024;
/// As many in a row are no retransmissions.
const RESTART_PACKETS: u32 = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn packet(now: Instant, sequence: u64) -> Packet {
        Packet {
            sequence,
            timestamp: 0,
            marker: false,
            arrival: now,
            payload: Bytes::from_static(&[1; 1000]),
        }
    }

    fn popped(reorder: &mut Reorder) -> Vec<Result<u64, u64>> {
        std::iter::from_fn(|| reorder.pop())
            .map(|popped| match popped {
                Popped::Packet(packet) => Ok(packet.sequence),
                Popped::Hole(lost) => Err(lost),
            })
            .collect()
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_hole_holds_back_until_it_is_filled_or_given_up() {
        let (now, mut reorder) = (start(), Reorder::default());
        for sequence in [5, 7, 8, 10] {
            assert_eq!(reorder.insert(packet(now, sequence)), Ok(()));
        }
        assert_eq!(popped(&mut reorder), [Ok(5)]);
        assert_eq!(reorder.hole_since(), Some(now));
        let later = now + Duration::from_millis(9);
        assert_eq!(reorder.insert(packet(later, 6)), Ok(()));
        assert_eq!(popped(&mut reorder), [Ok(6), Ok(7), Ok(8)]);
        assert_eq!(reorder.hole_since(), Some(now));
        reorder.give_up();
        assert_eq!(popped(&mut reorder), [Err(1), Ok(10)]);
        assert_eq!(reorder.insert(packet(now, 9)), Err(Refusal::Late));
        reorder.give_up();
        assert_eq!(reorder.insert(packet(now, 12)), Ok(()));
        assert_eq!(popped(&mut reorder), []);
        assert_eq!(reorder.insert(packet(now, 12)), Err(Refusal::Duplicate));
    }

    #[test]
    fn what_is_held_is_bounded_and_a_hole_is_given_up_for_it() {
        let (now, mut reorder) = (start(), Reorder::default());
        reorder.insert(packet(now, 0)).unwrap();
        reorder.pop().unwrap();
        let refused = (2..10_000u64)
            .filter(|sequence| reorder.insert(packet(now, *sequence)).is_err())
            .count();
        assert_eq!(refused, 10_000 - 2 - 2 * PACKETS_MAX);
        assert_eq!(popped(&mut reorder).len(), 1 + 2 * PACKETS_MAX);
        assert_eq!(reorder.bytes, 0);
    }

    #[test]
    fn a_sender_that_begins_anew_is_followed() {
        let (now, mut reorder) = (start(), Reorder::default());
        reorder.insert(packet(now, 100_000)).unwrap();
        assert_eq!(popped(&mut reorder), [Ok(100_000)]);
        for sequence in 70_000..70_020 {
            let _ = reorder.insert(packet(now, sequence));
        }
        let expected: Vec<_> = std::iter::once(Err(0))
            .chain((70_007..70_020).map(Ok))
            .collect();
        assert_eq!(popped(&mut reorder), expected);
    }
}
