//! Data channels of one peer: SCTP over DTLS (RFC 8831), opened by the client with DCEP (RFC 8832).

#![warn(clippy::indexing_slicing)]

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, StreamEvent, StreamId,
    TransportConfig,
};

use super::negotiation::MESSAGE_BYTES_MAX;
use crate::sfu::DataChannel;

/// What happened on the channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataEvent {
    /// The client opened the channel; it may be sent on.
    Opened(DataChannel),
    /// A whole message came in.
    Message {
        channel: DataChannel,
        bytes: Bytes,
        /// Sent as a string, not as binary.
        is_text: bool,
    },
    /// The channel is gone: reset by the client, closed because it was full, or lost with the association.
    Closed(DataChannel),
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The client has no such channel open.
    #[error("the channel is not open")]
    NotOpen,
    /// Longer than 64 KiB or than the client takes.
    #[error("the message is too large")]
    TooLarge,
    /// More than 1 MiB waits for the client. The lossy channel drops the message; the reliable one,
    /// which may lose nothing, is closed.
    #[error("too much is buffered")]
    Full,
}

/// The SCTP association of a peer, as its server side, and the channels on it.
///
/// The client opens everything. After each `handle_*` and `send`, drain `poll_transmit` and `poll_event`.
/// Channels with other labels than ours are accepted, so that the client does not fail, and ignored.
pub(crate) struct DataChannels {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    /// In order, so that what happens to all of them happens in the same order each time.
    channels: BTreeMap<StreamId, Channel>,
    message_bytes_max: usize,
    packets: VecDeque<Bytes>,
    events: VecDeque<DataEvent>,
}

/// What the client opened on a stream; `Ignored` for labels that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Ours(DataChannel),
    Ignored,
}

