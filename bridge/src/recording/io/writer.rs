//! The thread that writes one recording.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::warn;

use super::super::muxer::{Beginning, Muxer, Output};
use super::super::{FailReason, RecordingId, RecordingState};
use super::finishing;
use super::folder::{self, PartFile, Sheet};
use super::recorder::{Control, Message};
use super::shared::Shared;

/// Appends to working files until it is stopped or the disk refuses.
pub(super) struct Writer {
    shared: Arc<Shared>,
    control: Arc<Control>,
    id: RecordingId,
    folder: PathBuf,
    muxer: Muxer,
    file: Option<File>,
    /// What is whole in the file.
    file_bytes: u64,
    /// Of all files.
    bytes: u64,
    parts: u32,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        control: Arc<Control>,
        folder: PathBuf,
        sheet: &Sheet,
    ) -> Self {
        let spec = &sheet.recording.spec;
        Self {
            shared,
            control,
            id: sheet.recording.id.clone(),
            folder,
            muxer: Muxer::new(spec.has_video, spec.has_audio, spec.container),
            file: None,
            file_bytes: 0,
            bytes: 0,
            parts: 0,
        }
    }

    /// Writes all that comes, and finishes the files when nothing more does.
    pub(super) fn run(mut self, frames: &Receiver<Message>) {
        let mut written = Ok(());
        let mut outputs = Vec::new();
        while written.is_ok() {
            let is_stopping = self.control.is_stopping.load(Ordering::Acquire);
            let message = if is_stopping {
                frames.try_recv().ok()
            } else {
                frames.recv().ok()
            };
            match message {
                Some(Message::Frame(frame)) => {
                    let bytes = frame.bytes();
                    self.control.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                    self.muxer.push(frame, &mut outputs);
                }
                Some(Message::Stop) => continue,
                None => break,
            }
            written = self.write(&mut outputs);
        }
        self.control.is_stopping.store(true, Ordering::Release);
        if written.is_ok() {
            self.muxer.finish(&mut outputs);
            written = self.write(&mut outputs);
        }
        self.note();
        let mut reason = written.err().map(|error| reason_of(&error));
        if let Some(reason) = reason {
            warn!(id = %self.id, ?reason, "recording failed");
            self.cut_back();
        } else if self.control.is_too_slow.load(Ordering::Acquire) {
            reason = Some(FailReason::TooSlow);
        }
        self.file = None;
        finishing::finish(&self.shared, &self.id, reason);
    }

    fn write(&mut self, outputs: &mut Vec<Output>) -> io::Result<()> {
        let has_any = !outputs.is_empty();
        for output in outputs.drain(..) {
            match output {
                Output::Begin(beginning) => self.begin(&beginning)?,
                Output::Append(bytes) => self.append(&bytes)?,
            }
        }
        if has_any {
            self.note();
        }
        if self.duration() >= self.shared.settings.max_duration {
            self.control.stop();
        }
        Ok(())
    }

    fn begin(&mut self, beginning: &Beginning) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_data()?;
        }
        self.parts += 1;
        let name = format!("part-{:04}.{}", self.parts, beginning.container.extension());
        let path = self.folder.join(&name);
        self.file = Some(OpenOptions::new().write(true).create_new(true).open(path)?);
        self.file_bytes = 0;
        self.shared.change_sheet(&self.id, |sheet| {
            sheet.recording.state = RecordingState::Recording;
            sheet.parts.push(PartFile {
                name,
                container: beginning.container,
                has_video: beginning.has_video,
                priming: beginning.priming,
            });
        });
        self.append(&beginning.bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !folder::has_room(&self.shared.settings)? {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        self.file_bytes += length;
        self.bytes += length;
        Ok(())
    }

    /// Removes what was written in part only.
    fn cut_back(&self) {
        if let Some(file) = &self.file {
            // Readers stop at what is cut off as well.
            let _ = file.set_len(self.file_bytes);
        }
    }

    /// How long it is so far.
    fn duration(&self) -> Duration {
        let duration_us = u64::try_from(self.muxer.duration_us());
        Duration::from_micros(duration_us.unwrap_or(0))
    }

    fn note(&self) {
        let duration_ms = u64::try_from(self.duration().as_millis()).unwrap_or(u64::MAX);
        let reached = (duration_ms, self.muxer.left_out());
        self.shared.progress(&self.id, self.bytes, reached);
    }
}

/// What the failure of a disk means.
pub(super) fn reason_of(error: &io::Error) -> FailReason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailReason::DiskFull,
        _ => FailReason::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_a_full_disk() {
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let refused = full.write_all(b"frame").unwrap_err();
        assert_eq!(reason_of(&refused), FailReason::DiskFull);
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(reason_of(&other), FailReason::Io);
    }
}
