//! Random keys and names, from the system.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 256 random bits as text.
pub(crate) fn random_key() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// Eight random letters and digits, easy to read out: 40 bits, enough for a room of thousands.
pub(super) fn random_suffix() -> String {
    const LETTERS: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'm', 'n', 'p', 'q', 'r', 's', 't',
        'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    random::<8>()
        .iter()
        .map(|byte| LETTERS[usize::from(byte % 32)])
        .collect()
}

pub(super) fn random_below(limit: u64) -> u64 {
    u64::from_le_bytes(random::<8>()) % limit.max(1)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random numbers are available");
    bytes
}
