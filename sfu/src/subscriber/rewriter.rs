//! Makes one unbroken stream out of many sources: sequence numbers, timestamps, picture numbers.
//!
//! out = in - offset. The offset grows only for packets dropped on purpose, so a hole that loss
//! made stays a hole until the packet is recovered; a late packet gets the number of its own place.

mod offsets;
mod vp8;

use std::time::Duration;

use offsets::{Offsets, Place};
pub(crate) use vp8::Vp8Rewriter;

/// A source of packets: one layer of one track, as the subscriber tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceId(pub(crate) u64);

/// Numbers sent that are remembered, to never send one twice.
const SENT_WINDOW: u64 = 1024;
/// A source that jumps ahead further than this does not open a hole as large: receivers guess the
/// rollover counter from 2^15 numbers, and nothing this old is recovered.
const JUMP_MAX: u64 = 1000;

/// How much time passed for the receiver between the last packet sent and a new source's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SwitchClock {
    /// In ticks of the RTP clock; `None` when nothing was sent before.
    pub(crate) elapsed_ticks: Option<u64>,
}

/// Clocks are believed as far as they agree with arrival times to within this.
const CLOCK_TRUST: Duration = Duration::from_secs(1);

impl SwitchClock {
    /// The time between the last packet sent and the first of the new source.
    ///
    /// `by_clock` is how far apart they were captured, in ticks, where a clock tells it; `arrived` is
    /// the time between their arrivals, used when there is none or when the clock contradicts it by
    /// more than a second.
    pub(crate) fn between(by_clock: Option<i64>, arrived: Duration, clock_rate: u32) -> Self {
        let ticks_of = |micros: u128| micros * u128::from(clock_rate) / 1_000_000;
        let by_arrival = i128::try_from(ticks_of(arrived.as_micros())).unwrap_or(i128::MAX);
        let trust = i128::try_from(ticks_of(CLOCK_TRUST.as_micros())).unwrap_or(0);
        let ticks = by_clock
            .map(i128::from)
            .filter(|ticks| (ticks - by_arrival).abs() <= trust)
            .unwrap_or(by_arrival)
            .max(0);
        Self {
            elapsed_ticks: u64::try_from(ticks).ok(),
        }
    }
}

/// What becomes of a packet's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rewritten {
    /// Send it under these extended numbers; no other packet ever gets this sequence number.
    Send {
        /// The outgoing extended sequence number.
        sequence: u64,
        /// The outgoing extended timestamp.
        timestamp: u64,
    },
    /// It must not be sent: it is older than the last switch or than what is remembered, its
    /// number was closed or was sent already, or its source is not the current one.
    TooOld,
}

/// What a packet dropped on purpose asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// Nothing: its number is closed, or was never open.
    Closed,
    /// It stands in a hole the receiver has already seen: send a packet without payload under
    /// these numbers to close it.
    Filler {
        /// The outgoing extended sequence number.
        sequence: u64,
        /// The outgoing extended timestamp.
        timestamp: u64,
    },
}

/// The numbers of one outgoing stream.
///
/// They live as long as the SRTP keys: no switch, re-point, resume or ICE restart resets them.
#[derive(Clone, Debug)]
pub(crate) struct Rewriter {
    source: Option<SourceId>,
    offsets: Offsets,
    /// Incoming and outgoing timestamp of the current source's first packet.
    timestamp_base: (u64, u64),
    /// The sequence number after the highest sent.
    next_sequence: u64,
    newest_timestamp: u64,
    has_sent: bool,
    /// One bit for each of the last numbers: sent or not.
    sent: [u64; (SENT_WINDOW / 64) as usize],
}

impl Rewriter {
    /// A stream nothing was sent on yet. `sequence` is its first number: random, below 2^15
    /// (RFC 3711 §3.3.1: the first rollover must not be lost); `timestamp` is its first timestamp.
    pub(crate) fn new(sequence: u64, timestamp: u64) -> Self {
        Self {
            source: None,
            offsets: Offsets::default(),
            timestamp_base: (0, 0),
            next_sequence: sequence,
            newest_timestamp: timestamp,
            has_sent: false,
            sent: [0; (SENT_WINDOW / 64) as usize],
        }
    }

