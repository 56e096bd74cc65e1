//! Sequence numbers and timestamps extended to 64 bits, so that the rest of the core never wraps.

/// Extends 16-bit sequence numbers to `u64`, relative to the highest one seen.
///
/// The first number `s` becomes 2^16 + `s`, so earlier packets that arrive later do not underflow.
/// The lower 16 bits of a result are the number on the wire. RFC 3550 §A.1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SequenceUnwrapper {
    highest: Option<u64>,
}

impl SequenceUnwrapper {
    /// The extended number nearest to the highest one seen; up to 2^15 back, less than that ahead.
    pub(crate) fn unwrap(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = (1 << 16) + u64::from(sequence);
            self.highest = Some(first);
            return first;
        };
        let distance = sequence
            .wrapping_sub((highest & 0xffff) as u16)
            .cast_signed();
        // `highest` never falls below 2^16, so 2^15 back is still positive.
        let extended = highest.saturating_add_signed(i64::from(distance));
        self.highest = Some(highest.max(extended));
        extended
    }
}

/// Extends 32-bit RTP timestamps to `u64`, relative to the highest one seen.
///
/// The first timestamp `t` becomes 2^32 + `t`. Ticks of the codec's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimestampUnwrapper {
    highest: Option<u64>,
}

impl TimestampUnwrapper {
    /// The extended timestamp nearest to the highest one seen.
    pub(crate) fn unwrap(&mut self, timestamp: u32) -> u64 {
        let Some(highest) = self.highest else {
            let first = (1 << 32) + u64::from(timestamp);
            self.highest = Some(first);
            return first;
        };
        let distance = timestamp
            .wrapping_sub((highest & 0xffff_ffff) as u32)
            .cast_signed();
        let extended = highest.saturating_add_signed(i64::from(distance));
        self.highest = Some(highest.max(extended));
        extended
    }
}
