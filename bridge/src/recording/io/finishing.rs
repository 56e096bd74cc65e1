//! Working files become what is handed out: after the end, and after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tracing::{info, warn};

use super::super::faststart::{Movie, RemuxError, Remuxed};
use super::super::{Container, FailReason, RecordedFile, RecordingId, RecordingState};
use super::folder::PartFile;
use super::shared::Shared;
use crate::webm::{self, FinishError};

/// Makes the files of a recording, and with them its end: ready, or failed for this reason.
pub(super) fn finish(shared: &Shared, id: &RecordingId, reason: Option<FailReason>) {
    shared.change(id, |recording| recording.state = RecordingState::Finishing);
    let (folder, parts) = {
        let entries = shared.entries();
        let Some(entry) = entries.get(id) else {
            return;
        };
        (entry.folder.clone(), entry.sheet.parts.clone())
    };
    let mut files = Files {
        folder: &folder,
        made: Vec::new(),
        duration_us: 0,
        is_full: reason == Some(FailReason::DiskFull),
    };
    files.make(&parts);
    let Files {
        made, duration_us, ..
    } = files;
    let reason = match reason {
        None if made.is_empty() => Some(FailReason::NoMedia),
        reason => reason,
    };
    let kept: Vec<String> = made.iter().map(|file| file.name.clone()).collect();
    shared.change_sheet(id, |sheet| {
        let recording = &mut sheet.recording;
        recording.bytes = made.iter().map(|file| file.bytes).sum();
        recording.duration_ms = u64::try_from(duration_us / 1_000).unwrap_or(0);
        recording.files = made;
        recording.reason = reason;
        recording.state = match reason {
            None => RecordingState::Ready,
            Some(_) => RecordingState::Failed,
        };
        sheet.parts.clear();
    });
    // Only now: until here a crash would have begun with them again.
    for part in parts.iter().filter(|part| !kept.contains(&part.name)) {
        let _ = fs::remove_file(folder.join(&part.name));
    }
    info!(%id, ?reason, "recording finished");
}

struct Files<'a> {
    folder: &'a Path,
    made: Vec<RecordedFile>,
    duration_us: i64,
    /// The disk has no room for another copy: working files are kept as they are.
    is_full: bool,
}

impl Files<'_> {
    fn make(&mut self, parts: &[PartFile]) {
        let mut rest = parts;
        while let Some(part) = rest.first() {
            let used = match part.container {
                Container::Mp4 => self.make_mp4(rest),
                Container::WebM => {
                    self.make_webm(part);
                    1
                }
            };
            rest = rest.get(used.max(1)..).unwrap_or_default();
        }
    }

    /// Makes one file of all parts that go together. How many those are.
    fn make_mp4(&mut self, parts: &[PartFile]) -> usize {
        let mut movie = Movie::default();
        let mut used = Vec::new();
        let mut readers = Vec::new();
        let mut count = 0;
        for part in parts
            .iter()
            .take_while(|part| part.container == Container::Mp4)
        {
            let opened = File::open(self.folder.join(&part.name));
            let added = opened
                .map_err(RemuxError::from)
                .and_then(|mut file| Ok((movie.add(&mut file, part.priming)?, file)));
            match added {
                Ok((true, file)) => {
                    readers.push(file);
                    used.push(part);
                }
                Ok((false, _)) => break,
                Err(error) => warn!(%error, part = part.name, "nothing can be read of a part"),
            }
            count += 1;
        }
        if movie.is_empty() {
            return count;
        }
        let name = self.name(Container::Mp4);
        let has_video = used.iter().any(|part| part.has_video);
        let written = if self.is_full {
            Err(io::Error::from(io::ErrorKind::StorageFull).into())
        } else {
            self.write(&name, |out| movie.write(&mut readers, out))
        };
        match written {
            Ok(remuxed) => {
                self.duration_us = self.duration_us.max(remuxed.duration_us);
                self.add(name, Container::Mp4, (has_video, remuxed.bytes));
            }
            Err(error) => {
                warn!(%error, "parts are kept as they were recorded");
                for part in used {
                    let bytes = size(&self.folder.join(&part.name));
                    self.add(part.name.clone(), Container::Mp4, (part.has_video, bytes));
                }
            }
        }
        count
    }

    /// Writes a file so that it is whole once it has its name.
    fn write(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<Remuxed, RemuxError>,
    ) -> Result<Remuxed, RemuxError> {
        let partial = self.folder.join(format!("{name}.partial"));
        let written = File::create(&partial).map_err(RemuxError::from);
        let written = written.and_then(|file| {
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
            let remuxed = write(&mut out)?;
            out.flush()?;
            out.get_ref().sync_all()?;
            fs::rename(&partial, self.folder.join(name))?;
            Ok(remuxed)
        });
        if written.is_err() {
            let _ = fs::remove_file(&partial);
        }
        written
    }

    /// Adds what is missing in place.
    fn make_webm(&mut self, part: &PartFile) {
        let name = self.name(Container::WebM);
        let (before, after) = (self.folder.join(&part.name), self.folder.join(&name));
        // A crash may have come between renaming and writing that down.
        let path = if before.exists() { &before } else { &after };
        match finish_webm(path) {
            Ok(finished) => {
                self.duration_us = self.duration_us.max(finished.duration_us);
                let name = match fs::rename(path, &after) {
                    Ok(()) => name,
                    Err(_) => part.name.clone(),
                };
                self.add(name, Container::WebM, (part.has_video, finished.bytes));
            }
            Err(FinishError::Empty) => {}
            Err(error) => {
                warn!(%error, "a part is kept as it was recorded");
                let bytes = size(path);
                self.add(part.name.clone(), Container::WebM, (part.has_video, bytes));
            }
        }
    }

    fn add(&mut self, name: String, container: Container, (has_video, bytes): (bool, u64)) {
        self.made.push(RecordedFile {
            name,
            container,
            has_video,
            bytes,
        });
    }

    /// The name of the next file.
    fn name(&self, container: Container) -> String {
        let extension = container.extension();
        match self.made.len() {
            0 => format!("recording.{extension}"),
            before => format!("recording-{}.{extension}", before + 1),
        }
    }
}

fn finish_webm(path: &Path) -> Result<webm::Finished, FinishError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let finished = webm::finish(&mut file)?;
    file.set_len(finished.bytes)?;
    file.sync_all()?;
    Ok(finished)
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

const BUFFER_BYTES: usize = 256 << 10;
