//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
#![warn(clippy::indexing_slicing)]

use net::cursor::{array_at, u16_at};

use super::write::{begin_feedback, finish};
use super::{TRANSPORT_FEEDBACK, TWCC};

/// What a receiver says about the packets of a transport, borrowed.
///
/// ```text
/// | base sequence (16) | status count (16) | reference time (24) | feedback count (8) |
/// | chunks (16 each): one of four symbols per packet | deltas: 8 or 16 bits per received packet |
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwccFeedback<'a> {
    /// The transport-wide number of the first packet reported on.
    pub(crate) base_sequence: u16,
    /// How many packets are reported on.
    pub(crate) status_count: u16,
    /// The receiver's clock that deltas count from, in units of 64 ms; 24 bits, wraps.
    pub(crate) reference_time: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TwccFeedback<'a> {
    /// Reads what follows the two SSRCs; `None` when chunks or deltas do not cover all packets.
    pub(super) fn parse(fci: &'a [u8]) -> Option<Self> {
        let [t0, t1, t2, _] = array_at(fci, 4)?;
        let status_count = u16_at(fci, 2)?;
        let body = fci.get(8..)?;
        let mut left = status_count;
        let mut chunks_len = 0;
        let mut deltas_len = 0;
        while left > 0 {
            let chunk = Chunk::parse(u16_at(body, chunks_len)?);
            let covered = chunk.len().min(left);
            deltas_len += chunk.deltas_len(covered)?;
            chunks_len += 2;
            left -= covered;
            if covered == 0 {
                return None; // a run of nothing would never end
            }
        }
        let (chunks, rest) = body.split_at_checked(chunks_len)?;
        Some(Self {
            base_sequence: u16_at(fci, 0)?,
            status_count,
            reference_time: u32::from_be_bytes([0, t0, t1, t2]),
            chunks,
            deltas: rest.get(..deltas_len)?,
        })
    }

    /// Each packet's number, and if it arrived when, in ticks of 250 us of the receiver's clock.
    ///
    /// That clock starts anew every 2^24 x 64 ms with `reference_time`. At most 8192 packets are
    /// told, so that a few bytes cannot ask for more work than a full datagram could.
    pub(crate) fn arrivals(&self) -> Arrivals<'a> {
        Arrivals {
            sequence: self.base_sequence,
            left: self.status_count.min(STATUS_MAX),
            chunk: Chunk::Run {
                symbol: 0,
                length: 0,
            },
            place: 0,
            chunks: self.chunks,
            deltas: self.deltas,
            ticks: i64::from(self.reference_time) * TICKS_PER_REFERENCE,
        }
    }
}

/// The packets of a feedback, in order of their numbers.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals<'a> {
    sequence: u16,
    left: u16,
    chunk: Chunk,
    /// How far we are in `chunk`.
    place: u16,
    chunks: &'a [u8],
    deltas: &'a [u8],
    ticks: i64,
}

impl Iterator for Arrivals<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.place == self.chunk.len() {
            let (chunk, rest) = self.chunks.split_first_chunk()?;
            self.chunks = rest;
            self.chunk = Chunk::parse(u16::from_be_bytes(*chunk));
            self.place = 0;
        }
        let symbol = self.chunk.symbol(self.place);
        self.place += 1;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let delta = match symbol {
            SMALL => {
                let (delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                i64::from(*delta)
            }
            LARGE => {
                let (delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                i64::from(i16::from_be_bytes(*delta))
            }
            _ => return Some((sequence, None)),
        };
        self.ticks += delta;
        Some((sequence, Some(self.ticks)))
    }
}

/// One packet status chunk.
///
/// ```text
/// | 0 | symbol (2) | length (13) |      | 1 | 0 | 14 x 1 bit |      | 1 | 1 | 7 x 2 bits |
/// ```
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Run { symbol: u16, length: u16 },
    OneBit(u16),
    TwoBit(u16),
}

