//! Files of recordings are read, from the disk or the store.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use thiserror::Error;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::super::{RecordedFile, Recording};
use super::store::{Store, StoreError};
use super::uploading;

/// A file being read.
pub struct Reading {
    /// What it is.
    pub file: RecordedFile,
    /// Which bytes of it come.
    pub range: Range<u64>,
    /// The bytes; read as they are taken.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

/// Why a file is not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such recording, or it has no such file.
    #[error("no such file")]
    Unknown,
    /// The range begins behind the file's end, whose size this is, or is empty.
    #[error("no such range in {0} bytes")]
    Range(u64),
    /// The disk refuses.
    #[error("cannot be read")]
    Io(#[source] io::Error),
    /// The store refuses.
    #[error("cannot be read from the store")]
    Store(#[source] StoreError),
}

pub(super) async fn read(
    store: Option<&Store>,
    folder: &Path,
    recording: &Recording,
    (file, range): (usize, Option<Range<u64>>),
) -> Result<Reading, ReadError> {
    let file = recording.files.get(file).ok_or(ReadError::Unknown)?;
    let wanted = range.unwrap_or(0..file.bytes);
    let range = wanted.start..wanted.end.min(file.bytes);
    if range.is_empty() && file.bytes > 0 {
        return Err(ReadError::Range(file.bytes));
    }
    let stream = match File::open(folder.join(&file.name)).await {
        Ok(opened) => from_disk(opened, range.clone())
            .await
            .map_err(ReadError::Io)?,
        Err(error) => match store.filter(|_| recording.is_stored) {
            Some(store) => from_store(
                store.clone(),
                uploading::key(recording, &file.name),
                range.clone(),
            ),
            None => return Err(ReadError::Io(error)),
        },
    };
    Ok(Reading {
        file: file.clone(),
        range,
        stream,
    })
}

async fn from_disk(
    mut file: File,
    range: Range<u64>,
) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    file.seek(io::SeekFrom::Start(range.start)).await?;
    let rest = file.take(range.end - range.start);
    let stream = stream::try_unfold(rest, async |mut rest| {
        let mut bytes = BytesMut::with_capacity(DISK_BYTES);
        rest.read_buf(&mut bytes).await?;
        Ok((!bytes.is_empty()).then(|| (bytes.freeze(), rest)))
    });
    Ok(stream.boxed())
}

/// Piece by piece: none is held for longer than it takes to hand it on, each is tried again on its own.
fn from_store(
    store: Store,
    key: String,
    range: Range<u64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let pieces = stream::try_unfold((store, key, range), async |(store, key, range)| {
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start.saturating_add(STORE_BYTES));
        let read = store.get(&key, range.start..end).await;
        let bytes = read.map_err(io::Error::other)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((bytes, (store, key, end..range.end))))
    });
    pieces.boxed()
}

const DISK_BYTES: usize = 64 << 10;
const STORE_BYTES: u64 = 1 << 20;
