use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    chunk_size_max: 65_536,
    message_max: 4 << 20,
    held_max: 8 << 20,
};

fn message(kind: u8, timestamp: u32, payload: &[u8]) -> Message {
    Message {
        kind,
        stream_id: 1,
        timestamp,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn read_all(reader: &mut ChunkReader, mut bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut bytes)? {
        messages.push(message);
    }
    Ok(messages)
}

/// A header of form 0, with no data.
fn header(chunk_stream: u16, time: u32, length: u32, kind: u8) -> Vec<u8> {
    let id = (chunk_stream - 64).to_le_bytes();
    let mut header = vec![1, id[0], id[1]];
    header.extend_from_slice(&time.min(EXTENDED).to_be_bytes()[1..]);
    header.extend_from_slice(&length.to_be_bytes()[1..]);
    header.push(kind);
    header.extend_from_slice(&1u32.to_le_bytes());
    if time >= EXTENDED {
        header.extend_from_slice(&time.to_be_bytes());
    }
    header
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        sent in prop::collection::vec(
            (4u8..8, any::<u32>(), prop::collection::vec(any::<u8>(), 0..600)), 1..12),
        chunk_size in 1u32..700,
        cuts in prop::collection::vec(1usize..40, 1..8),
    ) {
        let mut writer = ChunkWriter::new();
        writer.set_chunk_size(chunk_size);
        let mut reader = ChunkReader::new(LIMITS);
        reader.set_chunk_size(chunk_size).unwrap();
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (chunk_stream, time, payload) in &sent {
            let message = message(9, *time, payload);
            writer.write(*chunk_stream, &message, &mut bytes);
            expected.push(message);
        }
        let (mut rest, mut received) = (bytes.as_slice(), Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            received.extend(read_all(&mut reader, piece).unwrap());
            rest = after;
        }
        prop_assert_eq!(received, expected);
        prop_assert_eq!(reader.held_bytes(), 0);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let mut reader = ChunkReader::new(LIMITS);
        let _ = read_all(&mut reader, &bytes);
        prop_assert!(reader.held_bytes() <= bytes.len());
    }
}

#[test]
fn interleaved_chunk_streams_come_apart() {
    let video: Vec<u8> = (0..200).collect();
    let mut bytes = header(100, 40, 200, 9);
    bytes.extend_from_slice(&video[..128]);
    bytes.extend_from_slice(&header(101, 41, 10, 8));
    bytes.extend_from_slice(&[7; 10]);
    bytes.extend_from_slice(&[0xc1, 36, 0]);
    bytes.extend_from_slice(&video[128..]);
    let messages = read_all(&mut ChunkReader::new(LIMITS), &bytes).unwrap();
    assert_eq!(messages, [message(8, 41, &[7; 10]), message(9, 40, &video)]);
}

#[test]
fn extended_time_is_repeated_or_left_out_in_continued_chunks() {
    // Data that begins like the timestamp, too.
    let time = 0x0102_0304_u32;
    let payload: Vec<u8> = [[1; 128].as_slice(), &[1, 2, 3, 9], &[5; 40]].concat();
    for is_repeated in [true, false] {
        let mut bytes = header(100, time, 172, 9);
        bytes.extend_from_slice(&payload[..128]);
        bytes.extend_from_slice(&[0xc1, 36, 0]);
        if is_repeated {
            bytes.extend_from_slice(&time.to_be_bytes());
        }
        bytes.extend_from_slice(&payload[128..]);
        bytes.extend_from_slice(&header(100, 3, 1, 8));
        bytes.push(1);
        let expected = [message(9, time, &payload), message(8, 3, &[1])];
        for cut in 1..bytes.len() {
            let mut reader = ChunkReader::new(LIMITS);
            let mut messages = read_all(&mut reader, &bytes[..cut]).unwrap();
            for byte in &bytes[cut..] {
                messages.extend(read_all(&mut reader, &[*byte]).unwrap());
            }
            assert_eq!(messages, expected, "cut at {cut}, repeated: {is_repeated}");
        }
    }
}

