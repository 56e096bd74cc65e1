use std::time::Duration;

use sctp_proto::ClientConfig;

use super::*;

/// A client on the bare SCTP crate, as a browser would be, joined to our side by queues.
struct Pair {
    now: Instant,
    server: DataChannels,
    endpoint: Endpoint,
    handle: AssociationHandle,
    client: Association,
    events: Vec<DataEvent>,
    /// What the client received: stream, kind, bytes.
    received: Vec<(StreamId, Ppid, Vec<u8>)>,
    to_server: Vec<Bytes>,
}

#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
fn start() -> Instant {
    Instant::now()
}

impl Pair {
    fn new() -> Self {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), None);
        let (handle, client) = endpoint.connect(ClientConfig::new(), REMOTE).unwrap();
        let server = DataChannels::new(u32::MAX);
        let (events, received, to_server) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            now: start(),
            server,
            endpoint,
            handle,
            client,
            events,
            received,
            to_server,
        }
    }

    fn run(&mut self) {
        self.run_with(|_| true);
    }

    fn run_with(&mut self, mut pass: impl FnMut(&[u8]) -> bool) {
        let mut buf = [0; 2048];
        for _ in 0..200 {
            while let Some(transmit) = self.client.poll_transmit(self.now) {
                let Payload::RawEncode(packets) = transmit.payload else {
                    continue;
                };
                for packet in packets.into_iter().filter(|packet| pass(packet)) {
                    self.server.handle_packet(self.now, &packet);
                    self.to_server.push(packet);
                }
            }
            while let Some(length) = self.server.poll_transmit(self.now, &mut buf) {
                assert!(length <= 1200 - 37);
                if !pass(&buf[..length]) {
                    continue;
                }
                let packet = Bytes::copy_from_slice(&buf[..length]);
                let handled = self.endpoint.handle(self.now, REMOTE, None, None, packet);
                if let Some((handle, DatagramEvent::AssociationEvent(event))) = handled {
                    assert_eq!(handle, self.handle);
                    self.client.handle_event(event);
                }
            }
            while let Some(event) = self.client.poll() {
                if let Event::Stream(StreamEvent::Readable { id }) = event {
                    while let Ok(Some(chunks)) = self.client.stream(id).unwrap().read_sctp() {
                        let mut bytes = vec![0; chunks.len()];
                        chunks.read(&mut bytes).unwrap();
                        self.received.push((id, chunks.ppi, bytes));
                    }
                }
            }
            self.events
                .extend(std::iter::from_fn(|| self.server.poll_event()));
            self.now += Duration::from_millis(50);
            self.client.handle_timeout(self.now);
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now);
            }
        }
    }

    fn open(&mut self, id: StreamId, label: &str, channel_type: u8) {
        let mut stream = self.client.open_stream(id, Ppid::Binary).unwrap();
        stream
            .write_with_ppi(&open_message(label, channel_type), Ppid::Dcep)
            .unwrap();
    }

    fn write(&mut self, id: StreamId, bytes: &[u8], ppid: Ppid) {
        self.client
            .stream(id)
            .unwrap()
            .write_with_ppi(bytes, ppid)
            .unwrap();
    }

    fn opened() -> Self {
        let mut pair = Self::new();
        pair.run();
        pair.open(0, "reliable", 0);
        pair.open(2, "lossy", 0x81);
        pair.run();
        let opened = [DataChannel::Reliable, DataChannel::Lossy].map(DataEvent::Opened);
        assert_eq!(std::mem::take(&mut pair.events), opened);
        let acknowledged = [0, 2].map(|id| (id, Ppid::Dcep, vec![DCEP_ACK]));
        assert_eq!(std::mem::take(&mut pair.received), acknowledged);
        pair
    }
}

fn open_message(label: &str, channel_type: u8) -> Vec<u8> {
    let length = u8::try_from(label.len()).unwrap();
    let mut message = vec![DCEP_OPEN, channel_type, 0, 0, 0, 0, 0, 0, 0, length, 0, 0];
    message.extend_from_slice(label.as_bytes());
    message
}

