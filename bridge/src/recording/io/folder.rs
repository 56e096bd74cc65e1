//! Folders of recordings and what is written down in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::super::{Container, Recording, RecordingId, RecordingSpec, RecordingState};
use super::RecordingSettings;

/// What is written down: it survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sheet {
    pub(super) recording: Recording,
    /// Working files, in order.
    pub(super) parts: Vec<PartFile>,
}

/// A working file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartFile {
    pub(super) name: String,
    pub(super) container: Container,
    pub(super) has_video: bool,
    /// The encoder's delay of its sound, in samples.
    pub(super) priming: u32,
}

impl Sheet {
    pub(super) fn new(id: RecordingId, spec: RecordingSpec, started_at_ms: u64) -> Self {
        Self {
            recording: Recording {
                id,
                spec,
                state: RecordingState::Starting,
                reason: None,
                started_at_ms,
                duration_ms: 0,
                bytes: 0,
                frames_left_out: 0,
                files: Vec::new(),
                is_stored: false,
            },
            parts: Vec::new(),
        }
    }

    /// Whether all names in it are such as we make.
    fn is_safe(&self) -> bool {
        let parts = self.parts.iter().map(|part| &part.name);
        let files = self.recording.files.iter().map(|file| &file.name);
        RecordingId::parse(self.recording.id.as_str()).is_some()
            && parts.chain(files).all(|name| is_safe(name))
    }
}

impl RecordingState {
    /// Whether nothing more happens.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Ready | Self::Failed)
    }
}

/// The folder of a recording.
pub(super) fn path(dir: &Path, room: &str, id: &RecordingId) -> PathBuf {
    dir.join(encode(room)).join(id.as_str())
}

/// Makes a room's name safe as a name of a folder or a key. It need not be read back: the sheet says it.
pub(super) fn encode(room: &str) -> String {
    let mut name = String::from("room-");
    for byte in room.bytes() {
        if name.len() >= NAME_BYTES_MAX {
            break;
        }
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

pub(super) fn create(folder: &Path, sheet: &Sheet) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    write_sheet(folder, sheet)
}

/// Writes the sheet so that there is always a whole one.
pub(super) fn write_sheet(folder: &Path, sheet: &Sheet) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(sheet)?;
    let partial = folder.join("recording.json.partial");
    let mut file = File::create(&partial)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(&partial, folder.join(SHEET))
}

/// All recordings of a directory. What is none of ours is left alone.
pub(super) fn scan(dir: &Path) -> io::Result<Vec<(PathBuf, Sheet)>> {
    let mut found = Vec::new();
    for room in fs::read_dir(dir)? {
        let room = room?;
        if !room.file_type()?.is_dir() {
            continue;
        }
        for folder in fs::read_dir(room.path())? {
            let folder = folder?;
            if folder.file_type()?.is_dir() {
                found.extend(read_sheet(&folder.path()).map(|sheet| (folder.path(), sheet)));
            }
        }
    }
    Ok(found)
}

fn read_sheet(folder: &Path) -> Option<Sheet> {
    let path = folder.join(SHEET);
    let is_small = fs::metadata(&path).ok()?.len() <= SHEET_BYTES_MAX;
    let text = is_small.then(|| fs::read(&path).ok()).flatten()?;
    let sheet: Sheet = serde_json::from_slice(&text)
        .inspect_err(|error| warn!(%error, "a recording's description cannot be read"))
        .ok()?;
    let is_named = folder.file_name()? == sheet.recording.id.as_str();
    (is_named && sheet.is_safe()).then_some(sheet)
}

/// Whether the disk has as much room as is to stay free.
pub(super) fn has_room(settings: &RecordingSettings) -> io::Result<bool> {
    let disk = nix::sys::statvfs::statvfs(&settings.dir)?;
    let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
    Ok(free >= u128::from(settings.min_free_mb) * 1_000_000)
}

/// No path, and nothing hidden.
fn is_safe(name: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    (name.starts_with("part-") || name.starts_with("recording"))
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(is_plain)
}

pub(super) const SHEET: &str = "recording.json";
/// Of 255 that file systems take, with room for one more escape.
const NAME_BYTES_MAX: usize = 200;
/// Thousands of parts.
const SHEET_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_room_leaves_the_directory() {
        for (room, name) in [
            ("standup", "room-standup"),
            ("..", "room-_2e_2e"),
            ("", "room-"),
            ("/etc/passwd", "room-_2fetc_2fpasswd"),
            ("a b\0", "room-a_20b_00"),
            ("ä", "room-_c3_a4"),
            ("a_b", "room-a_5fb"),
        ] {
            assert_eq!(encode(room), name);
        }
        assert!(encode(&"/".repeat(1_000)).len() <= 203);
    }

    #[test]
    fn names_of_files_are_ours_or_refused() {
        assert!(is_safe("part-0001.mp4"));
        assert!(is_safe("recording-2.webm"));
        for name in [
            "../part-1",
            "recording/../../x",
            "/recording",
            "",
            "recording\0",
            "x",
        ] {
            assert!(!is_safe(name), "{name}");
        }
    }
}
