//! The ladder of a program's pictures: which encoding feeds which rung, and the card when none does.
//!
//! A rung changes its source at a keyframe only, and goes on with the old one until that comes. Frames
//! of a rung are strictly later than those before, whatever clocks their sources have.

use std::sync::Arc;

use sfu::TrackId;

use crate::card::Card;
use crate::media::{VideoConfig, VideoFrame};

/// Between two frames of the card: each part of a low-latency segment has one.
const CARD_INTERVAL_US: i64 = 200_000;
/// The card is this late, so that a real picture that comes is later than it.
const CARD_LAG_US: i64 = 150_000;
/// A rung that has shown nothing yet waits this long for its source: no player sees the card first, which
/// is of another size, and takes that for the rung's.
const BEGINNING_US: i64 = 2_000_000;
/// A rung without a source waits this long before it shows the card.
const ABANDONED_US: i64 = 300_000;
/// A rung whose new source has not begun waits this long: the old picture stands.
const WAITING_US: i64 = 1_000_000;
/// A rung whose source has fallen silent waits this long: a screen that stands still sends a picture a
/// second, and is asked for a keyframe every other.
const SILENT_US: i64 = 3_500_000;
/// The card's size before any picture was shown, and where a card of the picture's size cannot be drawn.
const CARD_SIZE: (u16, u16) = (1280, 720);
/// A keyframe every two seconds.
const CARD_KEYFRAME_EVERY: u64 = 10;
/// What the card says below our name.
const CARD_TEXT: &str = "THE PROGRAM CONTINUES SHORTLY";

/// One encoding of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The track.
    pub track: TrackId,
    /// The encoding, an index into its layers.
    pub encoding: u8,
}

/// A frame in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The rung; 0 is the highest.
    pub rung: usize,
    /// It does not follow from the rung's frame before: another source begins.
    pub is_cut: bool,
    /// The frame.
    pub frame: VideoFrame,
}

/// The rungs of a program.
#[derive(Debug)]
pub struct Rungs {
    rungs: Vec<Rung>,
    rungs_max: usize,
    is_coming: bool,
}

#[derive(Debug, Default)]
struct Rung {
    /// What is to feed it.
    aimed: Option<Lane>,
    /// What feeds it.
    current: Option<Lane>,
    /// When it was there first.
    begun_us: Option<i64>,
    /// When its last frame is shown.
    last_us: Option<i64>,
    /// What its last frame is coded with.
    config: Option<Arc<VideoConfig>>,
    card: Option<Run>,
}

/// A card being shown.
#[derive(Debug)]
struct Run {
    card: Card,
    next: u64,
}

impl Rungs {
    /// One rung, and at most `rungs_max`.
    pub fn new(rungs_max: usize) -> Self {
        Self {
            rungs: vec![Rung::default()],
            rungs_max: rungs_max.max(1),
            is_coming: false,
        }
    }

    /// How many there are; there is never one less.
    pub fn count(&self) -> usize {
        self.rungs.len()
    }

    /// What is to feed the rungs, highest first; nothing: the card, unless something `is_coming`. When there are
    /// fewer encodings than rungs the lowest feeds the rest, and there is a new rung for each one more.
    pub fn aim(&mut self, lanes: &[Lane], is_coming: bool) {
        self.is_coming = is_coming;
        let count = lanes.len().min(self.rungs_max);
        while self.rungs.len() < count {
            self.rungs.push(Rung::default());
        }
        let last = count.checked_sub(1);
        for (index, rung) in self.rungs.iter_mut().enumerate() {
            rung.aimed = last.and_then(|last| lanes.get(index.min(last)).copied());
            if rung.aimed.is_none() {
                rung.current = None;
            }
        }
    }

    /// Every lane that feeds a rung or is to.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> {
        let rungs = self.rungs.iter();
        rungs.flat_map(|rung| [rung.aimed, rung.current]).flatten()
    }

    /// Lanes that cannot begin without a keyframe.
    pub fn awaited(&self) -> impl Iterator<Item = Lane> {
        let rungs = self.rungs.iter();
        rungs
            .filter(|rung| rung.aimed != rung.current)
            .filter_map(|rung| rung.aimed)
    }

    /// Every rung shows what it is to show, and that is no card.
    pub fn is_settled(&self) -> bool {
        let mut rungs = self.rungs.iter();
        rungs
            .all(|rung| rung.current.is_some() && rung.aimed == rung.current && rung.card.is_none())
    }

    /// Some rung shows a real picture.
    pub fn has_picture(&self) -> bool {
        self.rungs.iter().any(|rung| rung.current.is_some())
    }

    /// The card is all there is to see.
    pub fn shows_card(&self) -> bool {
        self.rungs.iter().all(|rung| rung.card.is_some())
    }

    /// Puts a frame of a lane into each rung that it feeds.
    pub fn place(&mut self, lane: Lane, frame: &VideoFrame, placed: &mut Vec<Placed>) {
        for (index, rung) in self.rungs.iter_mut().enumerate() {
            let begins = rung.aimed == Some(lane) && rung.current != Some(lane) && frame.is_key;
            if begins {
                rung.current = Some(lane);
                rung.card = None;
            }
            if rung.current == Some(lane) {
                let frame = rung.follow(frame.clone());
                placed.push(Placed {
                    rung: index,
                    is_cut: begins,
                    frame,
                });
            }
        }
    }

    /// Shows the card where nothing else is there to show.
    pub fn fill(&mut self, now_us: i64, placed: &mut Vec<Placed>) {
        for (index, rung) in self.rungs.iter_mut().enumerate() {
            rung.fill((index, now_us), self.is_coming, placed);
        }
    }
}

