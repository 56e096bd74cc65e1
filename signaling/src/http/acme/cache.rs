//! Account and certificate on disk, so that a restart orders nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;

use crate::config::Http;

const ACCOUNT: &str = "account.json";
/// Key and chain in one file, which is replaced in one step.
const CERTIFICATE: &str = "certificate.pem";

/// A folder for one authority: what one has issued is not taken for another's.
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// # Errors
    /// The folder cannot be made or written to.
    pub(crate) fn open(folder: &str, directory_url: &str) -> io::Result<Self> {
        let cache = Self(Self::path(folder, directory_url));
        fs::create_dir_all(&cache.0)?;
        // Better found out now than with a certificate in hand.
        cache.keep(".new", b"")?;
        Ok(cache)
    }

    fn path(folder: &str, directory_url: &str) -> PathBuf {
        let url = directory_url
            .strip_prefix("https://")
            .unwrap_or(directory_url);
        let name: String = url.chars().map(in_file_name).take(200).collect();
        Path::new(folder).join(name)
    }

    /// `None` also when what is there is no account.
    pub(crate) fn account(&self) -> Option<AccountCredentials> {
        let text = fs::read(self.0.join(ACCOUNT)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(crate) fn keep_account(&self, account: &AccountCredentials) -> io::Result<()> {
        self.keep(ACCOUNT, &serde_json::to_vec(account)?)
    }

    pub(crate) fn forget_account(&self) -> io::Result<()> {
        fs::remove_file(self.0.join(ACCOUNT))
    }

    /// Key and chain, as PEM.
    pub(crate) fn certificate(&self) -> Option<String> {
        fs::read_to_string(self.0.join(CERTIFICATE)).ok()
    }

    pub(crate) fn keep_certificate(&self, text: &str) -> io::Result<()> {
        self.keep(CERTIFICATE, text.as_bytes())
    }

    /// Writes a file, whole or not at all, for the eyes of this server's user only.
    fn keep(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.0.join(".new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(new, self.0.join(name))
    }
}

/// The file with the certificate that a configuration gets by ACME, and its key.
pub(crate) fn certificate_path(http: &Http) -> PathBuf {
    Cache::path(&http.acme_dir, &http.acme_directory_url).join(CERTIFICATE)
}

/// What may stand in the name of a folder, everywhere.
fn in_file_name(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => character,
        _ => '_',
    }
}
