//! What is still to be delivered, in which order and when: a pure machine.
//!
//! The events of a room go out one after the other, rooms beside each other. What is refused is tried
//! again after 5 s, 10 s and so on up to every 6 hours, for a day; then it is given up and the next of
//! its room goes out. Where nobody answered, everything is tried again once anything gets through.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Requests under way at a time.
const IN_FLIGHT_MAX: usize = 8;
/// Events that wait.
const WAITING_MAX: usize = 10_000;
/// Their bodies together.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Before the second try; each further one waits twice as long.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);
/// After the first try, the last one.
const RETRY_FOR: Duration = Duration::from_secs(24 * 3600);

/// What is still to be delivered.
///
/// After each call of a method that takes something in, call `poll_attempt` until it gives nothing.
pub(crate) struct Deliveries {
    lanes: HashMap<String, Lane>,
    /// When which lane is to be tried, by its first event; lanes with a request under way are not in it.
    due: BTreeSet<(Instant, u64)>,
    /// In which lane each event waits, oldest first.
    rooms: BTreeMap<u64, String>,
    bytes: usize,
    in_flight: usize,
    next_seq: u64,
    /// What ids begin with.
    prefix: String,
    /// Nobody answered lately.
    is_away: bool,
    counts: Counts,
}

/// The events of one room; never empty.
struct Lane {
    waiting: VecDeque<Parcel>,
    is_in_flight: bool,
    tries: u32,
    first_try_at: Option<Instant>,
    due_at: Instant,
    /// Nobody answered the last try.
    is_away: bool,
}

/// One event on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// Its number.
    pub(crate) seq: u64,
    /// The same for each try.
    pub(crate) id: String,
    /// The body of the request.
    pub(crate) body: Bytes,
}

/// Why a try did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody answers: it may be over for all at once.
    Away,
    /// It was answered, and not taken.
    Refused,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Events that were taken.
    pub(crate) delivered: u64,
    /// Tries without success.
    pub(crate) failed_tries: u64,
    /// Events given up after a day.
    pub(crate) given_up: u64,
    /// Events dropped because too many waited.
    pub(crate) dropped: u64,
}

impl Deliveries {
    /// Nothing yet. Events are numbered from `first_seq`.
    pub(crate) fn new(first_seq: u64, prefix: String) -> Self {
        Self {
            lanes: HashMap::new(),
            due: BTreeSet::new(),
            rooms: BTreeMap::new(),
            bytes: 0,
            in_flight: 0,
            next_seq: first_seq,
            prefix,
            is_away: false,
            counts: Counts::default(),
        }
    }

