//! What a peer sends us: which packet belongs to which track and encoding, learned once per SSRC.

pub(crate) mod arrivals;
pub(crate) mod clock;
pub(crate) mod encoding;
pub(crate) mod keyframes;
pub(crate) mod layer;
pub(crate) mod mirror;
pub(crate) mod nack;
pub(crate) mod reception;
pub(crate) mod track;
pub(crate) mod wishes;

use std::time::{Duration, Instant};

use slab::Slab;

use crate::ids::{Mid, PayloadType, Rid};
use crate::metrics::DropReason;
use crate::peer::negotiation::{Extension, Format, NegotiatedCodec, OfferedSource};
use crate::publisher::arrivals::Arrivals;
use crate::publisher::clock::PublisherClock;
use crate::publisher::encoding::Incoming;
use crate::publisher::layer::PacketId;
use crate::publisher::track::Track;
use crate::rtp::RtpView;
use crate::rtp::payload::opus;
use crate::sfu::Codec;

/// Sources one peer may bind; more than three layers and their retransmissions for 10 tracks.
const BINDINGS_MAX: usize = 64;

/// The publishing half of a peer.
pub(crate) struct Publisher {
    pub(crate) sections: Vec<PublishedSection>,
    bindings: Vec<Binding>,
    /// Sources of tracks that were ended, of late: their packets may go on, and are nobody else's.
    retired: Vec<u32>,
    /// Arrival times for transport-wide feedback.
    pub(crate) arrivals: Arrivals,
    /// The transport-wide extension is in use.
    pub(crate) uses_transport_wide: bool,
    pub(crate) clock: PublisherClock,
    /// Round trip to the publisher; what holes are asked for again after.
    pub(crate) rtt: Duration,
}

/// One publishing section of the peer's offer.
pub(crate) struct PublishedSection {
    pub(crate) mid: Mid,
    /// Key of the track.
    pub(crate) track: usize,
    pub(crate) codecs: Vec<NegotiatedCodec>,
    pub(crate) extensions: Vec<(u8, Extension)>,
    pub(crate) rids: Vec<Rid>,
}

/// What an SSRC carries; never changes while the track lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) ssrc: u32,
    /// Key of the track.
    pub(crate) track: usize,
    pub(crate) encoding: usize,
    pub(crate) is_rtx: bool,
}

/// A packet that was taken in and may be forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Key of the track.
    pub(crate) track: usize,
    pub(crate) encoding: usize,
    pub(crate) packet: PacketId,
    pub(crate) is_keyframe: bool,
    pub(crate) is_first: bool,
    /// The order of the track's layers is another now.
    pub(crate) is_resorted: bool,
}

