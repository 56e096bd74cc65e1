//! What is known of all recordings, and what every part here does with it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::super::{FailReason, Recording, RecordingId, RecordingState};
use super::folder::{self, Sheet};
use super::recorder::Control;
use super::{DeleteError, RecordingSettings, Store, finishing};

/// What is shared by everything here.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: RecordingSettings,
    pub(super) store: Option<Store>,
    pub(super) runtime: Handle,
    pub(super) entries: Mutex<BTreeMap<RecordingId, Entry>>,
    pub(super) events: mpsc::Sender<Recording>,
    pub(super) events_lost: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sheet: Sheet,
    pub(super) folder: PathBuf,
    /// While it is recorded.
    pub(super) control: Option<Arc<Control>>,
    /// Something works on its files.
    pub(super) is_busy: bool,
}

impl Shared {
    pub(super) fn entries(&self) -> MutexGuard<'_, BTreeMap<RecordingId, Entry>> {
        // Each change of the map is whole before anything can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finishes what a crash left, and uploads what is not stored.
    pub(super) fn resume(self: &Arc<Self>, unfinished: Vec<RecordingId>) -> io::Result<()> {
        let finished: Vec<RecordingId> = {
            let entries = self.entries();
            let finished = entries.values().filter(|entry| !entry.is_busy);
            finished
                .map(|entry| entry.sheet.recording.id.clone())
                .collect()
        };
        for id in &finished {
            self.upload(id);
        }
        if unfinished.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("recovery".to_owned())
            .spawn(move || {
                for id in &unfinished {
                    warn!(%id, "finishing what was left unfinished");
                    shared.supervise(id, || finishing::finish(&shared, id, None));
                }
            })?;
        Ok(())
    }

    /// Runs what ends a recording, and whatever happens leaves it ended.
    pub(super) fn supervise(self: &Arc<Self>, id: &RecordingId, work: impl FnOnce()) {
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        if worked.is_err() {
            error!(%id, "recording panicked");
            self.change(id, |recording| {
                recording.state = RecordingState::Failed;
                recording.reason = Some(FailReason::Internal);
            });
        }
        if let Some(entry) = self.entries().get_mut(id) {
            entry.control = None;
            entry.is_busy = false;
        }
        self.upload(id);
    }

    /// Changes what is known of a recording, writes it down, and tells it if the state is another.
    pub(super) fn change(&self, id: &RecordingId, change: impl FnOnce(&mut Recording)) {
        self.change_sheet(id, |sheet| change(&mut sheet.recording));
    }

    pub(super) fn change_sheet(&self, id: &RecordingId, change: impl FnOnce(&mut Sheet)) {
        let (folder, sheet, is_news) = {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(id) else {
                return;
            };
            let before = (entry.sheet.recording.state, entry.sheet.recording.is_stored);
            change(&mut entry.sheet);
            let recording = &entry.sheet.recording;
            let is_news = before != (recording.state, recording.is_stored);
            (entry.folder.clone(), entry.sheet.clone(), is_news)
        };
        if let Err(error) = folder::write_sheet(&folder, &sheet) {
            // A full disk; the recording itself ends for it soon enough.
            warn!(%id, %error, "the recording's description cannot be written");
        }
        if is_news {
            self.tell(&sheet.recording);
        }
    }

    /// Notes how far a recording is, in memory only.
    pub(super) fn progress(
        &self,
        id: &RecordingId,
        bytes: u64,
        (duration_ms, left_out): (u64, u64),
    ) {
        if let Some(entry) = self.entries().get_mut(id) {
            let recording = &mut entry.sheet.recording;
            recording.bytes = bytes;
            recording.duration_ms = duration_ms;
            recording.frames_left_out = left_out;
        }
    }

    pub(super) fn tell(&self, recording: &Recording) {
        if self.events.try_send(recording.clone()).is_err() {
            self.events_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn take_for_deleting(
        &self,
        id: &RecordingId,
    ) -> Result<(PathBuf, Recording), DeleteError> {
        let mut entries = self.entries();
        let entry = entries.get_mut(id).ok_or(DeleteError::Unknown)?;
        if entry.is_busy {
            return Err(DeleteError::Busy);
        }
        entry.is_busy = true;
        Ok((entry.folder.clone(), entry.sheet.recording.clone()))
    }
}
