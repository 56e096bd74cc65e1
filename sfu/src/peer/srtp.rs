//! SRTP and SRTCP of one transport (RFC 3711, RFC 7714): protects what leaves, unprotects what arrives.
#![warn(clippy::indexing_slicing)]

mod cipher;
mod derive;
mod replay;

#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::rtp::{HEADER_BYTES, RtpView};
use net::cursor::{u16_at, u32_at};

use cipher::Cipher;
use replay::Sources;

/// What use_srtp negotiated (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SrtpProfile {
    /// AES-256 in GCM, 16-byte tags.
    AeadAes256Gcm,
    /// AES-128 in GCM, 16-byte tags.
    AeadAes128Gcm,
    /// AES-128 in counter mode with HMAC-SHA1, 10-byte tags; the fallback, about five times dearer.
    Aes128CmSha1_80,
}

impl SrtpProfile {
    /// Bytes of the master key.
    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::Aes128CmSha1_80 => 16,
        }
    }

    /// Bytes of the master salt.
    pub(crate) const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }
}

/// Protects the packets of one direction; lives as long as its keys.
///
/// The caller owns the RTP indices: under one context no (SSRC, index) may be used twice, or two
/// packets share a GCM nonce and both keys and content leak.
pub(crate) struct SendContext {
    rtp: Cipher,
    rtcp: Cipher,
    /// One counter over all sender SSRCs, so that no (SSRC, index) repeats.
    rtcp_index: u32,
}

impl SendContext {
    /// Derives the session keys from a master key and salt (RFC 3711 §4.3).
    pub(crate) fn new(
        profile: SrtpProfile,
        master_key: &[u8],
        master_salt: &[u8],
    ) -> Result<Self, KeyError> {
        let (rtp, rtcp) = derive::session_ciphers(profile, master_key, master_salt)?;
        Ok(Self {
            rtp,
            rtcp,
            rtcp_index: 0,
        })
    }

    /// Encrypts an RTP packet in place: header and payload stand in the first `length` bytes of
    /// `packet`, the tag goes behind them.
    ///
    /// `index` is the sequence number extended to 48 bits: rollover counter, then the 16 bits that the
    /// header carries. Returns the packet's length. `None`: no room for the tag, or the header is not
    /// that of `index`. Allocation-free. RFC 3711 §3.3, RFC 7714 §8.
    pub(crate) fn protect_rtp(
        &mut self,
        index: u64,
        header_len: usize,
        length: usize,
        packet: &mut [u8],
    ) -> Option<usize> {
        let sequence = u64::from(u16_at(packet, 2)?);
        if header_len < HEADER_BYTES || index > INDEX_MAX || index & 0xffff != sequence {
            return None;
        }
        let ssrc = u32_at(packet, 8)?;
        self.rtp.seal_rtp((ssrc, index), header_len, length, packet)
    }

    /// Writes an encrypted RTCP packet (compound or reduced-size) to `out` and returns its length.
    ///
    /// `None`: `packet` has no header, `out` is too small, or all 2^31 indices are used and new
    /// keys are needed. RFC 3711 §3.4, RFC 7714 §9.
    pub(crate) fn protect_rtcp(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        if self.rtcp_index > RTCP_INDEX_MAX {
            return None;
        }
        let length = self.rtcp.seal_rtcp(self.rtcp_index, packet, out)?;
        self.rtcp_index += 1;
        Some(length)
    }
}

/// Unprotects the packets of one direction; lives as long as its keys.
///
/// Holds: state of a source comes into being and changes only with a packet whose tag verified.
pub(crate) struct ReceiveContext {
    rtp: Cipher,
    rtcp: Cipher,
    rtp_sources: Sources,
    rtcp_sources: Sources,
}

impl ReceiveContext {
    /// Derives the session keys from a master key and salt (RFC 3711 §4.3).
    pub(crate) fn new(
        profile: SrtpProfile,
        master_key: &[u8],
        master_salt: &[u8],
    ) -> Result<Self, KeyError> {
        let (rtp, rtcp) = derive::session_ciphers(profile, master_key, master_salt)?;
        Ok(Self {
            rtp,
            rtcp,
            rtp_sources: Sources::default(),
            rtcp_sources: Sources::default(),
        })
    }

    /// Decrypts an RTP packet in place; the first `length` bytes of it are then header and payload.
    ///
    /// Returns that length and the extended sequence number: rollover counter, then 16 bits. On an
    /// error the packet's content is undefined. Allocation-free but for a source's first packet.
    /// RFC 3711 §3.3, RFC 7714 §8.
    pub(crate) fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<(usize, u64), SrtpError> {
        let view = RtpView::parse(packet).ok_or(SrtpError::TooShort)?;
        let (ssrc, header_len) = (view.ssrc, view.header_len);
        let slot = self.rtp_sources.find(ssrc);
        let index = self.rtp_sources.estimate(slot, view.sequence);
        if index > INDEX_MAX {
            return Err(SrtpError::Replayed);
        }
        self.rtp_sources.check(slot, index)?;
        let length = self.rtp.open_rtp(ssrc, index, header_len, packet)?;
        self.rtp_sources.commit(slot, ssrc, index);
        Ok((length, index))
    }

    /// Decrypts an RTCP packet in place and returns the length of what is then plain.
    ///
    /// A packet that is only authenticated (E bit 0) is refused as `BadTag`: WebRTC never negotiates
    /// unencrypted SRTCP (RFC 8827 §6.5). RFC 3711 §3.4, RFC 7714 §9.
    pub(crate) fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = u32_at(packet, 4).ok_or(SrtpError::TooShort)?;
        let index = self.rtcp.rtcp_index(packet)?;
        let slot = self.rtcp_sources.find(ssrc);
        self.rtcp_sources.check(slot, index.into())?;
        let length = self.rtcp.open_rtcp(ssrc, index, packet)?;
        self.rtcp_sources.commit(slot, ssrc, index.into());
        Ok(length)
    }

    /// Lets a source that was unpublished make room for a new one, once there is no other room.
    ///
    /// Until then it is remembered: forgotten at once, its old packets would pass the replay check.
    pub(crate) fn retire(&mut self, ssrc: u32) {
        self.rtp_sources.retire(ssrc);
        self.rtcp_sources.retire(ssrc);
    }
}

/// Why a packet could not be unprotected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum SrtpError {
    /// Not a whole packet of this protocol.
    #[error("packet too short or malformed")]
    TooShort,
    /// Not made with our keys, or changed on its way.
    #[error("authentication failed")]
    BadTag,
    /// Seen before, or older than the replay window.
    #[error("replayed or too old")]
    Replayed,
    /// A new source while 64 are known and in use.
    #[error("too many sources")]
    TooManySources,
}

/// Why keys were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum KeyError {
    /// Keying material, key or salt has not the length its profile asks for.
    #[error("keying material of the wrong length")]
    Length,
}

/// The highest RTP packet index: 32 bits of rollover counter and 16 bits of sequence number.
const INDEX_MAX: u64 = (1 << 48) - 1;
const RTCP_INDEX_MAX: u32 = (1 << 31) - 1;
const INDEX_WORD_BYTES: usize = 4;
