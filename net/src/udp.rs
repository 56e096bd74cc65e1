//! Batched UDP: recvmmsg with GRO, sendmmsg with GSO, local addresses and ECN bits.
#![expect(clippy::disallowed_types, reason = "I/O lives here")]
#![cfg_attr(
    test,
    expect(clippy::disallowed_methods, reason = "tests wait for datagrams")
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use self::kernel::Received;
pub use self::socket::is_family_missing;
use self::socket::{open, receive_buffer, send_buffer};
use crate::{Arena, Datagram, Path, Protocol, Run};

mod kernel;
mod socket;

/// UDP sockets of one port on all local addresses: one for each IP version the machine has.
#[derive(Debug)]
pub struct UdpSockets {
    sockets: Vec<Socket>,
    port: u16,
    counts: UdpCounts,
}

/// What crossed the sockets of one port since they were bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounts {
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Their bytes, without IP and UDP headers.
    pub received_bytes: u64,
    /// Receive calls that returned datagrams.
    pub received_batches: u64,
    /// Receives that failed.
    pub receive_errors: u64,
    /// Datagrams the kernel took.
    pub sent_datagrams: u64,
    /// Their bytes, without IP and UDP headers.
    pub sent_bytes: u64,
    /// Sends, each of one datagram or of a run of them.
    pub sent_runs: u64,
    /// Runs the kernel refused to segment.
    pub gso_fallbacks: u64,
    /// Sends the kernel refused for another reason than a full buffer.
    pub send_errors: u64,
    /// Datagrams dropped because the kernel's send buffer was full.
    pub socket_full: u64,
    /// Datagrams of which the kernel did not say which local address they reached.
    pub no_local_address: u64,
}

#[derive(Debug)]
struct Socket {
    socket: UdpSocket,
    is_ipv6: bool,
    port: u16,
    segmentation: Segmentation,
}

/// Whether the kernel is asked to cut runs into datagrams (GSO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segmentation {
    /// Yes; so many runs in a row were refused that went out as single datagrams.
    On { refused: u32 },
    /// No, for good.
    Off,
}

impl UdpSockets {
    /// Binds the wildcard addresses and asks for kernel buffers of this size; port 0 takes one that is
    /// free for both IP versions.
    ///
    /// # Errors
    /// The port cannot be had, or the system gives no descriptor.
    pub fn bind(port: u16, buffer_bytes: usize) -> io::Result<Self> {
        let mut tries = if port == 0 { 16 } else { 1 };
        loop {
            tries -= 1;
            match Self::bind_once(port, buffer_bytes) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                done => return done,
            }
        }
    }

    fn bind_once(mut port: u16, buffer_bytes: usize) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for ip in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ] {
            match open(SocketAddr::new(ip, port), buffer_bytes) {
                Ok(socket) => {
                    port = socket.local_addr()?.port();
                    let segmentation = Segmentation::On { refused: 0 };
                    sockets.push(Socket {
                        socket,
                        is_ipv6: ip.is_ipv6(),
                        port,
                        segmentation,
                    });
                }
                Err(error) if is_family_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if sockets.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let counts = UdpCounts::default();
        Ok(Self {
            sockets,
            port,
            counts,
        })
    }

    /// What crossed these sockets.
    pub fn counts(&self) -> &UdpCounts {
        &self.counts
    }

    /// Datagrams that were to be sent and went nowhere.
    pub fn dropped(&self) -> u64 {
        self.counts.socket_full + self.counts.send_errors
    }

    /// The port of all sockets.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many sockets there are: 1 or 2.
    pub fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there is a socket for addresses of this IP version.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.sockets
            .iter()
            .any(|socket| socket.is_ipv6 == address.is_ipv6())
    }

    /// Binds one address, and only that.
    ///
    /// # Errors
    /// The address cannot be had, or the system gives no descriptor.
    pub fn bind_address(address: SocketAddr, buffer_bytes: usize) -> io::Result<Self> {
        let socket = open(address, buffer_bytes)?;
        let port = socket.local_addr()?.port();
        let segmentation = Segmentation::On { refused: 0 };
        let is_ipv6 = address.is_ipv6();
        Ok(Self {
            sockets: vec![Socket {
                socket,
                is_ipv6,
                port,
                segmentation,
            }],
            port,
            counts: UdpCounts::default(),
        })
    }

    /// The same sockets once more, to send from in another thread; segmentation is as it was.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn share(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(|socket| {
            Ok(Socket {
                socket: socket.socket.try_clone()?,
                ..*socket
            })
        });
        Ok(Self {
            sockets: sockets.collect::<io::Result<_>>()?,
            port: self.port,
            counts: UdpCounts::default(),
        })
    }

    /// Whether routers may fragment what is sent (the DF bit); the kernel decides until this is called.
    ///
    /// # Errors
    /// The kernel has no such option.
    pub fn allow_fragments(&self, are_allowed: bool) -> io::Result<()> {
        let mut sockets = self.sockets.iter();
        sockets.try_for_each(|socket| {
            kernel::allow_fragments(&socket.socket, socket.is_ipv6, are_allowed)
        })
    }

    /// The smallest receive buffer the kernel gave, in bytes of its own counting.
    pub fn receive_buffer_bytes(&self) -> usize {
        let sizes = self
            .sockets
            .iter()
            .map(|socket| receive_buffer(&socket.socket));
        sizes.min().unwrap_or_default()
    }

    /// The smallest send buffer the kernel gave, in bytes of its own counting.
    pub fn send_buffer_bytes(&self) -> usize {
        let sizes = self.sockets.iter();
        let sizes = sizes.map(|socket| send_buffer(&socket.socket));
        sizes.min().unwrap_or_default()
    }

    /// The descriptor of a socket, to wait for; the last one when there are fewer.
    pub fn fd(&self, index: usize) -> BorrowedFd<'_> {
        self.sockets[index.min(self.sockets.len() - 1)]
            .socket
            .as_fd()
    }

    /// Takes one batch from a socket, without waiting.
    ///
    /// Allocation-free once `datagrams` has grown to the largest batch.
    pub fn receive<'b>(
        &mut self,
        index: usize,
        buffers: &'b mut ReceiveBuffers,
        datagrams: &mut Vec<Datagram<'b>>,
    ) {
        self.sockets[index].receive(buffers, datagrams, &mut self.counts);
    }

    /// Sends every UDP run of an arena that leaves from this port. What the kernel does not take at once
    /// is dropped and counted.
    pub fn send(&mut self, arena: &Arena) {
        let counts = &mut self.counts;
        for socket in &mut self.sockets {
            let mut batch = Batch::default();
            for run in arena.runs() {
                let is_ours = run.path.protocol == Protocol::Udp
                    && run.path.local.port() == socket.port
                    && run.path.remote.is_ipv6() == socket.is_ipv6;
                if is_ours {
                    socket.queue(Message::of(run, arena.bytes(run)), &mut batch, counts);
                }
            }
            socket.transmit(batch.messages(), counts);
        }
    }

    /// Sends every datagram by itself from now on, as where the kernel cannot cut runs up.
    pub fn disable_segmentation(&mut self) {
        for socket in &mut self.sockets {
            socket.segmentation = Segmentation::Off;
        }
    }
}

