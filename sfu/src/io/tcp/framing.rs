//! RFC 4571 framing, and what the first frame of a connection must say.
//!
//! ```text
//!  0                   1
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
//! +-------------------------------+
//! |  length of the datagram       |  then the datagram
//! +-------------------------------+
//! ```

/// Bytes before each datagram.
pub(crate) const HEADER_BYTES: usize = 2;
/// The longest frame with its header.
pub(crate) const FRAME_BYTES_MAX: usize = HEADER_BYTES + u16::MAX as usize;

/// The length of the datagram in the first frame; `None` while the frame is not complete.
pub(crate) fn frame_length(bytes: &[u8]) -> Option<usize> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes(*header));
    (length <= rest.len()).then_some(length)
}

/// The header of a frame for this datagram; `None` when it is too long to be framed.
pub(crate) fn header(datagram: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    u16::try_from(datagram.len()).ok().map(u16::to_be_bytes)
}

/// What the first bytes of a connection say about whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Not all of the first frame is here.
    Unfinished,
    /// A connectivity check for this shard.
    Shard(u8),
    /// A STUN message without a frame around it: a TURN client.
    Relay,
    /// Something else.
    NotIce,
}

/// Reads the first frame: it must be a connectivity check whose user name begins with a ufrag of ours.
pub(crate) fn opening(bytes: &[u8]) -> Opening {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Opening::Unfinished;
    };
    let length = usize::from(u16::from_be_bytes(*header));
    // No check is so short: this is the type of a STUN message (RFC 8489 §5), and its length follows.
    if length < STUN_HEADER_BYTES && length > 0 {
        let cookie = rest.get(2..).unwrap_or_default();
        return match cookie.first_chunk::<4>() {
            Some(cookie) if *cookie == MAGIC_COOKIE => Opening::Relay,
            None if cookie
                .iter()
                .zip(&MAGIC_COOKIE)
                .all(|(is, want)| is == want) =>
            {
                Opening::Unfinished
            }
            _ => Opening::NotIce,
        };
    }
    let is_plausible = (STUN_HEADER_BYTES..=FIRST_FRAME_BYTES_MAX).contains(&length);
    // A TLS or HTTP client is turned away at its first byte rather than after the time limit.
    let begins_like_a_check = rest
        .iter()
        .zip(&BINDING_REQUEST)
        .all(|(is, want)| is == want);
    if !is_plausible || !begins_like_a_check {
        return Opening::NotIce;
    }
    let Some(frame) = rest.get(..length) else {
        return Opening::Unfinished;
    };
    user_name(frame)
        .and_then(shard_of)
        .map_or(Opening::NotIce, Opening::Shard)
}

/// The shard in a user name: our ufrag, a colon, the client's ufrag (RFC 8445 §7.2.2). Ours begins with
/// the shard's index as two lower-case hex digits.
fn shard_of(user_name: &[u8]) -> Option<u8> {
    let ours = user_name.split(|&byte| byte == b':').next()?;
    if ours.len() == user_name.len() {
        return None;
    }
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(digit(ours.first()?)? << 4 | digit(ours.get(1)?)?)
}

