//! What an encoder publishes over RTMP as packets for a room: a pure machine.
//!
//! The encoder's clock counts from anywhere and begins anew with each connection; the tracks in the room
//! go on: both sound and pictures are shifted by the same amount, which stays for a connection.

use std::time::{Duration, Instant};

use sfu::annex::OwnPacket;
use thiserror::Error;

use crate::audio::{AacError, AacIngest, OpusPacket};
use crate::media::AudioConfig;
use crate::packing::{AvcRecord, H264Packer, PackError, parse_avcc};

/// Ticks of the video clock in a millisecond.
const VIDEO_TICKS_PER_MS: i64 = 90;
/// The encoder's clock has jumped when it is off by more.
const JUMP: Duration = Duration::from_secs(5);
/// Clocks differ by no more than this, in millionths.
const DRIFT_PPM: i64 = 300;
/// RTP timestamps begin here, so that what is a little before the beginning has one too.
const FIRST_MS: i64 = 60_000;

/// Packets for one of an encoder's tracks.
#[derive(Clone, Debug, PartialEq)]
pub enum Packets {
    /// Of pictures.
    Video(Vec<OwnPacket>),
    /// Of sound.
    Audio(Vec<OwnPacket>),
}

/// Why something of an encoder is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncoderError {
    /// Its pictures cannot be packed.
    #[error(transparent)]
    Picture(#[from] PackError),
    /// Its sound cannot be decoded.
    #[error(transparent)]
    Sound(#[from] AacError),
}

/// An encoder's media on their way into a room.
#[derive(Debug)]
pub struct Encoder {
    zero: Instant,
    packer: Option<H264Packer>,
    sound: Option<AacIngest>,
    opus: Vec<OpusPacket>,
    /// What is added to the encoder's times in this connection, in milliseconds.
    shift_ms: Option<i64>,
    /// The least by which anything came later than its time says: how the encoder's clock stands to ours.
    delay: Option<Delay>,
    last_level: u8,
}

#[derive(Clone, Copy, Debug)]
struct Delay {
    us: i64,
    at: Instant,
}

impl Encoder {
    /// Whose tracks begin now.
    pub fn new(now: Instant) -> Self {
        Self {
            zero: now,
            packer: None,
            sound: None,
            opus: Vec::new(),
            shift_ms: None,
            delay: None,
            last_level: u8::MAX,
        }
    }

    /// The encoder connects anew: its clock begins anew, its tracks go on.
    pub fn reconnect(&mut self) {
        (self.shift_ms, self.delay) = (None, None);
    }

    /// Pictures are coded like this from now on: a decoder configuration record.
    ///
    /// # Errors
    /// It is garbage.
    pub fn configure_video(&mut self, record: &[u8]) -> Result<(), EncoderError> {
        let parsed: AvcRecord = parse_avcc(record)?;
        // What comes out of the connection has lengths of four bytes, whatever the encoder used.
        let parsed = AvcRecord {
            length_bytes: 4,
            ..parsed
        };
        self.packer = Some(H264Packer::new(parsed));
        Ok(())
    }

    /// Sound is coded like this from now on.
    ///
    /// # Errors
    /// It is garbage, or this build has no AAC.
    pub fn configure_audio(&mut self, config: &AudioConfig) -> Result<(), EncoderError> {
        self.sound = Some(AacIngest::new(&config.record, None)?);
        Ok(())
    }

    /// A picture, decoded at `dts_ms` of the encoder's clock.
    ///
    /// # Errors
    /// It is garbage; nothing of it is sent.
    pub fn video(
        &mut self,
        now: Instant,
        dts_ms: i64,
        data: &[u8],
    ) -> Result<Option<Packets>, EncoderError> {
        let at_ms = self.place(now, dts_ms);
        let Some(packer) = &self.packer else {
            return Ok(None);
        };
        let timestamp = to_ticks(at_ms + FIRST_MS, VIDEO_TICKS_PER_MS);
        let packets = packer.pack(data)?.into_iter().map(|payload| OwnPacket {
            timestamp,
            marker: payload.marker,
            arrival: now,
            audio_level: None,
            payload: payload.bytes,
        });
        Ok(Some(Packets::Video(packets.collect())))
    }

    /// A packet of sound, heard at `dts_ms` of the encoder's clock.
    ///
    /// # Errors
    /// It is garbage; silence takes its place.
    pub fn audio(
        &mut self,
        now: Instant,
        dts_ms: i64,
        data: &[u8],
    ) -> Result<Option<Packets>, EncoderError> {
        let at_ms = self.place(now, dts_ms);
        let Some(sound) = &mut self.sound else {
            return Ok(None);
        };
        self.opus.clear();
        let pushed = sound.push(at_ms * 1000, data, &mut self.opus);
        pushed?;
        let packets = self.opus.drain(..).map(|packet| OwnPacket {
            timestamp: to_ticks(packet.at_samples + FIRST_MS * 48, 1),
            marker: false,
            arrival: now,
            audio_level: Some(packet.level),
            payload: packet.data,
        });
        let packets: Vec<OwnPacket> = packets.collect();
        let levels = packets.iter().filter_map(|packet| packet.audio_level);
        self.last_level = levels.min().unwrap_or(self.last_level);
        Ok(Some(Packets::Audio(packets)))
    }

    /// How loud the last packet was in -dBov, 127 being silence; 255 before the first.
    pub fn level(&self) -> u8 {
        self.last_level
    }

    /// For a sender report: how long before `now` what has these RTP timestamps of pictures and of sound
    /// was captured.
    pub fn clock(&self, now: Instant) -> Option<(Duration, u64, u64)> {
        let delay = self.delay?;
        let now_us = micros(now.saturating_duration_since(self.zero));
        // What is due at this instant by the encoder's clock.
        let at_ms = (now_us - delay.us) / 1000;
        let ago_us = u64::try_from(now_us - delay.us - at_ms * 1000).unwrap_or(0);
        let at_ms = at_ms + FIRST_MS;
        Some((
            Duration::from_micros(ago_us),
            to_ticks(at_ms, VIDEO_TICKS_PER_MS),
            to_ticks(at_ms, 48),
        ))
    }

    /// Where a moment of the encoder's clock is in its tracks, in milliseconds since they began.
    fn place(&mut self, now: Instant, dts_ms: i64) -> i64 {
        let now_us = micros(now.saturating_duration_since(self.zero));
        let dts_ms = dts_ms.clamp(-TIME_MAX_MS, TIME_MAX_MS);
        let is_off = |shift: i64| (now_us - (dts_ms + shift) * 1000).abs() > micros(JUMP);
        let shift = match self.shift_ms {
            Some(shift) if !is_off(shift) => shift,
            _ => {
                self.delay = None;
                now_us / 1000 - dts_ms
            }
        };
        self.shift_ms = Some(shift);
        let at_ms = dts_ms + shift;
        let late_us = now_us - at_ms * 1000;
        let us = match self.delay {
            Some(Delay { us, at }) => {
                // Clocks drift: the least of long ago does not hold for ever.
                let since_us = micros(now.saturating_duration_since(at));
                late_us.min(us + since_us * DRIFT_PPM / 1_000_000)
            }
            None => late_us,
        };
        self.delay = Some(Delay { us, at: now });
        at_ms
    }
}

/// No encoder runs for so long; sums of such times fit.
const TIME_MAX_MS: i64 = 1 << 45;

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn to_ticks(value: i64, per: i64) -> u64 {
    u64::try_from(value.saturating_mul(per)).unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests count from some instant")]
mod tests {
    use super::*;
    use crate::card::Card;

    /// An encoder with a picture of its own.
    fn started() -> (Encoder, Card, Instant) {
        let now = Instant::now();
        let card = Card::new((320, 180), "", 50).unwrap();
        let mut encoder = Encoder::new(now);
        encoder.configure_video(&card.config().record).unwrap();
        (encoder, card, now)
    }

    fn timestamp(encoder: &mut Encoder, card: &Card, now: Instant, dts_ms: i64) -> u64 {
        let (_, data) = card.frame(0);
        match encoder.video(now, dts_ms, &data).unwrap() {
            Some(Packets::Video(packets)) => {
                assert!(packets.last().unwrap().marker);
                packets[0].timestamp
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_follow_the_encoders_clock_and_not_arrivals() {
        let (mut encoder, card, begun) = started();
        let first = timestamp(&mut encoder, &card, begun, 70_000);
        for (frame, jitter_ms) in [(1u32, 30), (2, 0), (3, 90), (4, 10)] {
            let now = begun + Duration::from_millis(40) * frame + Duration::from_millis(jitter_ms);
            let at = timestamp(&mut encoder, &card, now, 70_000 + 40 * i64::from(frame));
            assert_eq!(at, first + 3600 * u64::from(frame));
        }
    }

    #[test]
    fn a_new_connection_goes_on_where_time_is() {
        let (mut encoder, card, begun) = started();
        let first = timestamp(&mut encoder, &card, begun, 500);
        encoder.reconnect();
        let later = begun + Duration::from_secs(8);
        assert_eq!(timestamp(&mut encoder, &card, later, 0), first + 8 * 90_000);
    }

    #[test]
    fn a_clock_that_jumps_is_followed_without_a_jump() {
        let (mut encoder, card, begun) = started();
        // Across what 24 and 32 bits of milliseconds hold.
        let mut now = begun;
        let mut last = timestamp(&mut encoder, &card, now, (1 << 32) - 20);
        for dts_ms in [
            (1 << 32) + 20,
            1 << 33,
            5,
            -(1 << 40),
            1 << 24,
            i64::MAX,
            i64::MIN,
        ] {
            now += Duration::from_millis(40);
            let at = timestamp(&mut encoder, &card, now, dts_ms);
            assert!(
                (last..last + 2 * 3600).contains(&at),
                "{dts_ms}: {last} to {at}"
            );
            last = at;
        }
    }

    #[test]
    fn the_clock_is_told_by_what_came_soonest() {
        let (mut encoder, card, begun) = started();
        let mut shown = 0;
        for frame in 0..500u32 {
            let jitter = Duration::from_millis(u64::from(frame * 7 % 50));
            let now = begun + Duration::from_millis(40) * frame + jitter;
            shown = timestamp(&mut encoder, &card, now, 40 * i64::from(frame));
        }
        let now = begun + Duration::from_millis(40 * 499);
        let (ago, video, audio) = encoder.clock(now).unwrap();
        assert!(ago < Duration::from_millis(1));
        // The frame of this moment is captured now: no delay but that of the quickest.
        assert!(video.abs_diff(shown) <= 90 * 8, "{video} and {shown}");
        assert_eq!(video / 90, audio / 48);
    }

    #[test]
    fn nothing_goes_out_before_it_is_known_how_it_is_coded() {
        let now = Instant::now();
        let mut encoder = Encoder::new(now);
        assert_eq!(encoder.video(now, 0, b"picture"), Ok(None));
        assert_eq!(encoder.audio(now, 0, b"sound"), Ok(None));
        assert!(encoder.configure_video(b"garbage").is_err());
        let (mut encoder, ..) = started();
        assert!(encoder.video(now, 0, &[0, 0, 0, 9, 1]).is_err());
    }
}