/// A card of a size, from its beginning.
fn draw(size: (u16, u16)) -> Option<Run> {
    let drawn = |size| Card::new(size, CARD_TEXT, CARD_KEYFRAME_EVERY);
    let card = drawn(size).or_else(|_| drawn(CARD_SIZE)).ok()?;
    Some(Run { card, next: 0 })
}

impl Rung {
    /// The frame, later than the one before.
    fn follow(&mut self, mut frame: VideoFrame) -> VideoFrame {
        if let Some(last) = self.last_us {
            frame.at_us = frame.at_us.max(last + 1_000);
        }
        self.last_us = Some(frame.at_us);
        self.config = Some(Arc::clone(&frame.config));
        frame
    }

    fn fill(&mut self, (index, now_us): (usize, i64), is_coming: bool, placed: &mut Vec<Placed>) {
        self.begun_us.get_or_insert(now_us);
        let end = now_us - CARD_LAG_US;
        if self.card.is_none() && !self.is_due(now_us, is_coming) {
            return;
        }
        let begins = self.card.is_none();
        let next_us = match self.last_us {
            Some(last) if !begins => last + CARD_INTERVAL_US,
            Some(last) => end.max(last + 1_000),
            None => end,
        };
        let is_over = next_us > end && !begins;
        if is_over {
            return;
        }
        self.current = None;
        let size = self
            .config
            .as_ref()
            .map(|config| (config.width, config.height));
        if begins {
            self.card = draw(size.unwrap_or(CARD_SIZE));
        }
        let Some(run) = &mut self.card else {
            return;
        };
        let (is_key, data) = run.card.frame(run.next);
        run.next += 1;
        let frame = VideoFrame {
            config: run.card.config(),
            at_us: next_us,
            is_key,
            data,
        };
        let frame = self.follow(frame);
        placed.push(Placed {
            rung: index,
            is_cut: begins,
            frame,
        });
    }