impl Chunk {
    fn parse(word: u16) -> Self {
        match word >> 14 {
            0 | 1 => Self::Run {
                symbol: word >> 13 & 3,
                length: word & RUN_MAX,
            },
            2 => Self::OneBit(word & 0x3fff),
            _ => Self::TwoBit(word & 0x3fff),
        }
    }

    fn to_word(self) -> u16 {
        match self {
            Self::Run { symbol, length } => symbol << 13 | length,
            Self::OneBit(bits) => 0x8000 | bits,
            Self::TwoBit(bits) => 0xc000 | bits,
        }
    }

    /// How many packets it covers.
    fn len(self) -> u16 {
        match self {
            Self::Run { length, .. } => length,
            Self::OneBit(_) => 14,
            Self::TwoBit(_) => 7,
        }
    }

    fn symbol(self, place: u16) -> u16 {
        match self {
            Self::Run { symbol, .. } => symbol,
            Self::OneBit(bits) => bits >> 13u16.saturating_sub(place) & 1,
            Self::TwoBit(bits) => bits >> 12u16.saturating_sub(2 * place) & 3,
        }
    }

    /// Bytes of deltas for its first `covered` packets; `None` for the reserved symbol.
    fn deltas_len(self, covered: u16) -> Option<usize> {
        let size = |symbol| match symbol {
            LOST => Some(0),
            SMALL => Some(1),
            LARGE => Some(2),
            _ => None,
        };
        match self {
            Self::Run { symbol, .. } => Some(size(symbol)? * usize::from(covered)),
            _ => (0..covered).map(|place| size(self.symbol(place))).sum(),
        }
    }
}

/// What a feedback says beside arrivals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TwccHeader {
    /// Who reports.
    pub(crate) sender: u32,
    /// A stream of the transport.
    pub(crate) media: u32,
    /// The transport-wide number of the first packet reported on.
    pub(crate) base_sequence: u16,
    /// What deltas count from, in units of 64 ms; its lower 24 bits go on the wire.
    pub(crate) reference_time: u32,
    /// Counts feedbacks up by one.
    pub(crate) feedback_count: u8,
}

/// Writes a feedback; its length.
///
/// `arrivals`: transport-wide numbers going up from `base_sequence` (those left out count as lost),
/// and when each arrived in ticks of 250 us on the clock whose 256th part is `reference_time`.
/// `None`: `out` is too small, `arrivals` is empty, out of order or spans
/// more than 8192 numbers, or two packets in a row (or the
/// first and the reference) are more than 8.19 s apart: then start a new feedback there.
pub(crate) fn write_twcc(
    out: &mut [u8],
    header: &TwccHeader,
    arrivals: &[(u16, Option<u64>)],
) -> Option<usize> {
    let statuses = Statuses::new(header, arrivals);
    let format = (TRANSPORT_FEEDBACK, TWCC);
    let mut writer = begin_feedback(out, format, header.sender, header.media)?;
    writer.put_u16(header.base_sequence)?;
    writer.put_u16(statuses.status_count()?)?;
    writer.put_u32(header.reference_time << 8 | u32::from(header.feedback_count))?;
    let mut rest = statuses.clone();
    while let Some(chunk) = next_chunk(&mut rest)? {
        writer.put_u16(chunk.to_word())?;
    }
    for status in statuses {
        match status? {
            Status::Lost => {}
            Status::Small(delta) => writer.put_u8(delta)?,
            Status::Large(delta) => writer.put_u16(delta.cast_unsigned())?,
        }
    }
    let padding = writer.len().next_multiple_of(4) - writer.len();
    if padding > 0 {
        let zeros = [0; 3];
        writer.put(zeros.get(1..padding)?)?;
        writer.put_u8(u8::try_from(padding).ok()?)?;
    }
    let length = finish(writer)?;
    if padding > 0 {
        *out.first_mut()? |= 0x20;
    }
    Some(length)
}

