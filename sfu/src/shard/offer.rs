//! An offer becomes an answer: transport, published tracks, receive slots.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::ids::{Mid, ParticipantId, Ssrc, TrackId};
use crate::peer::ice::Credentials;
use crate::peer::negotiation::{
    LocalTransport, NegotiatedCodec, RemoteOffer, Section, SectionKind, SectionPlan, SlotPlan,
    choose_codecs, ice_fragment, negotiated_extensions, parse_offer, write_answer,
};
use crate::peer::transport::{Remote, Transport};
use crate::publisher::PublishedSection;
use crate::publisher::track::{Ownership, Track};
use crate::publisher::wishes::Wishes;
use crate::room::Room;
use crate::sfu::{
    Answer, Event, Kind, Offer, OfferError, Publish, PublishError, Published, Source,
};
use crate::shard::control::allows;
use crate::shard::reconcile::Announce;
use crate::shard::{Shard, touch};
use crate::subscriber::slot::{Slot, SlotExtensions, SlotNumbers};

/// Letters of a ufrag after the shard's two; 14 of 6 bits each cannot be guessed.
const UFRAG_LETTERS: usize = 14;
/// Letters of a password: 144 bits (RFC 8445 §5.3 asks for 128).
const PWD_LETTERS: usize = 24;

/// From sending an answer to when a client has applied it: a round trip, and what browsers take.
const ANSWER_TAKES: Duration = Duration::from_millis(200);

/// An offer while its answer is being worked out.
struct Answering<'a> {
    /// Key of the peer that offers.
    key: usize,
    now: Instant,
    offer: &'a Offer,
    published: Vec<Published>,
    /// Keys of tracks that are new with this offer.
    new_tracks: Vec<usize>,
}

impl Answering<'_> {
    fn note(&mut self, mid: Mid, track: Result<TrackId, PublishError>) {
        self.published.push(Published { mid, track });
    }

    fn named(&self, mid: Mid) -> Option<&Publish> {
        self.offer.publish.iter().find(|publish| publish.mid == mid)
    }
}

impl Shard {
    pub(super) fn handle_offer(&mut self, now: Instant, participant: ParticipantId, offer: &Offer) {
        let key = self.peer_keys.get(&participant).copied();
        let mut answering = key.map(|key| Answering {
            key,
            now,
            offer,
            published: Vec::new(),
            new_tracks: Vec::new(),
        });
        let answer = match &mut answering {
            Some(answering) => self.answer(answering),
            None => Err(OfferError::NoSuchParticipant),
        };
        let is_answered = answer.is_ok();
        self.events.push_back(Event::Answered {
            participant,
            offer: offer.id,
            answer,
        });
        if is_answered
            && let Some(Answering {
                key, new_tracks, ..
            }) = answering
        {
            self.announce_tracks(now, &new_tracks);
            self.tell_tracks_of(now, key);
            if let Some(room) = self.peers.get(key).map(|peer| peer.room) {
                self.reconcile_room(now, room);
            }
            self.tell_transport_state(now, key);
        }
    }

    fn announce_tracks(&mut self, now: Instant, published: &[usize]) {
        for key in published {
            let Some(track) = self.tracks.get_mut(*key) else {
                continue;
            };
            let info = track.info(now);
            let (room, owner) = (track.room, track.owner);
            let Some(room) = self.rooms.get(room).map(|room| room.id) else {
                continue;
            };
            let Some(participant) = self.peers.get(owner).map(|peer| peer.participant) else {
                continue;
            };
            self.events.push_back(Event::TrackPublished {
                room,
                participant,
                track: info,
            });
        }
    }

    fn answer(&mut self, answering: &mut Answering<'_>) -> Result<Answer, OfferError> {
        let Answering {
            key, now, offer, ..
        } = *answering;
        let remote = parse_offer(&offer.sdp)?;
        self.check_offer(key, &remote)?;
        self.follow_transport(key, &remote);
        let mut plans = Vec::with_capacity(remote.sections.len());
        for section in &remote.sections {
            plans.push(self.plan_section(answering, section));
        }
        for publish in &offer.publish {
            if !answering
                .published
                .iter()
                .any(|entry| entry.mid == publish.mid)
            {
                answering.note(publish.mid, Err(PublishError::NoSuchSection));
            }
        }
        let sdp = self.write_answer(key, &remote, &plans, offer.local_address);
        self.reconcile(now, key, Announce::Nothing);
        Ok(Answer {
            sdp,
            published: std::mem::take(&mut answering.published),
            slots: self.slots_of(key),
        })
    }

