//! What is measured: who is in the room and what they send.

use sfu::Codec;

use crate::browser::Options;

/// A room and its media.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Participants who publish.
    pub(crate) publishers: usize,
    /// Participants who only receive.
    pub(crate) viewers: usize,
    pub(crate) video: Video,
    pub(crate) has_audio: bool,
    /// The packets of this many rounds are the sums of one figure.
    pub(crate) seconds: usize,
}

/// The packets of the publishers' video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Video {
    None,
    /// Six packets a frame that are 1200 bytes long as RTP, the last one byte longer.
    Fixed,
    /// 30 frames/s at 1 Mbit/s as Chromium sent them (see `loadtest/src/media/captured.rs`).
    Captured,
}

impl Scenario {
    /// It is measured in its own time as well: media as it is sent, not packets as fast as they go.
    pub(crate) fn is_paced(&self) -> bool {
        self.video != Video::Fixed
    }

    pub(crate) fn all() -> Vec<Self> {
        let broadcast = |name, viewers, video| Self {
            name,
            publishers: 1,
            viewers,
            video,
            has_audio: video == Video::Captured,
            seconds: 3,
        };
        let meeting = |name, publishers, video, seconds| Self {
            name,
            publishers,
            viewers: 0,
            video,
            has_audio: true,
            seconds,
        };
        vec![
            broadcast("1200 bytes 1->1", 1, Video::Fixed),
            broadcast("1200 bytes 1->50", 50, Video::Fixed),
            broadcast("1200 bytes 1->200", 200, Video::Fixed),
            broadcast("broadcast 1->10", 10, Video::Captured),
            broadcast("broadcast 1->50", 50, Video::Captured),
            broadcast("broadcast 1->100", 100, Video::Captured),
            broadcast("broadcast 1->200", 200, Video::Captured),
            meeting("meeting 10x10", 10, Video::Captured, 1),
            meeting("audio 20", 20, Video::None, 2),
        ]
    }

    pub(crate) fn participants(&self) -> usize {
        self.publishers + self.viewers
    }

    /// How participant `number` takes part.
    pub(crate) fn options(&self, number: usize) -> Options {
        let has_video = self.video != Video::None;
        let mut options = Options::new("participant");
        if number < self.publishers {
            if has_video {
                options = options.camera(Codec::Vp8, &["only"]);
            }
            if self.has_audio {
                options = options.microphone();
            }
        }
        let heard = self.publishers - usize::from(number < self.publishers);
        let slots = |is_there: bool| if is_there { heard } else { 0 };
        options.slots(slots(self.has_audio), slots(has_video))
    }

    /// Payload sizes of the frames, to be repeated.
    pub(crate) fn sizes(&self) -> Vec<Vec<usize>> {
        match self.video {
            Video::None => Vec::new(),
            // With header and extensions of a slot 1176 bytes of payload make 1200 bytes of RTP.
            Video::Fixed => vec![vec![1176, 1176, 1176, 1176, 1176, 1177]],
            Video::Captured => {
                captured(include_str!("../../../loadtest/src/media/captured/vp8.txt"))
            }
        }
    }
}

/// Reads the frames of a capture: `1054*3+1055` is three packets and a larger one.
fn captured(text: &str) -> Vec<Vec<usize>> {
    let frame = |word: &str| -> Vec<usize> {
        word.split('+')
            .flat_map(|part| {
                let (size, count) = part.split_once('*').unwrap_or((part, "1"));
                std::iter::repeat_n(size.parse().unwrap(), count.parse().unwrap())
            })
            .collect()
    };
    // The first two words are the keyframe.
    text.split_whitespace().skip(2).map(frame).collect()
}
