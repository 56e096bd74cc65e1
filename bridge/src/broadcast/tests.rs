//! Whole programs from packets, on a virtual clock.
#![expect(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "tests count small numbers from some instant"
)]

use bytes::Bytes;
use sfu::annex::{HeardLayer, HeardState};
use sfu::{RoomId, Source};

use super::*;
use crate::card::Card;

const ROOM: u64 = 1;
/// The publishers' wall clock when the test begins, 32.32 bits.
const NTP: u64 = 3_900_000_000 << 32;

/// A room with publishers whose pictures are cards and whose sound is Opus.
struct Stage {
    now: Instant,
    begun: Instant,
    broadcast: Broadcast,
    people: Vec<Person>,
    samples: Vec<Sample>,
    asks: Vec<Ask>,
    /// All sound that was sent.
    sent: Vec<Bytes>,
}

struct Person {
    camera: HeardTrack,
    microphone: HeardTrack,
    encoders: Vec<Camera>,
    voice: opus::Encoder,
    is_there: bool,
    /// Its loudness is told as silence.
    is_silent: bool,
    /// Its next piece of sound is lost.
    loses: bool,
}

/// One encoding, 25 pictures a second.
struct Camera {
    card: Card,
    is_wanted: bool,
    wants_key: bool,
    next: u64,
    sequence: u64,
}

fn track(id: u64, who: u64, kind: Kind, sizes: &[u16], codec: Codec) -> HeardTrack {
    let layers = sizes.iter().map(|&height| HeardLayer {
        live: true,
        width: height / 9 * 16,
        height,
        bitrate_bps: 100_000,
    });
    HeardTrack {
        id: TrackId::new(0, id),
        room: RoomId::new(0, ROOM),
        participant: ParticipantId::new(0, who),
        identity: format!("p{who}"),
        kind,
        source: match kind {
            Kind::Audio => Source::Microphone,
            Kind::Video => Source::Camera,
        },
        state: HeardState {
            muted: false,
            codec: Some(codec),
            layers: layers.collect(),
            ranks: (0..).take(sizes.len()).collect(),
        },
    }
}

impl Stage {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            now,
            begun: now,
            broadcast: Broadcast::new(now, settings).unwrap(),
            people: Vec::new(),
            samples: Vec::new(),
            asks: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Someone publishes a camera in these heights and a microphone.
    fn join(&mut self, heights: &[u16], codec: Codec) -> usize {
        let who = self.people.len() as u64;
        let camera = track(2 * who, who, Kind::Video, heights, codec);
        let microphone = track(2 * who + 1, who, Kind::Audio, &[0], Codec::Opus);
        for track in [&camera, &microphone] {
            let heard = Heard::Track(Box::new(track.clone()));
            self.broadcast.handle_heard(&heard);
        }
        let cameras = heights.iter().map(|&height| Camera {
            card: Card::new((height / 9 * 16, height), "", 1_000_000).unwrap(),
            is_wanted: false,
            wants_key: false,
            next: 0,
            sequence: 100,
        });
        self.people.push(Person {
            camera,
            microphone,
            encoders: cameras.collect(),
            voice: opus::Encoder::new(48_000, opus::Channels::Stereo, opus::Application::Audio)
                .unwrap(),
            is_there: true,
            is_silent: false,
            loses: false,
        });
        self.people.len() - 1
    }

    fn leave(&mut self, who: usize) {
        let person = &mut self.people[who];
        person.is_there = false;
        for track in [person.camera.id, person.microphone.id] {
            self.broadcast.handle_heard(&Heard::Ended { track });
        }
    }

