//! Batched UDP: recvmmsg with GRO, sendmmsg with GSO, local addresses and ECN bits.
//!
//! The only file with `unsafe`: no safe interface sends messages with control messages of their own
//! in one call. Pointers live only inside the function that makes the system call.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg and control messages")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

pub(crate) use self::socket::is_family_missing;
use self::socket::{open, receive_buffer};
use crate::metrics::{DropReason, Metrics};
use crate::shard::{Arena, Datagram, Path, Protocol, Run};

mod socket;

/// The UDP sockets of a shard: one for each IP version the machine has, on one port.
#[derive(Debug)]
pub(crate) struct UdpSockets {
    sockets: Vec<Socket>,
    port: u16,
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
    /// Binds the wildcard addresses; port 0 takes one that is free for both IP versions.
    pub(crate) fn bind(port: u16, buffer_bytes: usize) -> io::Result<Self> {
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
        Ok(Self { sockets, port })
    }

    /// The port of all sockets.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many sockets there are: 1 or 2.
    pub(crate) fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there is a socket for addresses of this IP version.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        self.sockets
            .iter()
            .any(|socket| socket.is_ipv6 == address.is_ipv6())
    }

    /// The smallest receive buffer the kernel gave, in bytes of its own counting.
    pub(crate) fn receive_buffer_bytes(&self) -> usize {
        let sizes = self
            .sockets
            .iter()
            .map(|socket| receive_buffer(&socket.socket));
        sizes.min().unwrap_or_default()
    }

    /// The descriptor of a socket, to wait for; the last one when there are fewer.
    pub(crate) fn fd(&self, index: usize) -> BorrowedFd<'_> {
        self.sockets[index.min(self.sockets.len() - 1)]
            .socket
            .as_fd()
    }

    /// Takes one batch from a socket, without waiting.
    ///
    /// Allocation-free once `datagrams` has grown to the largest batch.
    pub(crate) fn receive<'b>(
        &self,
        index: usize,
        buffers: &'b mut ReceiveBuffers,
        datagrams: &mut Vec<Datagram<'b>>,
        metrics: &mut Metrics,
    ) {
        self.sockets[index].receive(buffers, datagrams, metrics);
    }

    /// Sends every UDP run of an arena. What the kernel does not take at once is dropped and counted.
    pub(crate) fn send(&mut self, arena: &Arena, metrics: &mut Metrics) {
        for socket in &mut self.sockets {
            let mut batch = Batch::default();
            for run in arena.runs() {
                let is_ours = run.path.protocol == Protocol::Udp
                    && run.path.remote.is_ipv6() == socket.is_ipv6;
                if is_ours {
                    socket.queue(Message::of(run, arena.bytes(run)), &mut batch, metrics);
                }
            }
            socket.transmit(batch.messages(), metrics);
        }
    }

    #[cfg(test)]
    pub(super) fn disable_segmentation(&mut self) {
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
    fn queue<'a>(&mut self, message: Message<'a>, batch: &mut Batch<'a>, metrics: &mut Metrics) {
        if self.segmentation == Segmentation::Off && message.segment_bytes.is_some() {
            for datagram in message.datagrams() {
                self.queue(datagram, batch, metrics);
            }
            return;
        }
        batch.push(message);
        if batch.is_full() {
            self.transmit(batch.messages(), metrics);
            batch.count = 0;
        }
    }

    fn transmit(&mut self, messages: &[Message<'_>], metrics: &mut Metrics) {
        let mut rest = messages;
        while let Some((first, after)) = rest.split_first() {
            match self.send_messages(rest) {
                Ok(sent) => {
                    let (sent, unsent) = rest.split_at(sent.clamp(1, rest.len()));
                    self.count_sent(sent, metrics);
                    rest = unsent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let dropped = rest.iter().map(Message::datagram_count).sum::<usize>();
                    metrics.dropped_many(DropReason::SocketFull, dropped as u64);
                    return;
                }
                Err(error) => {
                    if first.segment_bytes.is_some() && refuses_segmentation(&error) {
                        self.transmit_single(first, &error, metrics);
                    } else {
                        metrics.send_errors += 1;
                    }
                    rest = after;
                }
            }
        }
    }

    /// Sends the datagrams of a refused run one by one. Some refusals concern one path only (its
    /// MTU, a local address that is gone), so only a clear or a lasting one ends segmentation.
    fn transmit_single(&mut self, run: &Message<'_>, error: &io::Error, metrics: &mut Metrics) {
        metrics.gso_fallbacks += 1;
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
        self.transmit(batch.messages(), metrics);
    }

    fn count_sent(&mut self, sent: &[Message<'_>], metrics: &mut Metrics) {
        metrics.sent_runs += sent.len() as u64;
        for message in sent {
            metrics.sent_datagrams += message.datagram_count() as u64;
            metrics.sent_bytes += message.bytes.len() as u64;
        }
        if let Segmentation::On { refused } = &mut self.segmentation
            && sent.iter().any(|message| message.segment_bytes.is_some())
        {
            *refused = 0;
        }
    }

    /// One sendmmsg call: how many messages it took, or why it did not take the first.
    fn send_messages(&self, messages: &[Message<'_>]) -> io::Result<usize> {
        let messages = &messages[..messages.len().min(MESSAGES_MAX)];
        let mut names = [Name::NONE; MESSAGES_MAX];
        let mut controls = [Control::NONE; MESSAGES_MAX];
        // SAFETY: zero is a valid value of these C structs: null pointers and zero lengths.
        let mut vectors: [libc::iovec; MESSAGES_MAX] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; MESSAGES_MAX] = unsafe { zeroed() };
        for (index, message) in messages.iter().enumerate() {
            let header = &mut headers[index].msg_hdr;
            header.msg_namelen = names[index].write(message.path.remote);
            header.msg_name = (&raw mut names[index]).cast();
            // The kernel only reads what is sent, so the pointer may lose its constness.
            vectors[index].iov_base = message.bytes.as_ptr().cast_mut().cast();
            vectors[index].iov_len = message.bytes.len();
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            let used = controls[index].write(message);
            if used > 0 {
                header.msg_control = (&raw mut controls[index]).cast();
                header.msg_controllen = used as _;
            }
        }
        // SAFETY: the first `messages.len()` headers point to names, vectors, control buffers and
        // message bytes that outlive the call, with their true lengths.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn receive<'b>(
        &self,
        buffers: &'b mut ReceiveBuffers,
        datagrams: &mut Vec<Datagram<'b>>,
        metrics: &mut Metrics,
    ) {
        let mut received = [Received::NONE; SLOTS];
        let count = match self.receive_messages(buffers, &mut received) {
            Ok(count) => count,
            Err(error) => {
                metrics.receive_errors += u64::from(error.kind() != io::ErrorKind::WouldBlock);
                return;
            }
        };
        metrics.received_batches += 1;
        for (slot, received) in buffers.0.chunks_mut(SLOT_BYTES).zip(&received[..count]) {
            let Some(path) = received.path(self.port) else {
                metrics.dropped(DropReason::NoLocalAddress);
                continue;
            };
            let bytes = &mut slot[..received.length.min(SLOT_BYTES)];
            metrics.received_bytes += bytes.len() as u64;
            let segment_bytes = received.segment_bytes.unwrap_or(SLOT_BYTES).max(1);
            for bytes in bytes.chunks_mut(segment_bytes) {
                metrics.received_datagrams += 1;
                datagrams.push(Datagram {
                    path,
                    ecn: received.ecn,
                    bytes,
                });
            }
        }
    }

    /// One recvmmsg call: how many slots it filled.
    fn receive_messages(
        &self,
        buffers: &mut ReceiveBuffers,
        received: &mut [Received; SLOTS],
    ) -> io::Result<usize> {
        let mut names = [Name::NONE; SLOTS];
        let mut controls = [Control::NONE; SLOTS];
        // SAFETY: zero is a valid value of these C structs: null pointers and zero lengths.
        let mut vectors: [libc::iovec; SLOTS] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; SLOTS] = unsafe { zeroed() };
        for (index, slot) in buffers.0.chunks_mut(SLOT_BYTES).enumerate() {
            vectors[index] = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            };
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[index]).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: every header points to a name, a vector with its slot, and a control buffer that
        // outlive the call and are not otherwise borrowed, with their true lengths.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                SLOTS as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (index, header) in headers.iter().take(count).enumerate() {
            received[index] = Received {
                length: header.msg_len as usize,
                remote: names[index].read(),
                ..Received::NONE
            };
            // SAFETY: the kernel has filled the control buffer and its length in.
            unsafe { received[index].read_control(&header.msg_hdr) };
        }
        Ok(count)
    }
}