fn message(channel: DataChannel, bytes: &[u8], is_text: bool) -> DataEvent {
    DataEvent::Message {
        channel,
        bytes: Bytes::copy_from_slice(bytes),
        is_text,
    }
}

#[test]
fn both_channels_open_and_carry_messages_both_ways() {
    let mut pair = Pair::opened();
    let long = vec![7; MESSAGE_BYTES_MAX];
    pair.write(0, &long, Ppid::Binary);
    pair.write(0, b"text", Ppid::String);
    pair.write(0, b"\0", Ppid::BinaryEmpty);
    pair.write(2, b"now", Ppid::Binary);
    pair.run();
    let of = |channel| {
        pair.events.iter().filter(move |event| {
            matches!(event, DataEvent::Message { channel: own, .. } if *own == channel)
        })
    };
    let reliable: Vec<_> = of(DataChannel::Reliable).cloned().collect();
    let expected = [(&long[..], false), (b"text", true), (b"", false)];
    assert_eq!(
        reliable,
        expected.map(|(bytes, text)| message(DataChannel::Reliable, bytes, text))
    );
    assert_eq!(of(DataChannel::Lossy).count(), 1);

    for bytes in [&long[..], b"", b"short"] {
        let bytes = Bytes::copy_from_slice(bytes);
        pair.server.send(DataChannel::Reliable, &bytes).unwrap();
    }
    pair.run();
    let kinds: Vec<_> = pair
        .received
        .iter()
        .map(|(id, ppid, it)| (*id, *ppid, it.len()))
        .collect();
    let all = [
        (0, Ppid::Binary, 65_536),
        (0, Ppid::BinaryEmpty, 1),
        (0, Ppid::Binary, 5),
    ];
    assert_eq!(kinds, all);
}

#[test]
fn a_lossy_path_delays_reliable_messages_only() {
    let mut pair = Pair::opened();
    for number in 0..20 {
        pair.server
            .send(DataChannel::Reliable, &Bytes::from(vec![number; 2000]))
            .unwrap();
        pair.server
            .send(DataChannel::Lossy, &Bytes::from(vec![number; 2000]))
            .unwrap();
    }
    let mut count = 0;
    pair.run_with(|_| {
        count += 1;
        count % 7 != 0
    });
    let of = |id: StreamId| pair.received.iter().filter(move |message| message.0 == id);
    let numbers: Vec<u8> = of(0).map(|message| message.2[0]).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<u8>>());
    assert!(of(2).count() <= 20);
}

#[test]
fn other_labels_are_accepted_and_ignored() {
    let mut pair = Pair::opened();
    pair.open(4, "chat", 0);
    pair.open(6, "reliable", 0);
    pair.run();
    pair.write(4, b"hello?", Ppid::Binary);
    pair.write(6, b"hello?", Ppid::Binary);
    pair.run();
    assert_eq!(pair.events, []);
    assert_eq!(pair.received.len(), 2); // both got their acknowledgement
}

#[test]
fn the_65th_channel_is_closed_again() {
    let mut pair = Pair::opened();
    for id in 2..70 {
        pair.open(2 * id, "other", 0);
        pair.run();
    }
    assert!(pair.server.channels.len() <= CHANNELS_MAX);
    assert!(pair.server.is_open(DataChannel::Reliable));
}

#[test]
fn a_full_buffer_drops_on_lossy_and_closes_reliable() {
    let mut pair = Pair::opened();
    let chunk = Bytes::from(vec![1; MESSAGE_BYTES_MAX]);
    for _ in 0..16 {
        pair.server.send(DataChannel::Reliable, &chunk).unwrap();
    }
    assert_eq!(
        pair.server.send(DataChannel::Lossy, &chunk),
        Err(SendError::Full)
    );
    assert!(pair.server.is_open(DataChannel::Lossy));
    assert_eq!(
        pair.server.send(DataChannel::Reliable, &chunk),
        Err(SendError::Full)
    );
    assert_eq!(
        pair.server.poll_event(),
        Some(DataEvent::Closed(DataChannel::Reliable))
    );
    assert_eq!(
        pair.server.send(DataChannel::Reliable, &chunk),
        Err(SendError::NotOpen)
    );
    pair.run();
    assert!(pair.server.is_open(DataChannel::Lossy));
}

