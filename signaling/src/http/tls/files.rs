//! Certificate and key in PEM files, and whether somebody has replaced them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{TlsError, lock, pair};

/// Where certificate and key are, and what was there when they were read last.
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
    seen: Mutex<[Option<Stamp>; 2]>,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    /// Another file under the same name, as a rename or a symbolic link makes it.
    inode: u64,
}

impl Files {
    pub(super) fn new(cert: &str, key: &str) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn have_changed(&self) -> bool {
        *lock(&self.seen) != self.stamps()
    }

    /// Reads both.
    pub(super) fn read(&self) -> Result<CertifiedKey, TlsError> {
        // What changes while it is read is read again at the next look.
        let stamps = self.stamps();
        *lock(&self.seen) = stamps;
        let chain: Vec<_> = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable(&self.cert, error))?;
        if chain.is_empty() {
            return Err(unreadable(&self.cert, pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unreadable(&self.key, error))?;
        pair(chain, key)
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.cert, &self.key].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some(Stamp {
                modified: file.modified().ok()?,
                length: file.len(),
                inode: file.ino(),
            })
        })
    }
}

fn unreadable(path: &Path, error: pem::Error) -> TlsError {
    TlsError::Unreadable(path.display().to_string(), error)
}
