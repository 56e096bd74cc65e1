//! Which receive slot carries which track: a pure function from what is wanted and what is.
//!
//! Audio slot i and video slot i share one media stream, so one participant's pair belongs on slots of
//! equal place (lip sync). What is carried already stays where it is as long as it is wanted.

use crate::sfu::Kind;

/// A receive slot as the assignment sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotRow {
    pub(crate) kind: Kind,
    /// Its place among the slots of its kind.
    pub(crate) place: usize,
    /// The track it carries now.
    pub(crate) track: Option<usize>,
}

/// A track that a subscriber wants, in order of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedRow {
    pub(crate) track: usize,
    pub(crate) kind: Kind,
    /// The peer that publishes it.
    pub(crate) owner: usize,
}

/// Gives slots to the wanted tracks, the most important first.
///
/// Returns the track of each slot. Tracks that found no slot are simply absent from the result.
pub(crate) fn assign(slots: &[SlotRow], wanted: &[WantedRow]) -> Vec<Option<usize>> {
    let audio = served(slots, wanted, Kind::Audio);
    let video = served(slots, wanted, Kind::Video);
    let chosen: Vec<WantedRow> = video.into_iter().chain(audio).collect();
    let mut assigned: Vec<Option<WantedRow>> = slots
        .iter()
        .map(|slot| {
            chosen
                .iter()
                .find(|row| Some(row.track) == slot.track)
                .copied()
        })
        .collect();
    for row in chosen {
        let is_placed = assigned
            .iter()
            .flatten()
            .any(|placed| placed.track == row.track);
        if !is_placed
            && let Some(index) = best_slot(slots, &assigned, &row)
            && let Some(entry) = assigned.get_mut(index)
        {
            *entry = Some(row);
        }
    }
    assigned
        .into_iter()
        .map(|row| row.map(|row| row.track))
        .collect()
}

/// As many of the wanted rows of one kind as there are slots, most important first.
fn served(slots: &[SlotRow], wanted: &[WantedRow], kind: Kind) -> Vec<WantedRow> {
    let count = slots.iter().filter(|slot| slot.kind == kind).count();
    wanted
        .iter()
        .filter(|row| row.kind == kind)
        .take(count)
        .copied()
        .collect()
}

/// The free slot that suits a row best: beside its owner's other track, else beside nobody's, else any.
fn best_slot(slots: &[SlotRow], assigned: &[Option<WantedRow>], row: &WantedRow) -> Option<usize> {
    let neighbour = |slot: &SlotRow| {
        let at = slots
            .iter()
            .position(|other| other.kind != slot.kind && other.place == slot.place);
        at.and_then(|at| assigned.get(at).copied().flatten())
    };
    let rank = |slot: &SlotRow| match neighbour(slot) {
        Some(other) if other.owner == row.owner => 0,
        None => 1,
        Some(_) => 2,
    };
    let is_free = |index: usize| assigned.get(index).is_some_and(Option::is_none);
    let free = slots
        .iter()
        .enumerate()
        .filter(|&(index, slot)| slot.kind == row.kind && is_free(index));
    free.min_by_key(|(_, slot)| (rank(slot), slot.place))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots(audio: usize, video: usize) -> Vec<SlotRow> {
        let of = |kind, count| {
            (0..count).map(move |place| SlotRow {
                kind,
                place,
                track: None,
            })
        };
        of(Kind::Audio, audio)
            .chain(of(Kind::Video, video))
            .collect()
    }

    fn wanted(track: usize, kind: Kind, owner: usize) -> WantedRow {
        WantedRow { track, kind, owner }
    }

    #[test]
    fn a_participants_tracks_take_slots_of_equal_place() {
        let rows = [
            wanted(10, Kind::Audio, 1),
            wanted(11, Kind::Video, 1),
            wanted(20, Kind::Audio, 2),
            wanted(21, Kind::Video, 2),
        ];
        let got = assign(&slots(2, 3), &rows);
        assert_eq!(got, [Some(10), Some(20), Some(11), Some(21), None]);
    }

    #[test]
    fn what_is_carried_stays_and_the_unwanted_goes() {
        let mut before = slots(0, 2);
        before[1].track = Some(5);
        before[0].track = Some(4);
        let rows = [wanted(6, Kind::Video, 3), wanted(5, Kind::Video, 2)];
        assert_eq!(assign(&before, &rows), [Some(6), Some(5)]);
    }

    #[test]
    fn with_too_few_slots_the_most_important_are_served() {
        let mut before = slots(0, 1);
        before[0].track = Some(1);
        let rows = [wanted(2, Kind::Video, 2), wanted(1, Kind::Video, 1)];
        assert_eq!(assign(&before, &rows), [Some(2)]);
    }

    proptest! {
        #[test]
        fn every_slot_carries_a_wanted_track_of_its_kind_and_no_track_twice(
            audio in 0usize..5,
            video in 0usize..5,
            rows in proptest::collection::vec((0usize..12, any::<bool>(), 0usize..4), 0..12),
            carried in proptest::collection::vec(proptest::option::of(0usize..12), 10),
        ) {
            let mut seen = Vec::new();
            let rows: Vec<_> = rows
                .into_iter()
                .filter(|(track, ..)| !seen.contains(track) && { seen.push(*track); true })
                .map(|(track, _, owner)| {
                    let kind = if track % 2 == 0 { Kind::Audio } else { Kind::Video };
                    wanted(track, kind, owner)
                })
                .collect();
            let mut before = slots(audio, video);
            let mut used = Vec::new();
            for (slot, track) in before.iter_mut().zip(carried) {
                let fits = |track: &usize| track.is_multiple_of(2) == (slot.kind == Kind::Audio);
                slot.track = track.filter(fits).filter(|track| !used.contains(track));
                used.extend(slot.track);
            }
            let got = assign(&before, &rows);
            prop_assert_eq!(got.len(), before.len());
            for (slot, track) in before.iter().zip(&got) {
                if let Some(track) = track {
                    let row = rows.iter().find(|row| row.track == *track);
                    prop_assert_eq!(row.map(|row| row.kind), Some(slot.kind));
                }
            }
            for kind in [Kind::Audio, Kind::Video] {
                let slot_count = before.iter().filter(|slot| slot.kind == kind).count();
                let row_count = rows.iter().filter(|row| row.kind == kind).count();
                let served = got.iter().zip(&before).filter(|(track, slot)| {
                    slot.kind == kind && track.is_some()
                });
                prop_assert_eq!(served.count(), slot_count.min(row_count));
            }
            let mut tracks: Vec<_> = got.iter().flatten().collect();
            tracks.sort();
            tracks.dedup();
            prop_assert_eq!(tracks.len(), got.iter().flatten().count());
        }
    }
}