impl Publisher {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sections: Vec::new(),
            bindings: Vec::new(),
            retired: Vec::new(),
            arrivals: Arrivals::new(now),
            uses_transport_wide: false,
            clock: PublisherClock::default(),
            rtt: Duration::from_millis(50),
        }
    }

    /// Adds or replaces the section of a track, and binds the sources its SDP announces.
    pub(crate) fn set_section(&mut self, section: PublishedSection, sources: &[OfferedSource]) {
        self.uses_transport_wide |= section
            .extensions
            .iter()
            .any(|(_, extension)| *extension == Extension::TransportWide);
        // With rids the SDP's sources name no encoding (browsers send none): the packets do.
        if section.rids.is_empty()
            && let Some(source) = sources.first()
        {
            let (track, encoding) = (section.track, 0);
            let media = Binding {
                ssrc: source.ssrc.0,
                track,
                encoding,
                is_rtx: false,
            };
            self.bind(media);
            if let Some(rtx) = source.rtx {
                self.bind(Binding {
                    ssrc: rtx.0,
                    is_rtx: true,
                    ..media
                });
            }
        }
        self.sections.retain(|other| other.mid != section.mid);
        self.sections.push(section);
    }

    /// Forgets a track's section and sources; returns what these were.
    pub(crate) fn remove_track(&mut self, track: usize) -> Vec<Binding> {
        self.sections.retain(|section| section.track != track);
        let of_it = |binding: &mut Binding| binding.track == track;
        let gone: Vec<Binding> = self.bindings.extract_if(.., of_it).collect();
        self.retired.extend(gone.iter().map(|binding| binding.ssrc));
        let too_many = self.retired.len().saturating_sub(BINDINGS_MAX);
        self.retired.drain(..too_many);
        gone
    }

    /// The section that publishes this track.
    pub(crate) fn section_of(&self, track: usize) -> Option<&PublishedSection> {
        self.sections.iter().find(|section| section.track == track)
    }

    /// Everything that was learned about this peer's sources.
    pub(crate) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// What this SSRC carries, if it is known.
    pub(crate) fn binding(&self, ssrc: u32) -> Option<Binding> {
        let index = self
            .bindings
            .binary_search_by_key(&ssrc, |binding| binding.ssrc)
            .ok()?;
        self.bindings.get(index).copied()
    }

    /// The SSRC an encoding is sent under.
    pub(crate) fn ssrc_of(&self, track: usize, encoding: usize) -> Option<u32> {
        let is_it = |binding: &&Binding| {
            binding.track == track && binding.encoding == encoding && !binding.is_rtx
        };
        self.bindings.iter().find(is_it).map(|binding| binding.ssrc)
    }

    /// Takes in a decrypted packet: finds its track, undoes retransmission, keeps it.
    ///
    /// `Ok(None)`: taken in, but there is nothing to forward.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        view: &RtpView<'_>,
        tracks: &mut Slab<Track>,
    ) -> Result<Option<Received>, DropReason> {
        self.record_arrival(now, view);
        let binding = match self.binding(view.ssrc) {
            Some(binding) => binding,
            None => match self.learn(view, tracks) {
                Some(binding) => binding,
                None if self.retired.contains(&view.ssrc) => return Err(DropReason::EndedSource),
                None => return Err(DropReason::UnknownSource),
            },
        };
        let section = self
            .section_of(binding.track)
            .ok_or(DropReason::UnknownSource)?;
        let payload = view.payload().ok_or(DropReason::Malformed)?;
        let packet = if binding.is_rtx {
            let Some(packet) = section.restore(view, payload) else {
                return Ok(None);
            };
            packet
        } else {
            section
                .accept(view, payload)
                .ok_or(DropReason::UnknownPayload)?
        };
        let track = tracks
            .get_mut(binding.track)
            .ok_or(DropReason::UnknownSource)?;
        Ok(keep(now, track, &binding, &packet))
    }

    fn record_arrival(&mut self, now: Instant, view: &RtpView<'_>) {
        if !self.uses_transport_wide {
            return;
        }
        let ids = self
            .sections
            .iter()
            .filter_map(|s| s.id_of(Extension::TransportWide));
        for id in ids.take(1) {
            if let Some(&[high, low]) = view.extension(id) {
                self.arrivals.record(u16::from_be_bytes([high, low]), now);
            }
        }
    }

    /// Binds an unknown SSRC by mid and rid; without a mid, by a payload type only one section has.
    fn learn(&mut self, view: &RtpView<'_>, tracks: &Slab<Track>) -> Option<Binding> {
        let section = self.section_for(view)?;
        let is_rtx = section.is_rtx(view.payload_type);
        let rid_extension = if is_rtx {
            Extension::RepairedRid
        } else {
            Extension::Rid
        };
        let id = section.id_of(rid_extension);
        let rid = id.and_then(|id| view.extension(id)).and_then(Rid::parse);
        let track = tracks.get(section.track)?;
        let encoding = match (section.rids.is_empty(), rid) {
            (true, _) => 0,
            (false, Some(rid)) => track.encoding_named(rid)?,
            (false, None) => return None,
        };
        let binding = Binding {
            ssrc: view.ssrc,
            track: section.track,
            encoding,
            is_rtx,
        };
        self.bind(binding).then_some(binding)
    }

    fn section_for(&self, view: &RtpView<'_>) -> Option<&PublishedSection> {
        let mid_of = |section: &PublishedSection| {
            let id = section.id_of(Extension::Mid);
            id.and_then(|id| view.extension(id))
        };
        let is_named =
            |section: &&PublishedSection| mid_of(section).and_then(Mid::parse) == Some(section.mid);
        let by_mid = self.sections.iter().find(is_named);
        if by_mid.is_some() {
            return by_mid;
        }
        // What names another section, or belonged to one, is not to be mistaken for the only one left.
        let has_mid = self
            .sections
            .iter()
            .any(|section| mid_of(section).is_some());
        if has_mid || self.retired.contains(&view.ssrc) {
            return None;
        }
        let mut by_type = self
            .sections
            .iter()
            .filter(|section| section.knows_type(view.payload_type));
        let only = by_type.next()?;
        by_type.next().is_none().then_some(only)
    }

    /// Adds a binding unless its SSRC is taken or there are too many.
    fn bind(&mut self, binding: Binding) -> bool {
        match self
            .bindings
            .binary_search_by_key(&binding.ssrc, |binding| binding.ssrc)
        {
            Err(index) if self.bindings.len() < BINDINGS_MAX => {
                self.bindings.insert(index, binding);
                true
            }
            _ => false,
        }
    }
}