    /// Takes in an event of a room; `write` makes its body, given its number.
    pub(crate) fn push(&mut self, now: Instant, room: &str, write: impl FnOnce(u64) -> String) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let body = Bytes::from(write(seq));
        while self.rooms.len() >= WAITING_MAX || self.bytes + body.len() > WAITING_BYTES_MAX {
            self.counts.dropped += 1;
            if !self.drop_oldest(now) {
                return;
            }
        }
        self.bytes += body.len();
        self.rooms.insert(seq, room.to_owned());
        let id = format!("{}{seq}", self.prefix);
        let parcel = Parcel { seq, id, body };
        if let Some(lane) = self.lanes.get_mut(room) {
            lane.waiting.push_back(parcel);
            return;
        }
        self.due.insert((now, seq));
        let lane = Lane {
            waiting: VecDeque::from([parcel]),
            is_in_flight: false,
            tries: 0,
            first_try_at: None,
            due_at: now,
            is_away: false,
        };
        self.lanes.insert(room.to_owned(), lane);
    }

    /// What is to be sent now, if anything.
    pub(crate) fn poll_attempt(&mut self, now: Instant) -> Option<Parcel> {
        let (due_at, seq) = *self.due.first()?;
        if self.in_flight >= IN_FLIGHT_MAX || due_at > now {
            return None;
        }
        let lane = self.lanes.get_mut(self.rooms.get(&seq)?)?;
        self.due.remove(&(due_at, seq));
        self.in_flight += 1;
        lane.is_in_flight = true;
        lane.tries += 1;
        lane.first_try_at.get_or_insert(now);
        lane.waiting.front().cloned()
    }

    /// Takes in what became of an attempt.
    pub(crate) fn handle_outcome(&mut self, now: Instant, seq: u64, outcome: Result<(), Failure>) {
        let Some(room) = self.rooms.get(&seq).cloned() else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(&room).filter(|lane| lane.is_in_flight) else {
            return;
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        lane.is_in_flight = false;
        match outcome {
            Ok(()) => {
                self.counts.delivered += 1;
                self.forget_first(now, &room);
                self.revive(now);
            }
            Err(failure) => {
                self.counts.failed_tries += 1;
                lane.is_away = failure == Failure::Away;
                self.is_away |= lane.is_away;
                match lane.retry_at(now) {
                    Some(at) => {
                        lane.due_at = at;
                        self.due.insert((at, seq));
                    }
                    None => {
                        self.counts.given_up += 1;
                        self.forget_first(now, &room);
                    }
                }
            }
        }
    }

    /// When `poll_attempt` is to be called; `None`: not before something is taken in.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let is_free = self.in_flight < IN_FLIGHT_MAX;
        self.due.first().filter(|_| is_free).map(|(at, _)| *at)
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.rooms.len()
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Someone is there: those that found nobody are tried again at once.
    fn revive(&mut self, now: Instant) {
        if !std::mem::take(&mut self.is_away) {
            return;
        }
        for lane in self.lanes.values_mut() {
            if !std::mem::take(&mut lane.is_away) || lane.is_in_flight {
                continue;
            }
            if let Some(first) = lane.waiting.front() {
                self.due.remove(&(lane.due_at, first.seq));
                lane.due_at = lane.due_at.min(now);
                self.due.insert((lane.due_at, first.seq));
            }
        }
    }

    /// The first of a room, which is not under way, goes; the next one's turn comes.
    fn forget_first(&mut self, now: Instant, room: &str) {
        let Some(lane) = self.lanes.get_mut(room) else {
            return;
        };
        if let Some(first) = lane.waiting.pop_front() {
            self.due.remove(&(lane.due_at, first.seq));
            self.rooms.remove(&first.seq);
            self.bytes = self.bytes.saturating_sub(first.body.len());
        }
        let Some(next) = lane.waiting.front() else {
            self.lanes.remove(room);
            return;
        };
        (lane.tries, lane.first_try_at, lane.due_at) = (0, None, now);
        self.due.insert((now, next.seq));
    }

    /// Makes room; false when everything is under way.
    fn drop_oldest(&mut self, now: Instant) -> bool {
        let is_free = |(seq, room): &(&u64, &String)| {
            let lane = self.lanes.get(*room);
            lane.is_some_and(|lane| !lane.is_in_flight || !lane.is_first(**seq))
        };
        let oldest = self.rooms.iter().find(is_free);
        let Some((seq, room)) = oldest.map(|(seq, room)| (*seq, room.clone())) else {
            return false;
        };
        let Some(lane) = self.lanes.get_mut(&room) else {
            return false;
        };
        if lane.is_first(seq) {
            self.forget_first(now, &room);
            return true;
        }
        // It stands behind one that is under way.
        let place = lane.waiting.iter().position(|parcel| parcel.seq == seq);
        if let Some(parcel) = place.and_then(|place| lane.waiting.remove(place)) {
            self.bytes = self.bytes.saturating_sub(parcel.body.len());
        }
        self.rooms.remove(&seq);
        true
    }
}

impl Lane {
    fn is_first(&self, seq: u64) -> bool {
        self.waiting.front().is_some_and(|parcel| parcel.seq == seq)
    }

    /// When it is tried again; `None`: no more.
    fn retry_at(&self, now: Instant) -> Option<Instant> {
        let last_at = self.first_try_at? + RETRY_FOR;
        let doublings = self.tries.saturating_sub(1).min(16);
        let pause = RETRY_MIN.saturating_mul(1 << doublings).min(RETRY_MAX);
        (now < last_at).then(|| (now + pause).min(last_at))
    }
}

#[cfg(test)]
mod tests;
