//! Parts of fragmented MP4 become one file with its index in front.
//!
//! Only the index is held in memory: about 20 bytes a frame, 60 MB for ten hours of video with sound.
#![warn(clippy::indexing_slicing)]

mod table;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;

use mp4_atom::{DecodeAtom, Encode, FourCC, Ftyp, Header, Moof, Moov, Mvhd, ReadFrom, Traf};
use thiserror::Error;

use table::{MOVIE_TIMESCALE, Table};

/// The index of a file to be.
#[derive(Debug, Default)]
pub(super) struct Movie {
    tables: Vec<Table>,
    chunks: Vec<Chunk>,
    parts: usize,
}

/// Frames of one track that lie together.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Which table.
    table: usize,
    /// In which part, and where.
    part: usize,
    at: u64,
    bytes: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remuxed {
    pub(super) bytes: u64,
    pub(super) duration_us: i64,
}

/// Why a part is not read or a file not written.
#[derive(Debug, Error)]
pub(super) enum RemuxError {
    /// No whole fragment is in it.
    #[error("nothing to remux")]
    Empty,
    /// Its boxes make no sense, or the index is too large for its fields.
    #[error("malformed")]
    Malformed(#[from] mp4_atom::Error),
    /// Reading or writing fails.
    #[error("cannot be read or written")]
    Io(#[from] io::Error),
}

impl Movie {
    /// Adds a part after those before; `priming` is the encoder's delay of its sound. `false`: it does not
    /// go with them, and nothing was added.
    pub(super) fn add<R: Read + Seek>(
        &mut self,
        part: &mut R,
        priming: u32,
    ) -> Result<bool, RemuxError> {
        let size = part.seek(SeekFrom::End(0))?;
        let mut at = 0;
        let mut entries = None;
        let mut moof = None;
        while let Some(found) = read_box(part, at, size)? {
            match &found.header.kind {
                kind if *kind == FourCC::new(b"moov") => {
                    let moov: Moov = read_body(part, &found)?;
                    match self.open(&moov, priming) {
                        Some(opened) => entries = Some(opened),
                        None => return Ok(false),
                    }
                }
                kind if *kind == FourCC::new(b"moof") => {
                    moof = read_body(part, &found).ok().map(|moof: Moof| (at, moof));
                }
                kind if *kind == FourCC::new(b"mdat") => {
                    let entries = entries.as_deref().unwrap_or_default();
                    if let Some((moof_at, moof)) = moof.take() {
                        self.add_fragment(&moof, moof_at, (found.body, found.end), entries);
                    }
                }
                _ => {}
            }
            at = found.end;
        }
        if entries.is_none() {
            return Err(RemuxError::Empty);
        }
        self.parts += 1;
        Ok(true)
    }

    /// Whether there is any frame.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Writes the file out of the parts that were added.
    pub(super) fn write<R: Read + Seek, W: Write>(
        mut self,
        parts: &mut [R],
        out: &mut W,
    ) -> Result<Remuxed, RemuxError> {
        if self.is_empty() {
            return Err(RemuxError::Empty);
        }
        self.tables.iter_mut().for_each(Table::finish);
        let mut front = Vec::new();
        ftyp().encode(&mut front)?;
        let data: u64 = self.chunks.iter().map(|chunk| chunk.bytes).sum();
        let mdat = mdat_header(data);
        // The index is as long with wrong offsets in it as with the right ones.
        let is_large = data + INDEX_BYTES_MAX > u64::from(u32::MAX);
        let mut index = Vec::new();
        self.moov(0, is_large).encode(&mut index)?;
        let begin = length(&front) + length(&index) + length(&mdat);
        index.clear();
        let moov = self.moov(begin, is_large);
        let duration = moov.mvhd.duration;
        moov.encode(&mut index)?;
        drop(moov);
        for bytes in [&front, &index, &mdat] {
            out.write_all(bytes)?;
        }
        for chunk in &self.chunks {
            let part = parts.get_mut(chunk.part).ok_or(RemuxError::Empty)?;
            part.seek(SeekFrom::Start(chunk.at))?;
            let copied = io::copy(&mut part.take(chunk.bytes), out)?;
            if copied != chunk.bytes {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        out.flush()?;
        let duration_us = duration.saturating_mul(1_000_000) / u64::from(MOVIE_TIMESCALE);
        Ok(Remuxed {
            bytes: begin + data,
            duration_us: i64::try_from(duration_us).unwrap_or(i64::MAX),
        })
    }

    /// Finds or makes the table and sample entry for each track; by track id. `None`: they do not fit.
    fn open(&mut self, moov: &Moov, priming: u32) -> Option<Vec<(u32, usize, u32)>> {
        let fits = |table: &Table| moov.trak.iter().all(|trak| table.fits(trak));
        if !self.tables.iter().all(fits) {
            return None;
        }
        let mut opened = Vec::new();
        for trak in &moov.trak {
            let known = self.tables.iter().position(|table| table.is_for(trak));
            let index = known.unwrap_or_else(|| {
                self.tables.push(Table::new(trak, priming));
                self.tables.len() - 1
            });
            let entry = self.tables.get_mut(index)?.entry(trak)?;
            opened.push((trak.tkhd.track_id, index, entry));
        }
        Some(opened)
    }

    fn add_fragment(
        &mut self,
        moof: &Moof,
        moof_at: u64,
        body: (u64, u64),
        entries: &[(u32, usize, u32)],
    ) {
        for traf in &moof.traf {
            let mut known = entries.iter();
            let Some((_, table, entry)) = known.find(|(id, ..)| *id == traf.tfhd.track_id) else {
                continue;
            };
            let Some((at, bytes)) = extent(traf, moof_at, body) else {
                continue;
            };
            if let Some(rows) = self.tables.get_mut(*table)
                && rows.add(traf, *entry)
            {
                self.chunks.push(Chunk {
                    table: *table,
                    part: self.parts,
                    at,
                    bytes,
                });
            }
        }
    }

    fn moov(&self, begin: u64, is_large: bool) -> Moov {
        let mut offsets = vec![Vec::new(); self.tables.len()];
        let mut at = begin;
        for chunk in &self.chunks {
            if let Some(offsets) = offsets.get_mut(chunk.table) {
                offsets.push(at);
            }
            at += chunk.bytes;
        }
        let zero = self.tables.iter().map(Table::heard_at).min().unwrap_or(0);
        let traks: Vec<_> = (1..)
            .zip(self.tables.iter().zip(&mut offsets))
            .map(|(id, (table, offsets))| table.trak(id, zero, mem::take(offsets), is_large))
            .collect();
        let durations = traks.iter().map(|trak| trak.tkhd.duration);
        Moov {
            mvhd: Mvhd {
                timescale: MOVIE_TIMESCALE,
                duration: durations.max().unwrap_or(0),
                rate: 1.into(),
                volume: 1.into(),
                next_track_id: u32::try_from(traks.len() + 1).unwrap_or(u32::MAX),
                ..Mvhd::default()
            },
            trak: traks,
            ..Moov::default()
        }
    }
}

/// A whole box.
struct Found {
    header: Header,
    body: u64,
    end: u64,
}

/// Reads a box's header. `None`: nothing whole follows.
fn read_box<R: Read + Seek>(part: &mut R, at: u64, size: u64) -> io::Result<Option<Found>> {
    part.seek(SeekFrom::Start(at))?;
    let Ok(Some(header)) = Option::<Header>::read_from(part) else {
        return Ok(None);
    };
    let body = part.stream_position()?;
    let end = header
        .size
        .and_then(|length| body.checked_add(u64::try_from(length).ok()?))
        .filter(|end| *end <= size);
    Ok(end.map(|end| Found { header, body, end }))
}

fn read_body<R: Read, A: DecodeAtom>(part: &mut R, found: &Found) -> Result<A, RemuxError> {
    let length = found.end - found.body;
    if length > INDEX_BYTES_MAX {
        return Err(RemuxError::Malformed(mp4_atom::Error::InvalidSize));
    }
    let mut body = Vec::new();
    part.take(length).read_to_end(&mut body)?;
    Ok(A::decode_atom(&found.header, &mut body.as_slice())?)
}

/// Where the frames of a track lie. `None`: not in the box that follows.
fn extent(traf: &Traf, moof_at: u64, (body, end): (u64, u64)) -> Option<(u64, u64)> {
    let run = traf.trun.first().filter(|_| traf.trun.len() == 1)?;
    let offset = u64::try_from(run.data_offset?).ok()?;
    let at = moof_at.checked_add(offset)?;
    let sizes = run
        .samples
        .iter()
        .map(|sample| u64::from(sample.size.unwrap_or(0)));
    let bytes: u64 = sizes.sum();
    (at >= body && at.checked_add(bytes)? <= end).then_some((at, bytes))
}

fn ftyp() -> Ftyp {
    Ftyp {
        major_brand: FourCC::new(b"isom"),
        minor_version: 512,
        compatible_brands: [b"isom", b"iso2", b"mp41"].map(FourCC::new).to_vec(),
    }
}

/// The header of the box that holds the frames; with a size of 8 bytes where 4 are too few.
fn mdat_header(data: u64) -> Vec<u8> {
    match u32::try_from(data + 8) {
        Ok(size) => [&size.to_be_bytes()[..], b"mdat"].concat(),
        Err(_) => [&[0, 0, 0, 1], &b"mdat"[..], &(data + 16).to_be_bytes()].concat(),
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(0)
}

/// No index of ours is larger; offsets have 8 bytes when it and the frames might not fit in 4.
const INDEX_BYTES_MAX: u64 = 256 << 20;