/// Hands a packet to its encoding and notes what it says about the track.
fn keep(
    now: Instant,
    track: &mut Track,
    binding: &Binding,
    packet: &Incoming<'_>,
) -> Option<Received> {
    let encoding = track.encodings.get_mut(binding.encoding)?;
    let is_first = encoding.layer.last_packet().is_none();
    let size_before = encoding.size();
    let id = encoding.receive(now, packet)?;
    let is_resized = encoding.size() != size_before;
    let (meta, ..) = encoding.layer.ring.get(id)?;
    let is_keyframe = meta.descriptor.keyframe;
    let is_resorted = is_resized && track.sort_layers();
    if let Some(level) = packet.audio_level {
        track.meter.record(level);
    }
    track.codec = Some(packet.codec);
    Some(Received {
        track: binding.track,
        encoding: binding.encoding,
        packet: id,
        is_keyframe,
        is_first,
        is_resorted,
    })
}

impl PublishedSection {
    /// The id under which this section sends an extension.
    pub(crate) fn id_of(&self, extension: Extension) -> Option<u8> {
        self.extensions
            .iter()
            .find(|(_, listed)| *listed == extension)
            .map(|(id, _)| *id)
    }

    /// The negotiated codec of a payload type.
    pub(crate) fn codec_of(&self, payload_type: u8) -> Option<&NegotiatedCodec> {
        self.codecs
            .iter()
            .find(|codec| codec.payload_type.0 == payload_type)
    }

    fn is_rtx(&self, payload_type: u8) -> bool {
        self.codecs
            .iter()
            .any(|codec| codec.rtx == Some(PayloadType(payload_type)))
    }

    fn knows_type(&self, payload_type: u8) -> bool {
        self.codec_of(payload_type).is_some() || self.is_rtx(payload_type)
    }

    /// Reads a media packet as this section negotiated it.
    fn accept<'a>(&self, view: &RtpView<'a>, payload: &'a [u8]) -> Option<Incoming<'a>> {
        let numbers = (view.payload_type, view.sequence);
        self.incoming(view, numbers, payload)
    }

    /// Reads the packet inside a retransmission (RFC 4588 §4); `None` for padding on its SSRC.
    fn restore<'a>(&self, view: &RtpView<'a>, payload: &'a [u8]) -> Option<Incoming<'a>> {
        let (sequence, payload) = payload.split_first_chunk::<2>()?;
        let rtx = PayloadType(view.payload_type);
        let codec = self.codecs.iter().find(|codec| codec.rtx == Some(rtx))?;
        let sequence = u16::from_be_bytes(*sequence);
        let numbers = (codec.payload_type.0, sequence);
        let restored = self.incoming(view, numbers, payload)?;
        Some(Incoming {
            is_recovered: true,
            ..restored
        })
    }

    fn incoming<'a>(
        &self,
        view: &RtpView<'a>,
        (payload_type, sequence): (u8, u16),
        payload: &'a [u8],
    ) -> Option<Incoming<'a>> {
        let negotiated = self.codec_of(payload_type)?;
        let (codec, codec_offset) = match negotiated.format {
            Format::Red { .. } => {
                let newest = opus::primary(payload).map_or(0, |(_, block)| block.len());
                (Codec::Opus, payload.len() - newest)
            }
            _ => (negotiated.codec()?, 0),
        };
        let extension = |extension| self.id_of(extension).and_then(|id| view.extension(id));
        Some(Incoming {
            sequence,
            timestamp: view.timestamp,
            marker: view.marker,
            payload_type,
            codec,
            payload,
            codec_offset,
            audio_level: extension(Extension::AudioLevel).and_then(|level| level.first().copied()),
            dependency_descriptor: extension(Extension::DependencyDescriptor).unwrap_or_default(),
            is_recovered: false,
        })
    }
}
