//! How a message stands on a data channel: a `u16` length, that many bytes of JSON, the payload.

use anyhow::Result;
use serde_json::Value;

/// A data channel message: length of the header, the header as JSON, the payload.
pub fn framed(header: &Value, payload: &[u8]) -> Result<Vec<u8>> {
    let header = header.to_string();
    let mut bytes = u16::try_from(header.len())?.to_be_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Splits a data channel message into header and payload.
pub fn unframed(bytes: &[u8]) -> Option<(Value, Vec<u8>)> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    let (header, payload) = rest.split_at_checked(usize::from(length))?;
    Some((serde_json::from_slice(header).ok()?, payload.to_vec()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_read_as_written_and_no_part_of_it_is() {
        let header = json!({ "topic": "chat" });
        let bytes = framed(&header, b"hello").unwrap();
        assert_eq!(unframed(&bytes), Some((header, b"hello".to_vec())));
        for length in 0..bytes.len() - 5 {
            assert_eq!(unframed(&bytes[..length]), None, "{length}");
        }
    }
}
