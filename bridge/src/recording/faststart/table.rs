//! The index of one track.
#![warn(clippy::indexing_slicing)]

use std::mem;

use mp4_atom::{
    Co64, Codec, Edts, Elst, ElstEntry, Stbl, Stco, Stsc, StscEntry, Stsd, Stss, Stsz, StszSamples,
    Stts, SttsEntry, Tkhd, Traf, Trak,
};

/// All frames of a track.
#[derive(Debug)]
pub(super) struct Table {
    trak: Trak,
    /// The encoder's delay in ticks, which is not to be heard.
    priming: u32,
    entries: Vec<Codec>,
    times: Vec<SttsEntry>,
    sizes: Vec<u32>,
    /// Numbers of the frames to begin at, from 1.
    keys: Vec<u32>,
    /// Frames and sample entry of each chunk.
    chunks: Vec<(u32, u32)>,
    first: Option<u64>,
    /// When the last frame is decoded, and how long it lasts if nothing follows.
    last: Option<(u64, u32)>,
}

impl Table {
    /// For tracks like this one.
    pub(super) fn new(trak: &Trak, priming: u32) -> Self {
        let is_sound = trak.mdia.minf.smhd.is_some();
        Self {
            trak: trak.clone(),
            priming: if is_sound { priming } else { 0 },
            entries: Vec::new(),
            times: Vec::new(),
            sizes: Vec::new(),
            keys: Vec::new(),
            chunks: Vec::new(),
            first: None,
            last: None,
        }
    }

    /// Whether a track is of the same kind.
    pub(super) fn is_for(&self, trak: &Trak) -> bool {
        self.trak.mdia.hdlr.handler == trak.mdia.hdlr.handler
    }

    /// Whether a track is of another kind, or can go on in this one.
    pub(super) fn fits(&self, trak: &Trak) -> bool {
        let (ours, theirs) = (self.entries.first(), codec(trak));
        let is_same = ours.zip(theirs).is_some_and(|(ours, theirs)| {
            mem::discriminant(ours) == mem::discriminant(theirs)
                && self.timescale() == trak.mdia.mdhd.timescale.max(1)
        });
        !self.is_for(trak) || is_same && self.entries.len() < ENTRIES_MAX
    }

    /// The number of a track's sample entry, from 1.
    pub(super) fn entry(&mut self, trak: &Trak) -> Option<u32> {
        let codec = codec(trak)?;
        let known = self.entries.iter().position(|entry| entry == codec);
        let index = known.unwrap_or_else(|| {
            self.entries.push(codec.clone());
            self.entries.len() - 1
        });
        let (width, height) = (trak.tkhd.width, trak.tkhd.height);
        if width.integer() > self.trak.tkhd.width.integer() {
            self.trak.tkhd.width = width;
            self.trak.tkhd.height = height;
        }
        u32::try_from(index + 1).ok()
    }

    /// Adds a fragment's frames as one chunk. `false`: there are none.
    pub(super) fn add(&mut self, traf: &Traf, entry: u32) -> bool {
        let begin = traf.tfdt.as_ref().map(|tfdt| tfdt.base_media_decode_time);
        let (Some(mut at), Some(run)) = (begin, traf.trun.first()) else {
            return false;
        };
        let mut count = 0;
        for sample in &run.samples {
            let duration = sample.duration.unwrap_or(0).max(1);
            self.place(at, duration);
            self.sizes.push(sample.size.unwrap_or(0));
            if sample.flags.unwrap_or(0) & NOT_KEY == 0 {
                self.keys
                    .push(u32::try_from(self.sizes.len()).unwrap_or(u32::MAX));
            }
            at = at.saturating_add(duration.into());
            count += 1;
        }
        if count > 0 {
            self.chunks.push((count, entry));
        }
        count > 0
    }

    /// Ends the last frame.
    pub(super) fn finish(&mut self) {
        if let Some((_, duration)) = self.last {
            push(&mut self.times, duration);
        }
    }

    /// When it begins to be heard or seen, on the recording's timeline in ticks of the movie.
    pub(super) fn heard_at(&self) -> u64 {
        self.to_movie(self.first.unwrap_or(0).saturating_add(self.priming.into()))
    }

