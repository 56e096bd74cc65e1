//! Elements of EBML (RFC 8794): an id, a size, a body.

use std::io::{self, Read};

/// An element with its size known.
pub(super) fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(id.len() + 8 + body.len());
    bytes.extend_from_slice(id);
    bytes.extend(size(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// A size as short as may be (RFC 8794 §4); all ones is kept for "unknown".
pub(super) fn size(length: usize) -> Vec<u8> {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    for width in 1..8_u8 {
        if length < (1 << (7 * width)) - 1 {
            let marked = length | 1 << (7 * width);
            let skip = usize::from(8 - width);
            return marked.to_be_bytes().into_iter().skip(skip).collect();
        }
    }
    size_of_eight(length).to_vec()
}

/// A size of eight bytes.
pub(super) fn size_of_eight(length: u64) -> [u8; 8] {
    (length & ((1 << 56) - 1) | 1 << 56).to_be_bytes()
}

/// A body: an unsigned integer as short as may be.
pub(super) fn uint(value: u64) -> Vec<u8> {
    let skip = usize::try_from(value.leading_zeros() / 8)
        .unwrap_or(0)
        .min(7);
    value.to_be_bytes().into_iter().skip(skip).collect()
}

/// A body: a float of eight bytes.
pub(super) fn float(value: f64) -> [u8; 8] {
    value.to_be_bytes()
}

/// An element that says nothing, of 2 to 128 bytes in all.
pub(super) fn void(bytes: usize) -> Vec<u8> {
    element(&[0xec], &vec![0; bytes.saturating_sub(2)])
}

/// Where an element's body begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// With its length marker, as it is written.
    pub(super) id: u64,
    /// `None`: unknown.
    pub(super) size: Option<u64>,
    /// Bytes of id and size.
    pub(super) length: u64,
}

/// Reads a header; `None` at the end of what there is, even in the middle of one.
pub(super) fn read_header(reader: &mut impl Read) -> io::Result<Option<Header>> {
    let Some((id, id_length)) = read_number(reader, true)? else {
        return Ok(None);
    };
    let Some((size, size_length)) = read_number(reader, false)? else {
        return Ok(None);
    };
    let unknown = (1_u64 << (7 * size_length)) - 1;
    Ok(Some(Header {
        id,
        size: (size != unknown).then_some(size),
        length: id_length + size_length,
    }))
}

/// A number with its length in its first bits, which stay in an id; and that length in bytes.
fn read_number(reader: &mut impl Read, keeps_marker: bool) -> io::Result<Option<(u64, u64)>> {
    let mut first = [0];
    if !read_all(reader, &mut first)? {
        return Ok(None);
    }
    let [first] = first;
    let length = u64::from(first.leading_zeros()) + 1;
    if length > 8 {
        return Ok(None);
    }
    let mut value = u64::from(first);
    if !keeps_marker {
        value &= (1 << (8 - length)) - 1;
    }
    for _ in 1..length {
        let mut next = [0];
        if !read_all(reader, &mut next)? {
            return Ok(None);
        }
        value = value << 8 | u64::from(next[0]);
    }
    Ok(Some((value, length)))
}

/// Whether there was as much.
pub(super) fn read_all(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// An id as [`read_header`] gives it.
pub(super) fn id(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}
