//! Encoders that publish over RTMP: their tracks in rooms, through lost connections.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu::annex::{
    Annex, Heard, HeardLayer, HeardPacket, HeardState, HeardTrack, OwnPacket, OwnTrack,
};
use sfu::{Codec, Kind, ParticipantId, RoomId, Source, TrackId};
use tokio::sync::oneshot;

use crate::encoder::{Encoder, Packets};
use crate::media::VideoConfig;
use crate::rtmp::{Media, Refusal, RefusalCode};

/// Between two reports of the encoder's clock.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Between two times that its loudness is told.
const LEVEL_INTERVAL: Duration = Duration::from_millis(200);
/// The level of silence (RFC 6464).
const SILENCE: u8 = 127;
const B_FRAMES: &str = "B-frames cannot be shown in the room: set them to 0 \
    (OBS: \"Max B-frames\" 0 or tune \"zerolatency\"; ffmpeg: -bf 0)";
const NO_PICTURES: &str = "the token does not allow pictures: \"camera\" is not among its sources";
const NO_SOUND: &str = "the token does not allow sound: \"microphone\" is not among its sources";

/// All encoders.
#[derive(Default)]
pub(super) struct Encoders(BTreeMap<ParticipantId, Seat>);

/// One encoder's place in a room.
struct Seat {
    room: RoomId,
    identity: String,
    /// What it may publish; empty means all.
    sources: Vec<Source>,
    encoder: Encoder,
    video: Option<Track>,
    audio: Option<Track>,
    size: (u16, u16),
    /// Ends its connection with words for it.
    end: Option<oneshot::Sender<Refusal>>,
    /// When its connection was lost.
    lost_at: Option<Instant>,
    /// It said that it is done.
    is_done: bool,
    report_at: Option<Instant>,
    level_at: Option<Instant>,
    bytes: u64,
    counted_at: Option<Instant>,
}

/// One track it publishes.
struct Track {
    id: TrackId,
    sequence: u64,
    /// By the room: the encoder sends on, and nobody gets it.
    muted: bool,
}

/// Where something of an encoder is heard in this process.
pub(super) type Hearing = Vec<(RoomId, Heard)>;