    fn speak(&mut self, who: usize) {
        let room = RoomId::new(0, ROOM);
        let dominant = Some(self.people[who].camera.participant);
        let loudest = Vec::new();
        let heard = Heard::Speakers {
            room,
            dominant,
            loudest,
        };
        self.broadcast.handle_heard(&heard);
    }

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.now += Duration::from_millis(20);
            let tick = (self.now - self.begun).as_millis() as u64 / 20;
            for who in 0..self.people.len() {
                if self.people[who].is_there {
                    self.send(who, tick);
                }
            }
            self.broadcast.handle_timeout(self.now);
            while let Some(piece) = self.broadcast.poll_sample() {
                self.samples.push(piece.sample);
            }
            while let Some(ask) = self.broadcast.poll_ask() {
                self.answer(ask);
                self.asks.push(ask);
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        let (track, encodings, is_want) = match ask {
            Ask::Want { track, encodings } => (track, encodings, true),
            Ask::Keyframe { track, encodings } => (track, encodings, false),
            Ask::Codec { .. } => return,
        };
        let person = self
            .people
            .iter_mut()
            .find(|person| person.camera.id == track);
        let Some(person) = person else { return };
        for (bit, camera) in person.encoders.iter_mut().enumerate() {
            let is_meant = encodings >> bit & 1 == 1;
            if is_want {
                camera.is_wanted = is_meant;
            } else {
                camera.wants_key |= is_meant;
            }
        }
    }

    /// 20 ms of sound, and with every other a picture.
    fn send(&mut self, who: usize, tick: u64) {
        let (now, person) = (self.now, &mut self.people[who]);
        let seconds = tick / 50;
        if tick.is_multiple_of(50) {
            for track in [person.camera.id, person.microphone.id] {
                let is_sound = track == person.microphone.id;
                let rate = if is_sound { 48_000 } else { 90_000 };
                let heard = Heard::Clock {
                    track,
                    encoding: 0,
                    ntp: NTP + (seconds << 32),
                    rtp_timestamp: (seconds * rate) as u32,
                    arrival: now,
                };
                self.broadcast.handle_heard(&heard);
            }
        }
        let sound = tone(tick);
        let payload: Bytes = person.voice.encode_vec_float(&sound, 1275).unwrap().into();
        self.sent.push(payload.clone());
        let packet = HeardPacket {
            track: person.microphone.id,
            encoding: 0,
            codec: Codec::Opus,
            sequence: tick,
            timestamp: tick * 960,
            marker: false,
            arrival: now,
            audio_level: Some(if person.is_silent { 127 } else { 20 }),
            payload,
        };
        if !std::mem::take(&mut person.loses) {
            self.broadcast.handle_heard(&Heard::Packet(packet));
        }
        if tick % 2 == 1 {
            return;
        }
        let codec = person.camera.state.codec.unwrap();
        for (encoding, camera) in person.encoders.iter_mut().enumerate() {
            if !camera.is_wanted {
                continue;
            }
            for (payload, marker) in camera.encode() {
                camera.sequence += 1;
                let packet = HeardPacket {
                    track: person.camera.id,
                    encoding: encoding as u8,
                    codec,
                    sequence: camera.sequence,
                    timestamp: tick * 1800,
                    marker,
                    arrival: now,
                    audio_level: None,
                    payload,
                };
                self.broadcast.handle_heard(&Heard::Packet(packet));
            }
        }
    }

    fn pictures(&self, rung: usize) -> Vec<&Placed> {
        let samples = self.samples.iter();
        samples
            .filter_map(|sample| match sample {
                Sample::Video(placed) if placed.rung == rung => Some(placed),
                _ => None,
            })
            .collect()
    }

    fn sounds(&self, codec: AudioCodec) -> Vec<&AudioFrame> {
        let samples = self.samples.iter();
        samples
            .filter_map(|sample| match sample {
                Sample::Audio(frame) if frame.config.codec == codec => Some(frame),
                _ => None,
            })
            .collect()
    }

    /// Whether each piece of sound of the last `count` is one that was sent.
    fn passed(&self, count: usize) -> Vec<bool> {
        let sounds = self.sounds(AudioCodec::Opus);
        let last = sounds.get(sounds.len() - count..).unwrap();
        let is_sent = |frame: &&AudioFrame| self.sent.contains(&frame.data);
        last.iter().map(is_sent).collect()
    }

    /// The largest step from one sample to the next in what a player decodes, the abrupt beginning aside.
    fn steepest(&self) -> f32 {
        let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
        let mut pcm = vec![0.0f32; 2 * 960];
        let (mut last, mut steepest) = (0.0f32, 0.0f32);
        for frame in self.sounds(AudioCodec::Opus) {
            let decoded = decoder.decode_float(&frame.data, &mut pcm, false);
            assert_eq!(decoded.unwrap(), 960);
            for pair in pcm.as_chunks::<2>().0 {
                if frame.at_us > 100_000 {
                    steepest = steepest.max((pair[0] - last).abs());
                }
                last = pair[0];
            }
        }
        steepest
    }

