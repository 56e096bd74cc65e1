//! Who is on the air: a pure machine that picks one video track of a room by a rule.
//!
//! Sound is not picked: the program's sound is everybody's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu::{ParticipantId, Source, TrackId};

/// Between two changes of the picture, unless the one on the air is gone: less is restless to watch, and
/// each costs a keyframe.
const HOLD: Duration = Duration::from_millis(1500);

/// Whom the program follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// A shared screen if there is one, else who has the word.
    #[default]
    Auto,
    /// Who has the word.
    Speaker,
    /// Shared screens only.
    Screen,
    /// One participant, by identity: its shared screen, else its camera.
    Participant(String),
}

/// A video track that can be on the air.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    participant: ParticipantId,
    identity: String,
    source: Source,
    muted: bool,
    /// Counts up with each track that came.
    order: u64,
}

/// Picks what is on the air.
#[derive(Debug, Default)]
pub struct Program {
    follow: Follow,
    candidates: BTreeMap<TrackId, Candidate>,
    dominant: Option<ParticipantId>,
    on_air: Option<TrackId>,
    changed_at: Option<Instant>,
    next_order: u64,
}

impl Program {
    /// A program by a rule, with nobody in it.
    pub fn new(follow: Follow) -> Self {
        Self {
            follow,
            ..Self::default()
        }
    }

    /// Follows another rule from now on.
    pub fn follow(&mut self, follow: Follow) {
        self.follow = follow;
        self.changed_at = None;
    }

    /// A video track is there, or is muted now, or is not.
    pub fn note(
        &mut self,
        track: TrackId,
        (participant, identity): (ParticipantId, &str),
        source: Source,
        muted: bool,
    ) {
        if let Some(known) = self.candidates.get_mut(&track) {
            known.muted = muted;
            return;
        }
        let candidate = Candidate {
            participant,
            identity: identity.to_owned(),
            source,
            muted,
            order: self.next_order,
        };
        self.next_order += 1;
        self.candidates.insert(track, candidate);
    }

    /// A video track was muted or goes on.
    pub fn mute(&mut self, track: TrackId, muted: bool) {
        if let Some(candidate) = self.candidates.get_mut(&track) {
            candidate.muted = muted;
        }
    }

    /// A track ended.
    pub fn remove(&mut self, track: TrackId) {
        self.candidates.remove(&track);
    }

    /// Who has the word, as the room sees it.
    pub fn speaker(&mut self, dominant: Option<ParticipantId>) {
        // Silence passes the word to nobody.
        self.dominant = dominant.or(self.dominant);
    }

    /// The track on the air, `None` when there is none to show.
    pub fn on_air(&mut self, now: Instant) -> Option<TrackId> {
        let best = self.best();
        let is_there = |track: &TrackId| self.candidates.get(track).is_some_and(|c| !c.muted);
        let holds = self.on_air.filter(is_there).is_some()
            && self
                .changed_at
                .is_some_and(|at| now.saturating_duration_since(at) < HOLD);
        if best != self.on_air && !holds {
            self.on_air = best;
            self.changed_at = Some(now);
        }
        self.on_air
    }

    /// The identity of a track's publisher.
    pub fn identity(&self, track: TrackId) -> Option<&str> {
        let candidate = self.candidates.get(&track)?;
        Some(&candidate.identity)
    }

    fn best(&self) -> Option<TrackId> {
        let screen = || self.latest(|c| c.source == Source::ScreenShare);
        let speaker = || {
            let dominant = self.dominant?;
            self.latest(|c| c.participant == dominant && c.source == Source::Camera)
        };
        // Who was on the air stays there while whoever speaks shows nothing.
        let present = || {
            let shown = self.on_air?;
            self.latest_where(|track, c| track == shown && c.source == Source::Camera)
        };
        let camera = || self.latest(|c| c.source == Source::Camera);
        match &self.follow {
            Follow::Auto => screen().or_else(speaker).or_else(present).or_else(camera),
            Follow::Speaker => speaker().or_else(present).or_else(camera),
            Follow::Screen => screen(),
            Follow::Participant(identity) => {
                let theirs =
                    |source| self.latest(|c| c.identity == *identity && c.source == source);
                theirs(Source::ScreenShare).or_else(|| theirs(Source::Camera))
            }
        }
    }

