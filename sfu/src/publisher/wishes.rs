//! How a track is to be encoded, as far as an answer can say.

use crate::peer::negotiation::{Format, NegotiatedCodec};
use crate::sfu::{Codec, Publish};

/// How a track is to be encoded, as far as an answer can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// What the room asked for on behalf of those who cannot decode the publisher's choice.
    pub(crate) asked: Option<Codec>,
    /// The publisher's choice.
    codec: Option<Codec>,
    stereo: bool,
    dtx: bool,
}

impl Wishes {
    pub(crate) fn of(publish: &Publish) -> Self {
        Self {
            asked: None,
            codec: publish.codec,
            stereo: publish.stereo,
            dtx: publish.dtx,
        }
    }

    /// The codecs to prefer: what was asked for, the room's order, the publisher's choice.
    pub(crate) fn preference(&self, room: &[Codec]) -> Vec<Codec> {
        let rooms = room.iter().copied();
        self.asked
            .into_iter()
            .chain(rooms)
            .chain(self.codec)
            .collect()
    }

    /// Puts into the answer how sound is to be sent.
    pub(crate) fn shape(&self, codecs: &mut [NegotiatedCodec]) {
        for codec in codecs {
            if let Format::Opus { stereo, dtx, .. } = &mut codec.format {
                *stereo |= self.stereo;
                *dtx |= self.dtx;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Mid, PayloadType};
    use crate::peer::negotiation::Feedback;
    use crate::sfu::Source;

    fn wishes(codec: Option<Codec>, stereo: bool, dtx: bool) -> Wishes {
        Wishes::of(&Publish {
            mid: Mid::parse(b"0").unwrap(),
            source: Source::Microphone,
            name: String::new(),
            muted: false,
            width: 0,
            height: 0,
            codec,
            stereo,
            dtx,
        })
    }

    #[test]
    fn what_was_asked_for_comes_before_the_rooms_order_and_that_before_ones_own_choice() {
        let mut wishes = wishes(Some(Codec::Av1), false, false);
        assert_eq!(wishes.preference(&[]), [Codec::Av1]);
        assert_eq!(wishes.preference(&[Codec::H264]), [Codec::H264, Codec::Av1]);
        wishes.asked = Some(Codec::Vp8);
        let all = [Codec::Vp8, Codec::H264, Codec::Av1];
        assert_eq!(wishes.preference(&[Codec::H264]), all);
        assert_eq!(Wishes::default().preference(&[]), []);
    }

    #[test]
    fn sound_is_sent_as_wished_or_as_the_sdp_says() {
        let opus = |stereo, dtx| NegotiatedCodec {
            payload_type: PayloadType(111),
            format: Format::Opus {
                stereo,
                sprop_stereo: false,
                dtx,
            },
            rtx: None,
            feedback: Feedback::default(),
        };
        let mut codecs = [opus(false, false), opus(true, true)];
        wishes(None, false, false).shape(&mut codecs);
        assert_eq!(codecs, [opus(false, false), opus(true, true)]);
        wishes(None, true, false).shape(&mut codecs);
        assert_eq!(codecs, [opus(true, false), opus(true, true)]);
        wishes(None, false, true).shape(&mut codecs);
        assert_eq!(codecs, [opus(true, true), opus(true, true)]);
    }
}