    /// Nothing was shown for so long that the card should be.
    fn is_due(&self, now_us: i64, is_coming: bool) -> bool {
        let has_source = self.aimed.is_some() || is_coming;
        let Some(last) = self.last_us else {
            let begun_us = self.begun_us.unwrap_or(now_us);
            return !has_source || now_us - begun_us > BEGINNING_US;
        };
        let patience = match (self.aimed, self.current) {
            _ if !has_source => ABANDONED_US,
            (Some(aimed), Some(current)) if aimed == current => SILENT_US,
            _ => WAITING_US,
        };
        now_us - last > patience
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::VideoCodec;

    fn lane(track: u64, encoding: u8) -> Lane {
        Lane {
            track: TrackId::new(0, track),
            encoding,
        }
    }

    fn frame(at_us: i64, is_key: bool) -> VideoFrame {
        let config = VideoConfig {
            codec: VideoCodec::H264,
            width: 640,
            height: 360,
            record: Bytes::new(),
            name: "avc1.42c01f".to_owned(),
        };
        VideoFrame {
            config: Arc::new(config),
            at_us,
            is_key,
            data: Bytes::from_static(b"frame"),
        }
    }

    fn place(rungs: &mut Rungs, lane: Lane, at_us: i64, is_key: bool) -> Vec<(usize, bool, i64)> {
        let mut placed = Vec::new();
        rungs.place(lane, &frame(at_us, is_key), &mut placed);
        let placed = placed.iter();
        placed.map(|p| (p.rung, p.is_cut, p.frame.at_us)).collect()
    }

    fn fill(rungs: &mut Rungs, now_us: i64) -> Vec<Placed> {
        let mut placed = Vec::new();
        rungs.fill(now_us, &mut placed);
        placed
    }

    #[test]
    fn a_source_begins_at_a_keyframe_and_the_old_one_goes_on_until_then() {
        let mut rungs = Rungs::new(3);
        let (one, other) = (lane(1, 0), lane(2, 0));
        rungs.aim(&[one], false);
        assert_eq!(place(&mut rungs, one, 10_000, false), []);
        assert_eq!(rungs.awaited().collect::<Vec<_>>(), [one]);
        assert_eq!(place(&mut rungs, one, 40_000, true), [(0, true, 40_000)]);
        rungs.aim(&[other], false);
        assert_eq!(place(&mut rungs, other, 60_000, false), []);
        assert_eq!(place(&mut rungs, one, 73_000, false), [(0, false, 73_000)]);
        // The other's clock is behind; time does not go back.
        assert_eq!(place(&mut rungs, other, 70_000, true), [(0, true, 74_000)]);
        assert_eq!(place(&mut rungs, one, 90_000, false), []);
        assert_eq!(rungs.awaited().count(), 0);
        let feeding: Vec<Lane> = rungs.lanes().collect();
        assert!(feeding.iter().all(|lane| *lane == other));
    }

    #[test]
    fn encodings_feed_rungs_from_the_top_and_the_lowest_feeds_the_rest() {
        let mut rungs = Rungs::new(2);
        let lanes = [lane(1, 2), lane(1, 1), lane(1, 0)];
        rungs.aim(&lanes, false);
        assert_eq!(rungs.count(), 2, "no more than asked for");
        assert_eq!(place(&mut rungs, lanes[0], 1, true), [(0, true, 1)]);
        assert_eq!(place(&mut rungs, lanes[1], 2, true), [(1, true, 2)]);
        assert_eq!(place(&mut rungs, lanes[2], 3, true), []);
        let alone = lane(2, 0);
        rungs.aim(&[alone], false);
        let both = place(&mut rungs, alone, 9_000, true);
        assert_eq!(both, [(0, true, 9_000), (1, true, 9_000)]);
    }

    #[test]
    fn the_card_is_shown_from_the_beginning_and_ends_with_the_first_keyframe() {
        let mut rungs = Rungs::new(1);
        let first = fill(&mut rungs, 1_000_000);
        assert_eq!(first.len(), 1);
        assert!(first[0].is_cut && first[0].frame.is_key);
        assert_eq!(first[0].frame.at_us, 1_000_000 - CARD_LAG_US);
        assert!(fill(&mut rungs, 1_100_000).is_empty());
        let second = fill(&mut rungs, 1_200_000);
        assert_eq!(second[0].frame.at_us, 1_200_000 - CARD_LAG_US);
        assert!(!second[0].is_cut && !second[0].frame.is_key);
        let one = lane(1, 0);
        rungs.aim(&[one], false);
        assert_eq!(fill(&mut rungs, 1_400_000).len(), 1, "until it is there");
        assert_eq!(
            place(&mut rungs, one, 1_390_000, true),
            [(0, true, 1_390_000)]
        );
        assert!(fill(&mut rungs, 1_600_000).is_empty());
    }

    #[test]
    fn a_source_that_is_on_its_way_is_waited_for() {
        let mut rungs = Rungs::new(2);
        let [one, other] = [lane(1, 1), lane(1, 0)];
        rungs.aim(&[one, other], false);
        assert_eq!(fill(&mut rungs, 1_000_000), []);
        assert_eq!(fill(&mut rungs, 2_000_000), []);
        assert_eq!(
            place(&mut rungs, one, 2_000_000, true),
            [(0, true, 2_000_000)]
        );
        let card = fill(&mut rungs, 3_100_000);
        assert_eq!(card.iter().map(|p| p.rung).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn keyframes_of_the_card_come_every_two_seconds() {
        let mut rungs = Rungs::new(1);
        let mut keys = Vec::new();
        for tick in 0..1_000 {
            let placed = fill(&mut rungs, tick * 10_000);
            let shown = placed.iter().filter(|p| p.frame.is_key);
            keys.extend(shown.map(|p| p.frame.at_us));
        }
        assert_eq!(keys.len(), 5);
        assert!(
            keys.windows(2).all(|pair| pair[1] - pair[0] == 2_000_000),
            "{keys:?}"
        );
    }

    #[test]
    fn who_is_gone_leaves_the_card_in_the_size_of_the_picture_and_a_still_picture_stays() {
        let mut rungs = Rungs::new(1);
        let one = lane(1, 0);
        rungs.aim(&[one], false);
        place(&mut rungs, one, 0, true);
        assert!(
            fill(&mut rungs, SILENT_US).is_empty(),
            "a screen that stands still"
        );
        place(&mut rungs, one, 3_000_000, false);
        rungs.aim(&[lane(2, 0)], false);
        assert!(
            fill(&mut rungs, 3_900_000).is_empty(),
            "the next one is on its way"
        );
        rungs.aim(&[], false);
        let card = fill(&mut rungs, 3_900_000);
        let config = &card[0].frame.config;
        assert_eq!((config.width, config.height), (640, 360));
        assert!(!rungs.has_picture() && rungs.shows_card());
        // It comes back, but not in the middle of a picture.
        rungs.aim(&[one], false);
        assert_eq!(place(&mut rungs, one, 4_000_000, false), []);
        assert_eq!(
            place(&mut rungs, one, 4_033_000, true),
            [(0, true, 4_033_000)]
        );
    }
}
