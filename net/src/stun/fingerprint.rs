//! The CRC-32 of FINGERPRINT (RFC 8489 §14.7: ITU-T V.42, reflected polynomial 0xEDB88320).

/// The checksum of `bytes`, not yet XORed with the attribute's constant.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| {
        let place = usize::from((crc & 0xff) as u8 ^ byte);
        TABLE.get(place).copied().unwrap_or(0) ^ crc >> 8
    };
    !bytes.iter().fold(u32::MAX, step)
}

const TABLE: [u32; 256] = table();

#[expect(
    clippy::indexing_slicing,
    reason = "runs at compile time, where a panic is an error"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut place = 0;
    let mut value = 0u32;
    while place < 256 {
        let mut crc = value;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[place] = crc;
        place += 1;
        value += 1;
    }
    table
}