#[test]
fn headers_of_each_form_carry_on_the_time() {
    let mut bytes = vec![4, 0, 0, 100, 0, 0, 1, 8, 1, 0, 0, 0, 0xaa];
    bytes.extend_from_slice(&[0x44, 0, 0, 20, 0, 0, 1, 9, 0xbb]);
    bytes.extend_from_slice(&[0x84, 0, 0, 30, 0xcc]);
    bytes.extend_from_slice(&[0xc4, 0xdd]);
    let messages = read_all(&mut ChunkReader::new(LIMITS), &bytes).unwrap();
    let read: Vec<_> = messages
        .iter()
        .map(|m| (m.kind, m.timestamp, m.payload[0]))
        .collect();
    assert_eq!(
        read,
        [
            (8, 100, 0xaa),
            (9, 120, 0xbb),
            (9, 150, 0xcc),
            (9, 180, 0xdd)
        ]
    );
}

#[test]
fn time_runs_on_past_24_and_32_bits() {
    for start in [(1 << 24) - 5000, u32::MAX - 5000] {
        let mut writer = ChunkWriter::new();
        let mut reader = ChunkReader::new(LIMITS);
        for step in 0..250u32 {
            let sent = message(9, start.wrapping_add(step * 40), &[1; 300]);
            let mut bytes = Vec::new();
            writer.write(6, &sent, &mut bytes);
            assert_eq!(read_all(&mut reader, &bytes).unwrap(), [sent]);
        }
    }
}

#[test]
fn an_aborted_message_is_forgotten() {
    let mut reader = ChunkReader::new(LIMITS);
    let mut bytes = header(100, 40, 200, 9);
    bytes.extend_from_slice(&[1; 128]);
    assert_eq!(read_all(&mut reader, &bytes).unwrap(), []);
    assert_eq!(reader.held_bytes(), 128);
    reader.abort(100);
    assert_eq!(reader.held_bytes(), 0);
    let mut bytes = header(100, 80, 1, 9);
    bytes.push(2);
    assert_eq!(
        read_all(&mut reader, &bytes).unwrap(),
        [message(9, 80, &[2])]
    );
}

#[test]
fn limits_hold() {
    let mut reader = ChunkReader::new(LIMITS);
    for size in [0, 65_537, 0x7fff_ffff, u32::MAX] {
        assert_eq!(
            reader.set_chunk_size(size),
            Err(ChunkError::ChunkSize(size))
        );
    }
    assert_eq!(reader.set_chunk_size(65_536), Ok(()));
    let refused = read_all(&mut reader, &header(100, 0, (4 << 20) + 1, 9));
    assert_eq!(refused, Err(ChunkError::MessageTooLong((4 << 20) + 1)));
}

#[test]
fn claims_of_64_thousand_chunk_streams_take_no_memory() {
    let mut reader = ChunkReader::new(LIMITS);
    let mut refused = None;
    for chunk_stream in 64..=u16::MAX {
        let mut bytes = header(chunk_stream, 0, 4 << 20, 9);
        bytes.extend_from_slice(&[0; 128]);
        if let Err(error) = read_all(&mut reader, &bytes) {
            refused = Some((chunk_stream, error));
            break;
        }
    }
    assert_eq!(refused, Some((64 + 16, ChunkError::TooManyStreams)));
    let allocated: usize = reader
        .streams
        .iter()
        .map(|stream| stream.partial.capacity())
        .sum();
    assert!(
        allocated <= 16 * 256,
        "{allocated} bytes for 16 claims of 4 MiB"
    );
}

#[test]
fn what_has_begun_is_bounded_in_all() {
    let mut reader = ChunkReader::new(Limits {
        held_max: 1000,
        ..LIMITS
    });
    let mut bytes = Vec::new();
    for chunk_stream in 100..110 {
        bytes.extend_from_slice(&header(chunk_stream, 0, 200, 9));
        bytes.extend_from_slice(&[0; 128]);
    }
    assert_eq!(read_all(&mut reader, &bytes), Err(ChunkError::HeldTooMuch));
}

#[test]
fn messages_begin_before_they_continue_and_end_before_others_begin() {
    let mut reader = ChunkReader::new(LIMITS);
    assert_eq!(
        read_all(&mut reader, &[0xc4, 1]),
        Err(ChunkError::NoBeginning)
    );
    let mut reader = ChunkReader::new(LIMITS);
    let mut bytes = header(100, 40, 200, 9);
    bytes.extend_from_slice(&[1; 128]);
    bytes.extend_from_slice(&header(100, 40, 200, 9));
    assert_eq!(read_all(&mut reader, &bytes), Err(ChunkError::Interrupted));
}