    fn latest(&self, is_it: impl Fn(&Candidate) -> bool) -> Option<TrackId> {
        self.latest_where(|_, candidate| is_it(candidate))
    }

    fn latest_where(&self, is_it: impl Fn(TrackId, &Candidate) -> bool) -> Option<TrackId> {
        let candidates = self.candidates.iter();
        let shown = candidates.filter(|(track, c)| !c.muted && is_it(**track, c));
        shown.max_by_key(|(_, c)| c.order).map(|(track, _)| *track)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests count from some instant")]
mod tests {
    use super::*;

    fn id(number: u64) -> TrackId {
        TrackId::new(0, number)
    }

    fn who(number: u64) -> ParticipantId {
        ParticipantId::new(0, number)
    }

    /// Cameras of "p0", "p1" and "p2", as tracks 0, 1 and 2.
    fn meeting(follow: Follow) -> Program {
        let mut program = Program::new(follow);
        for number in 0..3 {
            let identity = format!("p{number}");
            program.note(id(number), (who(number), &identity), Source::Camera, false);
        }
        program
    }

    #[test]
    fn a_shared_screen_comes_before_who_speaks_and_that_before_who_came_last() {
        let now = Instant::now();
        let later = now + HOLD * 2;
        let mut program = meeting(Follow::Auto);
        assert_eq!(program.on_air(now), Some(id(2)));
        program.speaker(Some(who(0)));
        assert_eq!(program.on_air(later), Some(id(0)));
        program.note(id(9), (who(1), "p1"), Source::ScreenShare, false);
        assert_eq!(program.on_air(later + HOLD), Some(id(9)));
        program.remove(id(9));
        assert_eq!(
            program.on_air(later + HOLD),
            Some(id(0)),
            "at once: it is gone"
        );
    }

    #[test]
    fn the_picture_is_held_unless_it_is_gone() {
        let now = Instant::now();
        let mut program = meeting(Follow::Speaker);
        program.speaker(Some(who(0)));
        assert_eq!(program.on_air(now), Some(id(0)));
        program.speaker(Some(who(1)));
        assert_eq!(program.on_air(now + HOLD / 2), Some(id(0)));
        program.speaker(None);
        assert_eq!(program.on_air(now + HOLD), Some(id(1)));
        program.mute(id(1), true);
        let shown = program.on_air(now + HOLD);
        assert!(shown.is_some() && shown != Some(id(1)));
    }

    #[test]
    fn a_speaker_without_a_camera_leaves_the_picture_as_it_is() {
        let now = Instant::now();
        let mut program = meeting(Follow::Auto);
        program.speaker(Some(who(0)));
        program.on_air(now);
        program.speaker(Some(who(7)));
        assert_eq!(program.on_air(now + HOLD * 2), Some(id(0)));
    }

    #[test]
    fn one_participant_can_be_pinned_and_screens_alone_be_shown() {
        let now = Instant::now();
        let mut program = meeting(Follow::Participant("p1".to_owned()));
        program.speaker(Some(who(0)));
        assert_eq!(program.on_air(now), Some(id(1)));
        program.note(id(9), (who(1), "p1"), Source::ScreenShare, false);
        assert_eq!(program.on_air(now + HOLD), Some(id(9)));
        program.remove(id(9));
        program.remove(id(1));
        assert_eq!(program.on_air(now + HOLD), None, "nobody else will do");
        program.follow(Follow::Screen);
        assert_eq!(program.on_air(now + HOLD), None);
        program.note(id(5), (who(0), "p0"), Source::ScreenShare, false);
        assert_eq!(program.on_air(now + HOLD), Some(id(5)));
        assert_eq!(program.identity(id(5)), Some("p0"));
    }
}
