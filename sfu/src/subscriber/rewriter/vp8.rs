//! VP8 picture numbers that run on over switches and dropped temporal layers.

use super::offsets::{Offsets, Place};
use crate::rtp::payload::PictureNumbers;

/// Frames a source may jump ahead without its picture ids being closed up.
const JUMP_MAX: u64 = 128;

/// The picture ids and TL0PICIDX of one outgoing VP8 stream (RFC 7741 §4.2).
///
/// Frames dropped on purpose leave no hole in the picture ids; lost ones do. A late packet gets
/// the numbers of its own frame.
#[derive(Clone, Debug)]
pub(crate) struct Vp8Rewriter {
    offsets: Offsets,
    /// The last incoming picture id, extended; `None` before the first of this source.
    reference: Option<u64>,
    next_picture_id: u64,
    /// Added to incoming TL0PICIDX.
    tl0_offset: u8,
    newest_tl0: u8,
    /// The picture id of the frame `newest_tl0` belongs to, outgoing.
    newest_tl0_picture: u64,
    begins: bool,
}

/// Numbers count from here, so that ids before a switch's first do not go below zero.
const FIRST_CYCLE: u64 = 1 << 15;

impl Vp8Rewriter {
    /// Numbering for a stream nothing was sent on yet.
    pub(crate) fn new(picture_id: u16, tl0: u8) -> Self {
        Self {
            offsets: Offsets::default(),
            reference: None,
            next_picture_id: FIRST_CYCLE + u64::from(picture_id & 0x7fff),
            tl0_offset: 0,
            newest_tl0: tl0,
            newest_tl0_picture: 0,
            begins: true,
        }
    }

    /// The next packet begins another source (call it with [`Rewriter::switch`](super::Rewriter)).
    pub(crate) fn switch(&mut self) {
        self.begins = true;
    }

    /// The outgoing picture id and TL0PICIDX of a frame, each `None` where the source has none.
    ///
    /// `None` altogether when the frame was dropped before or is too old: its packets must not be
    /// forwarded, only skipped.
    pub(crate) fn rewrite(&mut self, numbers: PictureNumbers) -> Option<(Option<u16>, Option<u8>)> {
        self.begin(numbers);
        let picture_id = match numbers.picture_id {
            None => None,
            Some(id) => {
                let extended = self.extend(id);
                let (Place::Newest(out) | Place::Late(out)) =
                    self.offsets.forward(extended, JUMP_MAX)
                else {
                    return None;
                };
                self.advance(extended);
                self.next_picture_id = self.next_picture_id.max(out + 1);
                Some(out)
            }
        };
        let tl0 = numbers.tl0.map(|tl0| tl0.wrapping_add(self.tl0_offset));
        if let Some(tl0) = tl0 {
            // Without a picture id packets are taken to be in order.
            let picture = picture_id.unwrap_or(self.newest_tl0_picture);
            if picture >= self.newest_tl0_picture {
                self.newest_tl0_picture = picture;
                self.newest_tl0 = tl0;
            }
        }
        Some((picture_id.map(wire_form), tl0))
    }

    /// A packet of a frame is dropped on purpose; the frame's number is closed if none of it went.
    pub(crate) fn skip(&mut self, numbers: PictureNumbers) {
        if self.begins {
            return;
        }
        if let Some(id) = numbers.picture_id {
            let extended = self.extend(id);
            self.offsets.skip(extended, JUMP_MAX);
            self.advance(extended);
        }
    }

    fn begin(&mut self, numbers: PictureNumbers) {
        if !self.begins {
            return;
        }
        self.begins = false;
        self.reference = None;
        if let Some(id) = numbers.picture_id {
            let base = self.extend(id);
            self.offsets.begin(base, self.next_picture_id);
        }
        if let Some(tl0) = numbers.tl0 {
            self.tl0_offset = self.newest_tl0.wrapping_add(1).wrapping_sub(tl0);
        }
    }

    /// The extended id nearest to the last one with these 7 or 15 bits.
    fn extend(&self, (id, is_wide): (u16, bool)) -> u64 {
        let cycle = if is_wide { 1u64 << 15 } else { 1 << 7 };
        let id = u64::from(id);
        let Some(reference) = self.reference else {
            return FIRST_CYCLE + id;
        };
        let ahead = id.wrapping_sub(reference) & (cycle - 1);
        if ahead < cycle / 2 {
            reference + ahead
        } else {
            (reference + ahead).saturating_sub(cycle)
        }
    }

    fn advance(&mut self, extended: u64) {
        self.reference = self.reference.max(Some(extended));
    }
}

fn wire_form(picture_id: u64) -> u16 {
    (picture_id & 0x7fff) as u16
}
