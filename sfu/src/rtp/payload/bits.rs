//! Reads fields of bits, most significant first.

/// A cursor over the bits of a slice; every read past the end is `None`.
#[derive(Clone, Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bits were read so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// One bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// An unsigned field of up to 32 bits.
    pub(super) fn read(&mut self, width: u32) -> Option<u32> {
        debug_assert!(width <= 32);
        let mut value = 0u32;
        for _ in 0..width {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// An unsigned field of up to 8 bits.
    pub(super) fn read_u8(&mut self, width: u32) -> Option<u8> {
        u8::try_from(self.read(width)?).ok()
    }

    /// An unsigned Exp-Golomb code (H.264 §9.1), at most 31 bits of value.
    pub(super) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.read(zeros)?;
        ((1u32 << zeros) - 1).checked_add(suffix)
    }

    /// A signed Exp-Golomb code (H.264 §9.1.1).
    pub(super) fn signed_exp_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.exp_golomb()?);
        Some(if code % 2 == 0 {
            -(code / 2)
        } else {
            code / 2 + 1
        })
    }

    /// A value below `limit` in as few bits as it needs (AV1 §4.10.7, `ns(n)`).
    pub(super) fn non_symmetric(&mut self, limit: u32) -> Option<u32> {
        let width = u32::BITS - limit.leading_zeros();
        let short_codes = 1u32.checked_shl(width)?.checked_sub(limit)?;
        let value = self.read(width.checked_sub(1)?)?;
        if value < short_codes {
            return Some(value);
        }
        Some((value << 1) - short_codes + u32::from(self.flag()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_of_field_and_stops_at_the_end() {
        // 101 00111(ue 6, leading zeros 2) -> bits: 101 00111
        let mut bits = Bits::new(&[0b1010_0111]);
        assert_eq!(bits.read(3), Some(5));
        assert_eq!(bits.exp_golomb(), Some(6));
        assert_eq!(bits.position(), 8);
        assert_eq!(bits.flag(), None);
        assert_eq!(Bits::new(&[0; 8]).exp_golomb(), None);
        assert_eq!(Bits::new(&[0b0110_0000]).signed_exp_golomb(), Some(-1));
        assert_eq!(Bits::new(&[0b0100_0000]).signed_exp_golomb(), Some(1));
    }

    #[test]
    fn reads_non_symmetric_values() {
        // n = 5: 0, 1, 2 in two bits; 3, 4 in three.
        for (byte, value) in [
            (0b0000_0000, 0),
            (0b0100_0000, 1),
            (0b1000_0000, 2),
            (0b1100_0000, 3),
            (0b1110_0000, 4),
        ] {
            assert_eq!(Bits::new(&[byte]).non_symmetric(5), Some(value));
        }
        assert_eq!(Bits::new(&[]).non_symmetric(1), Some(0));
        assert_eq!(Bits::new(&[0]).non_symmetric(0), None);
    }
}