#[test]
fn limits_of_both_sides_hold() {
    let mut pair = Pair::opened();
    let long = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    assert_eq!(
        pair.server.send(DataChannel::Lossy, &long),
        Err(SendError::TooLarge)
    );
    let mut small = DataChannels::new(100);
    small.channels.insert(0, Channel::Ours(DataChannel::Lossy));
    assert_eq!(
        small.send(DataChannel::Lossy, &long.slice(..101)),
        Err(SendError::TooLarge)
    );
    let mut nothing = DataChannels::new(100);
    assert_eq!(
        nothing.send(DataChannel::Lossy, &Bytes::new()),
        Err(SendError::NotOpen)
    );
}

#[test]
fn a_channel_the_client_closes_can_be_opened_again() {
    let mut pair = Pair::opened();
    pair.client.stream(0).unwrap().close().unwrap();
    pair.run();
    assert_eq!(
        std::mem::take(&mut pair.events),
        [DataEvent::Closed(DataChannel::Reliable)]
    );
    pair.open(4, "reliable", 0);
    pair.run();
    assert_eq!(pair.events, [DataEvent::Opened(DataChannel::Reliable)]);
}

#[test]
fn losing_the_association_closes_the_channels_once() {
    let mut pair = Pair::opened();
    // An ABORT with the server's verification tag, from a packet of the client.
    let header = &pair.to_server.last().unwrap()[..8];
    let mut abort = [header, &[0; 4], &[6, 0, 0, 4]].concat();
    let checksum = crc32c(&abort).to_le_bytes();
    abort[8..12].copy_from_slice(&checksum);
    pair.server.handle_packet(pair.now, &abort);
    let mut closed: Vec<_> = std::iter::from_fn(|| pair.server.poll_event()).collect();
    closed.sort_by_key(|event| *event == DataEvent::Closed(DataChannel::Lossy));
    assert_eq!(
        closed,
        [DataChannel::Reliable, DataChannel::Lossy].map(DataEvent::Closed)
    );
    let bytes = Bytes::from_static(b"x");
    assert_eq!(
        pair.server.send(DataChannel::Lossy, &bytes),
        Err(SendError::NotOpen)
    );
}

#[test]
fn garbage_neither_panics_nor_disturbs() {
    let mut pair = Pair::opened();
    pair.write(0, &[9; 3000], Ppid::Binary);
    pair.run();
    let packets = std::mem::take(&mut pair.to_server);
    let mut fresh = DataChannels::new(u32::MAX);
    for packet in &packets {
        for end in 0..packet.len() {
            let mut cut = packet[..end].to_vec();
            pair.server.handle_packet(pair.now, &cut);
            if end >= 12 {
                // With the right checksum it gets past the first gate.
                cut[8..12].fill(0);
                let checksum = crc32c(&cut).to_le_bytes();
                cut[8..12].copy_from_slice(&checksum);
                fresh.handle_packet(pair.now, &cut);
            }
        }
        for at in 12..packet.len().min(200) {
            let mut changed = packet.to_vec();
            changed[at] ^= 0xff;
            changed[8..12].fill(0);
            let checksum = crc32c(&changed).to_le_bytes();
            changed[8..12].copy_from_slice(&checksum);
            let mut one = DataChannels::new(u32::MAX);
            one.handle_packet(pair.now, &packets[0]);
            one.handle_packet(pair.now, &changed);
            fresh.handle_packet(pair.now, &changed);
        }
    }
    pair.events.clear();
    pair.write(0, b"still there", Ppid::Binary);
    pair.run();
    assert_eq!(
        pair.events,
        [message(DataChannel::Reliable, b"still there", false)]
    );
}

#[test]
fn malformed_opens_are_not_channels() {
    let good = open_message("lossy", 0x81);
    assert!(Open::parse(&good).is_some());
    for end in 0..good.len() {
        assert_eq!(Open::parse(&good[..end]), None);
    }
    assert_eq!(Open::parse(&open_message("lossy", 3)), None);
    assert_eq!(Open::parse(&[good.as_slice(), b"!"].concat()), None);
}

/// CRC-32C (RFC 9260 appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}