impl Encoders {
    /// An encoder has connected; whether for the first time.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        (room, identity, sources): (RoomId, String, Vec<Source>),
        end: oneshot::Sender<Refusal>,
    ) -> bool {
        let is_new = !self.0.contains_key(&participant);
        let seat = self.0.entry(participant).or_insert_with(|| Seat {
            room,
            identity,
            sources: Vec::new(),
            encoder: Encoder::new(now),
            video: None,
            audio: None,
            size: (0, 0),
            end: None,
            lost_at: None,
            is_done: false,
            report_at: None,
            level_at: None,
            bytes: 0,
            counted_at: None,
        });
        seat.encoder.reconnect();
        seat.sources = sources;
        seat.is_done = false;
        (seat.end, seat.lost_at) = (Some(end), None);
        is_new
    }

    /// Ends the tracks of an encoder that it may not publish any more: it came back with another token.
    pub(super) fn withdraw(&mut self, participant: ParticipantId, annex: &mut Annex) -> Hearing {
        let mut hearing = Vec::new();
        let Some(seat) = self.0.get_mut(&participant) else {
            return hearing;
        };
        let may = [Source::Camera, Source::Microphone].map(|source| seat.may(source));
        let tracks = [&mut seat.video, &mut seat.audio];
        for (track, may) in tracks.into_iter().zip(may) {
            if let Some(track) = track.take_if(|_| !may) {
                annex.unpublish(track.id);
                hearing.push((seat.room, Heard::Ended { track: track.id }));
            }
        }
        hearing
    }

    /// An encoder's connection has ended.
    pub(super) fn disconnect(&mut self, now: Instant, participant: ParticipantId) {
        if let Some(seat) = self.0.get_mut(&participant) {
            (seat.end, seat.lost_at) = (None, Some(now));
        }
    }

    /// An encoder was removed from its room, or its place is given up: the room, and its tracks, which end.
    pub(super) fn remove(&mut self, participant: ParticipantId) -> Option<(RoomId, Vec<TrackId>)> {
        let seat = self.0.remove(&participant)?;
        let tracks = [&seat.video, &seat.audio].into_iter().flatten();
        let tracks = tracks.map(|track| track.id).collect();
        if let Some(end) = seat.end {
            let refusal = Refusal {
                code: RefusalCode::Denied,
                description: "removed from the room".to_owned(),
            };
            // Its connection may have ended meanwhile.
            end.send(refusal).ok();
        }
        Some((seat.room, tracks))
    }

    /// The room mutes a track, or lets it be heard again.
    pub(super) fn mute(&mut self, id: TrackId, muted: bool) -> Hearing {
        let mut hearing = Vec::new();
        for (participant, seat) in &mut self.0 {
            let tracks = [&mut seat.video, &mut seat.audio].into_iter().flatten();
            let mut muted_now = tracks.filter(|track| track.id == id);
            let Some(track) = muted_now.next() else {
                continue;
            };
            track.muted = muted;
            drop(muted_now);
            let mut heard = seat.heard_tracks(*participant).into_iter();
            hearing.extend(heard.find(|heard| heard.id == id).map(|heard| {
                let state = Box::new(heard.state);
                (seat.room, Heard::State { track: id, state })
            }));
        }
        hearing
    }

    /// Everyone in a room.
    pub(super) fn in_room(&self, room: RoomId) -> Vec<ParticipantId> {
        let seats = self.0.iter().filter(|(_, seat)| seat.room == room);
        seats.map(|(participant, _)| *participant).collect()
    }

    /// Encoders that are done, and those whose connection was lost for this long.
    pub(super) fn gone(&self, now: Instant, grace: Duration) -> Vec<ParticipantId> {
        let is_gone = |seat: &Seat| {
            let lost = seat.lost_at.map(|at| now.saturating_duration_since(at));
            lost.is_some_and(|lost| seat.is_done || lost >= grace)
        };
        let seats = self.0.iter().filter(|(_, seat)| is_gone(seat));
        seats.map(|(participant, _)| *participant).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tracks of encoders in a room, for who begins to listen.
    pub(super) fn story(&self, room: RoomId) -> Vec<Heard> {
        let seats = self.0.iter().filter(|(_, seat)| seat.room == room);
        let tracks = seats.flat_map(|(participant, seat)| seat.heard_tracks(*participant));
        tracks.map(|track| Heard::Track(Box::new(track))).collect()
    }

    /// Takes in what an encoder sends.
    pub(super) fn handle_media(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        media: Media,
        annex: &mut Annex,
    ) -> Hearing {
        let Some(seat) = self.0.get_mut(&participant) else {
            return Vec::new();
        };
        let mut hearing = Vec::new();
        if !seat.may_publish(&media) {
            return hearing;
        }
        let sent = match media {
            Media::VideoConfig(config) => seat.show(participant, &config, annex, &mut hearing),
            Media::AudioConfig(config) => {
                let configured = seat.encoder.configure_audio(&config);
                if configured.is_ok() && seat.audio.is_none() {
                    let track = seat.publish(participant, Codec::Opus, annex);
                    seat.audio = Some(track);
                    hearing.extend(seat.heard_of(participant, Kind::Audio));
                }
                configured.map(|()| None)
            }
            Media::Video { dts_ms, data, .. } => {
                seat.bytes += data.len() as u64;
                seat.encoder.video(now, dts_ms, &data)
            }
            Media::Audio { dts_ms, data } => seat.encoder.audio(now, dts_ms, &data),
            Media::Unpublished => {
                seat.is_done = true;
                Ok(None)
            }
            Media::BFrames => {
                seat.refuse(B_FRAMES);
                Ok(None)
            }
            Media::Metadata(metadata) => {
                let (encoder, identity) = (metadata.encoder.unwrap_or_default(), &seat.identity);
                tracing::info!(?identity, ?encoder, "an encoder publishes");
                Ok(None)
            }
        };
        match sent {
            Ok(Some(packets)) => seat.send(packets, annex, &mut hearing),
            Ok(None) => {}
            Err(crate::encoder::EncoderError::Sound(crate::audio::AacError::Unavailable)) => {
                seat.refuse(
                    "aac_unavailable: this server has no AAC; publish without sound, or by WHIP",
                );
            }
            Err(error) => tracing::debug!(%error, "something of an encoder is not carried"),
        }
        seat.report(now, annex, &mut hearing);
        hearing
    }

    /// Tells how loud everyone is.
    pub(super) fn tell_levels(&mut self, now: Instant, annex: &mut Annex) {
        let mut rooms: BTreeMap<RoomId, Vec<(TrackId, f32)>> = BTreeMap::new();
        for seat in self.0.values_mut() {
            if seat.level_at.is_some_and(|at| at > now) {
                continue;
            }
            seat.level_at = Some(now + LEVEL_INTERVAL);
            let levels = rooms.entry(seat.room).or_default();
            let level = seat.encoder.level();
            if let Some(track) = seat
                .audio
                .as_ref()
                .filter(|track| level < SILENCE && seat.lost_at.is_none() && !track.muted)
            {
                levels.push((track.id, 10_f32.powf(-f32::from(level) / 20.0)));
            }
        }
        for (room, levels) in rooms {
            annex.set_levels(room, levels);
        }
    }
}

impl Seat {
    /// Whether its token allows that; if not, the encoder is told.
    fn may_publish(&mut self, media: &Media) -> bool {
        let (source, words) = match media {
            Media::VideoConfig(_) | Media::Video { .. } => (Source::Camera, NO_PICTURES),
            Media::AudioConfig(_) | Media::Audio { .. } => (Source::Microphone, NO_SOUND),
            Media::BFrames | Media::Metadata(_) | Media::Unpublished => return true,
        };
        let may = self.may(source);
        if !may {
            self.refuse(words);
        }
        may
    }

    fn may(&self, source: Source) -> bool {
        self.sources.is_empty() || self.sources.contains(&source)
    }

