//! Encoders in an annex without shards, on a virtual clock.
#![expect(clippy::disallowed_methods, reason = "tests count from some instant")]

use sfu::Command;
use tokio::sync::oneshot::Receiver;

use super::*;
use crate::card::Card;

const WHO: ParticipantId = ParticipantId::new(0, 1);
const ROOM: RoomId = RoomId::new(0, 1);

struct Desk {
    now: Instant,
    annex: Annex,
    encoders: Encoders,
    card: Card,
    end: Receiver<Refusal>,
    dts_ms: i64,
}

impl Desk {
    /// An encoder that may publish these sources has connected.
    fn with(sources: &[Source]) -> Self {
        let (now, mut encoders) = (Instant::now(), Encoders::default());
        let (sender, end) = oneshot::channel();
        let who = (ROOM, "encoder".to_owned(), sources.to_vec());
        assert!(encoders.connect(now, WHO, who, sender));
        Self {
            now,
            annex: Annex::new(0),
            encoders,
            card: Card::new((320, 180), "", 25).unwrap(),
            end,
            dts_ms: 0,
        }
    }

    fn take(&mut self, media: Media) -> Vec<Heard> {
        let (now, annex) = (self.now, &mut self.annex);
        let hearing = self.encoders.handle_media(now, WHO, media, annex);
        hearing.into_iter().map(|(_, heard)| heard).collect()
    }

    /// Its next picture, which is told before if it is the first.
    fn picture(&mut self) -> Vec<Heard> {
        let mut hearing = Vec::new();
        if self.dts_ms == 0 {
            let config = self.card.config();
            hearing.extend(self.take(Media::VideoConfig(config)));
        }
        self.now += Duration::from_millis(40);
        self.dts_ms += 40;
        let (is_key, data) = self.card.frame(0);
        hearing.extend(self.take(Media::Video {
            dts_ms: self.dts_ms,
            composition_ms: 0,
            is_key,
            data,
        }));
        hearing
    }
}

fn count(hearing: &[Heard], is_it: impl Fn(&Heard) -> bool) -> usize {
    hearing.iter().filter(|heard| is_it(heard)).count()
}

fn track_of(hearing: &[Heard]) -> TrackId {
    let mut tracks = hearing.iter().filter_map(|heard| match heard {
        Heard::Track(track) => Some(track.id),
        _ => None,
    });
    tracks.next().unwrap()
}

#[test]
fn a_muted_track_is_heard_by_nobody_here_either() {
    let mut desk = Desk::with(&[]);
    let first = desk.picture();
    let track = track_of(&first);
    assert!(count(&first, |heard| matches!(heard, Heard::Packet(_))) > 0);
    for muted in [true, false] {
        desk.annex.handle_command(Command::Mute {
            participant: WHO,
            track,
            muted,
        });
        assert_eq!(desk.annex.poll_heard(), Some(Heard::Muted { track, muted }));
        let hearing = desk.encoders.mute(track, muted);
        let [(ROOM, Heard::State { track: id, state })] = hearing.as_slice() else {
            panic!("{hearing:?}");
        };
        assert_eq!((*id, state.muted), (track, muted));
        let next = desk.picture();
        let packets = count(&next, |heard| matches!(heard, Heard::Packet(_)));
        assert_eq!(packets == 0, muted);
        // Who begins to listen now knows it, too.
        let story = desk.encoders.story(ROOM);
        let [Heard::Track(known)] = story.as_slice() else {
            panic!("{story:?}");
        };
        assert_eq!(known.state.muted, muted);
    }
}

#[test]
fn what_its_token_does_not_allow_is_not_published() {
    let mut desk = Desk::with(&[Source::Microphone]);
    assert_eq!(desk.picture(), []);
    assert!(desk.end.try_recv().unwrap().description.contains("camera"));
    assert_eq!(desk.annex.poll_event(), None);
    // With another token it may, at the same place.
    let (sender, _end) = oneshot::channel();
    let who = (ROOM, "encoder".to_owned(), vec![Source::Camera]);
    assert!(!desk.encoders.connect(desk.now, WHO, who, sender));
    desk.dts_ms = 0;
    track_of(&desk.picture());
}

#[test]
fn what_another_token_does_not_allow_any_more_ends() {
    let mut desk = Desk::with(&[]);
    let track = track_of(&desk.picture());
    assert_eq!(desk.encoders.withdraw(WHO, &mut desk.annex), []);
    let (sender, _end) = oneshot::channel();
    let who = (ROOM, "encoder".to_owned(), vec![Source::Microphone]);
    assert!(!desk.encoders.connect(desk.now, WHO, who, sender));
    let ended = desk.encoders.withdraw(WHO, &mut desk.annex);
    assert_eq!(ended, [(ROOM, Heard::Ended { track })]);
    assert_eq!(desk.encoders.story(ROOM), []);
    assert_eq!(desk.picture(), []);
}

#[test]
fn tracks_end_with_their_encoder() {
    let mut desk = Desk::with(&[]);
    let track = track_of(&desk.picture());
    assert_eq!(desk.encoders.remove(WHO), Some((ROOM, vec![track])));
    assert_eq!(desk.end.try_recv().unwrap().code, RefusalCode::Denied);
    assert_eq!(desk.encoders.remove(WHO), None);
    assert!(desk.encoders.is_empty());
}
