use std::collections::VecDeque;
use std::io::Write;

use super::*;
use crate::io::Input;
use crate::io::relay::{Relay, Relays};
use crate::io::tcp::framing::framed_check;
use crate::shard::Candidates;

/// A running listener with two shards.
struct Door {
    port: u16,
    links: Arc<[Arc<Link>]>,
    metrics: Arc<Mutex<Metrics>>,
    stop: Arc<Mailbox<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Door {
    fn open(patience: Duration) -> Self {
        Self::open_with(patience, |_| ())
    }

    fn open_with(patience: Duration, change: impl FnOnce(&mut Doorkeeper)) -> Self {
        let listener = Listener::bind(0).unwrap();
        let port = listener.port();
        let links = [Link::new().unwrap().0, Link::new().unwrap().0];
        let links: Arc<[Arc<Link>]> = links.into();
        let metrics = Arc::default();
        let stop = Arc::new(Mailbox::new(1).unwrap());
        let (to, counts, end) = (Arc::clone(&links), Arc::clone(&metrics), Arc::clone(&stop));
        let mut doorkeeper = Doorkeeper::new(listener, to, counts, end, patience).unwrap();
        change(&mut doorkeeper);
        let thread = Some(std::thread::spawn(move || doorkeeper.run()));
        Self {
            port,
            links,
            metrics,
            stop,
            thread,
        }
    }

    fn connect(&self, ip: &str) -> TcpStream {
        let stream = TcpStream::connect((ip, self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Waits for the connection that is handed to a shard.
    fn handed_to(&self, shard: usize) -> Identified {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut inputs = VecDeque::new();
        while Instant::now() < deadline {
            self.links[shard].inputs.take(1, &mut inputs);
            if let Some(Input::Connection(identified)) = inputs.pop_front() {
                return identified;
            }
        }
        panic!("no connection came");
    }

    fn refused(&self, refusal: TcpRefusal) -> u64 {
        self.metrics.lock().unwrap().tcp_refused_for(refusal)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.push_always(());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Waits for the other side to close; false when it says something first.
fn is_closed(mut stream: TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    match stream.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_check_that_comes_byte_by_byte_reaches_its_shard() {
    let door = Door::open(PATIENCE);
    for (ip, shard) in [("127.0.0.1", 0), ("::1", 1)] {
        let mut client = door.connect(ip);
        let framed = framed_check(&format!("0{shard}ab:client"));
        for byte in &framed {
            client.write_all(&[*byte]).unwrap();
        }
        let identified = door.handed_to(shard);
        assert_eq!(identified.bytes, framed);
        assert_eq!(identified.remote, client.local_addr().unwrap());
        assert_eq!(identified.local, client.peer_addr().unwrap());
    }
}

#[test]
fn what_follows_the_check_is_handed_over_too() {
    let door = Door::open(PATIENCE);
    let mut client = door.connect("127.0.0.1");
    let bytes = [framed_check("01ab:client"), vec![0, 5, 1]].concat();
    client.write_all(&bytes).unwrap();
    assert_eq!(door.handed_to(1).bytes, bytes);
}

#[test]
fn a_turn_client_is_handed_to_the_relays_and_turned_away_without_any() {
    struct Taken(Mutex<Vec<(Ends, Vec<u8>)>>);
    impl Relays for Taken {
        fn open(&self, _: u16, _: &Candidates) -> io::Result<Box<dyn Relay>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn accept(&self, _: TcpStream, ends: Ends, bytes: Vec<u8>) {
            self.0.lock().unwrap().push((ends, bytes));
        }
    }
    let allocate = [
        &[0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42][..],
        &[7; 12],
        &[0, 0x19, 0, 4, 17, 0, 0, 0],
    ];
    let taken = Arc::new(Taken(Mutex::default()));
    let relays = Arc::clone(&taken) as Arc<dyn Relays>;
    let door = Door::open_with(PATIENCE, |doorkeeper| doorkeeper.serve_relays(Some(relays)));
    let mut client = door.connect("127.0.0.1");
    client.write_all(&allocate.concat()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    while taken.0.lock().unwrap().is_empty() && Instant::now() < deadline {}
    let (ends, bytes) = taken.0.lock().unwrap().remove(0);
    assert_eq!(
        (ends.remote, bytes),
        (client.local_addr().unwrap(), allocate.concat())
    );
    let door = Door::open(PATIENCE);
    let mut client = door.connect("127.0.0.1");
    client.write_all(&allocate.concat()).unwrap();
    assert!(is_closed(client));
}

#[test]
fn behind_a_proxy_the_client_is_whom_it_names() {
    let from = |networks: &[&str]| networks.iter().map(|text| text.parse().unwrap()).collect();
    let header = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 7, 203, 0, 113, 1, 0x12, 0x34, 0x1e, 0x78],
    ];
    let bytes = [header.concat(), framed_check("01ab:client")].concat();
    let door = Door::open_with(PATIENCE, |door| door.expect_proxies(from(&["127.0.0.0/8"])));
    let mut client = door.connect("127.0.0.1");
    for byte in &bytes {
        client.write_all(&[*byte]).unwrap();
    }
    let identified = door.handed_to(1);
    assert_eq!(identified.remote, "192.0.2.7:4660".parse().unwrap());
    assert_eq!(identified.local, "203.0.113.1:7800".parse().unwrap());
    assert_eq!(identified.bytes, framed_check("01ab:client"));
    // Without a header, and from a stranger with one.
    let mut client = door.connect("127.0.0.1");
    client.write_all(&framed_check("01ab:client")).unwrap();
    assert!(is_closed(client));
    let strict = Door::open_with(PATIENCE, |door| door.expect_proxies(from(&["10.0.0.0/8"])));
    let mut client = strict.connect("127.0.0.1");
    client.write_all(&bytes).unwrap();
    assert!(is_closed(client));
    let counts = [&door, &strict].map(|door| door.refused(TcpRefusal::ProxyHeader));
    assert_eq!(counts, [1, 1]);
}

#[test]
fn a_wrong_ufrag_and_another_protocol_are_turned_away() {
    let door = Door::open(PATIENCE);
    for bytes in [
        framed_check("02ab:client"),
        framed_check("zzab:client"),
        b"GET /".to_vec(),
    ] {
        let mut client = door.connect("127.0.0.1");
        client.write_all(&bytes).unwrap();
        assert!(is_closed(client));
    }
    assert_eq!(door.refused(TcpRefusal::NotIce), 3);
}

#[test]
fn a_first_frame_that_does_not_come_in_time_ends_the_connection() {
    let door = Door::open(Duration::from_millis(50));
    let silent = door.connect("127.0.0.1");
    let mut unfinished = door.connect("::1");
    unfinished
        .write_all(&framed_check("00ab:client")[..30])
        .unwrap();
    assert!(is_closed(silent));
    assert!(is_closed(unfinished));
    assert_eq!(door.refused(TcpRefusal::Slow), 2);
}

#[test]
fn the_oldest_stranger_makes_room() {
    let door = Door::open(Duration::from_secs(60));
    let first = door.connect("127.0.0.1");
    let _others: Vec<_> = (0..STRANGERS_MAX)
        .map(|_| door.connect("127.0.0.1"))
        .collect();
    assert!(is_closed(first));
    assert_eq!(door.refused(TcpRefusal::Crowded), 1);
}