/// Takes the next chunk's packets off: whichever form covers more of what comes.
///
/// The outer `None`: the arrivals cannot be told. The inner one: all are told.
fn next_chunk(statuses: &mut Statuses<'_>) -> Option<Option<Chunk>> {
    let mut ahead = statuses.clone();
    let Some(first) = ahead.next() else {
        return Some(None);
    };
    let symbol = first?.symbol();
    let mut run = 1;
    let mut vector = symbol; // 14 packets of one bit, later or 7 of two
    let mut pairs = symbol;
    let mut known = 1;
    let mut has_large = symbol == LARGE;
    let mut is_run = true;
    while (is_run && run < RUN_MAX) || known < 14 {
        let Some(next) = ahead.next() else { break };
        let next = next?.symbol();
        is_run &= next == symbol;
        run += u16::from(is_run && run < RUN_MAX);
        if known < 14 {
            has_large |= next == LARGE;
            vector = vector << 1 | (next & 1);
            if known < 7 {
                pairs = pairs << 2 | next;
            }
            known += 1;
        }
    }
    let vector_len = if has_large { known.min(7) } else { known };
    let chunk = if run >= vector_len {
        Chunk::Run {
            symbol,
            length: run,
        }
    } else if has_large {
        Chunk::TwoBit(pairs << (2 * (7 - vector_len)))
    } else {
        Chunk::OneBit(vector << (14 - vector_len))
    };
    let taken = if run >= vector_len { run } else { vector_len };
    for _ in 0..taken {
        statuses.next();
    }
    Some(Some(chunk))
}

/// What is told of one packet.
#[derive(Clone, Copy, Debug)]
enum Status {
    Lost,
    Small(u8),
    Large(i16),
}

impl Status {
    fn symbol(self) -> u16 {
        match self {
            Self::Lost => LOST,
            Self::Small(_) => SMALL,
            Self::Large(_) => LARGE,
        }
    }
}

/// The statuses of all packets from the base on; an item is `None` where a delta does not fit.
#[derive(Clone)]
struct Statuses<'a> {
    base: u16,
    /// Packets told so far.
    told: u16,
    rest: &'a [(u16, Option<u64>)],
    ticks: i64,
}

impl<'a> Statuses<'a> {
    fn new(header: &TwccHeader, arrivals: &'a [(u16, Option<u64>)]) -> Self {
        let ticks = i64::from(header.reference_time) * TICKS_PER_REFERENCE;
        Self {
            base: header.base_sequence,
            told: 0,
            rest: arrivals,
            ticks,
        }
    }

    /// How many packets there are; `None` when there are none or they are out of order.
    fn status_count(&self) -> Option<u16> {
        let offset = |&(sequence, _): &(u16, _)| sequence.wrapping_sub(self.base);
        let is_ascending = self.rest.is_sorted_by(|a, b| offset(a) < offset(b));
        let last = self.rest.last().filter(|_| is_ascending).map(offset)?;
        last.checked_add(1).filter(|count| *count <= STATUS_MAX)
    }
}

impl Iterator for Statuses<'_> {
    type Item = Option<Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&(sequence, arrival), rest) = self.rest.split_first()?;
        let is_gap = sequence.wrapping_sub(self.base) != self.told;
        self.told = self.told.wrapping_add(1);
        if is_gap {
            return Some(Some(Status::Lost));
        }
        self.rest = rest;
        let Some(arrival) = arrival else {
            return Some(Some(Status::Lost));
        };
        let status = i64::try_from(arrival).ok().and_then(|ticks| {
            let delta = ticks.checked_sub(self.ticks)?;
            self.ticks = ticks;
            let small = u8::try_from(delta).map(Status::Small);
            small
                .or_else(|_| i16::try_from(delta).map(Status::Large))
                .ok()
        });
        Some(status)
    }
}

/// A reference unit of 64 ms in ticks of 250 us.
const TICKS_PER_REFERENCE: i64 = 256;
const RUN_MAX: u16 = 0x1fff;
const STATUS_MAX: u16 = 8192; // 4 s of 2000 packets/s; libwebrtc reports every 50 to 250 ms

const LOST: u16 = 0;
const SMALL: u16 = 1;
const LARGE: u16 = 2;