/// The USERNAME attribute of a STUN Binding request (RFC 8489 §5, §14).
fn user_name(message: &[u8]) -> Option<&[u8]> {
    let (header, mut attributes) = message.split_first_chunk::<STUN_HEADER_BYTES>()?;
    let [kind @ .., _, _] = header.first_chunk::<4>()?;
    let length = u16::from_be_bytes([header[2], header[3]]);
    let is_request = *kind == BINDING_REQUEST && header[4..8] == MAGIC_COOKIE;
    if !is_request || usize::from(length) != attributes.len() {
        return None;
    }
    loop {
        let (head, rest) = attributes.split_first_chunk::<4>()?;
        let [kind_high, kind_low, length_high, length_low] = *head;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let value = rest.get(..length)?;
        if [kind_high, kind_low] == USERNAME {
            return Some(value);
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// A first frame longer than this is no connectivity check: those are about 100 bytes.
pub(crate) const FIRST_FRAME_BYTES_MAX: usize = 1500;
const STUN_HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: [u8; 2] = [0x00, 0x06];

/// A framed connectivity check for this user name, without integrity.
#[cfg(test)]
pub(crate) fn framed_check(user_name: &str) -> Vec<u8> {
    let mut attributes = vec![0x80, 0x22, 0, 5];
    attributes.extend(b"a bot\0\0\0");
    attributes.extend(USERNAME);
    attributes.extend(u16::try_from(user_name.len()).unwrap().to_be_bytes());
    attributes.extend(user_name.as_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    let mut message = BINDING_REQUEST.to_vec();
    message.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    message.extend(MAGIC_COOKIE);
    message.extend([7; 12]);
    message.extend(attributes);
    let mut framed = header(&message).unwrap().to_vec();
    framed.extend(message);
    framed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_the_shard_once_the_whole_frame_is_here() {
        let mut framed = framed_check("1fabcd:efgh");
        for length in 0..framed.len() {
            assert_eq!(
                opening(&framed[..length]),
                Opening::Unfinished,
                "{length} bytes"
            );
        }
        assert_eq!(opening(&framed), Opening::Shard(0x1f));
        framed.extend([0, 9, 1]);
        assert_eq!(opening(&framed), Opening::Shard(0x1f));
    }

    #[test]
    fn a_stun_message_without_a_frame_is_for_the_relay() {
        for kind in [1, 3, 4, 8, 9] {
            let message = [&[0, kind, 0, 8][..], &MAGIC_COOKIE, &[7; 12]].concat();
            for length in 0..8 {
                assert_eq!(
                    opening(&message[..length]),
                    Opening::Unfinished,
                    "{length} bytes"
                );
            }
            assert_eq!(opening(&message), Opening::Relay);
            let mut other = message;
            other[7] ^= 1;
            assert_eq!(opening(&other), Opening::NotIce);
        }
    }

    #[test]
    fn turns_other_user_names_and_protocols_away() {
        for name in ["", ":", "1", "1:x", "1F00:x", "+100:x", "zz00:x", "1f00"] {
            assert_eq!(opening(&framed_check(name)), Opening::NotIce, "{name}");
        }
        assert_eq!(opening(b"GET / HTTP/1.1\r\n"), Opening::NotIce);
        assert_eq!(opening(&[22, 3, 1, 2]), Opening::NotIce);
        assert_eq!(opening(&[0, 0]), Opening::NotIce);
        let mut response = framed_check("1fabcd:efgh");
        response[2] = 1;
        assert_eq!(opening(&response), Opening::NotIce);
        let mut other_cookie = framed_check("1fabcd:efgh");
        other_cookie[6] ^= 1;
        assert_eq!(opening(&other_cookie), Opening::NotIce);
    }

    #[test]
    fn survives_every_truncation_and_every_changed_byte() {
        let framed = framed_check("1fabcd:efgh");
        for length in HEADER_BYTES..framed.len() {
            let mut cut = framed[..length].to_vec();
            let framed_length = u16::try_from(length - HEADER_BYTES).unwrap();
            cut[..2].copy_from_slice(&framed_length.to_be_bytes());
            // As long as a type of STUN is short: more might make it a message without a frame.
            let is_short = length < HEADER_BYTES + STUN_HEADER_BYTES;
            match opening(&cut) {
                Opening::NotIce => {}
                Opening::Unfinished if is_short => {}
                other => panic!("{other:?} after {length} bytes"),
            }
        }
        for at in 0..framed.len() {
            for value in 0..=255 {
                let mut changed = framed.clone();
                changed[at] = value;
                let _ = opening(&changed);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = opening(&bytes);
            let _ = user_name(&bytes);
            let _ = frame_length(&bytes);
        }
    }
}
