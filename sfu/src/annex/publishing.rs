//! Tracks that an annex publishes: participants without a transport.

use std::time::Instant;

use bytes::Bytes;

use crate::annex::{Annex, Heard};
use crate::cascade::{ClockNews, LayerState, News, ShardSet, Shipment, TrackNews, TrackState};
use crate::ids::{Mid, ParticipantId, PayloadType, RoomId, TrackId};
use crate::metrics::DropReason;
use crate::peer::negotiation::{Format, NegotiatedCodec};
use crate::publisher::layer::{PacketMeta, SenderReport, StoredPacket};
use crate::rtp::payload::describe;
use crate::sfu::{Codec, Command, Event, Kind, LayerInfo, OfferError, Publish, Source, TrackInfo};

/// Packets that wait for one turn's shipments.
const OUTBOUND_MAX: usize = 4096;
/// The payload type of everything an annex sends.
const PAYLOAD_TYPE: PayloadType = PayloadType(96);
/// Constrained baseline, level 3.1: what it is decoded as does not depend on it.
const H264_PROFILE: [u8; 3] = [0x42, 0xe0, 0x1f];

/// A track to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnTrack {
    /// The room.
    pub room: RoomId,
    /// Whose it is: an id from [`Sfu::next_annexed`](crate::Sfu::next_annexed).
    pub participant: ParticipantId,
    /// The name that participant is known by.
    pub identity: String,
    /// What it shows or plays.
    pub source: Source,
    /// What it is coded in.
    pub codec: Codec,
    /// Picture width in pixels, 0 for sound.
    pub width: u16,
    /// Picture height in pixels, 0 for sound.
    pub height: u16,
}

/// A packet to send.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnPacket {
    /// Extended RTP timestamp.
    pub timestamp: u64,
    /// The RTP marker bit.
    pub marker: bool,
    /// When it came to be.
    pub arrival: Instant,
    /// Loudness in -dBov (RFC 6464): 0 is loudest, 127 is silence.
    pub audio_level: Option<u8>,
    /// The payload.
    pub payload: Bytes,
}

/// A published track.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) room: RoomId,
    track: OwnTrack,
    muted: bool,
    is_live: bool,
    bitrate_bps: u64,
    /// The shards that want it.
    wanted_by: Vec<u16>,
    /// The number of the last packet; those of a new track begin above 0, as they do anywhere.
    sequence: u64,
    clock: Option<SenderReport>,
}

/// A packet on its way to shards.
#[derive(Debug)]
pub(super) struct Outbound {
    track: TrackId,
    to: ShardSet,
    meta: PacketMeta,
    payload: Bytes,
}

impl Own {
    pub(super) fn unwant(&mut self, shard: u16) {
        self.wanted_by.retain(|by| *by != shard);
    }

    fn kind(&self) -> Kind {
        match self.track.codec {
            Codec::Opus => Kind::Audio,
            _ => Kind::Video,
        }
    }

    fn state(&self) -> TrackState {
        TrackState {
            muted: self.muted,
            codec: self.is_live.then_some(self.track.codec),
            layers: vec![LayerState {
                live: self.is_live && !self.muted,
                width: self.track.width,
                height: self.track.height,
                bitrate_bps: self.bitrate_bps,
            }],
            ranks: vec![0],
        }
    }

    fn info(&self, id: TrackId) -> TrackInfo {
        TrackInfo {
            id,
            kind: self.kind(),
            source: self.track.source,
            name: String::new(),
            muted: self.muted,
            codec: Some(self.track.codec),
            layers: vec![LayerInfo {
                rid: None,
                live: self.is_live,
                width: self.track.width,
                height: self.track.height,
                bitrate_bps: self.bitrate_bps,
            }],
        }
    }

    fn news(&self, id: TrackId) -> TrackNews {
        TrackNews {
            room: self.room,
            participant: self.track.participant,
            identity: self.track.identity.clone(),
            id,
            kind: self.kind(),
            publish: Publish {
                mid: Mid::parse("0").unwrap_or_else(|| unreachable!("one digit is a mid")),
                source: self.track.source,
                name: String::new(),
                muted: self.muted,
                width: self.track.width,
                height: self.track.height,
                codec: None,
                stereo: false,
                dtx: false,
            },
            codecs: vec![negotiated(self.track.codec)],
            rids: Vec::new(),
            state: self.state(),
        }
    }
}

