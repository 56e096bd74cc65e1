use std::collections::VecDeque;
use std::io::Write;

use super::*;
use crate::io::Input;
use crate::io::tcp::framing::framed_check;

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
        let listener = Listener::bind(0).unwrap();
        let port = listener.port();
        let links = [Link::new().unwrap().0, Link::new().unwrap().0];
        let links: Arc<[Arc<Link>]> = links.into();
        let metrics = Arc::default();
        let stop = Arc::new(Mailbox::new(1).unwrap());
        let (to, counts, end) = (Arc::clone(&links), Arc::clone(&metrics), Arc::clone(&stop));
        let doorkeeper = Doorkeeper::new(listener, to, counts, end, patience).unwrap();
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