    /// Refuses what cannot be answered before anything changes.
    fn check_offer(&self, key: usize, remote: &RemoteOffer) -> Result<(), OfferError> {
        let peer = self.peers.get(key).ok_or(OfferError::NoSuchParticipant)?;
        let known = peer.transport.as_ref().map(Transport::fingerprint);
        if known.is_some_and(|known| *known != remote.fingerprint) {
            return Err(OfferError::BadSdp(
                "the fingerprint must not change".to_owned(),
            ));
        }
        let is_usable = |section: &Section| match section.kind {
            SectionKind::Media(_) => !choose_codecs(section, &[]).is_empty(),
            SectionKind::Data { .. } => true,
            SectionKind::Unknown => false,
        };
        let mut open = remote
            .sections
            .iter()
            .filter(|section| !section.rejected)
            .peekable();
        if open.peek().is_some() && !open.any(is_usable) {
            return Err(OfferError::CodecUnsupported);
        }
        Ok(())
    }

    /// Opens the transport with the first offer, and restarts ICE when the credentials are new.
    fn follow_transport(&mut self, key: usize, remote: &RemoteOffer) {
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let Some(transport) = &peer.transport else {
            let local = self.draw_credentials(key);
            let remote = Remote {
                credentials: remote.ice.clone(),
                fingerprint: remote.fingerprint.clone(),
                role: remote.our_role(),
            };
            let certificate = self.options.certificate.clone();
            let seed = self.options.has_seeded_dtls.then(|| self.random.random());
            let transport = Transport::new(local, remote, certificate, seed);
            if let Some(peer) = self.peers.get_mut(key) {
                peer.transport = Some(transport);
            }
            return;
        };
        if transport.remote_credentials() != Some(&remote.ice) {
            self.renew_credentials(key, remote.ice.clone());
        }
    }

    pub(super) fn restart_ice(
        &mut self,
        participant: ParticipantId,
        remote: Credentials,
    ) -> Option<String> {
        let key = *self.peer_keys.get(&participant)?;
        self.peers.get(key)?.transport.as_ref()?;
        self.renew_credentials(key, remote);
        let transport = self.peers.get(key)?.transport.as_ref()?;
        let local = LocalTransport {
            ice: transport.local_credentials(),
            fingerprint: self.options.certificate.fingerprint(),
            role: transport.role(),
            udp: &self.options.candidates.udp,
            tcp: &self.options.candidates.tcp,
            session: 0,
            version: 0,
        };
        let mid = self.peers.get(key).and_then(|peer| {
            let section = peer.publisher.sections.first().map(|section| section.mid);
            section.or_else(|| peer.subscriber.slots.first().map(|slot| slot.mid))
        });
        Some(ice_fragment(&local, mid.as_slice()))
    }

    /// Draws new credentials of ours; the ones before the present ones are forgotten.
    fn renew_credentials(&mut self, key: usize, remote: Credentials) {
        let local = self.draw_credentials(key);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let Some(transport) = &mut peer.transport else {
            return;
        };
        let before = transport.local_credentials().ufrag.clone();
        transport.restart_ice(local, remote);
        if let Some(forgotten) = peer.previous_ufrag.replace(before) {
            self.demux.remove_ufrag(&forgotten);
        }
    }

    fn draw_credentials(&mut self, key: usize) -> Credentials {
        loop {
            let random = self.random_text(UFRAG_LETTERS);
            let ufrag = format!("{:02x}{random}", self.options.index);
            if self.demux.add_ufrag(&ufrag, key) {
                return Credentials {
                    ufrag,
                    pwd: self.random_text(PWD_LETTERS),
                };
            }
        }
    }

    fn write_answer(
        &mut self,
        key: usize,
        remote: &RemoteOffer,
        plans: &[SectionPlan],
        arrived_on: Option<IpAddr>,
    ) -> String {
        let udp = preferring(&self.options.candidates.udp, arrived_on);
        let tcp = preferring(&self.options.candidates.tcp, arrived_on);
        let Some(peer) = self.peers.get_mut(key) else {
            return String::new();
        };
        peer.answer_count += 1;
        let Some(transport) = &peer.transport else {
            return String::new();
        };
        let local = LocalTransport {
            ice: transport.local_credentials(),
            fingerprint: self.options.certificate.fingerprint(),
            role: transport.role(),
            udp: &udp,
            tcp: &tcp,
            session: 1,
            version: peer.answer_count,
        };
        write_answer(remote, &local, plans)
    }