impl DataChannels {
    /// Waits for a client that takes messages of at most `message_bytes_max` bytes.
    pub(crate) fn new(message_bytes_max: u32) -> Self {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_BYTES_MAX)
            .with_max_receive_message_size(MESSAGE_BYTES)
            .with_max_send_message_size(MESSAGE_BYTES)
            .with_max_num_inbound_streams(STREAMS_MAX)
            .with_max_num_outbound_streams(STREAMS_MAX)
            .with_rto_initial_ms(500)
            .with_rto_min_ms(200)
            .with_rto_max_ms(10_000);
        let mut server = ServerConfig::new();
        server.transport = Arc::new(transport);
        let mut config = EndpointConfig::new();
        config.max_payload_size(PAYLOAD_BYTES_MAX);
        let limit = usize::try_from(message_bytes_max).unwrap_or(usize::MAX);
        Self {
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server))),
            association: None,
            channels: BTreeMap::new(),
            message_bytes_max: limit.min(MESSAGE_BYTES_MAX),
            packets: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes in one SCTP packet, as it came out of a DTLS record.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        let packet = Bytes::copy_from_slice(packet);
        match self.endpoint.handle(now, REMOTE, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                // One association for the life of the DTLS connection (RFC 8831 §6.2).
                self.endpoint.reject_new_associations();
                self.association = Some((handle, association));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => match &mut self.association {
                Some((own, association)) if *own == handle => association.handle_event(event),
                _ => {}
            },
            None => {}
        }
        self.take_events();
    }

    /// Retransmits and acknowledges what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.take_events();
    }

    /// When to call `handle_timeout`; `None`: nothing pending.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.association
            .as_ref()
            .and_then(|(_, association)| association.poll_timeout())
    }

    /// Writes the next SCTP packet into `out`, which holds at least 1,200 bytes, and returns its length.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        loop {
            while let Some(packet) = self.packets.pop_front() {
                if let Some(start) = out.get_mut(..packet.len()) {
                    start.copy_from_slice(&packet);
                    return Some(packet.len());
                }
            }
            let of_association = self
                .association
                .as_mut()
                .and_then(|(_, association)| association.poll_transmit(now));
            let transmit = of_association.or_else(|| self.endpoint.poll_transmit())?;
            if let Payload::RawEncode(packets) = transmit.payload {
                self.packets.extend(packets);
            }
        }
    }

    /// What happened, in order.
    pub(crate) fn poll_event(&mut self) -> Option<DataEvent> {
        self.events.pop_front()
    }

    /// Whether the client has opened this channel.
    #[cfg(test)]
    pub(crate) fn is_open(&self, channel: DataChannel) -> bool {
        self.stream_of(channel).is_some()
    }

    /// Queues one message, sent as binary.
    pub(crate) fn send(&mut self, channel: DataChannel, bytes: &Bytes) -> Result<(), SendError> {
        let id = self.stream_of(channel).ok_or(SendError::NotOpen)?;
        if bytes.len() > self.message_bytes_max {
            return Err(SendError::TooLarge);
        }
        if self.buffered_bytes() + bytes.len() > SEND_BYTES_MAX {
            if channel == DataChannel::Reliable {
                self.close(id);
            }
            return Err(SendError::Full);
        }
        let Some((_, association)) = &mut self.association else {
            return Err(SendError::NotOpen);
        };
        let written = association
            .stream(id)
            .and_then(|mut stream| match bytes.len() {
                // SCTP has no empty messages (RFC 8831 §6.6).
                0 => stream.write_with_ppi(&[0], Ppid::BinaryEmpty),
                _ => stream.write_sctp(bytes, Ppid::Binary),
            });
        written.map(|_| ()).map_err(|_| SendError::NotOpen)
    }

    /// Bytes that wait to be sent or acknowledged, over all channels.
    fn buffered_bytes(&mut self) -> usize {
        let Some((_, association)) = &mut self.association else {
            return 0;
        };
        let streams = self.channels.keys();
        let amount = |&id: &StreamId| association.stream(id).ok()?.buffered_amount().ok();
        streams.filter_map(amount).sum()
    }

    fn stream_of(&self, wanted: DataChannel) -> Option<StreamId> {
        let mut open = self.channels.iter();
        open.find(|(_, channel)| **channel == Channel::Ours(wanted))
            .map(|(&id, _)| id)
    }

    fn take_events(&mut self) {
        while let Some((_, association)) = &mut self.association {
            let Some(event) = association.poll() else {
                break;
            };
            match event {
                Event::Stream(StreamEvent::Opened { id }) => {
                    while association.accept_stream().is_some() {}
                    self.read(id);
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::Stream(StreamEvent::Finished { id }) => self.forget(id),
                Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => self.end(),
                _ => {}
            }
        }
    }

    fn read(&mut self, id: StreamId) {
        while let Some((_, association)) = &mut self.association {
            let message = association
                .stream(id)
                .and_then(|mut stream| stream.read_sctp());
            let Ok(Some(message)) = message else {
                return;
            };
            let ppid = message.ppi;
            let mut bytes = vec![0; message.len()];
            if message.read(&mut bytes).is_ok() {
                self.handle_message(id, ppid, Bytes::from(bytes));
            }
        }
    }

    fn handle_message(&mut self, id: StreamId, ppid: Ppid, bytes: Bytes) {
        let (is_text, bytes) = match ppid {
            Ppid::Dcep => {
                if let Some(open) = Open::parse(&bytes) {
                    self.handle_open(id, open);
                }
                return;
            }
            Ppid::String => (true, bytes),
            Ppid::Binary => (false, bytes),
            Ppid::StringEmpty => (true, Bytes::new()),
            Ppid::BinaryEmpty => (false, Bytes::new()),
            Ppid::Unknown => return,
        };
        if let Some(Channel::Ours(channel)) = self.channels.get(&id) {
            let channel = *channel;
            self.events.push_back(DataEvent::Message {
                channel,
                bytes,
                is_text,
            });
        }
    }

    fn handle_open(&mut self, id: StreamId, open: Open) {
        if self.channels.contains_key(&id) {
            return; // opened twice: the first one counts
        }
        if self.channels.len() >= CHANNELS_MAX {
            self.close(id);
            return;
        }
        let Some((_, association)) = &mut self.association else {
            return;
        };
        let acknowledged = association.stream(id).and_then(|mut stream| {
            stream.write_with_ppi(&[DCEP_ACK], Ppid::Dcep)?;
            stream.set_reliability_params(open.unordered, open.reliability, open.parameter)
        });
        if acknowledged.is_err() {
            return;
        }
        let channel = match open.label {
            Some(channel) if self.stream_of(channel).is_none() => Channel::Ours(channel),
            _ => Channel::Ignored,
        };
        self.channels.insert(id, channel);
        if let Channel::Ours(channel) = channel {
            self.events.push_back(DataEvent::Opened(channel));
        }
    }

    /// Resets a stream from our side.
    fn close(&mut self, id: StreamId) {
        if let Some((_, association)) = &mut self.association {
            // An error means that the association has ended, which closes it too.
            let _ = association.stream(id).and_then(|mut stream| stream.close());
        }
        self.forget(id);
    }

    fn forget(&mut self, id: StreamId) {
        if let Some(Channel::Ours(channel)) = self.channels.remove(&id) {
            self.events.push_back(DataEvent::Closed(channel));
        }
    }

    /// The association is over; what it still wants to say (an ABORT) goes out first.
    fn end(&mut self) {
        let ids: Vec<StreamId> = self.channels.keys().copied().collect();
        for id in ids {
            self.forget(id);
        }
    }
}