/// One message of a sendmmsg call.
#[derive(Clone, Copy)]
struct Message<'a> {
    bytes: &'a [u8],
    path: Path,
    /// Bytes of each datagram but the last; `None` for a single datagram.
    segment_bytes: Option<u16>,
}

impl<'a> Message<'a> {
    const NONE: Self = {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let path = Path {
            local: nowhere,
            remote: nowhere,
            protocol: Protocol::Udp,
        };
        Self {
            bytes: &[],
            path,
            segment_bytes: None,
        }
    };

    fn of(run: &Run, bytes: &'a [u8]) -> Self {
        let is_single = run.segments <= 1 || run.segment_bytes == 0;
        let segment_bytes = if is_single {
            None
        } else {
            u16::try_from(run.segment_bytes).ok()
        };
        Self {
            bytes,
            path: run.path,
            segment_bytes,
        }
    }

    fn datagrams(&self) -> impl Iterator<Item = Message<'a>> {
        let length = self
            .segment_bytes
            .map_or(self.bytes.len(), usize::from)
            .max(1);
        let path = self.path;
        self.bytes.chunks(length).map(move |bytes| Message {
            bytes,
            path,
            segment_bytes: None,
        })
    }

    fn datagram_count(&self) -> usize {
        self.segment_bytes
            .map_or(1, |length| self.bytes.len().div_ceil(usize::from(length)))
    }
}

/// Messages on their way into one sendmmsg call.
struct Batch<'a> {
    messages: [Message<'a>; MESSAGES_MAX],
    count: usize,
}

impl Default for Batch<'_> {
    fn default() -> Self {
        Self {
            messages: [Message::NONE; MESSAGES_MAX],
            count: 0,
        }
    }
}

impl<'a> Batch<'a> {
    fn push(&mut self, message: Message<'a>) {
        self.messages[self.count] = message;
        self.count += 1;
    }

    fn is_full(&self) -> bool {
        self.count == MESSAGES_MAX
    }

    fn messages(&self) -> &[Message<'a>] {
        &self.messages[..self.count]
    }
}