    fn plan_section(&mut self, answering: &mut Answering<'_>, section: &Section) -> SectionPlan {
        let Answering { key, now, .. } = *answering;
        let mid = section.mid;
        let kind = match section.kind {
            _ if section.rejected => return self.close_section(now, key, mid),
            SectionKind::Unknown => return SectionPlan::Reject,
            SectionKind::Data {
                max_message_bytes, ..
            } => return self.plan_data(key, mid, max_message_bytes),
            SectionKind::Media(kind) => kind,
        };
        let named = answering.named(mid).cloned();
        let known = self.wishes_of(key, mid);
        let is_meant = named.is_some() || answering.offer.publish_unnamed || known.is_some();
        let wishes = known.or_else(|| named.as_ref().map(Wishes::of));
        let wishes = wishes.unwrap_or_default();
        let preference = wishes.preference(&self.preference(key));
        let mut codecs = choose_codecs(section, &preference);
        if section.direction.sends() && is_meant {
            wishes.shape(&mut codecs);
            let publish = named.unwrap_or_else(|| unnamed(mid, kind));
            let track = self.publish(answering, section, &codecs, &publish);
            let is_published = track.is_ok();
            answering.note(mid, track);
            return match is_published {
                true => SectionPlan::Publish { codecs },
                false => SectionPlan::Inactive,
            };
        }
        if section.direction.receives() && !codecs.is_empty() {
            return self.plan_slot(answering, section, kind, codecs);
        }
        self.close_section(now, key, mid);
        match codecs.is_empty() {
            true => SectionPlan::Reject,
            false => SectionPlan::Inactive,
        }
    }

    fn preference(&self, key: usize) -> Vec<crate::sfu::Codec> {
        let room = self
            .peers
            .get(key)
            .and_then(|peer| self.rooms.get(peer.room));
        room.map_or_else(Vec::new, |room| room.config.codecs.clone())
    }

    /// How the track of a section is to be encoded; `None` when nothing is published in it yet.
    fn wishes_of(&self, key: usize, mid: Mid) -> Option<Wishes> {
        let sections = &self.peers.get(key)?.publisher.sections;
        let section = sections.iter().find(|section| section.mid == mid)?;
        self.tracks.get(section.track).map(|track| track.wishes)
    }

    /// Ends what runs on a section that was switched off.
    fn close_section(&mut self, now: Instant, key: usize, mid: Mid) -> SectionPlan {
        let Some(peer) = self.peers.get(key) else {
            return SectionPlan::Reject;
        };
        let section = peer
            .publisher
            .sections
            .iter()
            .find(|section| section.mid == mid);
        if let Some(track) = section.map(|section| section.track) {
            self.remove_track(track);
        }
        let slot = self.peers.get(key).and_then(|peer| {
            peer.subscriber
                .slots
                .iter()
                .position(|slot| slot.mid == mid)
        });
        if let Some(slot) = slot {
            self.repoint(now, key, slot, None);
        }
        SectionPlan::Reject
    }

    fn plan_data(&mut self, key: usize, mid: Mid, message_bytes_max: u32) -> SectionPlan {
        let Some(peer) = self.peers.get_mut(key) else {
            return SectionPlan::Reject;
        };
        if peer.data_section.is_some_and(|known| known != mid) {
            return SectionPlan::Reject;
        }
        peer.data_section = Some(mid);
        if let Some(transport) = &mut peer.transport {
            transport.enable_data(message_bytes_max);
        }
        SectionPlan::Data
    }

