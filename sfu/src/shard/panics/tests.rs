use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cascade::{News, Notice, TrackNews, TrackState};
use crate::config::Config;
use crate::ids::{Mid, RoomId, TrackId};
use crate::peer::dtls::Certificate;
use crate::sfu::{JoinOptions, Kind, MediaGrants, Publish, RoomConfig, Source, View, Wants};
use crate::shard::{Arena, Candidates, Protocol, ShardOptions};

/// Two rooms with two participants each: 0 and 1, 2 and 3.
struct House {
    now: Instant,
    shard: Shard,
}

fn participant(number: u64) -> ParticipantId {
    ParticipantId::new(0, number)
}

fn join(room: u64, number: u64) -> Command {
    Command::Join {
        room: RoomId::new(0, room),
        participant: participant(number),
        options: JoinOptions {
            identity: number.to_string(),
            grants: MediaGrants::default(),
            wants: Wants::All,
        },
    }
}

impl House {
    #[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
    fn new() -> Self {
        let now = Instant::now();
        let mut shard = Shard::new(ShardOptions {
            index: 0,
            config: Arc::new(Config::default()),
            candidates: Candidates::default(),
            certificate: Arc::new(Certificate::generate()),
            seed: [1; 32],
            has_seeded_dtls: false,
            started: now,
            ntp_at_start: 0,
        });
        for room in [0, 1] {
            let config = RoomConfig::default();
            let id = RoomId::new(0, room);
            shard.handle_command(now, Command::CreateRoom { room: id, config });
            for number in [2 * room, 2 * room + 1] {
                shard.handle_command(now, join(room, number));
            }
        }
        let mut house = Self { now, shard };
        assert_eq!(house.ended(), []);
        house
    }

    fn peer(&self, number: u64) -> Unit {
        Unit::Peer(self.shard.peer_keys[&participant(number)])
    }

    fn room(&self, room: u64) -> Unit {
        Unit::Room(self.shard.room_keys[&RoomId::new(0, room)])
    }

    /// Lets a peer's timer run out.
    fn tick(&mut self, number: u64) {
        let key = self.shard.peer_keys[&participant(number)];
        self.shard.peers[key].due = Some(self.now);
        self.shard.timers.push(Reverse((self.now, key)));
        self.shard.handle_timeout(self.now);
    }

    /// Whose end was told since the last call, in order of their numbers.
    fn ended(&mut self) -> Vec<ParticipantId> {
        let mut ended = Vec::new();
        while let Some(event) = self.shard.poll_event() {
            if let Event::ParticipantEnded { participant } = event {
                ended.push(participant);
            }
        }
        ended.sort();
        ended
    }

    fn counted(&self) -> [u64; 3] {
        let metrics = self.shard.metrics();
        [PanicUnit::Peer, PanicUnit::Room, PanicUnit::Shard].map(|unit| metrics.panics_of(unit))
    }

    /// Only the first room was ended, and people may come to it again.
    fn assert_first_room_ended(&mut self) {
        assert_eq!(self.ended(), [participant(0), participant(1)]);
        assert_eq!(self.counted(), [0, 1, 0]);
        assert_eq!(self.shard.metrics().peers, 2);
        assert_eq!(self.shard.metrics().rooms, 2);
        self.shard.handle_command(self.now, join(0, 7));
        self.shard.handle_timeout(self.now + Duration::from_secs(1));
        assert_eq!(self.ended(), []);
        assert_eq!(self.shard.metrics().peers, 3);
    }
}

#[test]
fn a_panic_in_a_command_ends_its_room() {
    let mut house = House::new();
    house.shard.stumbles = vec![house.room(0)];
    let command = Command::View {
        participant: participant(1),
        track: TrackId::new(0, 1),
        view: View::default(),
    };
    house.shard.handle_command(house.now, command);
    house.assert_first_room_ended();
}

