//! Two TURN servers on a thread each, as two media threads have them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::UdpSockets;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use turn::{
    Credentials, Inlets, PeerFilter, Quotas, Relay, RelayAddress, RelaySettings, Secrets, Settings,
    Stream, UdpPorts, User,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Servers and the way to them.
pub(crate) struct House {
    /// Of the first server.
    pub(crate) udp: SocketAddr,
    tcp: SocketAddr,
    secrets: Secrets,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// Turns of the first server that found nothing to do.
    idle: AtomicU64,
    datagrams: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// What clients sent to our own media, with the server that took it.
    to_media: Mutex<Vec<(usize, Vec<u8>)>>,
}

impl House {
    pub(crate) fn open() -> Self {
        let secrets = Secrets::new([9; 32], Some("north".to_owned()));
        let quotas = Quotas::new(12, 32, 2000);
        let inlets = Arc::new(Inlets::new(2, |user| usize::try_from(user.0).unwrap()).unwrap());
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        let mut first = None;
        for index in 0..2 {
            let own = UdpSockets::bind(0, 4 << 20).unwrap();
            first.get_or_insert(SocketAddr::new(LOOPBACK, own.port()));
            let settings = settings(&secrets, &quotas);
            let udp = Some(UdpPorts { own, other: None });
            let relay = Relay::new(settings, udp, Arc::clone(&inlets), index).unwrap();
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || serve(relay, index, &shared)));
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = listener.local_addr().unwrap();
        let over = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.is_over.load(Ordering::Acquire) {
                    return;
                }
                let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
                stream.set_nonblocking(true).unwrap();
                inlets.push(Stream {
                    stream,
                    tls: None,
                    bytes: Vec::new(),
                    local,
                    remote,
                });
            }
        }));
        Self {
            udp: first.unwrap(),
            tcp,
            secrets,
            shared,
            threads,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    /// One of our own users; its number is that of its server.
    pub(crate) fn user(&self, number: u64) -> Credentials {
        self.secrets.issue(unix_time() + 300, "ann", User(number))
    }

    pub(crate) fn stranger(&self, name: &str) -> Credentials {
        self.secrets.issue_shared(unix_time() + 300, name).unwrap()
    }

    /// What a server should see of the user with its number.
    pub(crate) fn media_of(&self, user: u64) -> (usize, Vec<u8>) {
        (usize::try_from(user).unwrap(), b"for the media".to_vec())
    }

    /// The first thing that comes to the media of any server.
    pub(crate) fn next_media(&self) -> (usize, Vec<u8>) {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(first) = self.shared.to_media.lock().unwrap().pop() {
                return first;
            }
            std::thread::yield_now();
        }
        panic!("nothing came")
    }

    /// Waits until the first server has taken in all there was.
    pub(crate) fn wait_until_idle(&self) {
        let seen = self.shared.idle.load(Ordering::Acquire);
        while self.shared.idle.load(Ordering::Acquire) < seen + 2 {
            std::thread::yield_now();
        }
    }

    /// UDP datagrams the first server has received.
    pub(crate) fn datagrams(&self) -> u64 {
        self.shared.datagrams.load(Ordering::Acquire)
    }

    /// Bytes the first server has received and sent over UDP.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Acquire);
        (load(&self.shared.received), load(&self.shared.sent))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        TcpStream::connect(self.tcp).ok();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn serve(mut relay: Relay, index: usize, shared: &Shared) {
    relay.handle_joined(User(index as u64));
    while !shared.is_over.load(Ordering::Acquire) {
        let ready = poll(
            &mut [PollFd::new(relay.fd(), PollFlags::POLLIN)],
            PollTimeout::from(1u16),
        );
        let now = Instant::now();
        loop {
            let mut datagrams = Vec::new();
            if !relay.receive(now, &mut datagrams) {
                break;
            }
            let mut to_media = shared.to_media.lock().unwrap();
            to_media.extend(
                datagrams
                    .iter()
                    .map(|datagram| (index, datagram.bytes.to_vec())),
            );
        }
        relay.handle_timeout(now);
        if index == 0 {
            let counts = relay.udp_counts();
            shared
                .datagrams
                .store(counts.received_datagrams, Ordering::Release);
            shared
                .received
                .store(counts.received_bytes, Ordering::Release);
            shared.sent.store(counts.sent_bytes, Ordering::Release);
            if ready == Ok(0) {
                shared.idle.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

fn settings(secrets: &Secrets, quotas: &Quotas) -> Settings {
    let address = RelayAddress {
        local: LOOPBACK,
        public: LOOPBACK,
    };
    Settings {
        media: vec![SocketAddr::new(LOOPBACK, 7)],
        secrets: secrets.clone(),
        quotas: quotas.clone(),
        relay: Some(RelaySettings {
            ports: 20_000..=59_999,
            addresses: vec![address],
            filter: PeerFilter::new(vec!["127.0.0.0/8".parse().unwrap()], [LOOPBACK], []),
            allocation_bytes_per_second: 1_000_000,
            total_bytes_per_second: 0,
        }),
        discovery: None,
        seed: [5; 32],
        started: Instant::now(),
        unix_started: unix_time(),
    }
}

/// Resident memory of this process (proc(5)), the second field of statm, in pages of 4 KiB.
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 4096
}

fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