    /// How often another source began, and every height that was shown, on the top rung.
    fn cuts(&self) -> (usize, Vec<u16>) {
        let pictures = self.pictures(0);
        let cuts = pictures.iter().filter(|placed| placed.is_cut);
        let heights = cuts.clone().map(|placed| placed.frame.config.height);
        (cuts.count(), heights.collect())
    }
}

/// 20 ms of a tone that goes on from tick to tick, left and right.
fn tone(tick: u64) -> Vec<f32> {
    let samples = (0..1920).map(|at| tick * 960 + at / 2);
    samples
        .map(|at| ((at as f64 / 20.0).sin() / 4.0) as f32)
        .collect()
}

impl Camera {
    /// The next picture as packets.
    fn encode(&mut self) -> Vec<(Bytes, bool)> {
        let is_key = std::mem::take(&mut self.wants_key) || self.next == 0;
        let index = if is_key { 0 } else { self.next };
        self.next = index + 1;
        let (_, data) = self.card.frame(index);
        let config = self.card.config();
        let record = crate::packing::parse_avcc(&config.record).unwrap();
        let packer = crate::packing::H264Packer::new(record);
        let packets = packer.pack(&data).unwrap();
        packets
            .into_iter()
            .map(|packet| (packet.bytes, packet.marker))
            .collect()
    }
}

fn check_time(stage: &Stage, rungs: usize) {
    for rung in 0..rungs {
        let pictures = stage.pictures(rung);
        let times = pictures.windows(2);
        for pair in times {
            assert!(pair[1].frame.at_us > pair[0].frame.at_us);
        }
        for placed in &pictures {
            assert!(!placed.is_cut || placed.frame.is_key, "a cut is a keyframe");
        }
    }
    let sounds = stage.sounds(AudioCodec::Opus);
    for pair in sounds.windows(2) {
        assert_eq!(pair[1].at_us - pair[0].at_us, 20_000, "sound has no hole");
    }
}

#[test]
fn an_empty_room_is_a_card_and_silence() {
    let mut stage = Stage::new(Settings::default());
    stage.run_ms(5_000);
    assert!((20..30).contains(&stage.pictures(0).len()));
    assert!((240..=250).contains(&stage.sounds(AudioCodec::Opus).len()));
    assert_eq!(stage.broadcast.shown(), &Shown::Nobody);
    check_time(&stage, 1);
}

#[test]
fn a_publisher_is_shown_in_all_its_encodings_with_a_keyframe_in_each_turn() {
    let mut stage = Stage::new(Settings::default());
    stage.run_ms(1_000);
    let who = stage.join(&[180, 360, 720], Codec::H264);
    stage.run_ms(10_000);
    let camera = stage.people[who].camera.id;
    let shown = Shown::Picture {
        identity: "p0".to_owned(),
        track: camera,
    };
    assert_eq!(stage.broadcast.shown(), &shown);
    for (rung, height) in [(0, 720), (1, 360), (2, 180)] {
        let pictures = stage.pictures(rung);
        let real: Vec<_> = pictures
            .iter()
            .skip_while(|placed| !(placed.is_cut && placed.frame.config.height == height))
            .collect();
        assert!(real.len() > 230, "{} on rung {rung}", real.len());
        assert!(
            real.iter()
                .all(|placed| placed.frame.config.height == height)
        );
        let keys: Vec<i64> = real
            .iter()
            .filter(|placed| placed.frame.is_key)
            .map(|placed| placed.frame.at_us)
            .collect();
        assert!((5..=7).contains(&keys.len()), "{keys:?}");
    }
    check_time(&stage, 3);
    let asked = stage
        .asks
        .iter()
        .filter(|ask| matches!(ask, Ask::Keyframe { .. }));
    assert!(
        asked.count() < 12,
        "keyframes are not asked for more than is needed"
    );
}

