//! Tracks of shards as an annex hears them.

use bytes::Bytes;

use crate::annex::{Annex, Heard, HeardLayer, HeardPacket, HeardState, HeardTrack};
use crate::cascade::{ClockNews, News, Shipment, SpeakerNews, TrackNews, TrackState};
use crate::ids::{RoomId, TrackId};
use crate::metrics::DropReason;
use crate::peer::negotiation::{Format, NegotiatedCodec};
use crate::publisher::keyframes::Urgency;
use crate::publisher::layer::StoredPacket;
use crate::rtp::payload::opus;
use crate::sfu::Codec;

/// A track of a shard.
#[derive(Debug)]
pub(super) struct Listened {
    pub(super) room: RoomId,
    /// Where it lives.
    pub(super) shard: u16,
    /// What its payload types stand for.
    codecs: Vec<NegotiatedCodec>,
    /// Encodings asked for, as bits.
    wanted: u8,
    /// How often was asked.
    number: u32,
}

impl Annex {
    /// Asks for these encodings of a track and no others; encodings are bits, 0 is nothing.
    ///
    /// Video begins in the middle of a picture: ask for a keyframe too.
    pub fn want(&mut self, track: TrackId, encodings: u8) {
        let Some(listened) = self.listened.get_mut(&track) else {
            return;
        };
        if listened.wanted == encodings {
            return;
        }
        listened.wanted = encodings;
        listened.number = listened.number.wrapping_add(1);
        let (shard, number) = (listened.shard, listened.number);
        let news = News::Wanted {
            track,
            encodings,
            number,
        };
        self.tell(shard, news);
    }

    /// Asks for keyframes of these encodings, as bits; what is asked too often is left out by the
    /// track's own shard.
    pub fn request_keyframe(&mut self, track: TrackId, encodings: u8) {
        if let Some(listened) = self.listened.get(&track) {
            let news = News::KeyframeWanted {
                track,
                encodings,
                urgency: Urgency::Viewer,
            };
            self.tell(listened.shard, news);
        }
    }

    /// Asks a publisher, once for each track, to send it in another codec, if it offered that.
    pub fn request_codec(&mut self, track: TrackId, codec: Codec) {
        if let Some(listened) = self.listened.get(&track) {
            self.tell(listened.shard, News::CodecWanted { track, codec });
        }
    }

    /// Takes in packets that were asked for.
    pub fn handle_shipment(&mut self, shipment: &Shipment) {
        for shipped in shipment.packets_for(self.index) {
            let encoding = u8::try_from(shipped.encoding).unwrap_or(u8::MAX);
            let listened = self.listened.get(&shipped.track);
            let bit = 1u8.checked_shl(u32::from(encoding)).unwrap_or(0);
            let listened = listened.filter(|listened| listened.wanted & bit != 0);
            let Some((listened, packet)) = listened.zip(shipment.stored(shipped)) else {
                // Sent before the shard knew that it is wanted no more.
                self.metrics.dropped(DropReason::UnknownSource);
                continue;
            };
            let Some((codec, payload)) = listened.unwrap(packet) else {
                self.metrics.dropped(DropReason::UnknownSource);
                continue;
            };
            self.metrics.cascade_received_packets += 1;
            self.heard.push_back(Heard::Packet(HeardPacket {
                track: shipped.track,
                encoding,
                codec,
                sequence: packet.meta.sequence,
                timestamp: packet.meta.timestamp,
                marker: packet.meta.marker,
                arrival: packet.meta.arrival,
                // The highest bit says that it is a voice (RFC 6464 §3).
                audio_level: packet.meta.audio_level.map(|level| level & 0x7f),
                payload: Bytes::copy_from_slice(payload),
            }));
        }
    }

    /// A shard has a track.
    pub(super) fn note_track(&mut self, from: u16, news: TrackNews) {
        let part = self.rooms.get(&news.room);
        if !part.is_some_and(|part| part.shards.contains(&from)) {
            return;
        }
        if let Some(known) = self.listened.get_mut(&news.id) {
            if known.shard != from {
                return;
            }
            known.codecs.clone_from(&news.codecs);
        } else {
            let listened = Listened {
                room: news.room,
                shard: from,
                codecs: news.codecs,
                wanted: 0,
                number: 0,
            };
            self.listened.insert(news.id, listened);
        }
        self.heard.push_back(Heard::Track(Box::new(HeardTrack {
            id: news.id,
            room: news.room,
            participant: news.participant,
            identity: news.identity,
            kind: news.kind,
            source: news.publish.source,
            state: heard_state(news.state),
        })));
    }

    pub(super) fn note_state(&mut self, from: u16, track: TrackId, state: TrackState) {
        if self.is_of(track, from) {
            let state = Box::new(heard_state(state));
            self.heard.push_back(Heard::State { track, state });
        }
    }

    pub(super) fn note_end(&mut self, from: u16, track: TrackId) {
        if self.is_of(track, from) {
            self.listened.remove(&track);
            self.heard.push_back(Heard::Ended { track });
        }
    }

    pub(super) fn note_clock(&mut self, from: u16, clock: &ClockNews) {
        if self.is_of(clock.track, from) {
            self.heard.push_back(Heard::Clock {
                track: clock.track,
                encoding: clock.encoding,
                ntp: clock.report.ntp,
                rtp_timestamp: clock.report.rtp_timestamp,
                arrival: clock.report.arrival,
            });
        }
    }

    pub(super) fn note_speakers(&mut self, from: u16, news: SpeakerNews) {
        if news.room.shard() == usize::from(from) && self.rooms.contains_key(&news.room) {
            self.heard.push_back(Heard::Speakers {
                room: news.room,
                dominant: news.dominant,
                loudest: news.loudest,
            });
        }
    }

    fn is_of(&self, track: TrackId, shard: u16) -> bool {
        let listened = self.listened.get(&track);
        listened.is_some_and(|listened| listened.shard == shard)
    }
}

impl Listened {
    /// What a packet is coded in, and its payload without redundancy.
    fn unwrap<'a>(&self, packet: StoredPacket<'a>) -> Option<(Codec, &'a [u8])> {
        let codec_of = |payload_type: u8| {
            let mut codecs = self.codecs.iter();
            codecs.find(|codec| codec.payload_type.0 == payload_type)
        };
        let codec = codec_of(packet.meta.payload_type)?;
        if let Format::Red { .. } = codec.format {
            let (payload_type, payload) = opus::primary(packet.payload)?;
            return Some((codec_of(payload_type)?.codec()?, payload));
        }
        Some((codec.codec()?, packet.payload))
    }
}

fn heard_state(state: TrackState) -> HeardState {
    let layers = state.layers.iter();
    HeardState {
        muted: state.muted,
        codec: state.codec,
        layers: layers
            .map(|layer| HeardLayer {
                live: layer.live,
                width: layer.width,
                height: layer.height,
                bitrate_bps: layer.bitrate_bps,
            })
            .collect(),
        ranks: state.ranks,
    }
}
