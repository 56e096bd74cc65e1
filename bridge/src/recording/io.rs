//! Recordings of this node: a thread and a folder for each, what is told about them, where their files are.
//!
//! `{dir}/{room}/{id}/` holds `recording.json`, the working files `part-0001.mp4`… while it is recorded, and
//! `recording.mp4` (`recording-2.webm`, …) once it is finished.
#![expect(clippy::disallowed_methods, reason = "I/O lives here")]

mod finishing;
mod folder;
mod reading;
mod recorder;
mod shared;
#[cfg_attr(not(feature = "s3"), path = "io/no_store.rs")]
mod store;
mod uploading;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::info;

use super::{Recording, RecordingId, RecordingSpec};
use folder::Sheet;
use shared::{Entry, Shared};
use writer::Writer;

pub use reading::{ReadError, Reading};
pub use recorder::Recorder;
#[cfg(feature = "s3")]
pub use store::S3Settings;
pub use store::{Store, StoreError};

/// Where recordings go, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingSettings {
    /// The directory; made if it is not there.
    pub dir: PathBuf,
    /// What is to stay free of its disk, in megabytes: below, recordings end.
    pub min_free_mb: u64,
    /// Recordings at once.
    pub running_max: usize,
    /// A recording ends when it is this long.
    pub max_duration: Duration,
}

impl RecordingSettings {
    /// With 512 MB to stay free, and at most 16 recordings at once of 12 hours each.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            min_free_mb: 512,
            running_max: 16,
            max_duration: Duration::from_secs(12 * 3600),
        }
    }
}

/// All recordings of this node.
#[derive(Clone, Debug)]
pub struct Recordings {
    shared: Arc<Shared>,
}

/// Why a recording does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// As many run as may.
    #[error("too many recordings")]
    TooMany,
    /// The disk is fuller than [`RecordingSettings::min_free_mb`] allows.
    #[error("the disk is full")]
    DiskFull,
    /// The directory cannot be written.
    #[error("cannot be written")]
    Io(#[source] io::Error),
}