#[test]
fn whenever_a_publisher_begins_its_keyframes_are_an_interval_apart() {
    for offset_ms in (0..2_000).step_by(140) {
        let mut stage = Stage::new(Settings::default());
        stage.run_ms(1_000 + offset_ms);
        stage.join(&[540, 180], Codec::H264);
        stage.run_ms(9_000);
        for rung in [0, 1] {
            let pictures = stage.pictures(rung);
            let real = pictures
                .iter()
                .skip_while(|placed| placed.frame.config.height == 720);
            let keys = real.filter(|placed| placed.frame.is_key);
            let keys: Vec<i64> = keys.map(|placed| placed.frame.at_us).collect();
            let apart = keys.windows(2).map(|pair| pair[1] - pair[0]);
            let wrong: Vec<i64> = apart
                .filter(|us| !(1_500_000..2_150_000).contains(us))
                .collect();
            assert!(
                wrong.is_empty(),
                "rung {rung}, begun at {offset_ms} ms: {keys:?}"
            );
        }
    }
}

#[test]
fn the_picture_follows_who_speaks_ten_times() {
    let mut stage = Stage::new(Settings::default());
    let heights = [360, 540, 720];
    let people: Vec<usize> = heights
        .map(|height| stage.join(&[height], Codec::H264))
        .into();
    stage.run_ms(3_000);
    let mut expected = Vec::new();
    for turn in 0..10 {
        let who = people[turn % 3];
        stage.speak(who);
        stage.run_ms(2_400);
        expected.push(heights[turn % 3]);
        let identity = format!("p{who}");
        assert!(
            matches!(stage.broadcast.shown(), Shown::Picture { identity: shown, .. } if *shown == identity)
        );
    }
    let (_, heights) = stage.cuts();
    assert_eq!(heights[heights.len() - 10..], expected);
    check_time(&stage, 1);
    let wanted = stage
        .people
        .iter()
        .filter(|person| person.encoders[0].is_wanted);
    assert_eq!(wanted.count(), 1, "what is not shown is not had");
}

#[test]
fn who_leaves_leaves_the_card_and_who_returns_is_shown_again() {
    let mut stage = Stage::new(Settings::default());
    let who = stage.join(&[360], Codec::H264);
    stage.run_ms(3_000);
    stage.leave(who);
    stage.run_ms(3_000);
    assert_eq!(stage.broadcast.shown(), &Shown::Nobody);
    assert!(!stage.broadcast.has_publishers());
    stage.join(&[720], Codec::H264);
    stage.run_ms(3_000);
    let (_, heights) = stage.cuts();
    let tail: Vec<u16> = heights.iter().rev().take(3).copied().collect();
    assert_eq!(tail, [720, 360, 360], "picture, card of its size, picture");
    check_time(&stage, 1);
}

#[test]
fn who_vanishes_leaves_the_card_and_that_is_said() {
    let mut stage = Stage::new(Settings::default());
    let who = stage.join(&[360], Codec::H264);
    stage.run_ms(3_000);
    assert!(matches!(stage.broadcast.shown(), Shown::Picture { .. }));
    stage.people[who].is_there = false;
    stage.run_ms(5_000);
    let identity = "p0".to_owned();
    assert_eq!(stage.broadcast.shown(), &Shown::Silent { identity });
    stage.people[who].is_there = true;
    stage.run_ms(2_000);
    assert!(matches!(stage.broadcast.shown(), Shown::Picture { .. }));
}

#[test]
fn a_codec_that_is_not_carried_is_named_and_another_one_asked_for() {
    let mut stage = Stage::new(Settings::default());
    let who = stage.join(&[360], Codec::Vp8);
    stage.run_ms(1_000);
    let identity = "p0".to_owned();
    let codec = Codec::Vp8;
    assert_eq!(stage.broadcast.shown(), &Shown::Codec { identity, codec });
    let camera = stage.people[who].camera.id;
    assert!(stage.asks.contains(&Ask::Codec {
        track: camera,
        codec: Codec::H264
    }));
    assert!(!stage.people[who].encoders[0].is_wanted);
    assert!(
        stage
            .pictures(0)
            .iter()
            .all(|placed| placed.frame.config.height == 720)
    );
    assert!(
        stage.sounds(AudioCodec::Opus).len() > 40,
        "its sound is carried"
    );
}

