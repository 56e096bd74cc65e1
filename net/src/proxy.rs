//! The PROXY protocol, version 2: what a proxy in front of us says about the connection it passes on
//! (HAProxy's "The PROXY protocol", section 2.2). Pure: bytes in, a verdict out.
#![warn(clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, and the length of what follows.
const HEAD_BYTES: usize = 16;
/// A header of somebody who connects for himself (command LOCAL).
pub const LOCAL: [u8; HEAD_BYTES] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// The longest header taken, in bytes: what is sure to come in one segment (section 2, the smallest
/// MSS there is). Addresses take 52 bytes at most; the rest are TLVs, which we do not read.
const HEADER_BYTES_MAX: usize = 536;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header. Reading `missing` more bytes reads nothing behind the header.
    Incomplete {
        /// Bytes that must come at least, never 0.
        missing: usize,
    },
    /// A whole header.
    Header {
        /// Its bytes; what the client sent begins behind them.
        length: usize,
        /// The client, where the proxy speaks for one by TCP: else use the socket's own address, as
        /// for the proxy's own health checks (command LOCAL).
        source: Option<SocketAddr>,
        /// The address that the client connected to, under the same condition.
        destination: Option<SocketAddr>,
    },
    /// No header that we take.
    Invalid,
}

/// Looks at the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    if !bytes.iter().zip(&SIGNATURE).all(|(byte, of)| byte == of) {
        return Parsed::Invalid;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        let missing = HEAD_BYTES - bytes.len();
        return Parsed::Incomplete { missing };
    };
    let [.., command, family, length_high, length_low] = *head;
    let block_length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let length = HEAD_BYTES + block_length;
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Parsed::Invalid,
    };
    // AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX; unspecified, stream, datagram.
    let is_known = family >> 4 <= 3 && family & 0x0f <= 2;
    if length > HEADER_BYTES_MAX || !(is_local || is_known) {
        return Parsed::Invalid;
    }
    let Some(block) = rest.get(..block_length) else {
        let missing = block_length - rest.len();
        return Parsed::Incomplete { missing };
    };
    let ends = match family {
        // A receiver must take LOCAL whatever its family says, and may take what it has no use for
        // (datagrams, UNIX sockets) as if the family were unspecified.
        _ if is_local => Some(None),
        0x11 => ends::<4, 12>(block).map(Some),
        0x21 => ends::<16, 36>(block).map(Some),
        _ => Some(None),
    };
    match ends {
        Some(ends) => Parsed::Header {
            length,
            source: ends.map(|(source, _)| source),
            destination: ends.map(|(_, destination)| destination),
        },
        None => Parsed::Invalid,
    }
}

