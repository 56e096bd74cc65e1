//! Playlists as text (RFC 8216bis §4).

use std::fmt::Write;

use super::Settings;
use super::name::Resource;
use super::publication::RenditionId;
use super::secrets::Secrets;
use super::window::{SEGMENTS_WITH_PARTS, Segment, Window};
use crate::fmp4::TrackSpec;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// How URIs are written: as they are, or signed for a session.
#[derive(Clone, Copy)]
pub(super) enum Uris<'s> {
    Plain,
    Signed(Signing<'s>),
}

/// A session's right to fetch.
#[derive(Clone, Copy)]
pub(super) struct Signing<'s> {
    pub(super) secrets: &'s Secrets,
    pub(super) session: &'s str,
    /// When the session ends, in Unix seconds.
    pub(super) expires_s: u64,
}

/// What a media playlist is written from.
pub(super) struct MediaPlaylist<'w> {
    pub(super) window: &'w Window,
    pub(super) settings: &'w Settings,
    /// All other renditions.
    pub(super) others: &'w [&'w Window],
    pub(super) uris: Uris<'w>,
    /// The Unix time of the broadcast's beginning, in microseconds.
    pub(super) zero_us: i64,
    pub(super) is_delta: bool,
}

impl Uris<'_> {
    /// Writes a resource's URI; a signed one ends with the session, or at `until_s` if that is given.
    fn write(self, to: &mut String, resource: Resource, until_s: Option<u64>) {
        match self {
            Self::Plain => _ = write!(to, "{resource}"),
            Self::Signed(signing) => {
                let name = resource.to_string();
                let expires_s = until_s.unwrap_or(signing.expires_s);
                let query = signing.query(&name, expires_s);
                _ = write!(to, "{name}?{query}");
            }
        }
    }
}

impl Signing<'_> {
    /// `s` is the session, `e` when it ends, `h` the signature of both and the name.
    pub(super) fn query(&self, name: &str, expires_s: u64) -> String {
        let signature = self.secrets.signature(name, self.session, expires_s);
        format!("s={}&e={expires_s}&h={signature}", self.session)
    }
}

/// Where the tags stand that apply to all segments after them.
#[derive(Default)]
struct InEffect {
    map: Option<u32>,
    key: Option<u64>,
}

