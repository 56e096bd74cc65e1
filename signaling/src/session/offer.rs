//! From an offer on the wire to an offer for the core, checked and inflated.

use std::collections::HashSet;
use std::io::Read;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sfu::{Mid, Offer, Publish};

use crate::auth::NAME_BYTES_MAX;
use crate::message::{ErrorCode, ErrorReply, OfferMessage};

/// Entries of a publish list; the core's limit on tracks is lower.
const PUBLISH_MAX: usize = 128;
/// An inflated SDP, in bytes.
const SDP_BYTES_MAX: u64 = 1 << 20;

/// Reads an offer of the native protocol.
///
/// # Errors
/// `bad_message`, `too_large` or `limit_exceeded`, with the offer's id.
pub fn read_offer(
    message: OfferMessage,
    local_address: Option<IpAddr>,
) -> Result<Offer, ErrorReply> {
    let id = message.id;
    let refuse = |code, text: &str| ErrorReply::new(code, text).about(Some(id));
    let sdp = match (message.sdp, message.sdpz) {
        (Some(sdp), None) => sdp,
        (None, Some(sdpz)) => inflate(&sdpz).map_err(|(code, text)| refuse(code, text))?,
        _ => {
            return Err(refuse(
                ErrorCode::BadMessage,
                "an offer has either sdp or sdpz",
            ));
        }
    };
    if message.publish.len() > PUBLISH_MAX {
        return Err(refuse(
            ErrorCode::LimitExceeded,
            "too many entries in publish",
        ));
    }
    let mut mids = HashSet::new();
    let mut publish = Vec::with_capacity(message.publish.len());
    for entry in message.publish {
        let Some(mid) = Mid::parse(&entry.mid) else {
            return Err(refuse(
                ErrorCode::BadMessage,
                "a mid is 1 to 16 visible ASCII characters",
            ));
        };
        if !mids.insert(mid) {
            return Err(refuse(
                ErrorCode::BadMessage,
                "a mid stands twice in publish",
            ));
        }
        if entry.name.len() > NAME_BYTES_MAX {
            return Err(refuse(
                ErrorCode::TooLarge,
                "a track's name is at most 256 bytes",
            ));
        }
        publish.push(Publish {
            mid,
            source: entry.source.into(),
            name: entry.name,
            muted: entry.muted,
            width: entry.width,
            height: entry.height,
            codec: entry.codec.map(Into::into),
            stereo: entry.stereo,
            dtx: entry.dtx,
        });
    }
    Ok(Offer {
        id,
        sdp,
        publish,
        publish_unnamed: false,
        local_address,
    })
}

/// An offer of a WHIP (`publishes`) or WHEP client.
pub fn local_offer(sdp: String, publishes: bool, local_address: Option<IpAddr>) -> Offer {
    Offer {
        id: 1,
        sdp,
        publish: Vec::new(),
        publish_unnamed: publishes,
        local_address,
    }
}

fn inflate(sdpz: &str) -> Result<String, (ErrorCode, &'static str)> {
    let deflated = STANDARD
        .decode(sdpz)
        .map_err(|_| (ErrorCode::BadMessage, "sdpz is not base64"))?;
    let mut bytes = Vec::new();
    flate2::read::DeflateDecoder::new(&*deflated)
        .take(SDP_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| (ErrorCode::BadMessage, "sdpz does not inflate"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SDP_BYTES_MAX) {
        return Err((ErrorCode::TooLarge, "the inflated SDP is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| (ErrorCode::BadMessage, "the inflated SDP is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::message::{PublishEntry, Source};

    fn deflate(bytes: &[u8]) -> String {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        STANDARD.encode(encoder.finish().unwrap())
    }

    fn offer(sdp: Option<&str>, sdpz: Option<String>) -> OfferMessage {
        let sdp = sdp.map(str::to_owned);
        OfferMessage {
            id: 7,
            sdp,
            sdpz,
            publish: Vec::new(),
            ice_restart: None,
        }
    }

    fn code(message: OfferMessage) -> ErrorCode {
        let error = read_offer(message, None).unwrap_err();
        assert_eq!(error.id, Some(7));
        error.code
    }

    #[test]
    fn inflates_what_fits_and_refuses_bombs() {
        let read = read_offer(offer(None, Some(deflate(b"v=0\r\n"))), None).unwrap();
        assert_eq!((read.id, read.sdp.as_str()), (7, "v=0\r\n"));
        let full = deflate(&vec![b'a'; 1 << 20]);
        assert_eq!(
            read_offer(offer(None, Some(full)), None).unwrap().sdp.len(),
            1 << 20
        );
        let bomb = deflate(&vec![b'a'; 64 << 20]);
        assert!(bomb.len() < 128 << 10, "it would fit into a frame");
        assert_eq!(code(offer(None, Some(bomb))), ErrorCode::TooLarge);
        assert_eq!(
            code(offer(None, Some(deflate(&[0xff, 0xfe])))),
            ErrorCode::BadMessage
        );
        assert_eq!(
            code(offer(None, Some("!".to_owned()))),
            ErrorCode::BadMessage
        );
        assert_eq!(
            code(offer(None, Some(STANDARD.encode([7u8; 9])))),
            ErrorCode::BadMessage
        );
    }

    #[test]
    fn has_one_form_of_sdp_and_sound_entries() {
        assert_eq!(code(offer(None, None)), ErrorCode::BadMessage);
        assert_eq!(
            code(offer(Some("v=0"), Some(deflate(b"v=0")))),
            ErrorCode::BadMessage
        );
        let entry = |mid: &str, name: &str| PublishEntry {
            mid: mid.to_owned(),
            source: Source::Camera,
            name: name.to_owned(),
            muted: false,
            width: 0,
            height: 0,
            codec: None,
            stereo: false,
            dtx: false,
        };
        let with = |publish| OfferMessage {
            publish,
            ..offer(Some("v=0"), None)
        };
        assert_eq!(code(with(vec![entry("", "")])), ErrorCode::BadMessage);
        assert_eq!(
            code(with(vec![entry("0", ""), entry("0", "")])),
            ErrorCode::BadMessage
        );
        assert_eq!(
            code(with(vec![entry("0", &"x".repeat(257))])),
            ErrorCode::TooLarge
        );
        let many = (0..129).map(|mid| entry(&mid.to_string(), "")).collect();
        assert_eq!(code(with(many)), ErrorCode::LimitExceeded);
        assert_eq!(
            read_offer(with(vec![entry("0", "x")]), None)
                .unwrap()
                .publish
                .len(),
            1
        );
    }
}