/// Where received bytes go: one slot for each message of a recvmmsg call.
#[derive(Debug)]
pub(crate) struct ReceiveBuffers(Box<[u8]>);

impl ReceiveBuffers {
    pub(crate) fn new() -> Self {
        Self(vec![0; SLOTS * SLOT_BYTES].into_boxed_slice())
    }
}

/// What recvmmsg says about one slot.
#[derive(Clone, Copy)]
struct Received {
    length: usize,
    remote: Option<SocketAddr>,
    local: Option<IpAddr>,
    ecn: u8,
    segment_bytes: Option<usize>,
}

impl Received {
    const NONE: Self = Self {
        length: 0,
        remote: None,
        local: None,
        ecn: 0,
        segment_bytes: None,
    };

    fn path(&self, port: u16) -> Option<Path> {
        let mut remote = self.remote?;
        remote.set_ip(remote.ip().to_canonical());
        let local = SocketAddr::new(self.local?.to_canonical(), port);
        Some(Path {
            local,
            remote,
            protocol: Protocol::Udp,
        })
    }

    /// Takes local address, ECN bits and segment size from control messages.
    ///
    /// # Safety
    /// `header` describes a control buffer that the kernel filled.
    unsafe fn read_control(&mut self, header: &libc::msghdr) {
        // SAFETY: the caller vouches for the buffer; so do the following uses of it.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
        while let Some(message) = unsafe { next.as_ref() } {
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // SAFETY: see above.
                    let info = unsafe { control_value::<libc::in_pktinfo>(message) };
                    let address = info.map(|info| info.ipi_spec_dst.s_addr.to_ne_bytes());
                    self.local = address.map(IpAddr::from);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    // SAFETY: see above.
                    let info = unsafe { control_value::<libc::in6_pktinfo>(message) };
                    self.local = info.map(|info| IpAddr::from(info.ipi6_addr.s6_addr));
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    // SAFETY: see above.
                    let tos = unsafe { control_value::<u8>(message) };
                    self.ecn = tos.unwrap_or_default() & ECN_MASK;
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    // SAFETY: see above.
                    let class = unsafe { control_value::<libc::c_int>(message) };
                    self.ecn = class.unwrap_or_default().to_le_bytes()[0] & ECN_MASK;
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    // SAFETY: see above.
                    let size = unsafe { control_value::<libc::c_int>(message) };
                    self.segment_bytes = size.and_then(|size| usize::try_from(size).ok());
                }
                _ => {}
            }
            // SAFETY: `message` is a control message of `header`.
            next = unsafe { libc::CMSG_NXTHDR(header, message) };
        }
    }
}