impl MediaPlaylist<'_> {
    /// Writes it.
    pub(super) fn render(&self) -> String {
        let mut text = String::with_capacity(4096);
        let has_parts = self.settings.is_low_latency;
        let listed = self.window.listed();
        // Without parts nothing can be said of a segment that is not whole.
        let listed = listed.filter(|segment| has_parts || segment.duration_us.is_some());
        let listed: Vec<&Segment> = listed.collect();
        self.write_head(&mut text, &listed);
        let skipped = if self.is_delta {
            self.skippable(&listed)
        } else {
            0
        };
        if skipped > 0 {
            _ = writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
        }
        let whole = listed
            .iter()
            .filter(|segment| segment.duration_us.is_some());
        let parts_from = match has_parts {
            true => whole.count().saturating_sub(SEGMENTS_WITH_PARTS),
            false => usize::MAX,
        };
        let mut in_effect = InEffect::default();
        for (index, segment) in listed.iter().enumerate().skip(skipped) {
            self.write_segment(&mut text, segment, &mut in_effect, index >= parts_from);
        }
        self.write_tail(&mut text, listed.last().copied());
        text
    }

    fn write_head(&self, text: &mut String, listed: &[&Segment]) {
        let first = listed.first().map(|segment| segment.opening);
        let (msn, discontinuities) = first.map_or((self.window.next_msn, 0), |first| {
            let shown = u64::from(first.is_discontinuity);
            (first.msn, first.discontinuities - shown)
        });
        let target_s = self.settings.target_duration_s;
        let part_control = match self.settings.is_low_latency {
            true => format!(
                ",PART-HOLD-BACK={}\n#EXT-X-PART-INF:PART-TARGET={}",
                Seconds(self.settings.part_hold_back_us()),
                Seconds(self.settings.part_us()),
            ),
            false => String::new(),
        };
        _ = write!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:{target_s}\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={}.0,HOLD-BACK={}.0{part_control}\n\
             #EXT-X-MEDIA-SEQUENCE:{msn}\n#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n{}",
            target_s * SKIP_TARGETS,
            target_s * HOLD_BACK_TARGETS,
            independence(std::slice::from_ref(&self.window)),
        );
    }

    /// How many segments at the front a player that knows them need not see again (§6.2.5.1).
    ///
    /// 0 while the initialisation segment changes in what would be left: nobody misses a change then.
    fn skippable(&self, listed: &[&Segment]) -> usize {
        let boundary_us = i64::from(self.settings.target_duration_s * SKIP_TARGETS) * 1_000_000;
        let mut left_us: i64 = listed.iter().map(|segment| segment.listed_us()).sum();
        let is_old = |segment: &&&Segment| {
            left_us -= segment.listed_us();
            left_us >= boundary_us
        };
        let skipped = listed.iter().take_while(is_old).count();
        let mut maps = listed[skipped..].iter().map(|segment| segment.opening.map);
        let first = maps.next();
        match maps.all(|map| Some(map) == first) {
            true => skipped,
            false => 0,
        }
    }

    fn write_segment(
        &self,
        text: &mut String,
        segment: &Segment,
        in_effect: &mut InEffect,
        has_parts: bool,
    ) {
        let opening = segment.opening;
        let rendition = self.window.id;
        if opening.is_discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if in_effect.map != Some(opening.map) || opening.is_discontinuity {
            // The initialisation segment is never encrypted: with no vector of its own it could not be.
            if in_effect.key.take().is_some() {
                text.push_str("#EXT-X-KEY:METHOD=NONE\n");
            }
            let map = Resource::Map {
                rendition,
                number: opening.map,
            };
            text.push_str("#EXT-X-MAP:URI=\"");
            self.uris.write(text, map, None);
            text.push_str("\"\n");
            in_effect.map = Some(opening.map);
        }
        let key = self.window.key_of(opening.msn);
        if let Some(number) = key.filter(|_| key != in_effect.key) {
            text.push_str("#EXT-X-KEY:METHOD=AES-128,URI=\"");
            self.uris.write(text, Resource::Key(number), None);
            text.push_str("\"\n");
            in_effect.key = key;
        }
        let start_us = self.zero_us.saturating_add(opening.start_us);
        _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", DateTime(start_us));
        let until_s = self.until_s(segment.signed_from_us);
        if has_parts {
            self.write_parts(text, segment, until_s);
        }
        let Some(duration_us) = segment.duration_us else {
            return;
        };
        if segment.is_gap() {
            text.push_str("#EXT-X-GAP\n");
        }
        _ = writeln!(text, "#EXTINF:{},", Seconds(duration_us));
        let msn = opening.msn;
        let segment = Resource::Segment { rendition, msn };
        self.uris.write(text, segment, Some(until_s));
        text.push('\n');
    }

    /// Until when, in Unix seconds, a signature may be used that lasts from a time of the broadcast on.
    fn until_s(&self, from_us: i64) -> u64 {
        let from_us = self.zero_us.saturating_add(from_us);
        let from_s = u64::try_from(from_us / 1_000_000).unwrap_or(0);
        from_s.saturating_add(self.settings.signature_s())
    }

    fn write_parts(&self, text: &mut String, segment: &Segment, until_s: u64) {
        let (rendition, msn) = (self.window.id, segment.opening.msn);
        for (index, part) in segment.parts.iter().enumerate() {
            let resource = Resource::Part {
                rendition,
                msn,
                index,
            };
            _ = write!(
                text,
                "#EXT-X-PART:DURATION={},URI=\"",
                Seconds(part.duration_us)
            );
            self.uris.write(text, resource, Some(until_s));
            text.push('"');
            if part.is_independent {
                text.push_str(",INDEPENDENT=YES");
            }
            if part.bytes.is_none() {
                text.push_str(",GAP=YES");
            }
            text.push('\n');
        }
    }

    fn write_tail(&self, text: &mut String, last: Option<&Segment>) {
        if self.window.is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
            return;
        }
        let open = last.filter(|segment| segment.duration_us.is_none());
        let (msn, index) = match open {
            Some(segment) => (segment.opening.msn, segment.parts.len()),
            None => (self.window.next_msn, 0),
        };
        let next = Resource::Part {
            rendition: self.window.id,
            msn,
            index,
        };
        let from_us = open.map(|segment| segment.signed_from_us);
        let from_us = from_us.or(self.window.next_signed_from_us);
        if let Some(from_us) = from_us.filter(|_| self.settings.is_low_latency) {
            text.push_str("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"");
            self.uris.write(text, next, Some(self.until_s(from_us)));
            text.push_str("\"\n");
        }
        for other in self.others {
            write_report(text, other, self.uris, self.settings.is_low_latency);
        }
    }
}

