//! recvmmsg and sendmmsg with control messages, and one option: the only file with `unsafe`.
//!
//! No safe interface sends messages with control messages of their own in one call. Pointers live only
//! inside the function that makes the system call.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg and control messages")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes of C structs and lengths of arrays fit C's integers"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use super::{MESSAGES_MAX, Message, SLOT_BYTES, SLOTS};

/// One sendmmsg call: how many messages it took, or why it did not take the first.
pub(super) fn send(socket: &UdpSocket, messages: &[Message<'_>]) -> io::Result<usize> {
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
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            messages.len() as libc::c_uint,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sets whether routers may fragment what a socket sends; the kernel's own knowledge of the path plays no
/// part in either.
pub(super) fn allow_fragments(
    socket: &UdpSocket,
    is_ipv6: bool,
    are_allowed: bool,
) -> io::Result<()> {
    let (level, option) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    };
    let value: libc::c_int = if are_allowed {
        libc::IP_PMTUDISC_DONT
    } else {
        libc::IP_PMTUDISC_PROBE
    };
    // SAFETY: the value is an int that outlives the call, with its true length.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// One recvmmsg call: how many slots it filled.
pub(super) fn receive(
    socket: &UdpSocket,
    buffers: &mut [u8],
    received: &mut [Received; SLOTS],
) -> io::Result<usize> {
    let mut names = [Name::NONE; SLOTS];
    let mut controls = [Control::NONE; SLOTS];
    // SAFETY: zero is a valid value of these C structs: null pointers and zero lengths.
    let mut vectors: [libc::iovec; SLOTS] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; SLOTS] = unsafe { zeroed() };
    for (index, slot) in buffers.chunks_mut(SLOT_BYTES).enumerate() {
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
            socket.as_raw_fd(),
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

/// What recvmmsg says about one slot.
#[derive(Clone, Copy)]
pub(super) struct Received {
    /// Bytes in the slot.
    pub(super) length: usize,
    /// Who sent them.
    pub(super) remote: Option<SocketAddr>,
    /// The address they reached.
    pub(super) local: Option<IpAddr>,
    /// The congestion bits.
    pub(super) ecn: u8,
    /// Bytes of each datagram but the last, when GRO joined several.
    pub(super) segment_bytes: Option<usize>,
}

impl Received {
    /// An empty slot.
    pub(super) const NONE: Self = Self {
        length: 0,
        remote: None,
        local: None,
        ecn: 0,
        segment_bytes: None,
    };

    /// Takes local address, ECN bits and segment size from control messages.
    ///
    /// # Safety
    /// `header` describes a control buffer that the kernel filled.
    unsafe fn read_control(&mut self, header: &libc::msghdr) {
        // SAFETY: the caller vouches for the buffer, here and below.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
        loop {
            // SAFETY: see above; null after the last message.
            let Some(message) = (unsafe { next.as_ref() }) else {
                return;
            };
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
    if message.cmsg_len < length as _ {
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
                Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
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

/// Room for the control messages of one datagram in either direction: 88 bytes at most.
const CONTROL_BYTES: usize = 128;
/// The ECN field in the traffic class byte (RFC 3168 §5).
const ECN_MASK: u8 = 0b11;