/// Source and destination at the beginning of a block: addresses of `A` bytes, then ports, `B` bytes
/// in all. `None` when the block is too short for them.
fn ends<const A: usize, const B: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; A]>,
{
    let block: &[u8; B] = block.first_chunk()?;
    let (source, rest) = block.split_first_chunk::<A>()?;
    let (destination, ports) = rest.split_first_chunk::<A>()?;
    let &[source_high, source_low, destination_high, destination_low] = ports.first_chunk()?;
    let source_port = u16::from_be_bytes([source_high, source_low]);
    let destination_port = u16::from_be_bytes([destination_high, destination_low]);
    Some((
        SocketAddr::new(IpAddr::from(*source), source_port),
        SocketAddr::new(IpAddr::from(*destination), destination_port),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header as section 2.2 draws it.
    fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    fn ipv4_block() -> Vec<u8> {
        vec![192, 0, 2, 7, 198, 51, 100, 10, 0xd4, 0x31, 0x01, 0xbb]
    }

    fn ipv6_block() -> Vec<u8> {
        let mut block = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        block.extend_from_within(..);
        block[31] = 8;
        block.extend([0xd4, 0x31, 0x01, 0xbb]);
        block
    }

    /// A header without addresses.
    fn nameless(length: usize) -> Parsed {
        Parsed::Header {
            length,
            source: None,
            destination: None,
        }
    }

    #[test]
    fn both_ends_are_read_for_ipv4_and_ipv6() {
        assert_eq!(
            parse(&header(0x21, 0x11, &ipv4_block())),
            Parsed::Header {
                length: 28,
                source: Some("192.0.2.7:54321".parse().unwrap()),
                destination: Some("198.51.100.10:443".parse().unwrap()),
            }
        );
        assert_eq!(
            parse(&header(0x21, 0x21, &ipv6_block())),
            Parsed::Header {
                length: 52,
                source: Some("[2001:db8::7]:54321".parse().unwrap()),
                destination: Some("[2001:db8::8]:443".parse().unwrap()),
            }
        );
    }

    #[test]
    fn what_follows_the_addresses_and_the_header_is_left_alone() {
        let tlvs = [4, 0, 3, 0xff, 0xff, 0xff];
        let block = [&ipv4_block()[..], &tlvs].concat();
        let mut bytes = header(0x21, 0x11, &block);
        let whole = parse(&bytes);
        assert!(matches!(whole, Parsed::Header { length: 34, .. }));
        bytes.extend(b"GET / HTTP/1.1\r\n");
        assert_eq!(parse(&bytes), whole);
    }

    #[test]
    fn a_proxy_that_speaks_for_nobody_names_no_addresses() {
        // Its own health check, whatever family it says; an unknown one; datagrams; UNIX sockets.
        assert_eq!(parse(&header(0x20, 0x00, &[])), nameless(16));
        assert_eq!(parse(&LOCAL), nameless(16));
        assert_eq!(parse(&header(0x20, 0x11, &ipv4_block())), nameless(28));
        assert_eq!(parse(&header(0x20, 0xff, &[1, 2])), nameless(18));
        assert_eq!(parse(&header(0x21, 0x00, &[9; 7])), nameless(23));
        assert_eq!(parse(&header(0x21, 0x12, &ipv4_block())), nameless(28));
        assert_eq!(parse(&header(0x21, 0x31, &[0; 216])), nameless(232));
    }

    #[test]
    fn what_is_no_header_is_refused_at_the_first_byte_that_says_so() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.7 198.51.100.10 5 443\r\n",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\r\nG",
            &[0x16, 3, 1],
            &header(0x11, 0x11, &ipv4_block()), // version 1
            &header(0x22, 0x11, &ipv4_block()), // no such command
            &header(0x21, 0x41, &ipv4_block()), // no such family
            &header(0x21, 0x13, &ipv4_block()), // no such protocol
            &header(0x21, 0x11, &ipv4_block()[..11]),
            &header(0x21, 0x21, &ipv6_block()[..35]),
            &header(0x21, 0x11, &[]),
            &header(0x21, 0x11, &[0; 521]),
            &header(0x20, 0x00, &[0; 521])[..16], // known to be too long before it has come
        ] {
            assert_eq!(parse(bytes), Parsed::Invalid, "{bytes:02x?}");
        }
        assert_eq!(parse(&header(0x20, 0x00, &[0; 520])), nameless(536));
    }

    proptest! {
        #[test]
        fn a_truncated_header_never_asks_for_more_than_the_rest_of_it(
            is_ipv6: bool,
            tlvs in proptest::collection::vec(any::<u8>(), 0..400),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (family, mut block) = if is_ipv6 { (0x21, ipv6_block()) } else { (0x11, ipv4_block()) };
            block.extend(tlvs);
            let whole = header(0x21, family, &block);
            // Read as asked for: the header comes whole and nothing behind it is touched.
            let mut have = 0;
            while let Parsed::Incomplete { missing } = parse(&whole[..have]) {
                prop_assert!(missing > 0 && have + missing <= whole.len());
                have += missing;
            }
            prop_assert_eq!(have, whole.len());
            let parsed = parse(&whole);
            let Parsed::Header { length, source: Some(_), .. } = parsed else {
                panic!("{parsed:?}");
            };
            prop_assert_eq!(length, whole.len());
            for end in 0..whole.len() {
                let Parsed::Incomplete { missing } = parse(&whole[..end]) else {
                    panic!("{end}");
                };
                prop_assert!(missing > 0 && end + missing <= whole.len());
            }
            prop_assert_eq!(parse(&[whole, behind].concat()), parsed);
        }

        #[test]
        fn whatever_follows_the_signature_gets_a_verdict(
            rest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let bytes = [&SIGNATURE[..], &rest].concat();
            match parse(&bytes) {
                Parsed::Header { length, .. } => {
                    prop_assert!((HEAD_BYTES..=HEADER_BYTES_MAX).contains(&length));
                    prop_assert!(length <= bytes.len());
                }
                Parsed::Incomplete { missing } => prop_assert!(missing > 0),
                Parsed::Invalid => {}
            }
        }
    }
}
