//! Session keys from master keys (RFC 3711 §4.3, RFC 6188, RFC 7714 §11), key derivation rate 0.
#![warn(clippy::indexing_slicing)]

use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};

use super::cipher::{Cipher, CounterMode, Gcm};
use super::{KeyError, SrtpProfile};

/// The ciphers for RTP and RTCP of one direction.
pub(super) fn session_ciphers(
    profile: SrtpProfile,
    master_key: &[u8],
    master_salt: &[u8],
) -> Result<(Cipher, Cipher), KeyError> {
    if master_key.len() != profile.key_len() || master_salt.len() != profile.salt_len() {
        return Err(KeyError::Length);
    }
    let cipher = |labels: Labels| {
        let mut key = [0; 32];
        let mut salt = [0; 14];
        let mut authentication = [0; 20];
        let key = key.get_mut(..profile.key_len()).ok_or(KeyError::Length)?;
        expand(master_key, master_salt, labels.key, key)?;
        expand(master_key, master_salt, labels.salt, &mut salt)?;
        match profile {
            SrtpProfile::AeadAes256Gcm | SrtpProfile::AeadAes128Gcm => {
                let salt = salt.first_chunk().ok_or(KeyError::Length)?;
                Gcm::new(key, *salt).map(Cipher::Gcm)
            }
            SrtpProfile::Aes128CmSha1_80 => {
                expand(
                    master_key,
                    master_salt,
                    labels.authentication,
                    &mut authentication,
                )?;
                let mode = CounterMode::new(key, salt, &authentication)?;
                Ok(Cipher::CounterMode(Box::new(mode)))
            }
        }
    };
    Ok((cipher(RTP)?, cipher(RTCP)?))
}

/// Fills `out` with the key stream of one label (RFC 3711 §4.3.3: the AES-CM PRF).
///
/// A 96-bit salt stands left in the 112-bit field (RFC 7714 §11), so `out` for such a salt is simply
/// the stream's first 96 bits.
pub(super) fn expand(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Result<(), KeyError> {
    let mut iv = [0; 16];
    iv.get_mut(..salt.len())
        .ok_or(KeyError::Length)?
        .copy_from_slice(salt);
    iv[7] ^= label; // x = (label << 48) XOR salt, in a 112-bit field, then 16 bits of block counter
    out.fill(0);
    match key.len() {
        16 => Ctr128BE::<Aes128>::new_from_slices(key, &iv)
            .map_err(|_| KeyError::Length)?
            .apply_keystream(out),
        _ => Ctr128BE::<Aes256>::new_from_slices(key, &iv)
            .map_err(|_| KeyError::Length)?
            .apply_keystream(out),
    }
    Ok(())
}

struct Labels {
    key: u8,
    authentication: u8,
    salt: u8,
}

const RTP: Labels = Labels {
    key: 0,
    authentication: 1,
    salt: 2,
};
const RTCP: Labels = Labels {
    key: 3,
    authentication: 4,
    salt: 5,
};
