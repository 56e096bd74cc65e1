//! The mark every synthetic packet carries: who sent it, where it belongs, when it left.

/// Bytes of a written stamp without its filler.
pub const STAMP_BYTES: usize = 30;

const MAGIC: [u8; 4] = *b"PLNM";

/// Who sent a packet, where it belongs, when it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher's number, see [`publisher_number`](crate::publisher_number).
    pub publisher: u32,
    /// Index of the track among the publisher's tracks.
    pub source: u8,
    /// Layer of the track, lowest first.
    pub layer: u8,
    /// Counts the frames of one layer.
    pub frame: u32,
    /// Place of the packet in its frame.
    pub index: u8,
    /// Packets in the frame.
    pub count: u8,
    /// When the frame was made, microseconds since the epoch.
    pub sent_us: u64,
}

impl Stamp {
    /// Appends the stamp and `filler` bytes that it determines.
    pub fn write(&self, filler: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let filler = u16::try_from(filler).unwrap_or(u16::MAX);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.publisher.to_be_bytes());
        out.extend_from_slice(&[self.source, self.layer]);
        out.extend_from_slice(&self.frame.to_be_bytes());
        out.extend_from_slice(&[self.index, self.count]);
        out.extend_from_slice(&self.sent_us.to_be_bytes());
        out.extend_from_slice(&filler.to_be_bytes());
        let sum = checksum(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&sum.to_be_bytes());
        out.extend((0..filler).map(|place| self.filler(place)));
    }

    /// Reads a stamp with its filler; `None` when a byte of either is not as written.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (head, tail) = bytes.split_at_checked(STAMP_BYTES)?;
        let (covered, sum) = head.split_at_checked(STAMP_BYTES - 4)?;
        if covered.get(..4)? != MAGIC || sum != checksum(covered).to_be_bytes() {
            return None;
        }
        let stamp = Self {
            publisher: u32::from_be_bytes(array(covered, 4)?),
            source: *covered.get(8)?,
            layer: *covered.get(9)?,
            frame: u32::from_be_bytes(array(covered, 10)?),
            index: *covered.get(14)?,
            count: *covered.get(15)?,
            sent_us: u64::from_be_bytes(array(covered, 16)?),
        };
        let filler = u16::from_be_bytes(array(covered, 24)?);
        let intact = tail.len() == usize::from(filler)
            && tail
                .iter()
                .zip(0..filler)
                .all(|(byte, place)| *byte == stamp.filler(place));
        intact.then_some(stamp)
    }

    fn filler(&self, place: u16) -> u8 {
        let [low, high] = place.to_be_bytes();
        let [_, _, _, frame] = self.frame.to_be_bytes();
        (frame ^ low ^ high.rotate_left(3))
            .wrapping_mul(31)
            .wrapping_add(self.index)
    }
}

fn array<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start + N)?.try_into().ok()
}

/// FNV-1a, enough to notice any changed byte.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
