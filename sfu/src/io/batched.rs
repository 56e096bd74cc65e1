//! The batched UDP sockets of this crate for other programs that carry media, as the load tester does.

use std::io;
use std::os::fd::BorrowedFd;

use super::udp::{ReceiveBuffers, UdpSockets};
use crate::metrics::{DropReason, Metrics};
use crate::shard::{Arena, Datagram};

/// UDP sockets of one port on all local addresses, one for each IP version the machine has: GRO in,
/// batches out.
#[derive(Debug)]
pub struct BatchedUdp {
    sockets: UdpSockets,
    metrics: Metrics,
}

/// Where received bytes go; may serve many [`BatchedUdp`] in turn.
#[derive(Debug)]
pub struct BatchBuffers(ReceiveBuffers);

impl BatchedUdp {
    /// Binds a port, 0 for one that is free, and asks for kernel buffers of this size.
    ///
    /// # Errors
    /// The port cannot be had, or the system gives no descriptor.
    pub fn bind(port: u16, buffer_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            sockets: UdpSockets::bind(port, buffer_bytes)?,
            metrics: Metrics::default(),
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.sockets.port()
    }

    /// The smallest receive buffer the kernel gave.
    pub fn receive_buffer_bytes(&self) -> usize {
        self.sockets.receive_buffer_bytes()
    }

    /// How many sockets there are: 1 or 2.
    pub fn count(&self) -> usize {
        self.sockets.count()
    }

    /// The descriptor of a socket, to wait for.
    pub fn fd(&self, index: usize) -> BorrowedFd<'_> {
        self.sockets.fd(index)
    }

    /// Takes one batch from a socket without waiting; the datagrams of one sender are in order.
    pub fn receive<'b>(
        &mut self,
        index: usize,
        buffers: &'b mut BatchBuffers,
        datagrams: &mut Vec<Datagram<'b>>,
    ) {
        self.sockets
            .receive(index, &mut buffers.0, datagrams, &mut self.metrics);
    }

    /// Sends every run of an arena. What the kernel does not take at once is dropped and counted.
    pub fn send(&mut self, arena: &Arena) {
        self.sockets.send(arena, &mut self.metrics);
    }

    /// Datagrams that were to be sent and went nowhere.
    pub fn dropped(&self) -> u64 {
        self.metrics.dropped_for(DropReason::SocketFull) + self.metrics.send_errors
    }
}

impl BatchBuffers {
    /// Makes room for one batch.
    pub fn new() -> Self {
        Self(ReceiveBuffers::new())
    }
}

impl Default for BatchBuffers {
    fn default() -> Self {
        Self::new()
    }
}
