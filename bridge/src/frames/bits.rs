//! Bits of a header, most significant first.

/// Reads bits and never beyond the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// The next bits as a number; at most 32.
    pub(super) fn read(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32, "a number has 32 bits");
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// The next bits as a number; at most 8.
    pub(super) fn read_u8(&mut self, count: u32) -> Option<u8> {
        u8::try_from(self.read(count)?).ok()
    }

    /// `ue(v)` (H.264 §9.1), which is also `uvlc()` (AV1 §4.10.3) but for values none has.
    pub(super) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.read(zeros)?;
        Some((1 << zeros) - 1 + rest)
    }
}

/// The beginning of a NAL unit's payload without emulation prevention bytes (H.264 §7.4.1.1).
pub(super) fn unescape_beginning(payload: &[u8]) -> [u8; BEGINNING] {
    let mut out = [0; BEGINNING];
    let mut places = out.iter_mut();
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        let Some(place) = places.next() else {
            break;
        };
        *place = byte;
    }
    out
}

/// Three numbers of at most 32 bits in Exp-Golomb code take less.
const BEGINNING: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_up_to_the_end_and_not_beyond() {
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_1111]);
        assert_eq!(bits.exp_golomb(), Some(0));
        assert_eq!(bits.exp_golomb(), Some(1));
        assert_eq!(bits.exp_golomb(), Some(2));
        assert_eq!(bits.exp_golomb(), Some(3));
        assert_eq!(bits.read(4), Some(0xf));
        assert_eq!(bits.flag(), None);
        assert_eq!(Bits::new(&[0; 9]).exp_golomb(), None);
        assert_eq!(
            Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).exp_golomb(),
            Some(0xffff_fffe)
        );
    }

    #[test]
    fn the_third_byte_after_two_zeros_is_no_data() {
        assert_eq!(
            unescape_beginning(&[1, 0, 0, 3, 1, 0, 0, 3])[..6],
            [1, 0, 0, 1, 0, 0]
        );
    }
}