impl Annex {
    /// Publishes a track; the service is told with `TrackPublished`. The room is entered if need be.
    pub fn publish(&mut self, track: OwnTrack) -> TrackId {
        let room = track.room;
        self.enter(room);
        let id = TrackId::new(self.index, self.next_track);
        self.next_track += 1;
        let participant = track.participant;
        let own = Own {
            room,
            track,
            muted: false,
            is_live: true,
            bitrate_bps: 0,
            wanted_by: Vec::new(),
            sequence: 1,
            clock: None,
        };
        self.events.push_back(Event::TrackPublished {
            room,
            participant,
            track: own.info(id),
        });
        self.own.insert(id, own);
        for shard in self.shards_of(room) {
            self.introduce(shard, id);
        }
        id
    }

    /// Ends an own track; the service is told with `TrackUnpublished`.
    pub fn unpublish(&mut self, track: TrackId) {
        let Some(own) = self.own.remove(&track) else {
            return;
        };
        self.outbound.retain(|outbound| outbound.track != track);
        let room = own.room;
        let participant = own.track.participant;
        self.events.push_back(Event::TrackUnpublished {
            room,
            participant,
            track,
        });
        for shard in self.shards_of(room) {
            self.tell(shard, News::Unpublished { track });
        }
    }

    /// Sends a packet of an own track to everyone who wants it. A payload that is none is dropped.
    pub fn send(&mut self, track: TrackId, packet: OwnPacket) {
        let Some(own) = self.own.get_mut(&track) else {
            return;
        };
        let codec = own.track.codec;
        let Some(descriptor) = describe(codec, &packet.payload, packet.marker) else {
            self.metrics.dropped(DropReason::UnknownSource);
            return;
        };
        own.sequence += 1;
        if own.muted || own.wanted_by.is_empty() {
            return;
        }
        if self.outbound.len() >= OUTBOUND_MAX {
            self.metrics.dropped(DropReason::CascadeFull);
            return;
        }
        let mut to = ShardSet::default();
        own.wanted_by.iter().for_each(|shard| to.insert(*shard));
        let meta = PacketMeta {
            sequence: own.sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload_type: PAYLOAD_TYPE.0,
            descriptor,
            arrival: packet.arrival,
            audio_level: packet.audio_level,
        };
        let payload = packet.payload;
        self.outbound.push_back(Outbound {
            track,
            to,
            meta,
            payload,
        });
    }

    /// Says what moment an RTP timestamp of an own track stands for, as a sender report does; `ntp` is
    /// the server's wall clock, 32.32 bits.
    pub fn report(&mut self, now: Instant, track: TrackId, ntp: u64, rtp_timestamp: u32) {
        let Some(own) = self.own.get_mut(&track) else {
            return;
        };
        own.clock = Some(SenderReport {
            ntp,
            rtp_timestamp,
            arrival: now,
        });
        for shard in own.wanted_by.clone() {
            self.tell_clock(shard, track);
        }
    }

    /// Says how an own track is at present: whether anything comes, its size in pixels, and what it costs.
    pub fn describe(&mut self, track: TrackId, layer: super::HeardLayer) {
        let Some(own) = self.own.get_mut(&track) else {
            return;
        };
        let is_told = (own.is_live, own.track.width, own.track.height)
            == (layer.live, layer.width, layer.height);
        own.is_live = layer.live;
        (own.track.width, own.track.height) = (layer.width, layer.height);
        own.bitrate_bps = layer.bitrate_bps;
        self.tell_state(track, !is_told);
    }

    /// Says how loud own tracks of a room are, 0 to 1; those not listed are silent.
    pub fn set_levels(&mut self, room: RoomId, levels: Vec<(TrackId, f32)>) {
        if let (true, Ok(home)) = (self.is_in(room), u16::try_from(room.shard())) {
            self.tell(home, News::Levels { room, levels });
        }
    }

    /// Fills a shipment with what waits for shards; false when there is nothing.
    pub fn poll_shipment(&mut self, shipment: &mut Shipment) -> bool {
        shipment.clear();
        while !shipment.is_full() {
            let Some(outbound) = self.outbound.pop_front() else {
                break;
            };
            let packet = StoredPacket {
                meta: outbound.meta,
                payload: &outbound.payload,
                dependency_descriptor: &[],
            };
            shipment.push((outbound.track, 0), outbound.to, packet);
            self.metrics.cascade_packets += 1;
        }
        !shipment.is_empty()
    }

