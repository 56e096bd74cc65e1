//! How a media socket is opened: one IP version, GRO, local addresses and ECN bits, large buffers.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockopt, setsockopt, socket,
    sockopt,
};

/// Opens a socket for one IP version, bound to `address`.
pub(super) fn open(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let is_ipv6 = address.is_ipv6();
    let family = if is_ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Datagram, flags, None)?;
    if is_ipv6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&fd, sockopt::Ipv6RecvTClass, &true)?;
    } else {
        setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&fd, sockopt::IpRecvTos, &true)?;
    }
    // Kernels before 5.0 have no GRO for UDP sockets; datagrams come one by one then.
    let _ = setsockopt(&fd, sockopt::UdpGroSegment, &true);
    // The forced forms need CAP_NET_ADMIN and pass the limits of sysctl. What was really had is
    // checked once, when all sockets are open.
    if setsockopt(&fd, sockopt::RcvBufForce, &buffer_bytes).is_err() {
        let _ = setsockopt(&fd, sockopt::RcvBuf, &buffer_bytes);
    }
    if setsockopt(&fd, sockopt::SndBufForce, &buffer_bytes).is_err() {
        let _ = setsockopt(&fd, sockopt::SndBuf, &buffer_bytes);
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(fd))
}

/// The receive buffer the kernel gave, in the bytes that were asked for: it books twice as many.
pub(super) fn receive_buffer(socket: &UdpSocket) -> usize {
    getsockopt(socket, sockopt::RcvBuf).map_or(0, |booked| booked / 2)
}

/// The send buffer the kernel gave, in the bytes that were asked for.
pub(super) fn send_buffer(socket: &UdpSocket) -> usize {
    getsockopt(socket, sockopt::SndBuf).map_or(0, |booked| booked / 2)
}

/// Whether the machine has no addresses of this IP version.
pub fn is_family_missing(error: &io::Error) -> bool {
    let codes = [
        libc::EAFNOSUPPORT,
        libc::EADDRNOTAVAIL,
        libc::EPROTONOSUPPORT,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}