impl Socket {
    fn queue<'a>(&mut self, message: Message<'a>, batch: &mut Batch<'a>, counts: &mut UdpCounts) {
        if self.segmentation == Segmentation::Off && message.segment_bytes.is_some() {
            for datagram in message.datagrams() {
                self.queue(datagram, batch, counts);
            }
            return;
        }
        batch.push(message);
        if batch.is_full() {
            self.transmit(batch.messages(), counts);
            batch.count = 0;
        }
    }

    fn transmit(&mut self, messages: &[Message<'_>], counts: &mut UdpCounts) {
        let mut rest = messages;
        while let Some((first, after)) = rest.split_first() {
            match kernel::send(&self.socket, rest) {
                Ok(sent) => {
                    let (sent, unsent) = rest.split_at(sent.clamp(1, rest.len()));
                    self.count_sent(sent, counts);
                    rest = unsent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let dropped = rest.iter().map(Message::datagram_count).sum::<usize>();
                    counts.socket_full += dropped as u64;
                    return;
                }
                Err(error) => {
                    if first.segment_bytes.is_some() && refuses_segmentation(&error) {
                        self.transmit_single(first, &error, counts);
                    } else {
                        counts.send_errors += 1;
                    }
                    rest = after;
                }
            }
        }
    }

    /// Sends the datagrams of a refused run one by one. Some refusals concern one path only (its
    /// MTU, a local address that is gone), so only a clear or a lasting one ends segmentation.
    fn transmit_single(&mut self, run: &Message<'_>, error: &io::Error, counts: &mut UdpCounts) {
        counts.gso_fallbacks += 1;
        let is_for_good = matches!(error.raw_os_error(), Some(libc::EIO | libc::ENOPROTOOPT));
        self.segmentation = match self.segmentation {
            Segmentation::On { refused } if !is_for_good && refused + 1 < REFUSALS_MAX => {
                Segmentation::On {
                    refused: refused + 1,
                }
            }
            _ => {
                tracing::warn!(%error, "the kernel does not segment UDP sends: sending singly");
                Segmentation::Off
            }
        };
        let mut batch = Batch::default();
        for datagram in run.datagrams() {
            if batch.is_full() {
                break; // Never: an arena's runs have no more segments than a batch has messages.
            }
            batch.push(datagram);
        }
        self.transmit(batch.messages(), counts);
    }

    fn count_sent(&mut self, sent: &[Message<'_>], counts: &mut UdpCounts) {
        counts.sent_runs += sent.len() as u64;
        for message in sent {
            counts.sent_datagrams += message.datagram_count() as u64;
            counts.sent_bytes += message.bytes.len() as u64;
        }
        if let Segmentation::On { refused } = &mut self.segmentation
            && sent.iter().any(|message| message.segment_bytes.is_some())
        {
            *refused = 0;
        }
    }

    fn receive<'b>(
        &self,
        buffers: &'b mut ReceiveBuffers,
        datagrams: &mut Vec<Datagram<'b>>,
        counts: &mut UdpCounts,
    ) {
        let mut received = [Received::NONE; SLOTS];
        let count = match kernel::receive(&self.socket, &mut buffers.0, &mut received) {
            Ok(count) => count,
            Err(error) => {
                counts.receive_errors += u64::from(error.kind() != io::ErrorKind::WouldBlock);
                return;
            }
        };
        counts.received_batches += 1;
        for (slot, received) in buffers.0.chunks_mut(SLOT_BYTES).zip(&received[..count]) {
            let Some(path) = path_of(received, self.port) else {
                counts.no_local_address += 1;
                continue;
            };
            let bytes = &mut slot[..received.length.min(SLOT_BYTES)];
            counts.received_bytes += bytes.len() as u64;
            if bytes.is_empty() {
                // A datagram all the same: TURN has to relay it.
                counts.received_datagrams += 1;
                datagrams.push(Datagram {
                    path,
                    ecn: received.ecn,
                    bytes: &mut [],
                });
                continue;
            }
            let segment_bytes = received.segment_bytes.unwrap_or(SLOT_BYTES).max(1);
            for bytes in bytes.chunks_mut(segment_bytes) {
                counts.received_datagrams += 1;
                datagrams.push(Datagram {
                    path,
                    ecn: received.ecn,
                    bytes,
                });
            }
        }
    }
}

/// Where received bytes go: one slot for each message of a recvmmsg call; may serve many sockets in turn.
#[derive(Debug)]
pub struct ReceiveBuffers(Box<[u8]>);

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBuffers {
    /// The bytes themselves, for what is read another way: about a megabyte.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Makes room for one batch.
    pub fn new() -> Self {
        Self(vec![0; SLOTS * SLOT_BYTES].into_boxed_slice())
    }
}

/// The way a datagram came; `None` when the kernel did not tell all of it.
fn path_of(received: &Received, port: u16) -> Option<Path> {
    let mut remote = received.remote?;
    remote.set_ip(remote.ip().to_canonical());
    let local = SocketAddr::new(received.local?.to_canonical(), port);
    Some(Path {
        local,
        remote,
        protocol: Protocol::Udp,
    })
}

/// Errors with which kernels refuse UDP_SEGMENT: no such option (before 4.18), no checksum offload, a
/// segment longer than the path's MTU.
fn refuses_segmentation(error: &io::Error) -> bool {
    let refusals = [
        libc::EINVAL,
        libc::EIO,
        libc::ENOPROTOOPT,
        libc::EMSGSIZE,
        libc::EOPNOTSUPP,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| refusals.contains(&code))
}

/// Messages in one sendmmsg call; also the most segments the kernel takes in one message.
const MESSAGES_MAX: usize = 64;
/// Messages in one recvmmsg call; with GRO each may hold 64 datagrams.
const SLOTS: usize = 16;
/// The longest UDP payload GRO can hand up.
const SLOT_BYTES: usize = 1 << 16;
/// So many refused runs in a row, and it is not about single paths.
const REFUSALS_MAX: u32 = 64;
#[cfg(test)]
mod tests;
