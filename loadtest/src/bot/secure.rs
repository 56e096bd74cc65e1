//! DTLS and SRTP of a bot, by the `rtc` crates: no code is shared with the server under load.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bytes::BytesMut;
use rtc::crypto::{HashAlgorithm, RTCCryptoProvider, default_provider};
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc::shared::TransportProtocol;
use rtc::srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_no_replay_protection, srtp_no_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;

/// How packets are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// What the server likes best of all there are.
    Any,
    /// AEAD_AES_256_GCM (RFC 7714).
    Aes256Gcm,
    /// AEAD_AES_128_GCM (RFC 7714).
    Aes128Gcm,
    /// AES128_CM_HMAC_SHA1_80 (RFC 5764).
    Aes128Cm,
}

impl Protection {
    fn profiles(self) -> Vec<SrtpProtectionProfile> {
        let all = [
            (
                Self::Aes256Gcm,
                SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            ),
            (
                Self::Aes128Gcm,
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            ),
            (
                Self::Aes128Cm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ),
        ];
        let chosen = all
            .iter()
            .filter(|(one, _)| self == Self::Any || self == *one);
        chosen.map(|(_, profile)| *profile).collect()
    }
}

/// The certificate that all bots of a run share, and how they do DTLS.
pub struct Identity {
    fingerprint: String,
    provider: Arc<dyn RTCCryptoProvider>,
    /// As client, and as server.
    configs: [Arc<HandshakeConfig>; 2],
}

impl Identity {
    /// Makes a key and a self-signed certificate.
    pub fn generate(protection: Protection) -> Result<Self> {
        let provider = default_provider()?;
        let certificate =
            Certificate::generate_self_signed(vec!["bot".to_owned()], provider.crypto())?;
        let der = certificate.certificate.first().map(AsRef::as_ref);
        let fingerprint = fingerprint(&provider, der.unwrap_or_default());
        let config = |is_client| {
            // Certificates are self-signed: what counts is the fingerprint, compared when all is done.
            let config = ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(protection.profiles())
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .build(is_client, None);
            config.map(Arc::new)
        };
        Ok(Self {
            fingerprint,
            configs: [config(true)?, config(false)?],
            provider,
        })
    }

    /// The hash of the certificate as SDP writes it, without the name of the hash.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// SHA-256 in upper case, with colons.
fn fingerprint(provider: &Arc<dyn RTCCryptoProvider>, certificate: &[u8]) -> String {
    let hash = provider.crypto().hash(HashAlgorithm::Sha256, certificate);
    let hash = hash.unwrap_or_default();
    let bytes: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

/// What protects a bot's packets, and what unprotects those it gets.
pub(super) struct Keys {
    encrypt: Context,
    decrypt: Context,
}

impl Keys {
    pub(super) fn protect_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.encrypt.encrypt_rtp(packet).ok()
    }

    pub(super) fn protect_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.encrypt.encrypt_rtcp(packet).ok()
    }

    /// `None`: not made with these keys. Packets may be left out, as long as fewer than 32,768 in a
    /// row are.
    pub(super) fn unprotect_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.decrypt.decrypt_rtp(packet).ok()
    }

    pub(super) fn unprotect_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.decrypt.decrypt_rtcp(packet).ok()
    }

    fn of(state: &State, provider: &Arc<dyn RTCCryptoProvider>) -> Option<Self> {
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => ProtectionProfile::AeadAes256Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
                ProtectionProfile::Aes128CmHmacSha1_80
            }
            _ => return None,
        };
        let mut config = Config {
            profile,
            ..Config::default()
        };
        let length = config.keying_material_len();
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], length);
        let is_client = state.is_client();
        config
            .set_session_keys_from_keying_material(material.ok()?.as_ref(), is_client)
            .ok()?;
        // Without replay protection: a bot counts what comes twice, and a window would hide it.
        let context = |key: &[u8], salt: &[u8]| {
            let (rtp, rtcp) = (srtp_no_replay_protection(), srtcp_no_replay_protection());
            Context::new(key, salt, profile, Some(rtp), Some(rtcp), provider.crypto()).ok()
        };
        let keys = &config.keys;
        Some(Self {
            encrypt: context(&keys.local_master_key, &keys.local_master_salt)?,
            decrypt: context(&keys.remote_master_key, &keys.remote_master_salt)?,
        })
    }
}

/// The DTLS connection of one bot.
pub(super) struct Secure {
    endpoint: Endpoint,
    identity: Arc<Identity>,
    expected: String,
    is_done: bool,
}

/// The handshake did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandshakeFailed;

impl Secure {
    /// Starts a connection to the owner of the certificate with this fingerprint, as in SDP.
    pub(super) fn new(
        now: Instant,
        identity: &Arc<Identity>,
        is_client: bool,
        expected: &str,
    ) -> Self {
        let [client, server] = &identity.configs;
        let listening = (!is_client).then(|| server.clone());
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, listening);
        if is_client {
            // It only fails for port 0.
            let _ = endpoint.connect(now, PEER, client.clone(), None);
        }
        Self {
            endpoint,
            identity: identity.clone(),
            expected: expected.to_ascii_uppercase(),
            is_done: false,
        }
    }

    /// When to call [`Self::drive`] without a datagram.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_done {
            return None;
        }
        self.endpoint.poll_timeout(&PEER)
    }

    /// Takes in a datagram or the time; what is to be sent goes to `transmit`, keys come back once.
    pub(super) fn drive(
        &mut self,
        now: Instant,
        datagram: Option<&[u8]>,
        mut transmit: impl FnMut(&[u8]),
    ) -> Result<Option<Keys>, HandshakeFailed> {
        let mut keys = None;
        let done = match datagram {
            Some(bytes) => self.read(now, bytes, &mut keys),
            // There is nothing to time before the other side has spoken.
            None if self.poll_timeout().is_none() => Ok(()),
            None => self
                .endpoint
                .handle_timeout(PEER, now)
                .map_err(|_| HandshakeFailed),
        };
        while let Some(message) = self.endpoint.poll_transmit() {
            transmit(&message.message);
        }
        match done {
            Err(HandshakeFailed) if !self.is_done => Err(HandshakeFailed),
            _ => Ok(keys),
        }
    }

    fn read(
        &mut self,
        now: Instant,
        bytes: &[u8],
        keys: &mut Option<Keys>,
    ) -> Result<(), HandshakeFailed> {
        let events = self.endpoint.read(now, PEER, None, BytesMut::from(bytes));
        for event in events.map_err(|_| HandshakeFailed)? {
            if let EndpointEvent::HandshakeComplete = event {
                let state = self
                    .endpoint
                    .get_connection_state(PEER)
                    .ok_or(HandshakeFailed)?;
                let provider = &self.identity.provider;
                let certificate = state.peer_certificates.first().ok_or(HandshakeFailed)?;
                let found = format!("SHA-256 {}", fingerprint(provider, certificate));
                if found != self.expected {
                    return Err(HandshakeFailed);
                }
                *keys = Some(Keys::of(state, provider).ok_or(HandshakeFailed)?);
                self.is_done = true;
            }
        }
        Ok(())
    }
}

/// The other side; an endpoint tells its connections apart by address, and there is one.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