    /// Lets the stream go on with another source, whose first packet has these extended numbers.
    ///
    /// Also called when the same source goes on after a pause. What came before `sequence` in the
    /// new source, and all of the old one, is too old from now on.
    pub(crate) fn switch(
        &mut self,
        source: SourceId,
        sequence: u64,
        timestamp: u64,
        clock: SwitchClock,
    ) {
        let first_timestamp = if self.has_sent {
            self.newest_timestamp
                .wrapping_add(clock.elapsed_ticks.unwrap_or(0).max(1))
        } else {
            self.newest_timestamp
        };
        self.source = Some(source);
        self.offsets.begin(sequence, self.next_sequence);
        self.timestamp_base = (timestamp, first_timestamp);
    }

    /// The source the stream goes on with.
    #[cfg(test)]
    pub(crate) fn source(&self) -> Option<SourceId> {
        self.source
    }

    /// The outgoing sequence number the next packet in order gets, and the highest timestamp sent.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.next_sequence, self.newest_timestamp)
    }

    /// Gives a packet to be forwarded its outgoing numbers.
    pub(crate) fn rewrite(&mut self, source: SourceId, sequence: u64, timestamp: u64) -> Rewritten {
        if self.source != Some(source) {
            return Rewritten::TooOld;
        }
        let place = self.offsets.forward(sequence, JUMP_MAX);
        let (Place::Newest(out) | Place::Late(out)) = place else {
            return Rewritten::TooOld;
        };
        match self.claim(out) {
            true => Rewritten::Send {
                sequence: out,
                timestamp: self.stamp(timestamp),
            },
            false => Rewritten::TooOld,
        }
    }

    /// Drops a packet on purpose.
    ///
    /// The newest one's number is closed: the next packet takes it. A late one's number cannot be
    /// closed any more, so a filler takes its place.
    pub(crate) fn skip(&mut self, source: SourceId, sequence: u64, timestamp: u64) -> Skip {
        if self.source != Some(source) {
            return Skip::Closed;
        }
        let Some(out) = self.offsets.skip(sequence, JUMP_MAX) else {
            return Skip::Closed;
        };
        match self.claim(out) {
            true => Skip::Filler {
                sequence: out,
                timestamp: self.stamp(timestamp),
            },
            false => Skip::Closed,
        }
    }

    /// Takes an outgoing number for good; false when it was taken or is too old to know.
    fn claim(&mut self, sequence: u64) -> bool {
        if sequence >= self.next_sequence {
            let clear_from = self
                .next_sequence
                .max(sequence.saturating_sub(SENT_WINDOW - 1));
            for number in clear_from..=sequence {
                self.mark(number, false);
            }
            self.next_sequence = sequence + 1;
        } else if self.next_sequence - sequence > SENT_WINDOW || self.is_marked(sequence) {
            return false;
        }
        self.mark(sequence, true);
        self.has_sent = true;
        true
    }

    fn stamp(&mut self, timestamp: u64) -> u64 {
        let (base_in, base_out) = self.timestamp_base;
        // A timestamp before the switch's own would run into the previous source's: hold it there.
        let ahead = timestamp
            .wrapping_sub(base_in)
            .cast_signed()
            .max(0)
            .cast_unsigned();
        let out = base_out.wrapping_add(ahead);
        self.newest_timestamp = self.newest_timestamp.max(out);
        out
    }

    fn mark(&mut self, sequence: u64, sent: bool) {
        let (word, bit) = bit_of(sequence);
        if let Some(word) = self.sent.get_mut(word) {
            *word = if sent { *word | bit } else { *word & !bit };
        }
    }

    fn is_marked(&self, sequence: u64) -> bool {
        let (word, bit) = bit_of(sequence);
        self.sent.get(word).is_none_or(|word| word & bit != 0)
    }
}

fn bit_of(sequence: u64) -> (usize, u64) {
    ((sequence % SENT_WINDOW / 64) as usize, 1 << (sequence % 64))
}

#[cfg(test)]
mod tests;
