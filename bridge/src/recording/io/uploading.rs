//! Finished recordings go to the store; what is there goes from the disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::super::{Recording, RecordingId};
use super::folder::{self, SHEET};
use super::shared::{Entry, Shared};
use super::store::{Store, StoreError};

impl Shared {
    /// Uploads a recording in the background if there is a store and it has files that are not there.
    pub(super) fn upload(self: &Arc<Self>, id: &RecordingId) {
        let Some(store) = self.store.clone() else {
            return;
        };
        let (folder, recording) = {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(id).filter(|entry| is_wanted(entry)) else {
                return;
            };
            entry.is_busy = true;
            (entry.folder.clone(), entry.sheet.recording.clone())
        };
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            shared.keep_uploading(&store, &folder, recording).await;
        });
    }

    async fn keep_uploading(&self, store: &Store, folder: &Path, recording: Recording) {
        let id = &recording.id;
        let mut pause = store.pause();
        for attempt in 1..=ATTEMPTS_MAX {
            match put_all(store, folder, &recording).await {
                Ok(()) => {
                    self.change(id, |recording| recording.is_stored = true);
                    for file in &recording.files {
                        let _ = tokio::fs::remove_file(folder.join(&file.name)).await;
                    }
                    info!(%id, "recording stored");
                    break;
                }
                Err(error) => warn!(%id, %error, attempt, "recording not stored"),
            }
            if attempt < ATTEMPTS_MAX {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        // What could not be stored stays on the disk, and is tried again at the next start.
        if let Some(entry) = self.entries().get_mut(id) {
            entry.is_busy = false;
        }
    }
}

/// Deletes what is in the store of a recording.
pub(super) async fn delete(store: &Store, recording: &Recording) -> Result<(), StoreError> {
    for file in &recording.files {
        store.delete(&key(recording, &file.name)).await?;
    }
    store.delete(&key(recording, SHEET)).await
}

/// Where a file is in the store.
pub(super) fn key(recording: &Recording, name: &str) -> String {
    let room = folder::encode(&recording.spec.room);
    format!("{room}/{}/{name}", recording.id)
}

async fn put_all(store: &Store, folder: &Path, recording: &Recording) -> Result<(), StoreError> {
    let names = recording.files.iter().map(|file| file.name.as_str());
    // Last what describes the others: what has it is whole.
    for name in names.chain([SHEET]) {
        store.put(&key(recording, name), &folder.join(name)).await?;
    }
    Ok(())
}

fn is_wanted(entry: &Entry) -> bool {
    let recording = &entry.sheet.recording;
    !entry.is_busy
        && recording.state.is_final()
        && !recording.is_stored
        && !recording.files.is_empty()
}

/// Each with all the attempts of the client in it.
const ATTEMPTS_MAX: u32 = 8;
const PAUSE_MAX: Duration = Duration::from_secs(600);