/// A DATA_CHANNEL_OPEN message (RFC 8832 §5.1).
///
/// ```text
/// | 3 | channel type | priority (2) | reliability parameter (4) | label length (2) | protocol length (2) |
/// | label … | protocol … |
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
struct Open {
    /// `None` for labels that are not ours.
    label: Option<DataChannel>,
    unordered: bool,
    reliability: ReliabilityType,
    parameter: u32,
}

impl Open {
    /// `None` for other DCEP messages and malformed ones.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<12>()?;
        let &[message, channel_type, _, _, p0, p1, p2, p3, l0, l1, q0, q1] = header;
        if message != DCEP_OPEN {
            return None;
        }
        let label_length = usize::from(u16::from_be_bytes([l0, l1]));
        let protocol_length = usize::from(u16::from_be_bytes([q0, q1]));
        if rest.len() != label_length + protocol_length {
            return None;
        }
        let label = match rest.get(..label_length)? {
            b"reliable" => Some(DataChannel::Reliable),
            b"lossy" => Some(DataChannel::Lossy),
            _ => None,
        };
        let reliability = match channel_type & 0x7f {
            0 => ReliabilityType::Reliable,
            1 => ReliabilityType::Rexmit,
            2 => ReliabilityType::Timed,
            _ => return None,
        };
        let parameter = u32::from_be_bytes([p0, p1, p2, p3]);
        Some(Self {
            label,
            unordered: channel_type & 0x80 != 0,
            reliability,
            parameter,
        })
    }
}

const DCEP_OPEN: u8 = 3;
const DCEP_ACK: u8 = 2;

/// The association runs over DTLS and has no addresses of its own; the crate wants one.
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5000);
/// User data of one packet: with SCTP's 28 bytes and DTLS's 37 it stays within 1,200, as media does. A
/// multiple of 4, because chunks are padded to one.
const PAYLOAD_BYTES_MAX: u32 = (1200 - 28 - 37) / 4 * 4;
/// Messages a client left incomplete, in all.
const RECEIVE_BYTES_MAX: u32 = 512 * 1024;
/// What waits for a slow client before we drop or close.
const SEND_BYTES_MAX: usize = 1024 * 1024;
const MESSAGE_BYTES: u32 = 64 * 1024;
/// Stream numbers a client may use: twice the channels, as each side of DTLS has every second one.
const STREAMS_MAX: u16 = 128;
const CHANNELS_MAX: usize = 64;

#[cfg(test)]
mod tests;
