use super::framing::framed_check;
use super::*;

/// A connection pair: the client's end, and the shard's in `Connections`.
fn connected(bytes: Vec<u8>) -> (TcpStream, Connections, u64, Metrics) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    let (stream, remote) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let local = stream.local_addr().unwrap();
    let mut connections = Connections::new().unwrap();
    let mut metrics = Metrics::default();
    let identified = Identified {
        stream,
        local,
        remote,
        bytes,
    };
    let number = connections
        .open(Instant::now(), identified, &mut metrics)
        .unwrap();
    (client, connections, number, metrics)
}

fn receive(connections: &mut Connections, number: u64) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    connections.receive(number, &mut datagrams, &mut Metrics::default());
    datagrams
        .iter()
        .map(|datagram| datagram.bytes.to_vec())
        .collect()
}

/// Waits until the connection is ready.
fn wait(connections: &Connections) -> Vec<Ready> {
    let mut ready = Vec::new();
    while ready.is_empty() {
        connections.poll_ready(&mut ready);
    }
    ready
}

#[test]
fn frames_split_at_every_byte_come_out_whole() {
    let stream = [&[0, 3, 1, 2, 3][..], &[0, 0], &[0, 1, 9], &[0, 2, 7, 7]].concat();
    for split in 0..=stream.len() {
        // The first part as the listener hands it over, the second from the socket.
        let (mut client, mut connections, number, _) = connected(stream[..split].to_vec());
        let mut frames = receive(&mut connections, number);
        if split < stream.len() {
            client.write_all(&stream[split..]).unwrap();
            wait(&connections);
            frames.extend(receive(&mut connections, number));
        }
        assert_eq!(
            frames,
            [vec![1, 2, 3], vec![9], vec![7, 7]],
            "split at {split}"
        );
    }
}

#[test]
fn a_frame_of_the_greatest_length_comes_out_whole() {
    let (mut client, mut connections, number, _) = connected(Vec::new());
    let sender = std::thread::spawn(move || {
        client.write_all(&[0xff, 0xff]).unwrap();
        client.write_all(&vec![5; 0xffff]).unwrap();
        client
    });
    let mut frames = Vec::new();
    while frames.is_empty() {
        wait(&connections);
        frames = receive(&mut connections, number);
    }
    assert_eq!(frames, [vec![5; 0xffff]]);
    drop(sender.join().unwrap());
}

#[test]
fn a_slow_reader_loses_whole_datagrams_only() {
    let (mut client, mut connections, number, mut metrics) = connected(Vec::new());
    let now = Instant::now();
    for fill in 0..=255u8 {
        let datagrams: Vec<Vec<u8>> = (0..64).map(|_| vec![fill; 1000]).collect();
        let slices = datagrams.iter().map(Vec::as_slice);
        connections.send(now, number, slices, &mut metrics);
    }
    let dropped = metrics.dropped_for(DropReason::TcpFull);
    assert!(dropped > 0, "the kernel took 16 MB");
    assert_eq!(metrics.sent_datagrams + dropped, 256 * 64);
    let reader = std::thread::spawn(move || {
        let mut count = 0;
        let mut frame = [0; 1002];
        while client.read_exact(&mut frame).is_ok() {
            assert_eq!(frame[..2], [3, 232]);
            assert!(frame[2..].iter().all(|&byte| byte == frame[2]));
            count += 1;
        }
        count
    });
    while connections.open[&number].is_blocked {
        if wait(&connections).iter().any(|ready| ready.writable) {
            connections.write(now, number, &mut metrics);
        }
    }
    connections.close_all(&mut metrics);
    assert_eq!(reader.join().unwrap(), metrics.sent_datagrams);
}

#[test]
fn the_end_of_a_connection_is_told_once() {
    let (client, mut connections, number, mut metrics) = connected(Vec::new());
    assert_eq!(metrics.tcp_connections, 1);
    drop(client);
    wait(&connections);
    connections.receive(number, &mut Vec::new(), &mut metrics);
    assert_eq!(metrics.tcp_connections, 0);
    let path = connections.poll_closed().unwrap();
    assert_eq!(path.protocol, Protocol::Tcp(number));
    assert_eq!(connections.poll_closed(), None);
    connections.send(Instant::now(), number, [&[1][..]].into_iter(), &mut metrics);
    assert_eq!(metrics.dropped_for(DropReason::TcpClosed), 1);
}

#[test]
fn what_the_shard_never_answers_is_closed() {
    let (_client, mut connections, number, mut metrics) = connected(framed_check("00ab:x"));
    let now = Instant::now();
    assert_eq!(receive(&mut connections, number).len(), 1);
    connections.close_idle(now + FIRST_USE_MAX / 2, &mut metrics);
    assert_eq!(metrics.tcp_connections, 1);
    connections.send(now, number, [&[1][..]].into_iter(), &mut metrics);
    connections.close_idle(now + FIRST_USE_MAX * 2, &mut metrics);
    assert_eq!(metrics.tcp_connections, 1);
    connections.close_idle(now + IDLE_MAX * 2, &mut metrics);
    assert_eq!(metrics.tcp_connections, 0);
    assert_eq!(metrics.tcp_refused_for(TcpRefusal::Idle), 1);
}
