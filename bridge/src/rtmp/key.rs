//! What an encoder was told: which room, and the token that lets it in.
#![warn(clippy::indexing_slicing)]

use thiserror::Error;

/// Where an encoder wants to publish.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) room: String,
    pub(crate) token: Option<String>,
}

/// Why an address and key lead nowhere.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The first part of the path names the application.
    #[error("the application is \"live\": rtmp://host:1935/live with the key room?token=...")]
    Application,
    /// Neither address nor key names one.
    #[error("no room is named: the key is room?token=...")]
    NoRoom,
    /// More parts than a room and a token.
    #[error("the address and key have too many parts: the key is room?token=...")]
    TooManyParts,
    /// Longer than what we would ever give out, or no UTF-8.
    #[error("the room or the token is malformed")]
    Malformed,
}

impl Key {
    /// Reads the application of `connect` and the name of `publish`.
    ///
    /// All of these say the same: `live` and `room?token=T`; `live/room` and `?token=T`; `live/room` and
    /// `T`; `live/room?token=T` and nothing; `live?token=T` and `room`.
    ///
    /// # Errors
    /// There is no room in it, or something else.
    pub(crate) fn read(application: &str, name: &str) -> Result<Self, KeyError> {
        let (application, application_query) = split_query(application);
        let (name, name_query) = split_query(name);
        let mut parts = application
            .split('/')
            .chain(name.split('/'))
            .filter(|part| !part.is_empty());
        if parts.next() != Some(APPLICATION) {
            return Err(KeyError::Application);
        }
        let room = decoded(parts.next().ok_or(KeyError::NoRoom)?, ROOM_MAX)?;
        let bare = parts.next();
        if parts.next().is_some() {
            return Err(KeyError::TooManyParts);
        }
        let token = token(name_query)
            .or_else(|| token(application_query))
            .or(bare);
        let token = token.map(|token| decoded(token, TOKEN_MAX)).transpose()?;
        Ok(Self { room, token })
    }

    /// Whether an application can be one of ours, before a name is known.
    pub(crate) fn is_application(application: &str) -> bool {
        let (path, _) = split_query(application);
        path.split('/').find(|part| !part.is_empty()) == Some(APPLICATION)
    }
}

/// The token in the query of an address; `None` if there is none, or it is malformed.
pub(crate) fn query_token(query: &str) -> Option<String> {
    decoded(token(query)?, TOKEN_MAX).ok()
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

fn token(query: &str) -> Option<&str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, _)| *name == "token")
        .map(|(_, value)| value)
}

/// Percent-decoded, as addresses are.
fn decoded(text: &str, length_max: usize) -> Result<String, KeyError> {
    if text.is_empty() || text.len() > length_max {
        return Err(KeyError::Malformed);
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let value = high
            .zip(low)
            .and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        decoded.push(value.ok_or(KeyError::Malformed)?);
    }
    String::from_utf8(decoded).map_err(|_| KeyError::Malformed)
}

const APPLICATION: &str = "live";
const ROOM_MAX: usize = 256;
const TOKEN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(application: &str, name: &str) -> Result<(String, Option<String>), KeyError> {
        Key::read(application, name).map(|key| (key.room, key.token))
    }

    #[test]
    fn all_forms_say_the_same() {
        let expected = Ok(("blue".to_owned(), Some("a.b-c_d".to_owned())));
        for (application, name) in [
            ("live", "blue?token=a.b-c_d"),
            ("live/", "blue?x=1&token=a.b-c_d&y"),
            ("live/blue", "?token=a.b-c_d"),
            ("live/blue", "a.b-c_d"),
            ("live/blue?token=a.b-c_d", ""),
            ("live?token=a.b-c_d", "blue"),
            ("live", "blue/a.b-c_d"),
        ] {
            assert_eq!(read(application, name), expected, "{application} {name}");
        }
    }

    #[test]
    fn a_key_needs_no_token_to_be_one() {
        assert_eq!(read("live", "blue"), Ok(("blue".to_owned(), None)));
        assert_eq!(
            read("live", "blue%20%c3%a4"),
            Ok(("blue ä".to_owned(), None))
        );
    }

    #[test]
    fn what_leads_nowhere_is_said() {
        assert_eq!(read("vod", "blue"), Err(KeyError::Application));
        assert_eq!(read("", ""), Err(KeyError::Application));
        assert_eq!(read("live", ""), Err(KeyError::NoRoom));
        assert_eq!(read("live/a/b", "c"), Err(KeyError::TooManyParts));
        assert_eq!(read("live", "a%2"), Err(KeyError::Malformed));
        assert_eq!(read("live", "a%ff"), Err(KeyError::Malformed));
        assert_eq!(read("live", "blue?token="), Err(KeyError::Malformed));
        assert_eq!(read("live", &"a".repeat(300)), Err(KeyError::Malformed));
    }
}