fn write_report(text: &mut String, window: &Window, uris: Uris<'_>, has_parts: bool) {
    let mut listed = window.listed().rev();
    let last = listed.find(|segment| has_parts || segment.duration_us.is_some());
    let Some(last) = last else {
        return;
    };
    text.push_str("#EXT-X-RENDITION-REPORT:URI=\"");
    uris.write(text, Resource::Playlist(window.id), None);
    _ = write!(text, "\",LAST-MSN={}", last.opening.msn);
    if has_parts {
        _ = write!(text, ",LAST-PART={}", last.parts.len().saturating_sub(1));
    }
    text.push('\n');
}

/// Whether players may begin anywhere: not where a source sends keyframes too seldom.
fn independence(windows: &[&Window]) -> &'static str {
    match windows.iter().any(|window| window.has_continuations()) {
        true => "",
        false => "#EXT-X-INDEPENDENT-SEGMENTS\n",
    }
}

/// Writes the multivariant playlist of renditions that are ready; URIs are below the broadcast's identifier.
///
/// `None`: there is nothing to watch yet.
pub(super) fn multivariant(
    windows: &[&Window],
    uri: &dyn Fn(Resource) -> String,
) -> Option<String> {
    // A player reads it once: what is about to begin is waited for, and no player is left without pictures.
    if windows.iter().any(|window| window.is_beginning()) {
        return None;
    }
    let ready = |window: &&&Window| window.has_media();
    let audio = windows
        .iter()
        .find(|window| window.id == RenditionId::Audio);
    let audio = audio.filter(ready).copied();
    let rungs = windows
        .iter()
        .filter(|window| window.id != RenditionId::Audio);
    let rungs: Vec<&Window> = rungs.filter(ready).copied().collect();
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:9\n{}", independence(windows));
    if let Some(audio) = audio.filter(|_| !rungs.is_empty()) {
        let channels = match audio.spec() {
            Some(TrackSpec::Audio(config)) => config.channels,
            _ => 2,
        };
        _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Program\",DEFAULT=YES,AUTOSELECT=YES,\
             CHANNELS=\"{channels}\",URI=\"{}\"",
            uri(Resource::Playlist(RenditionId::Audio))
        );
    }
    for rung in &rungs {
        write_variant(&mut text, rung, audio, uri)?;
    }
    if rungs.is_empty() {
        let has_none = windows.iter().all(|window| window.id == RenditionId::Audio);
        write_variant(&mut text, audio.filter(|_| has_none)?, None, uri)?;
    }
    Some(text)
}

fn write_variant(
    text: &mut String,
    window: &Window,
    audio: Option<&Window>,
    uri: &dyn Fn(Resource) -> String,
) -> Option<()> {
    let spec = window.spec()?;
    let sound = audio.map(|audio| audio.rates).unwrap_or_default();
    let peak_bps = window.peak_bps() + audio.map_or(0, Window::peak_bps);
    let average_bps = window.rates.average_bps() + sound.average_bps();
    let mut codecs = spec.codec_name();
    if let Some(spec) = audio.and_then(Window::spec) {
        codecs = format!("{codecs},{}", spec.codec_name());
    }
    _ = write!(
        text,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{codecs}\"",
        peak_bps.max(1),
        average_bps.clamp(1, peak_bps.max(1)),
    );
    if let TrackSpec::Video(config) = spec {
        let frames = window.rates.frames_milli;
        _ = write!(
            text,
            ",RESOLUTION={}x{},FRAME-RATE={}.{:03}",
            config.width,
            config.height,
            frames / 1000,
            frames % 1000
        );
    }
    if audio.is_some() {
        text.push_str(",AUDIO=\"audio\"");
    }
    _ = writeln!(text, "\n{}", uri(Resource::Playlist(window.id)));
    Some(())
}

/// `CAN-SKIP-UNTIL`: the least that is allowed.
const SKIP_TARGETS: u32 = 6;
/// `HOLD-BACK`: the least that is allowed.
const HOLD_BACK_TARGETS: u32 = 3;

/// Microseconds as decimal seconds.
struct Seconds(i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{}.{:05}", self.0 / 1_000_000, self.0 % 1_000_000 / 10)
    }
}

/// Microseconds since 1970 as ISO 8601.
struct DateTime(i64);

impl std::fmt::Display for DateTime {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.div_euclid(1000);
        let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
        let (year, month, day) = civil(days);
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            to,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// The date of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years that begin in March, so that the odd day is the last one.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}