    /// Packets wait for shards.
    pub fn has_shipment(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// Takes in what the service asks of own participants and of rooms.
    pub fn handle_command(&mut self, command: Command) {
        match command {
            Command::Leave { participant } => self.remove(participant),
            Command::SetGrants {
                participant,
                grants,
            } if !grants.publish => self.remove(participant),
            Command::Unpublish { track, .. } => self.unpublish(track),
            Command::Mute { track, muted, .. } => self.mute(track, muted),
            Command::CloseRoom { room } => self.close(room),
            Command::Offer { participant, offer } => self.events.push_back(Event::Answered {
                participant,
                offer: offer.id,
                answer: Err(OfferError::NoSuchParticipant),
            }),
            // A participant without a transport receives nothing.
            _ => {}
        }
    }

    fn remove(&mut self, participant: ParticipantId) {
        let own = self.own.iter();
        let tracks: Vec<TrackId> = own
            .filter(|(_, own)| own.track.participant == participant)
            .map(|(id, _)| *id)
            .collect();
        for track in tracks {
            self.unpublish(track);
        }
        self.heard.push_back(Heard::Removed { participant });
    }

    fn mute(&mut self, track: TrackId, muted: bool) {
        let Some(own) = self.own.get_mut(&track).filter(|own| own.muted != muted) else {
            return;
        };
        own.muted = muted;
        self.tell_state(track, true);
        self.heard.push_back(Heard::Muted { track, muted });
    }

    /// Tells how an own track is: to the shards that want it, or to all and to the service.
    fn tell_state(&mut self, track: TrackId, is_news: bool) {
        let Some(own) = self.own.get(&track) else {
            return;
        };
        let (state, room) = (own.state(), own.room);
        let shards = match is_news {
            true => self.shards_of(room),
            false => own.wanted_by.clone(),
        };
        if is_news {
            self.events.push_back(Event::TrackChanged {
                room,
                participant: own.track.participant,
                track: own.info(track),
            });
        }
        for shard in shards {
            let state = Box::new(state.clone());
            self.tell(shard, News::State { track, state });
        }
    }

    /// Tells a shard everything about an own track.
    pub(super) fn introduce(&mut self, shard: u16, track: TrackId) {
        if let Some(own) = self.own.get(&track) {
            let news = own.news(track);
            self.tell(shard, News::Track(Box::new(news)));
        }
    }

    pub(super) fn handle_wanted(&mut self, from: u16, track: TrackId, encodings: u8, number: u32) {
        let Some(own) = self.own.get_mut(&track) else {
            return;
        };
        own.unwant(from);
        if encodings != 0 {
            own.wanted_by.push(from);
        }
        let newest = vec![Some(own.sequence)];
        let news = News::Flows {
            track,
            number,
            newest,
        };
        self.tell(from, news);
        if encodings != 0 {
            self.tell_clock(from, track);
        }
    }

    fn tell_clock(&mut self, shard: u16, track: TrackId) {
        let clock = self.own.get(&track).and_then(|own| own.clock);
        if let Some(report) = clock {
            let (encoding, offset) = (0, Some(0));
            let news = News::Clock(ClockNews {
                track,
                encoding,
                report,
                offset,
            });
            self.tell(shard, news);
        }
    }

    /// Own tracks of a room.
    pub(super) fn own_in(&self, room: RoomId) -> impl Iterator<Item = TrackId> {
        let own = self.own.iter();
        own.filter(move |(_, own)| own.room == room)
            .map(|(id, _)| *id)
    }

    fn shards_of(&self, room: RoomId) -> Vec<u16> {
        let part = self.rooms.get(&room);
        part.map_or_else(Vec::new, |part| part.shards.clone())
    }
}

/// What an annex sends as.
fn negotiated(codec: Codec) -> NegotiatedCodec {
    let format = match codec {
        Codec::Opus => Format::Opus {
            stereo: true,
            sprop_stereo: true,
            dtx: false,
        },
        Codec::Vp8 => Format::Vp8,
        Codec::H264 => Format::H264 {
            packetization_mode: 1,
            profile_level_id: Some(H264_PROFILE),
            level_asymmetry: true,
        },
        Codec::Vp9 => Format::Vp9 { profile: 0 },
        Codec::Av1 => Format::Av1 {
            profile: 0,
            level: 5,
            tier: 0,
        },
    };
    NegotiatedCodec {
        payload_type: PAYLOAD_TYPE,
        format,
        rtx: None,
        feedback: Default::default(),
    }
}