    /// The box, in a movie that begins at `zero`, with chunks at these offsets.
    pub(super) fn trak(&self, id: u32, zero: u64, offsets: Vec<u64>, is_large: bool) -> Trak {
        let ticks = self.ticks();
        let heard = self.to_movie(ticks.saturating_sub(self.priming.into()));
        let delay = self.heard_at().saturating_sub(zero);
        let mut trak = self.trak.clone();
        trak.tkhd = Tkhd {
            track_id: id,
            duration: delay + heard,
            ..trak.tkhd
        };
        trak.mdia.mdhd.duration = ticks;
        trak.edts = self.edits(delay, heard);
        let (stco, co64) = if is_large {
            (None, Some(Co64 { entries: offsets }))
        } else {
            let offsets = offsets.into_iter();
            let entries = offsets.map(|at| u32::try_from(at).unwrap_or(u32::MAX));
            let entries = entries.collect();
            (Some(Stco { entries }), None)
        };
        trak.mdia.minf.stbl = Stbl {
            stsd: Stsd {
                codecs: self.entries.clone(),
            },
            stts: Stts {
                entries: self.times.clone(),
            },
            stss: (self.keys.len() < self.sizes.len()).then(|| Stss {
                entries: self.keys.clone(),
            }),
            stsc: Stsc {
                entries: self.runs(),
            },
            stsz: Stsz {
                samples: StszSamples::Different {
                    sizes: self.sizes.clone(),
                },
            },
            stco,
            co64,
            ..Stbl::default()
        };
        trak
    }

    /// Says when the track begins, and that its first samples are not to be heard.
    fn edits(&self, delay: u64, heard: u64) -> Option<Edts> {
        if delay == 0 && self.priming == 0 {
            return None;
        }
        let mut entries = Vec::new();
        if delay > 0 {
            entries.push(ElstEntry {
                segment_duration: delay,
                media_time: None,
                media_rate: 1.into(),
            });
        }
        entries.push(ElstEntry {
            segment_duration: heard,
            media_time: Some(self.priming.into()),
            media_rate: 1.into(),
        });
        Some(Edts {
            elst: Some(Elst { entries }),
        })
    }

    /// Runs of chunks alike.
    fn runs(&self) -> Vec<StscEntry> {
        let mut runs: Vec<StscEntry> = Vec::new();
        for (first_chunk, (samples_per_chunk, entry)) in (1..).zip(&self.chunks) {
            let is_same = runs.last().is_some_and(|run| {
                run.samples_per_chunk == *samples_per_chunk
                    && run.sample_description_index == *entry
            });
            if !is_same {
                runs.push(StscEntry {
                    first_chunk,
                    samples_per_chunk: *samples_per_chunk,
                    sample_description_index: *entry,
                });
            }
        }
        runs
    }

    /// The frame before lasts until this one.
    fn place(&mut self, at: u64, duration: u32) {
        let at = match self.last {
            Some((last, _)) => {
                let at = at.max(last + 1);
                push(
                    &mut self.times,
                    u32::try_from(at - last).unwrap_or(u32::MAX),
                );
                at
            }
            None => at.min(u64::MAX / 2),
        };
        self.first.get_or_insert(at);
        self.last = Some((at, duration));
    }

    fn ticks(&self) -> u64 {
        let ticks =
            |entry: &SttsEntry| u64::from(entry.sample_count) * u64::from(entry.sample_delta);
        self.times.iter().map(ticks).sum()
    }

    fn timescale(&self) -> u32 {
        self.trak.mdia.mdhd.timescale.max(1)
    }

    fn to_movie(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks) * u128::from(MOVIE_TIMESCALE);
        u64::try_from(ticks / u128::from(self.timescale())).unwrap_or(u64::MAX)
    }
}

fn codec(trak: &Trak) -> Option<&Codec> {
    trak.mdia.minf.stbl.stsd.codecs.first()
}

/// Run-length coding.
fn push(times: &mut Vec<SttsEntry>, duration: u32) {
    match times.last_mut() {
        Some(last) if last.sample_delta == duration => last.sample_count += 1,
        _ => times.push(SttsEntry {
            sample_count: 1,
            sample_delta: duration,
        }),
    }
}

/// Ticks of a second in the movie: samples of sound are exact.
pub(super) const MOVIE_TIMESCALE: u32 = 48_000;
/// Sample flags (ISO/IEC 14496-12 §8.8.3.1): no place to begin.
const NOT_KEY: u32 = 0x0001_0000;
/// Decoder configurations in one file; a speaker who comes back has the one from before.
const ENTRIES_MAX: usize = 255;