/// Why a recording is not deleted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// There is none of this name.
    #[error("no such recording")]
    Unknown,
    /// It is still recorded or finished.
    #[error("not finished")]
    Busy,
    /// The disk refuses.
    #[error("cannot be deleted")]
    Io(#[source] io::Error),
    /// The store refuses.
    #[error("cannot be deleted from the store")]
    Store(#[source] StoreError),
}

impl Recordings {
    /// Finds what is in the directory; what a crash left unfinished is finished in a thread of its own, and
    /// what is not in the store yet goes there. Every change of a recording's state comes through the
    /// receiver.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(
        settings: RecordingSettings,
        store: Option<Store>,
    ) -> io::Result<(Self, mpsc::Receiver<Recording>)> {
        std::fs::create_dir_all(&settings.dir)?;
        let found = folder::scan(&settings.dir)?;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let mut unfinished = Vec::new();
        let mut entries = BTreeMap::new();
        for (folder, sheet) in found {
            let id = sheet.recording.id.clone();
            let is_busy = !sheet.recording.state.is_final();
            if is_busy {
                unfinished.push(id.clone());
            }
            let entry = Entry {
                sheet,
                folder,
                control: None,
                is_busy,
            };
            entries.insert(id, entry);
        }
        let shared = Arc::new(Shared {
            settings,
            store,
            runtime: Handle::current(),
            entries: Mutex::new(entries),
            events,
            events_lost: AtomicU64::new(0),
        });
        shared.resume(unfinished)?;
        Ok((Self { shared }, receiver))
    }

    /// Starts a recording: what is offered to the recorder is written.
    ///
    /// # Errors
    /// Too many run, or the disk refuses.
    pub fn start(&self, spec: RecordingSpec) -> Result<(RecordingId, Recorder), StartError> {
        let shared = &self.shared;
        let running = |entry: &&Entry| entry.control.is_some();
        if shared.entries().values().filter(running).count() >= shared.settings.running_max {
            return Err(StartError::TooMany);
        }
        if !folder::has_room(&shared.settings).map_err(StartError::Io)? {
            return Err(StartError::DiskFull);
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| StartError::Io(io::Error::other(error)))?;
        let id = RecordingId::mint(random);
        let folder = folder::path(&shared.settings.dir, &spec.room, &id);
        let sheet = Sheet::new(id.clone(), spec, now_ms());
        folder::create(&folder, &sheet).map_err(StartError::Io)?;

        let (recorder, control, frames) = Recorder::new();
        let entry = Entry {
            sheet: sheet.clone(),
            folder: folder.clone(),
            control: Some(Arc::clone(&control)),
            is_busy: true,
        };
        shared.entries().insert(id.clone(), entry);
        shared.tell(&sheet.recording);
        let writer = Writer::new(Arc::clone(shared), Arc::clone(&control), folder, &sheet);
        let ended = (Arc::clone(shared), id.clone());
        let spawned = thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || ended.0.supervise(&ended.1, || writer.run(&frames)));
        if let Err(error) = spawned {
            shared.entries().remove(&id);
            return Err(StartError::Io(error));
        }
        info!(%id, "recording started");
        Ok((id, recorder))
    }

    /// Stops a recording; its files are finished in the background. `false`: it does not run.
    pub fn stop(&self, id: &RecordingId) -> bool {
        let entries = self.shared.entries();
        let open = entries.get(id);
        let open = open.filter(|entry| entry.sheet.recording.state.is_open());
        let control = open.and_then(|entry| entry.control.as_ref());
        control.inspect(|control| control.stop()).is_some()
    }

    /// All recordings of a room, oldest first.
    pub fn list(&self, room: &str) -> Vec<Recording> {
        let entries = self.shared.entries();
        let recordings = entries.values().map(|entry| &entry.sheet.recording);
        let mut recordings: Vec<_> = recordings
            .filter(|recording| recording.spec.room == room)
            .cloned()
            .collect();
        recordings.sort_by_key(|recording| recording.started_at_ms);
        recordings
    }

    /// One recording.
    pub fn get(&self, id: &RecordingId) -> Option<Recording> {
        let entries = self.shared.entries();
        entries.get(id).map(|entry| entry.sheet.recording.clone())
    }

    /// Reads a part of a file of a recording, which is counted from 0; the range is cut to the file's end.
    ///
    /// # Errors
    /// There is no such file or range, or it cannot be read.
    pub async fn read(
        &self,
        id: &RecordingId,
        file: usize,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Reading, ReadError> {
        let (folder, recording) = {
            let entries = self.shared.entries();
            let entry = entries.get(id).ok_or(ReadError::Unknown)?;
            (entry.folder.clone(), entry.sheet.recording.clone())
        };
        reading::read(
            self.shared.store.as_ref(),
            &folder,
            &recording,
            (file, range),
        )
        .await
    }

    /// Deletes a recording with all its files, wherever they are.
    ///
    /// # Errors
    /// It is unknown or still worked on, or the disk or the store refuses.
    pub async fn delete(&self, id: &RecordingId) -> Result<(), DeleteError> {
        let (folder, recording) = self.shared.take_for_deleting(id)?;
        let deleted = self.delete_files(&folder, &recording).await;
        let mut entries = self.shared.entries();
        if deleted.is_ok() {
            entries.remove(id);
        } else if let Some(entry) = entries.get_mut(id) {
            entry.is_busy = false;
        }
        deleted
    }

    /// Changes of state that nobody was told, because the receiver was not read for long.
    pub fn events_lost(&self) -> u64 {
        self.shared.events_lost.load(Ordering::Relaxed)
    }

    async fn delete_files(&self, folder: &Path, recording: &Recording) -> Result<(), DeleteError> {
        if let Some(store) = &self.shared.store {
            uploading::delete(store, recording)
                .await
                .map_err(DeleteError::Store)?;
        }
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DeleteError::Io(error)),
            _ => Ok(()),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

const EVENTS_MAX: usize = 1_024;
