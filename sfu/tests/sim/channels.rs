//! A browser's data channels: SCTP and DCEP (RFC 8831, RFC 8832) as its client side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier as Ppid, StreamEvent, TransportConfig,
};

/// Stream numbers of the two channels.
pub(crate) const RELIABLE: u16 = 0;
pub(crate) const LOSSY: u16 = 2;

/// How long an INIT waits for its answer, at first.
const INIT_TIMEOUT: Duration = Duration::from_millis(500);

/// An association and what came in over it.
pub(crate) struct Channels {
    /// The same moment on the virtual clock and on the association's.
    clocks: (Instant, Instant),
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    is_open: bool,
    pub(crate) received: Vec<(u16, Vec<u8>)>,
}

fn remote() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5000))
}

impl Channels {
    pub(crate) fn new(now: Instant) -> Self {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), None);
        let mut config = ClientConfig::new();
        let transport = TransportConfig::default()
            .with_rto_initial_ms(INIT_TIMEOUT.as_millis() as u64)
            .with_rto_min_ms(200);
        config.transport = Arc::new(transport);
        let (handle, association) = endpoint.connect(config, remote()).unwrap();
        // The crate asks the system for the time when it starts this timer: that tells its clock.
        let own_start = association.poll_timeout().unwrap() - INIT_TIMEOUT;
        Self {
            clocks: (now, own_start),
            endpoint,
            handle,
            association,
            is_open: false,
            received: Vec::new(),
        }
    }

    /// Both channels were acknowledged.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open && self.received.iter().filter(|(_, m)| m == &[2]).count() >= 2
    }

    pub(crate) fn send(&mut self, stream: u16, message: &[u8]) {
        let mut stream = self.association.stream(stream).unwrap();
        stream.write_with_ppi(message, Ppid::Binary).unwrap();
    }

    pub(crate) fn handle(&mut self, now: Instant, packet: &[u8]) {
        let now = self.own_time(now);
        let packet = Bytes::copy_from_slice(packet);
        let handled = self.endpoint.handle(now, remote(), None, None, packet);
        if let Some((handle, DatagramEvent::AssociationEvent(event))) = handled {
            assert_eq!(handle, self.handle);
            self.association.handle_event(event);
        }
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected => self.open(),
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                _ => {}
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let now = self.own_time(now);
        self.association.handle_timeout(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let (start, own_start) = self.clocks;
        let at = self.association.poll_timeout()?;
        Some(start + (at - own_start))
    }

    fn own_time(&self, now: Instant) -> Instant {
        let (start, own_start) = self.clocks;
        own_start + (now - start)
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Vec<Bytes> {
        let now = self.own_time(now);
        let mut packets = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(raw) = transmit.payload {
                packets.extend(raw);
            }
        }
        packets
    }

    fn open(&mut self) {
        for (stream, label, kind) in [(RELIABLE, "reliable", 0), (LOSSY, "lossy", 0x81)] {
            let mut message = vec![3, kind, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0];
            message.extend(label.as_bytes());
            let mut stream = self.association.open_stream(stream, Ppid::Binary).unwrap();
            stream.write_with_ppi(&message, Ppid::Dcep).unwrap();
        }
        self.is_open = true;
    }

    fn read(&mut self, id: u16) {
        while let Ok(Some(chunks)) = self.association.stream(id).unwrap().read_sctp() {
            let mut bytes = vec![0; chunks.len()];
            chunks.read(&mut bytes).unwrap();
            self.received.push((id, bytes));
        }
    }
}