#[test]
fn what_other_shards_have_in_the_other_room_is_not_counted_as_our_own() {
    let mut house = House::new();
    // Somebody on shard 1 shares the second room and publishes there.
    let room = RoomId::new(0, 1);
    let is_answer = true;
    let track = TrackNews {
        room,
        participant: ParticipantId::new(1, 50),
        identity: "guest".to_owned(),
        id: TrackId::new(1, 9),
        kind: Kind::Audio,
        publish: Publish {
            mid: Mid::parse("0").unwrap(),
            source: Source::Microphone,
            name: String::new(),
            muted: false,
            width: 0,
            height: 0,
            codec: None,
            stereo: false,
            dtx: false,
        },
        codecs: Vec::new(),
        rids: Vec::new(),
        state: TrackState {
            muted: false,
            codec: None,
            layers: Vec::new(),
            ranks: vec![0],
        },
    };
    let notices = [
        News::Opened { room, is_answer },
        News::Track(Box::new(track)),
    ];
    let now = house.now;
    house.shard.handle_notices(now, 1, notices.map(Notice));
    let gauges = |house: &House| {
        let metrics = house.shard.metrics();
        [metrics.peers, metrics.tracks, metrics.cascade_tracks]
    };
    assert_eq!(gauges(&house), [4, 0, 1]);
    house.shard.stumbles = vec![house.room(0)];
    house.shard.handle_timeout(now);
    assert_eq!(gauges(&house), [2, 0, 1]);
    house.shard.stumbles = vec![house.room(1)];
    house.shard.handle_timeout(now + Duration::from_secs(1));
    assert_eq!(gauges(&house), [0, 0, 0]);
}

#[test]
fn a_panic_in_the_regular_look_at_a_room_ends_it() {
    let mut house = House::new();
    house.shard.stumbles = vec![house.room(0)];
    house.shard.handle_timeout(house.now);
    house.assert_first_room_ended();
}

#[test]
fn a_panic_in_feedback_or_allocation_ends_the_room() {
    let mut house = House::new();
    house.shard.handle_timeout(house.now);
    house.shard.stumbles = vec![house.room(0)];
    house.tick(1);
    house.assert_first_room_ended();
}

#[test]
fn a_panic_in_what_a_peer_sends_or_is_sent_ends_the_peer() {
    let path = Path {
        local: "127.0.0.1:1".parse().unwrap(),
        remote: "127.0.0.1:2".parse().unwrap(),
        protocol: Protocol::Udp,
    };
    let works: [fn(&mut House, Path); 4] = [
        |house, path| {
            let mut bytes = [0; 20];
            let mut batch = [Datagram {
                path,
                ecn: 0,
                bytes: &mut bytes,
            }];
            house.shard.handle_batch(house.now, &mut batch);
        },
        |house, path| house.shard.handle_closed(house.now, path),
        |house, _| house.tick(1),
        |house, _| {
            let key = house.shard.peer_keys[&participant(1)];
            house.shard.peers[key].is_touched = true;
            house.shard.touched.push(key);
            let is_full = house.shard.flush(house.now, &mut Arena::new());
            assert!(!is_full);
        },
    ];
    for work in works {
        let mut house = House::new();
        house.shard.handle_timeout(house.now);
        let key = house.shard.peer_keys[&participant(1)];
        house.shard.demux.add_path(path, key);
        house.shard.stumbles = vec![house.peer(1)];
        work(&mut house, path);
        assert_eq!(house.ended(), [participant(1)]);
        assert_eq!(house.counted(), [1, 0, 0]);
        assert_eq!(house.shard.metrics().peers, 3);
        assert_eq!(house.shard.demux.peer_on(&path), None);
    }
}

#[test]
fn a_peer_whose_end_panics_takes_its_room_along() {
    let mut house = House::new();
    house.shard.handle_timeout(house.now);
    house.shard.stumbles = vec![house.room(0), house.peer(1)];
    house.tick(1);
    assert_eq!(house.ended(), [participant(0), participant(1)]);
    assert_eq!(house.counted(), [1, 1, 0]);
    assert_eq!(house.shard.metrics().peers, 2);
}

#[test]
fn who_joins_when_a_room_ends_is_told_once_and_a_closing_room_is_gone() {
    let mut house = House::new();
    house.shard.stumbles = vec![house.room(0)];
    house.shard.handle_command(house.now, join(0, 5));
    assert_eq!(
        house.ended(),
        [participant(0), participant(1), participant(5)]
    );
    house.shard.stumbles = vec![house.room(1)];
    let room = RoomId::new(0, 1);
    house
        .shard
        .handle_command(house.now, Command::CloseRoom { room });
    assert_eq!(house.ended(), [participant(2), participant(3)]);
    assert_eq!(house.shard.metrics().rooms, 1);
    assert_eq!(house.counted(), [0, 2, 0]);
}
