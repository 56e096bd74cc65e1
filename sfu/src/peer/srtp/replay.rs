//! What is remembered of each proven source: its highest index and which of the last 1024 arrived.
#![warn(clippy::indexing_slicing)]

use super::SrtpError;

/// The sources of one context; state is added by `commit` only, after a tag has verified.
#[derive(Default)]
pub(super) struct Sources {
    sources: Vec<Source>,
    /// Packets remembered so far, over all sources.
    packet_count: u64,
}

struct Source {
    ssrc: u32,
    window: ReplayWindow,
    /// `packet_count` at its last packet.
    last_packet: u64,
    is_retired: bool,
}

/// Where a source stands; `None`: it is not known yet.
#[derive(Clone, Copy)]
pub(super) struct Slot(Option<usize>);

impl Sources {
    /// Finds a source; good until the next `commit`.
    pub(super) fn find(&self, ssrc: u32) -> Slot {
        Slot(self.sources.iter().position(|source| source.ssrc == ssrc))
    }

    fn get(&self, slot: Slot) -> Option<&Source> {
        slot.0.and_then(|position| self.sources.get(position))
    }

    /// The extended sequence number that this packet most likely has (RFC 3711 §3.3.1, app. A).
    pub(super) fn estimate(&self, slot: Slot, sequence: u16) -> u64 {
        let Some(source) = self.get(slot) else {
            return sequence.into(); // the rollover counter of a new source starts at 0
        };
        let highest = source.window.highest;
        let distance = sequence
            .wrapping_sub((highest & 0xffff) as u16)
            .cast_signed();
        // Before the first rollover there is no earlier cycle: it can only lie far ahead.
        highest
            .checked_add_signed(distance.into())
            .unwrap_or(sequence.into())
    }

    /// Whether a packet with this index may be new; changes nothing.
    pub(super) fn check(&self, slot: Slot, index: u64) -> Result<(), SrtpError> {
        match self.get(slot) {
            Some(source) if source.window.is_seen(index) => Err(SrtpError::Replayed),
            None if self.is_full() && self.oldest_retired().is_none() => {
                Err(SrtpError::TooManySources)
            }
            _ => Ok(()),
        }
    }

    /// Remembers a packet whose tag has verified.
    pub(super) fn commit(&mut self, slot: Slot, ssrc: u32, index: u64) {
        self.packet_count += 1;
        if let Some(source) = slot.0.and_then(|position| self.sources.get_mut(position)) {
            source.window.insert(index);
            source.last_packet = self.packet_count;
            return;
        }
        if self.is_full()
            && let Some(oldest) = self.oldest_retired()
        {
            self.sources.swap_remove(oldest);
        }
        self.sources.push(Source {
            ssrc,
            window: ReplayWindow::starting_at(index),
            last_packet: self.packet_count,
            is_retired: false,
        });
    }

    /// Allows a source to be replaced when there are too many.
    pub(super) fn retire(&mut self, ssrc: u32) {
        for source in &mut self.sources {
            source.is_retired |= source.ssrc == ssrc;
        }
    }

    fn is_full(&self) -> bool {
        self.sources.len() >= SOURCES_MAX
    }

    /// The retired source that was silent for longest.
    fn oldest_retired(&self) -> Option<usize> {
        let retired = self.sources.iter().enumerate();
        retired
            .filter(|(_, source)| source.is_retired)
            .min_by_key(|(_, source)| source.last_packet)
            .map(|(position, _)| position)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }
}

/// A ring of bits: bit `index % WINDOW_BITS` tells whether `index` arrived.
struct ReplayWindow {
    highest: u64,
    bits: [u64; WORDS],
}

impl ReplayWindow {
    fn starting_at(index: u64) -> Self {
        let mut window = Self {
            highest: index,
            bits: [0; WORDS],
        };
        window.mark(index, true);
        window
    }

    fn is_seen(&self, index: u64) -> bool {
        if index > self.highest {
            return false;
        }
        if self.highest - index >= WINDOW_BITS {
            return true;
        }
        let (word, bit) = place(index);
        self.bits.get(word).is_none_or(|bits| bits & bit != 0)
    }

    fn insert(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= WINDOW_BITS {
                self.bits = [0; WORDS];
            } else {
                (self.highest + 1..index).for_each(|skipped| self.mark(skipped, false));
            }
            self.highest = index;
        }
        self.mark(index, true);
    }

    fn mark(&mut self, index: u64, is_seen: bool) {
        let (word, bit) = place(index);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits = if is_seen { *bits | bit } else { *bits & !bit };
        }
    }
}

fn place(index: u64) -> (usize, u64) {
    let offset = index % WINDOW_BITS;
    (
        usize::try_from(offset / 64).unwrap_or(usize::MAX),
        1 << (offset % 64),
    )
}

/// Sources remembered per direction: a publisher with eight three-layer tracks and their RTX has 48.
pub(super) const SOURCES_MAX: usize = 64;
/// As libwebrtc's: about 2 s of 500 packets/s may arrive late, which reordering and NACK need.
pub(super) const WINDOW_BITS: u64 = 1024;
const WORDS: usize = 16;
