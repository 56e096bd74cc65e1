//! The servers under test, each a process of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::UdpSockets;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use turn::{
    Credentials, Inlets, PeerFilter, Quotas, Relay, RelayAddress, RelaySettings, Secrets, Settings,
    UdpPorts,
};

/// The argument that makes this program a server.
pub(crate) const SERVE: &str = "--serve-turn";
const SECRET: &str = "benchmark";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) realm: &'static str,
}

impl Server {
    /// This project's.
    pub(crate) fn start_ours() -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([SERVE, &port.to_string()]);
        Self::start(command, port, "plenum")
    }

    /// coturn, with no more than it needs for this.
    pub(crate) fn start_coturn() -> Self {
        let port = free_port();
        let mut command = Command::new("turnserver");
        let port_text = port.to_string();
        command.args([
            "-n",
            "--log-file=/dev/null",
            "--no-cli",
            "--no-tls",
            "--no-dtls",
            "--no-tcp",
        ]);
        command.args([
            "-L",
            "127.0.0.1",
            "-p",
            &port_text,
            "--allow-loopback-peers",
            "-m",
            "1",
        ]);
        command.args([
            "--min-port=20000",
            "--max-port=29999",
            "-r",
            "plenum",
            "--pidfile",
            "/dev/null",
        ]);
        command.args([
            "--use-auth-secret",
            &format!("--static-auth-secret={SECRET}"),
        ]);
        Self::start(command, port, "plenum")
    }

    fn start(mut command: Command, port: u16, realm: &'static str) -> Self {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            child,
            address: SocketAddr::new(LOOPBACK, port),
            realm,
        };
        server.wait_until_it_answers();
        server
    }

    fn wait_until_it_answers(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[1; 12]].concat();
        let answered = (0..100).any(|_| {
            socket.send_to(&binding, self.address).ok();
            socket.recv(&mut [0; 200]).is_ok()
        });
        assert!(answered, "the server does not start");
    }

    /// Processor time used so far, by all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name in parentheses the 12th and 13th fields are user and system time, in ticks of
        // 10 ms (proc(5)).
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11);
        let ticks: u64 = fields
            .take(2)
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// What a client is let in with.
    pub(crate) fn credentials(&self, number: usize) -> Credentials {
        let secrets = Secrets::new([0; 32], Some(SECRET.to_owned()));
        secrets
            .issue_shared(unix_time() + 3600, &format!("client-{number}"))
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn has_coturn() -> bool {
    let mut command = Command::new("turnserver");
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Serves until it is killed.
pub(crate) fn serve() {
    let mut arguments = std::env::args().skip_while(|arg| arg != SERVE).skip(1);
    let port = arguments.next().unwrap().parse().unwrap();
    let address = RelayAddress {
        local: LOOPBACK,
        public: LOOPBACK,
    };
    let settings = Settings {
        media: Vec::new(),
        secrets: Secrets::new([1; 32], Some(SECRET.to_owned())),
        quotas: Quotas::new(12, 32, 2000),
        relay: Some(RelaySettings {
            ports: 20_000..=29_999,
            addresses: vec![address],
            filter: PeerFilter::new(vec!["127.0.0.0/8".parse().unwrap()], [LOOPBACK], []),
            allocation_bytes_per_second: 100_000_000,
            total_bytes_per_second: 0,
        }),
        discovery: None,
        seed: [2; 32],
        started: Instant::now(),
        unix_started: unix_time(),
    };
    let own = UdpSockets::bind(port, 4 << 20).unwrap();
    let udp = UdpPorts { own, other: None };
    let inlets = Arc::new(Inlets::new(1, |_| 0).unwrap());
    let mut relay = Relay::new(settings, Some(udp), inlets, 0).unwrap();
    loop {
        let fd = relay.fd();
        poll(
            &mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(1000u16),
        )
        .ok();
        let now = Instant::now();
        while relay.receive(now, &mut Vec::new()) {}
        relay.handle_timeout(now);
    }
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
