//! What a card shows.

use super::font::{self, GLYPH_HEIGHT, GLYPH_WIDTH};

/// A picture of luma samples in whole macroblocks; its colour is the same everywhere.
#[derive(Debug)]
pub(super) struct Drawing {
    columns: usize,
    rows: usize,
    luma: Vec<u8>,
}

/// How a macroblock can be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Macroblock {
    /// Each row is the last row of the one above.
    LikeAbove,
    /// Each column is the last column of the one to the left.
    LikeLeft,
    Raw,
}

/// Where a macroblock is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    column: usize,
    row: usize,
}

impl Drawing {
    pub(super) fn of_card(width: u16, height: u16, text: &str) -> Self {
        let (width, height) = (usize::from(width), usize::from(height));
        let (columns, rows) = (width.div_ceil(16), height.div_ceil(16));
        let mut drawing = Self {
            columns,
            rows,
            luma: vec![BACKGROUND; columns * rows * 256],
        };
        let dot = fitting_dot(width, NAME.len());
        // On the grid of macroblocks, or of its halves, most of the name costs next to nothing.
        let left = (width - NAME.len() * GLYPH_WIDTH * dot) / 2 / dot * dot;
        let top = (height - GLYPH_HEIGHT * dot) / 2 / dot * dot;
        drawing.put_text(NAME, (left, top), dot, NAME_TONE);
        let small = (dot / 4).max(1);
        let length = text.chars().count().min(width / (GLYPH_WIDTH * small));
        let text: String = text.chars().take(length).collect();
        let left = (width - length * GLYPH_WIDTH * small) / 2;
        let top = top + (GLYPH_HEIGHT + 2) * dot;
        if top + GLYPH_HEIGHT * small <= height {
            drawing.put_text(&text, (left, top), small, TEXT_TONE);
        }
        drawing
    }

    pub(super) fn macroblocks(&self) -> u32 {
        u32::try_from(self.columns * self.rows).unwrap_or(u32::MAX)
    }

    /// All places in the order of coding.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let columns = self.columns;
        (0..columns * self.rows).map(move |index| Place {
            column: index % columns,
            row: index / columns,
        })
    }

    pub(super) fn index_left(&self, place: Place) -> Option<usize> {
        Some(place.row * self.columns + place.column.checked_sub(1)?)
    }

    pub(super) fn index_above(&self, place: Place) -> Option<usize> {
        Some(place.row.checked_sub(1)? * self.columns + place.column)
    }

    /// How the macroblock at this place can be coded without loss.
    pub(super) fn macroblock(&self, place: Place) -> Macroblock {
        let (x, y) = (place.column * 16, place.row * 16);
        let is_like = |from: fn(usize, usize) -> (usize, usize)| {
            (0..256).all(|index| {
                let (dx, dy) = (index % 16, index / 16);
                let (from_x, from_y) = from(x + dx, y + dy);
                self.sample(x + dx, y + dy) == self.sample(from_x, from_y)
            })
        };
        if place.row > 0 && is_like(|x, y| (x, y / 16 * 16 - 1)) {
            Macroblock::LikeAbove
        } else if place.column > 0 && is_like(|x, y| (x / 16 * 16 - 1, y)) {
            Macroblock::LikeLeft
        } else {
            Macroblock::Raw
        }
    }

    /// The samples of a macroblock, row by row.
    pub(super) fn samples(&self, place: Place) -> [u8; 256] {
        let (x, y) = (place.column * 16, place.row * 16);
        std::array::from_fn(|index| self.sample(x + index % 16, y + index / 16))
    }

    pub(super) fn sample(&self, x: usize, y: usize) -> u8 {
        let sample = self.luma.get(y * self.columns * 16 + x);
        sample.copied().unwrap_or(BACKGROUND)
    }

    fn put_text(&mut self, text: &str, (left, top): (usize, usize), dot: usize, tone: u8) {
        for (place, letter) in text.chars().enumerate() {
            for (x, y) in font::dots(letter) {
                let x = left + (place * GLYPH_WIDTH + x) * dot;
                self.put_square((x, top + y * dot), dot, tone);
            }
        }
    }

    fn put_square(&mut self, (left, top): (usize, usize), side: usize, tone: u8) {
        let stride = self.columns * 16;
        for y in top..top + side {
            let row = self
                .luma
                .get_mut(y * stride + left..y * stride + left + side);
            if let Some(row) = row {
                row.fill(tone);
            }
        }
    }
}

/// The side of a dot with which a text takes at most seven tenths of the width.
fn fitting_dot(width: usize, letters: usize) -> usize {
    let mut dots = [32, 16, 8, 4, 2].into_iter();
    dots.find(|dot| letters * GLYPH_WIDTH * dot <= width * 7 / 10)
        .unwrap_or(1)
}

const NAME: &str = "PLENUM";
/// Dark, and with `CHROMA` a little blue.
pub(super) const BACKGROUND: u8 = 30;
pub(super) const NAME_TONE: u8 = 190;
const TEXT_TONE: u8 = 130;
/// Cb and Cr, the same everywhere.
pub(super) const CHROMA: [u8; 2] = [134, 124];
