//! Bits of a NAL unit, most significant first.

/// Writes the payload of a NAL unit.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are used; 0: all.
    used: u32,
}

impl BitWriter {
    /// The lowest `count` bits of `value`.
    pub(super) fn put(&mut self, value: u32, count: u32) {
        for place in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> place & 1 == 1) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// `ue(v)` (H.264 §9.1).
    pub(super) fn exp_golomb(&mut self, value: u32) {
        let width = (value + 1).ilog2();
        self.put(0, width);
        self.put(value + 1, width + 1);
    }

    /// Zero bits up to the end of the byte.
    pub(super) fn align(&mut self) {
        self.used = 0;
    }

    /// Whole bytes; only after [`Self::align`].
    pub(super) fn put_bytes(&mut self, bytes: impl IntoIterator<Item = u8>) {
        debug_assert_eq!(self.used, 0, "whole bytes follow whole bytes");
        self.bytes.extend(bytes);
    }

    /// The NAL unit: its header, then the payload with its trailing bit and with what keeps a start
    /// code out of it (§7.3.1).
    pub(super) fn finish(mut self, header: u8) -> Vec<u8> {
        self.put(1, 1);
        let mut unit = vec![header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros == 2 && byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            unit.push(byte);
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_zeros_before_as_bits_after_the_first() {
        let mut bits = BitWriter::default();
        for value in [0, 1, 2, 7] {
            bits.exp_golomb(value);
        }
        // 1 010 011 0001000, then the trailing bit.
        assert_eq!(bits.finish(0x67), [0x67, 0b1010_0110, 0b0010_0010]);
    }

    #[test]
    fn start_codes_are_kept_out() {
        let mut bits = BitWriter::default();
        bits.put_bytes([0, 0, 0, 0, 0, 1, 0, 0, 4, 0, 0, 3]);
        let unit = [9, 0, 0, 3, 0, 0, 3, 0, 1, 0, 0, 4, 0, 0, 3, 3, 0x80];
        assert_eq!(bits.finish(9), unit);
    }
}