#[test]
fn sound_is_mixed_and_silence_is_not_decoded() {
    let mut stage = Stage::new(Settings::default());
    let who = stage.join(&[360], Codec::H264);
    stage.run_ms(3_000);
    let loud = |stage: &Stage| {
        let sounds = stage.sounds(AudioCodec::Opus);
        let last = sounds.iter().rev().take(20);
        last.map(|frame| frame.data.len()).sum::<usize>() / 20
    };
    let spoken = loud(&stage);
    stage.people[who].is_silent = true;
    stage.run_ms(3_000);
    assert!(loud(&stage) * 2 < spoken, "{} and {spoken}", loud(&stage));
    check_time(&stage, 1);
}

#[test]
fn who_is_alone_is_passed_on_as_he_was_sent_and_mixed_with_others_without_a_click() {
    let mut stage = Stage::new(Settings::default());
    stage.join(&[360], Codec::H264);
    stage.run_ms(1_500);
    assert!(stage.passed(50).iter().all(|is_sent| !is_sent));
    stage.run_ms(2_500);
    assert!(stage.passed(50).iter().all(|is_sent| *is_sent));
    let second = stage.join(&[360], Codec::H264);
    stage.run_ms(1_000);
    assert!(stage.passed(40).iter().all(|is_sent| !is_sent));
    stage.people[second].is_silent = true;
    stage.run_ms(4_000);
    assert!(stage.passed(50).iter().all(|is_sent| *is_sent));
    stage.people[second].is_silent = false;
    stage.run_ms(1_000);
    assert!(stage.passed(40).iter().all(|is_sent| !is_sent));
    check_time(&stage, 1);
    // Two tones of a quarter of full scale make steps of 0.025.
    assert!(stage.steepest() < 0.05, "{}", stage.steepest());
}

#[test]
fn what_is_lost_of_one_who_is_alone_is_concealed_and_then_he_is_passed_on_again() {
    let mut stage = Stage::new(Settings::default());
    let who = stage.join(&[360], Codec::H264);
    stage.run_ms(4_000);
    stage.people[who].loses = true;
    stage.run_ms(1_000);
    assert!(stage.passed(40).iter().all(|is_sent| !is_sent));
    stage.run_ms(2_500);
    assert!(stage.passed(50).iter().all(|is_sent| *is_sent));
    check_time(&stage, 1);
    assert!(stage.steepest() < 0.05, "{}", stage.steepest());
}

#[test]
fn nobody_is_silence_that_nobody_encodes() {
    let mut stage = Stage::new(Settings::default());
    stage.run_ms(4_000);
    let last = stage.sounds(AudioCodec::Opus).pop().unwrap();
    assert_eq!(last.data.len(), 3);
    assert!(stage.steepest() <= f32::EPSILON, "{}", stage.steepest());
    let who = stage.join(&[360], Codec::H264);
    stage.run_ms(4_000);
    stage.leave(who);
    stage.run_ms(4_000);
    check_time(&stage, 1);
    assert!(stage.steepest() < 0.05, "{}", stage.steepest());
}

#[test]
fn what_many_say_is_not_left_to_one_look() {
    let mut stage = Stage::new(Settings::default());
    stage.join(&[360], Codec::H264);
    stage.join(&[360], Codec::H264);
    stage.run_ms(2_000);
    let wait_us = |stage: &Stage| {
        let now_us = stage.broadcast.timeline().at_us(stage.now);
        stage.broadcast.next_look_us(now_us) - now_us
    };
    assert!(wait_us(&stage) > 500_000, "two are none too many");
    let third = stage.join(&[360], Codec::H264);
    stage.run_ms(1_000);
    assert_eq!(wait_us(&stage), 20_000);
    stage.people[third].is_silent = true;
    stage.run_ms(1_000);
    assert!(wait_us(&stage) > 500_000);
}