    fn publish(
        &mut self,
        answering: &mut Answering<'_>,
        section: &Section,
        codecs: &[NegotiatedCodec],
        publish: &Publish,
    ) -> Result<TrackId, PublishError> {
        let Answering { key, now, .. } = *answering;
        if codecs.is_empty() {
            return Err(PublishError::CodecUnsupported);
        }
        let peer = self.peers.get(key).ok_or(PublishError::Denied)?;
        if !allows(&peer.grants, publish.source) {
            return Err(PublishError::Denied);
        }
        let known = peer
            .publisher
            .sections
            .iter()
            .find(|s| s.mid == section.mid);
        let track = match known.map(|section| section.track) {
            Some(track) => track,
            None if peer.publisher.sections.len()
                >= usize::from(self.options.config.tracks_max) =>
            {
                return Err(PublishError::LimitExceeded);
            }
            None => {
                let track = self.open_track(key, publish, section);
                answering.new_tracks.push(track);
                track
            }
        };
        let plan = SectionPlan::Publish {
            codecs: codecs.to_vec(),
        };
        let published = PublishedSection {
            mid: section.mid,
            track,
            codecs: codecs.to_vec(),
            extensions: negotiated_extensions(section, &plan),
            rids: section.rids.clone(),
        };
        let uses_nack = codecs.iter().any(|codec| codec.feedback.nack);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.publisher.set_section(published, &section.sources);
            peer.timers
                .reports
                .get_or_insert(now + super::ticks::REPORT_INTERVAL);
            touch(&mut self.touched, key, peer);
        }
        let track = self
            .tracks
            .get_mut(track)
            .ok_or(PublishError::LimitExceeded)?;
        for encoding in &mut track.encodings {
            encoding.uses_nack = uses_nack;
        }
        Ok(track.id)
    }

    fn open_track(&mut self, key: usize, publish: &Publish, section: &Section) -> usize {
        let kind = match section.kind {
            SectionKind::Media(kind) => kind,
            SectionKind::Data { .. } | SectionKind::Unknown => Kind::Video,
        };
        let room_key = self.peers.get(key).map_or(0, |peer| peer.room);
        let id = TrackId::new(self.options.index, self.next_track);
        self.next_track += 1;
        let route = self.rooms.get_mut(room_key).map_or(0, Room::open_route);
        let ownership = Ownership {
            id,
            room: room_key,
            owner: key,
            route,
        };
        let track = Track::new(ownership, kind, publish, &section.rids);
        let track_key = self.tracks.insert(track);
        self.track_keys.insert(id, track_key);
        if let Some(room) = self.rooms.get_mut(room_key) {
            room.tracks.push(track_key);
        }
        self.metrics.tracks += 1;
        track_key
    }

    fn plan_slot(
        &mut self,
        answering: &Answering<'_>,
        section: &Section,
        kind: Kind,
        codecs: Vec<NegotiatedCodec>,
    ) -> SectionPlan {
        let Answering { key, now, .. } = *answering;
        let Some(index) = self.open_slot(now, key, section.mid, kind) else {
            return SectionPlan::Inactive;
        };
        let Some(slot) = self
            .peers
            .get_mut(key)
            .and_then(|p| p.subscriber.slots.get_mut(index))
        else {
            return SectionPlan::Inactive;
        };
        let has_rtx = codecs.iter().any(|codec| codec.rtx.is_some());
        let letter = match kind {
            Kind::Audio => 'a',
            Kind::Video => 'v',
        };
        let plan = SectionPlan::Slot(SlotPlan {
            media: slot.media,
            rtx: has_rtx.then_some(slot.rtx),
            cname: format!("s{}", slot.place),
            stream: format!("s{}", slot.place),
            track: format!("{letter}{}", slot.place),
            codecs: codecs.clone(),
        });
        slot.set_extensions(SlotExtensions::new(&negotiated_extensions(section, &plan)));
        slot.codecs = codecs;
        plan
    }

    /// The slot of a section, made when it is new; `None` when there are too many.
    fn open_slot(&mut self, now: Instant, key: usize, mid: Mid, kind: Kind) -> Option<usize> {
        let peer = self.peers.get(key)?;
        // The first answer is known to have arrived when media may begin.
        let is_connected = peer.transport.as_ref().is_some_and(Transport::is_connected);
        let slots = &peer.subscriber.slots;
        if let Some(index) = slots.iter().position(|slot| slot.mid == mid) {
            return (slots.get(index)?.kind == kind).then_some(index);
        }
        let place = slots.iter().filter(|slot| slot.kind == kind).count();
        let limit = match kind {
            Kind::Audio => self.options.config.audio_slots_max,
            Kind::Video => self.options.config.video_slots_max,
        };
        if place >= usize::from(limit) {
            return None;
        }
        let numbers = SlotNumbers {
            media: self.draw_ssrc(key),
            rtx: self.draw_ssrc(key),
            sequence: self.random.random(),
            rtx_sequence: self.random.random(),
            timestamp: self.random.random(),
            picture_id: self.random.random(),
        };
        let slots = &mut self.peers.get_mut(key)?.subscriber.slots;
        let mut slot = Slot::new(mid, kind, place, &numbers);
        slot.ready_at = is_connected.then(|| now + ANSWER_TAKES);
        slots.push(slot);
        Some(slots.len() - 1)
    }

    /// Draws an SSRC that no other slot of this peer has.
    fn draw_ssrc(&mut self, key: usize) -> Ssrc {
        loop {
            let ssrc = Ssrc(self.random.random());
            let slots = self
                .peers
                .get(key)
                .map_or(&[][..], |peer| &peer.subscriber.slots);
            let is_taken = slots
                .iter()
                .any(|slot| slot.media == ssrc || slot.rtx == ssrc);
            if ssrc.0 > 1 && !is_taken {
                return ssrc;
            }
        }
    }
}

/// A section of a WHIP offer, which has no names.
fn unnamed(mid: Mid, kind: Kind) -> Publish {
    let source = match kind {
        Kind::Audio => Source::Microphone,
        Kind::Video => Source::Camera,
    };
    Publish {
        mid,
        source,
        name: String::new(),
        muted: false,
        width: 0,
        height: 0,
        codec: None,
        stereo: false,
        dtx: false,
    }
}

/// The candidates with those on one address first: a client that uses only the first one (ffmpeg)
/// can certainly reach the address its request arrived on.
fn preferring(candidates: &[SocketAddr], address: Option<IpAddr>) -> Vec<SocketAddr> {
    let mut sorted = candidates.to_vec();
    sorted.sort_by_key(|candidate| Some(candidate.ip()) != address);
    sorted
}