    /// Pictures are coded like this from now on.
    fn show(
        &mut self,
        participant: ParticipantId,
        config: &VideoConfig,
        annex: &mut Annex,
        hearing: &mut Hearing,
    ) -> Result<Option<Packets>, crate::encoder::EncoderError> {
        self.encoder.configure_video(&config.record)?;
        self.size = (config.width, config.height);
        match &self.video {
            Some(track) => {
                annex.describe(track.id, self.layer());
                hearing.extend(self.heard_of(participant, Kind::Video));
            }
            None => {
                let track = self.publish(participant, Codec::H264, annex);
                self.video = Some(track);
                hearing.extend(self.heard_of(participant, Kind::Video));
            }
        }
        Ok(None)
    }

    fn publish(&self, participant: ParticipantId, codec: Codec, annex: &mut Annex) -> Track {
        let (source, (width, height)) = match codec {
            Codec::Opus => (Source::Microphone, (0, 0)),
            _ => (Source::Camera, self.size),
        };
        let id = annex.publish(OwnTrack {
            room: self.room,
            participant,
            identity: self.identity.clone(),
            source,
            codec,
            width,
            height,
        });
        Track {
            id,
            sequence: 1,
            muted: false,
        }
    }

    fn layer(&self) -> HeardLayer {
        HeardLayer {
            live: true,
            width: self.size.0,
            height: self.size.1,
            bitrate_bps: 0,
        }
    }

    fn heard_of(&self, participant: ParticipantId, kind: Kind) -> Option<(RoomId, Heard)> {
        let mut tracks = self.heard_tracks(participant).into_iter();
        let track = tracks.find(|track| track.kind == kind)?;
        Some((self.room, Heard::Track(Box::new(track))))
    }

    /// Its tracks as the annex would hear those of others.
    fn heard_tracks(&self, participant: ParticipantId) -> Vec<HeardTrack> {
        let tracks = [
            (Kind::Video, Codec::H264, Source::Camera, &self.video),
            (Kind::Audio, Codec::Opus, Source::Microphone, &self.audio),
        ];
        let published = tracks
            .into_iter()
            .filter_map(|(kind, codec, source, track)| {
                let track = track.as_ref()?;
                Some(HeardTrack {
                    id: track.id,
                    room: self.room,
                    participant,
                    identity: self.identity.clone(),
                    kind,
                    source,
                    state: HeardState {
                        muted: track.muted,
                        codec: Some(codec),
                        layers: vec![self.layer()],
                        ranks: vec![0],
                    },
                })
            });
        published.collect()
    }

    fn send(&mut self, packets: Packets, annex: &mut Annex, hearing: &mut Hearing) {
        let (packets, codec, track) = match packets {
            Packets::Video(packets) => (packets, Codec::H264, &mut self.video),
            Packets::Audio(packets) => (packets, Codec::Opus, &mut self.audio),
        };
        let Some(track) = track else {
            return;
        };
        for packet in packets {
            track.sequence += 1;
            if !track.muted {
                hearing.push((self.room, Heard::Packet(heard(track, codec, &packet))));
            }
            annex.send(track.id, packet);
        }
    }

    /// Says now and then how its clock stands.
    fn report(&mut self, now: Instant, annex: &mut Annex, hearing: &mut Hearing) {
        if self.report_at.is_some_and(|at| at > now) {
            return;
        }
        let Some((ago, video, audio)) = self.encoder.clock(now) else {
            return;
        };
        self.report_at = Some(now + REPORT_INTERVAL);
        if let (Some(track), Some(at)) = (&self.video, self.counted_at) {
            let passed_ms =
                u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(1);
            let layer = HeardLayer {
                bitrate_bps: self.bytes * 8_000 / passed_ms.max(1),
                ..self.layer()
            };
            annex.describe(track.id, layer);
        }
        (self.bytes, self.counted_at) = (0, Some(now));
        let captured = now.checked_sub(ago).unwrap_or(now);
        let ntp = super::ntp_of(captured);
        for (track, timestamp) in [(&self.video, video), (&self.audio, audio)] {
            let Some(track) = track else {
                continue;
            };
            let rtp_timestamp = super::low_u32(timestamp);
            annex.report(now, track.id, ntp, rtp_timestamp);
            let clock = Heard::Clock {
                track: track.id,
                encoding: 0,
                ntp,
                rtp_timestamp,
                arrival: now,
            };
            hearing.push((self.room, clock));
        }
    }

    fn refuse(&mut self, text: &str) {
        if let Some(end) = self.end.take() {
            tracing::warn!(identity = ?self.identity, "an encoder is refused: {text}");
            let refusal = Refusal {
                code: RefusalCode::Rejected,
                description: text.to_owned(),
            };
            // Its connection may have ended meanwhile.
            end.send(refusal).ok();
        }
    }
}

fn heard(track: &Track, codec: Codec, packet: &OwnPacket) -> HeardPacket {
    HeardPacket {
        track: track.id,
        encoding: 0,
        codec,
        sequence: track.sequence,
        timestamp: packet.timestamp,
        marker: packet.marker,
        arrival: packet.arrival,
        audio_level: packet.audio_level,
        payload: packet.payload.clone(),
    }
}

#[cfg(test)]
mod tests;