#[test]
fn with_aac_everything_is_mixed() {
    let mut stage = Stage::new(Settings::default());
    stage.join(&[360], Codec::H264);
    stage.run_ms(4_000);
    if stage.broadcast.add_audio(AudioCodec::Aac).is_err() {
        return;
    }
    stage.run_ms(4_000);
    assert!(stage.passed(150).iter().all(|is_sent| !is_sent));
    check_time(&stage, 1);
    assert!(stage.steepest() < 0.05, "{}", stage.steepest());
    let aac = stage.sounds(AudioCodec::Aac);
    let apart = aac.windows(2).map(|pair| pair[1].at_us - pair[0].at_us);
    assert!(apart.into_iter().all(|us| (21_330..=21_336).contains(&us)));
}

#[test]
fn while_it_is_paused_nothing_is_had_and_it_goes_on_with_a_cut() {
    let mut stage = Stage::new(Settings::default());
    let who = stage.join(&[360], Codec::H264);
    stage.run_ms(3_000);
    stage.broadcast.pause();
    stage.run_ms(20);
    let before = stage.samples.len();
    assert!(!stage.people[who].encoders[0].is_wanted);
    stage.run_ms(10_000);
    assert_eq!(stage.samples.len(), before);
    stage.broadcast.resume(stage.now).unwrap();
    stage.run_ms(2_000);
    let resumed: Vec<_> = stage.samples[before..].to_vec();
    let first = resumed.iter().find_map(|sample| match sample {
        Sample::Video(placed) => Some(placed),
        Sample::Audio(_) => None,
    });
    assert!(first.is_some_and(|placed| placed.is_cut));
    let sounds = resumed.iter().filter_map(|sample| match sample {
        Sample::Audio(frame) => Some(frame.at_us),
        Sample::Video(_) => None,
    });
    let sounds: Vec<i64> = sounds.collect();
    assert!((80..=100).contains(&sounds.len()));
    assert!(sounds[0] > 12_900_000, "{}", sounds[0]);
}

#[test]
fn sound_and_picture_of_one_moment_have_one_time() {
    let mut stage = Stage::new(Settings::default());
    stage.join(&[360], Codec::H264);
    stage.run_ms(6_000);
    // A picture is made with every other piece of sound, at the same moment of the publisher's clock.
    let pictures = stage.pictures(0);
    let last = pictures.last().unwrap().frame.at_us;
    let now_us = stage.broadcast.timeline().at_us(stage.now);
    assert!((0..60_000).contains(&(now_us - last)), "{}", now_us - last);
}

#[test]
fn garbage_costs_nothing_but_itself() {
    let mut stage = Stage::new(Settings::default());
    let who = stage.join(&[360], Codec::H264);
    stage.run_ms(1_000);
    let (camera, microphone) = (stage.people[who].camera.id, stage.people[who].microphone.id);
    for number in 0..2_000u64 {
        for (track, codec) in [(camera, Codec::H264), (microphone, Codec::Opus)] {
            let bytes: Vec<u8> = (0..number % 60)
                .map(|at| (number * 37 + at * 101) as u8)
                .collect();
            let packet = HeardPacket {
                track,
                encoding: (number % 9) as u8,
                codec,
                sequence: number.wrapping_mul(0x9e37_79b9),
                timestamp: number.wrapping_mul(0x1234_5678_9abc),
                marker: number.is_multiple_of(3),
                arrival: stage.now,
                audio_level: Some((number % 128) as u8),
                payload: bytes.into(),
            };
            stage.broadcast.handle_heard(&Heard::Packet(packet));
        }
    }
    stage.run_ms(5_000);
    assert!(stage.sounds(AudioCodec::Opus).len() > 280);
    assert!(stage.pictures(0).len() > 10);
}

#[test]
fn at_the_end_there_is_sound_for_all_pictures() {
    let settings = Settings {
        audio: vec![AudioCodec::Opus],
        ..Settings::default()
    };
    let mut stage = Stage::new(settings);
    stage.join(&[360], Codec::H264);
    stage.run_ms(3_000);
    stage.broadcast.finish();
    stage
        .samples
        .extend(std::iter::from_fn(|| stage.broadcast.poll_sample()).map(|piece| piece.sample));
    let picture_us = stage.pictures(0).last().unwrap().frame.at_us;
    let sound_us = stage.sounds(AudioCodec::Opus).last().unwrap().at_us;
    assert!(sound_us > picture_us, "{sound_us} and {picture_us}");
    check_time(&stage, 1);
}
