//! Bounds-checked reading and writing of big-endian fields, shared by all wire formats.

/// The `N` bytes at `at`; `None` past the end.
#[inline]
pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The big-endian 16-bit number at `at`.
#[inline]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

/// The big-endian 32-bit number at `at`.
#[inline]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_be_bytes)
}

/// The big-endian 64-bit number at `at`.
#[inline]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_be_bytes)
}

/// Fills a caller's buffer front to back; every step is `None` once the buffer is full.
#[derive(Debug)]
pub struct Writer<'b> {
    bytes: &'b mut [u8],
    length: usize,
}

impl<'b> Writer<'b> {
    /// Starts at the front of `bytes`.
    #[inline]
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    /// Appends `data`.
    #[inline]
    pub fn put(&mut self, data: &[u8]) -> Option<()> {
        let end = self.length.checked_add(data.len())?;
        self.bytes.get_mut(self.length..end)?.copy_from_slice(data);
        self.length = end;
        Some(())
    }

    /// Appends one byte.
    #[inline]
    pub fn put_u8(&mut self, value: u8) -> Option<()> {
        self.put(&[value])
    }

    /// Appends a big-endian 16-bit number.
    #[inline]
    pub fn put_u16(&mut self, value: u16) -> Option<()> {
        self.put(&value.to_be_bytes())
    }

    /// Appends a big-endian 32-bit number.
    #[inline]
    pub fn put_u32(&mut self, value: u32) -> Option<()> {
        self.put(&value.to_be_bytes())
    }

    /// Appends a big-endian 64-bit number.
    #[inline]
    pub fn put_u64(&mut self, value: u64) -> Option<()> {
        self.put(&value.to_be_bytes())
    }

    /// Appends zeros up to the next multiple of four bytes.
    #[inline]
    pub fn pad_to_word(&mut self) -> Option<()> {
        while !self.length.is_multiple_of(4) {
            self.put_u8(0)?;
        }
        Some(())
    }

    /// Overwrites the two bytes at `at`, which were written before.
    #[inline]
    pub fn patch_u16(&mut self, at: usize, value: u16) -> Option<()> {
        let place = self
            .bytes
            .get_mut(..self.length)?
            .get_mut(at..)?
            .first_chunk_mut::<2>()?;
        *place = value.to_be_bytes();
        Some(())
    }

    /// How many bytes were written.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was written yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What was written so far.
    #[inline]
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
