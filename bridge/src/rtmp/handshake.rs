//! The handshake before the first chunk (Adobe's RTMP 1.0 §5.2), in its simple form.
//!
//! ```text
//! client: version (1) | time, zero, random (1536)              | the server's 1536 back
//! server:               version (1) | time, zero, random (1536) | the client's 1536 back
//! ```
//!
//! The echoes prove nothing and many programs send something else: they are not compared.
#![warn(clippy::indexing_slicing)]

use thiserror::Error;

/// What comes first is not RTMP.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this is not RTMP: version {0}")]
pub struct HandshakeError(u8);

/// One side of a handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    step: Step,
    is_client: bool,
    nonce: Vec<u8>,
    received: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Version,
    Nonce,
    Echo,
}

impl Handshake {
    /// Waits for a client. `seed` makes the bytes that are to be unlike those of other connections.
    pub(crate) fn server(seed: u64) -> Self {
        Self {
            step: Step::Version,
            is_client: false,
            nonce: nonce(seed),
            received: Vec::new(),
        }
    }

    /// Begins: what is to be sent is appended to `out`.
    pub(crate) fn client(seed: u64, out: &mut Vec<u8>) -> Self {
        let client = Self {
            is_client: true,
            ..Self::server(seed)
        };
        out.push(VERSION);
        out.extend_from_slice(&client.nonce);
        client
    }

    /// Takes from `bytes`, appends to `out`; whether the handshake is done.
    ///
    /// # Errors
    /// It is no handshake.
    pub(crate) fn read(
        &mut self,
        bytes: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, HandshakeError> {
        if self.step == Step::Version {
            let Some((&version, rest)) = bytes.split_first() else {
                return Ok(false);
            };
            *bytes = rest;
            // Later versions may be answered with ours (§5.2.2); 32 and up is text.
            if !(VERSION..32).contains(&version) {
                return Err(HandshakeError(version));
            }
            self.step = Step::Nonce;
        }
        let missing = LENGTH.saturating_sub(self.received.len());
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        *bytes = rest;
        self.received.extend_from_slice(taken);
        if self.received.len() < LENGTH {
            return Ok(false);
        }
        let received = std::mem::take(&mut self.received);
        if self.step == Step::Echo {
            return Ok(true);
        }
        if !self.is_client {
            out.push(VERSION);
            out.extend_from_slice(&self.nonce);
        }
        out.extend_from_slice(&received);
        self.step = Step::Echo;
        self.read(bytes, out)
    }
}

/// Time 0, zero for "no digest", and what merely has to differ between connections.
fn nonce(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let random = std::iter::from_fn(|| {
        // xorshift64 (Marsaglia 2003): nothing rests on it.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_be_bytes())
    });
    let zeros = std::iter::once([0; 8]);
    zeros.chain(random).flatten().take(LENGTH).collect()
}

const VERSION: u8 = 3;
const LENGTH: usize = 1536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_finish_byte_by_byte() {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut client = Handshake::client(1, &mut to_server);
        let mut server = Handshake::server(2);
        let (mut client_done, mut server_done) = (false, false);
        for _ in 0..10_000 {
            if !to_server.is_empty() && !server_done {
                let byte = [to_server.remove(0)];
                server_done = server.read(&mut byte.as_slice(), &mut to_client).unwrap();
            }
            if !to_client.is_empty() && !client_done {
                let byte = [to_client.remove(0)];
                client_done = client.read(&mut byte.as_slice(), &mut to_server).unwrap();
            }
        }
        assert!(client_done && server_done);
        assert!(to_client.is_empty() && to_server.is_empty());
    }

    #[test]
    fn what_follows_the_handshake_is_left() {
        let mut bytes = vec![3; 1 + 2 * LENGTH];
        bytes.extend_from_slice(b"chunk");
        let mut rest = bytes.as_slice();
        let mut out = Vec::new();
        assert_eq!(Handshake::server(1).read(&mut rest, &mut out), Ok(true));
        assert_eq!(rest, b"chunk");
        assert_eq!(out.len(), 1 + 2 * LENGTH);
    }

    #[test]
    fn http_is_not_rtmp() {
        let mut out = Vec::new();
        let refused = Handshake::server(1).read(&mut b"GET /".as_slice(), &mut out);
        assert_eq!(refused, Err(HandshakeError(b'G')));
        assert!(out.is_empty());
    }
}