/// The value of a control message; `None` when it is too short for one.
///
/// # Safety
/// `message` lies in a control buffer that holds all of its `cmsg_len` bytes; any bytes are a valid `T`.
unsafe fn control_value<T: Copy>(message: &libc::cmsghdr) -> Option<T> {
    // SAFETY: computes a length only.
    let length = unsafe { libc::CMSG_LEN(size_of::<T>() as libc::c_uint) };
    if (message.cmsg_len as usize) < length as usize {
        return None;
    }
    // SAFETY: the value lies behind the header, as the caller vouches; it may be unaligned.
    Some(unsafe { libc::CMSG_DATA(message).cast::<T>().read_unaligned() })
}

/// A socket address as C has it.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    // SAFETY: zero is a valid value of both structs.
    const NONE: Self = unsafe { zeroed() };

    fn write(&mut self, address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(address) => {
                // SAFETY: zero is a valid value.
                let mut name: libc::sockaddr_in = unsafe { zeroed() };
                name.sin_family = libc::AF_INET as libc::sa_family_t;
                name.sin_port = address.port().to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                self.v4 = name;
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(address) => {
                // SAFETY: zero is a valid value.
                let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_port = address.port().to_be();
                name.sin6_addr.s6_addr = address.ip().octets();
                name.sin6_scope_id = address.scope_id();
                self.v6 = name;
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }

    fn read(&self) -> Option<SocketAddr> {
        // SAFETY: every part of the union is initialized, and any bytes are valid integers.
        let (v4, v6) = unsafe { (self.v4, self.v6) };
        match libc::c_int::from(v4.sin_family) {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(std::net::SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Room for the control messages of one message: packet info, traffic class, segment size.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl Control {
    const NONE: Self = Self([0; CONTROL_BYTES]);

    /// Writes the local address to send from and the segment size; returns the bytes used.
    fn write(&mut self, message: &Message<'_>) -> usize {
        let mut used = 0;
        match message.path.local.ip() {
            ip if ip.is_unspecified() => {}
            IpAddr::V4(ip) => {
                // SAFETY: zero is a valid value.
                let mut info: libc::in_pktinfo = unsafe { zeroed() };
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
                used += self.push(used, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
            }
            IpAddr::V6(ip) => {
                // SAFETY: zero is a valid value.
                let mut info: libc::in6_pktinfo = unsafe { zeroed() };
                info.ipi6_addr.s6_addr = ip.octets();
                used += self.push(used, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
            }
        }
        if let Some(segment_bytes) = message.segment_bytes {
            used += self.push(used, (libc::SOL_UDP, libc::UDP_SEGMENT), segment_bytes);
        }
        used
    }

    /// Writes one control message at `at`; returns how far the next one is.
    fn push<T: Copy>(&mut self, at: usize, kind: (libc::c_int, libc::c_int), value: T) -> usize {
        let size = size_of::<T>() as libc::c_uint;
        // SAFETY: both compute lengths only.
        let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize) };
        assert!(
            at + space <= CONTROL_BYTES,
            "the control buffer has room for what `write` writes"
        );
        // SAFETY: zero is a valid value.
        let mut header: libc::cmsghdr = unsafe { zeroed() };
        header.cmsg_len = length as _;
        header.cmsg_level = kind.0;
        header.cmsg_type = kind.1;
        // SAFETY: the header and the value behind it lie within the buffer, as asserted; `at` is a sum of
        // CMSG_SPACEs, so the header is aligned.
        unsafe {
            let start = self.0.as_mut_ptr().add(at).cast::<libc::cmsghdr>();
            start.write(header);
            libc::CMSG_DATA(start).cast::<T>().write_unaligned(value);
        }
        space
    }
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
/// Room for the control messages of one datagram in either direction: 88 bytes at most.
const CONTROL_BYTES: usize = 128;
/// So many refused runs in a row, and it is not about single paths.
const REFUSALS_MAX: u32 = 64;
/// The ECN field in the traffic class byte (RFC 3168 §5).
const ECN_MASK: u8 = 0b11;

#[cfg(test)]
mod tests;
