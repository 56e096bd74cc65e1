//! A still picture for when nobody is there, as H.264 that needs no encoder.
//!
//! Macroblocks that look like their neighbour are predicted from it without any residual; where the
//! drawing changes they hold raw samples (I_PCM). What follows a keyframe repeats it: every
//! macroblock is skipped.

mod bit_writer;
mod drawing;
mod font;
mod syntax;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use self::drawing::Drawing;
use crate::frames::{ParameterSetError, video_config};
use crate::media::VideoConfig;

/// An endless video of one picture.
#[derive(Clone, Debug)]
pub struct Card {
    config: Arc<VideoConfig>,
    keyframe_every: u64,
    macroblocks: u32,
    /// Two keyframes that follow each other must have different ids (H.264 §7.4.3).
    keyframes: [Bytes; 2],
}

/// Why there is no such card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CardError {
    /// Sides are even numbers from 64 up to 1920 x 1080.
    #[error("a card of {0} x {1} cannot be drawn")]
    Size(u16, u16),
    /// Something between keyframes is needed.
    #[error("a keyframe every 0 frames")]
    KeyframeEvery,
    /// What was written cannot be read back.
    #[error(transparent)]
    ParameterSet(#[from] ParameterSetError),
}

impl Card {
    /// Draws a card with our name and a line of text: of what is longer than the picture is wide
    /// the beginning, of what the font has no letter for a gap.
    pub fn new(
        (width, height): (u16, u16),
        text: &str,
        keyframe_every: u64,
    ) -> Result<Self, CardError> {
        let is_carried =
            |side: u16, most: u16| (64..=most).contains(&side) && side.is_multiple_of(2);
        if !is_carried(width, 1920) || !is_carried(height, 1080) {
            return Err(CardError::Size(width, height));
        }
        if keyframe_every == 0 {
            return Err(CardError::KeyframeEvery);
        }
        let drawing = Drawing::of_card(width, height, text);
        let sequence_set = syntax::sequence_set(width, height);
        let config = video_config(&sequence_set, &[&syntax::picture_set()])?;
        Ok(Self {
            config: Arc::new(config),
            keyframe_every,
            macroblocks: drawing.macroblocks(),
            keyframes: [0, 1].map(|id| framed(syntax::keyframe(&drawing, id))),
        })
    }

    /// What it is coded with.
    pub fn config(&self) -> Arc<VideoConfig> {
        Arc::clone(&self.config)
    }

    /// The frame with this number, and whether it is a keyframe, as in
    /// [`crate::media::VideoFrame`].
    ///
    /// Frames must be taken one after the other, beginning with a keyframe.
    pub fn frame(&self, index: u64) -> (bool, Bytes) {
        let since_keyframe = index % self.keyframe_every;
        if since_keyframe > 0 {
            return (
                false,
                framed(syntax::repetition(self.macroblocks, since_keyframe)),
            );
        }
        let [even, odd] = &self.keyframes;
        let is_even = (index / self.keyframe_every).is_multiple_of(2);
        (true, if is_even { even.clone() } else { odd.clone() })
    }
}

/// A NAL unit after its length.
fn framed(unit: Vec<u8>) -> Bytes {
    let length = u32::try_from(unit.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &unit].concat().into()
}
