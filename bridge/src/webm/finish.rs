//! A file of clusters becomes one that can be seeked in.
#![warn(clippy::indexing_slicing)]

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use thiserror::Error;

use super::ebml::{Header, element, float, id, read_all, read_header, size_of_eight, uint, void};
use super::{
    CLUSTER, CUES, DURATION, EBML, INFO, KEY, SEEK_HEAD, SEEK_HEAD_BYTES, SEGMENT, SIMPLE_BLOCK,
    TIMESTAMP, TRACKS, VIDEO,
};

/// What a finished file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its size.
    pub bytes: u64,
    /// When its last frame is over, counted from its time 0.
    pub duration_us: i64,
}

/// Why a file cannot be finished.
#[derive(Debug, Error)]
pub enum FinishError {
    /// It does not begin as ours do, or has no whole cluster.
    #[error("nothing to finish")]
    Empty,
    /// Reading or writing fails.
    #[error("cannot be read or written")]
    Io(#[from] io::Error),
}

/// Adds what is missing at the end: cues, the duration, where to find things. What is cut off after the
/// last whole cluster is overwritten; the file is to be cut to the size that comes back.
///
/// The same again changes nothing.
///
/// # Errors
/// It is no file of ours, or has no frames, or the disk refuses.
pub fn finish<F: Read + Write + Seek>(file: &mut F) -> Result<Finished, FinishError> {
    let found = scan(file)?;
    let cues = element(CUES, &found.cues.concat());
    file.seek(SeekFrom::Start(found.end))?;
    file.write_all(&cues)?;
    let bytes = found.end + length(&cues);

    file.seek(SeekFrom::Start(found.info + 5))?;
    file.write_all(&element(DURATION, &float(found.duration_ms)))?;
    let places = [
        (INFO, found.info),
        (TRACKS, found.tracks),
        (CUES, found.end),
    ];
    let seeks: Vec<u8> = places
        .iter()
        .flat_map(|(id, at)| seek(id, at - found.segment))
        .collect();
    let mut head = element(SEEK_HEAD, &seeks);
    head.extend(void(SEEK_HEAD_BYTES.saturating_sub(head.len())));
    file.seek(SeekFrom::Start(found.segment))?;
    file.write_all(&head)?;
    // Last, for it says that the file is whole.
    file.seek(SeekFrom::Start(found.segment - 8))?;
    file.write_all(&size_of_eight(bytes - found.segment))?;
    file.flush()?;
    Ok(Finished {
        bytes,
        duration_us: round(found.duration_ms) * 1_000,
    })
}

/// What a file holds.
#[derive(Debug, Default)]
struct Found {
    /// Where the body of the segment begins.
    segment: u64,
    info: u64,
    tracks: u64,
    /// Behind the last whole cluster.
    end: u64,
    cues: Vec<Vec<u8>>,
    duration_ms: f64,
}

/// One cluster.
#[derive(Debug, Default)]
struct Cluster {
    /// Track and time of the first place to begin at.
    seekable: Option<(u8, u64)>,
    last_ms: u64,
    /// The block before.
    last: Option<(u8, u64)>,
    /// How long its frames last, about.
    frame_ms: u64,
}

fn scan<F: Read + Seek>(file: &mut F) -> Result<Found, FinishError> {
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let ebml = expect(&mut reader, EBML)?.ok_or(FinishError::Empty)?;
    let begin = ebml.length + ebml.size.ok_or(FinishError::Empty)?;
    reader.seek(SeekFrom::Start(begin))?;
    let segment = expect(&mut reader, SEGMENT)?.ok_or(FinishError::Empty)?;
    let mut at = begin + segment.length;
    let mut found = Found {
        segment: at,
        ..Found::default()
    };
    while let Some(header) = read_header(&mut reader)? {
        let Some(end) = header
            .size
            .and_then(|size| at.checked_add(header.length)?.checked_add(size))
            .filter(|end| *end <= size)
        else {
            break;
        };
        match header.id {
            known if known == id(INFO) => found.info = at,
            known if known == id(TRACKS) => found.tracks = at,
            known if known == id(CLUSTER) => {
                let cluster = scan_cluster(&mut reader, at + header.length, end)?;
                found.add(at, &cluster);
                found.end = end;
            }
            _ => {}
        }
        at = end;
        reader.seek(SeekFrom::Start(at))?;
    }
    if found.end == 0 || found.info == 0 || found.tracks == 0 {
        return Err(FinishError::Empty);
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, at: u64, cluster: &Cluster) {
        if let Some((track, time)) = cluster.seekable {
            let place = [
                element(&[0xf7], &uint(track.into())),
                element(&[0xf1], &uint(at - self.segment)),
            ];
            let cue = [
                element(&[0xb3], &uint(time)),
                element(&[0xb7], &place.concat()),
            ];
            self.cues.push(element(&[0xbb], &cue.concat()));
        }
        let end_ms = (cluster.last_ms + cluster.frame_ms) as f64;
        self.duration_ms = self.duration_ms.max(end_ms);
    }
}

fn scan_cluster<F: Read + Seek>(
    reader: &mut BufReader<F>,
    begin: u64,
    end: u64,
) -> io::Result<Cluster> {
    let mut cluster = Cluster::default();
    let mut time = 0;
    let mut at = begin;
    while at < end {
        let Some(header) = read_header(reader)? else {
            break;
        };
        let Some(size) = header.size.filter(|size| *size <= end - at) else {
            break;
        };
        let mut read = 0;
        if header.id == id(TIMESTAMP) {
            time = read_uint(reader, size.min(8))?;
            read = size.min(8);
        } else if header.id == id(SIMPLE_BLOCK) && size >= 4 {
            let mut head = [0; 4];
            read_all(reader, &mut head)?;
            cluster.add(time, head);
            read = 4;
        }
        at = at.saturating_add(header.length).saturating_add(size);
        // Stays within what was read ahead if it can.
        reader.seek_relative(i64::try_from(size - read).unwrap_or(i64::MAX))?;
    }
    Ok(cluster)
}

impl Cluster {
    /// Takes the head of a block in: track, offset, flags (RFC 9559 §10.2).
    fn add(&mut self, time: u64, [track, high, low, flags]: [u8; 4]) {
        let track = track & 0x7f;
        let at_ms = time.saturating_add_signed(i16::from_be_bytes([high, low]).into());
        let is_better = match self.seekable {
            None => true,
            Some((known, _)) => known != VIDEO && track == VIDEO,
        };
        if flags & KEY != 0 && is_better {
            self.seekable = Some((track, at_ms));
        }
        if let Some((_, last_ms)) = self.last.filter(|(last, _)| *last == track) {
            self.frame_ms = at_ms.saturating_sub(last_ms).min(FRAME_MS_MAX);
        }
        self.last = Some((track, at_ms));
        self.last_ms = self.last_ms.max(at_ms);
    }
}

fn read_uint(reader: &mut impl Read, size: u64) -> io::Result<u64> {
    let mut value = 0;
    for _ in 0..size {
        let mut byte = [0];
        read_all(reader, &mut byte)?;
        value = value << 8 | u64::from(byte[0]);
    }
    Ok(value)
}

fn expect(reader: &mut impl Read, wanted: &[u8]) -> io::Result<Option<Header>> {
    Ok(read_header(reader)?.filter(|header| header.id == id(wanted)))
}

/// Where to find an element, counted from the segment's body.
fn seek(id: &[u8], at: u64) -> Vec<u8> {
    let body = [
        element(&[0x53, 0xab], id),
        element(&[0x53, 0xac], &uint(at)),
    ];
    element(&[0x4d, 0xbb], &body.concat())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "float to integer saturates"
)]
fn round(ms: f64) -> i64 {
    ms.round() as i64
}

/// A longer gap between two frames is a pause.
const FRAME_MS_MAX: u64 = 100;
