//! The command line of the load tester.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use loadtest::bot::Protection;
use loadtest::http::Url;
use loadtest::media::Codec;
use loadtest::process::Process;
use loadtest::report::Thresholds;
use loadtest::run::RunOptions;
use loadtest::scenario::{Door, Preset, Scenario, Video};
use loadtest::target::{Pass, Target};
use loadtest::token::Key;

use self::values::{bitrate, duration, factor, percent};

/// Puts load on a Plenum server, or on another one that speaks WHIP and WHEP, and says how it bore it.
///
/// The load is made by light bots: real ICE, DTLS, SRTP and RTCP, payloads of the sizes that Chromium
/// sends, thousands on a thread. They count every packet by its clear RTP header, and decrypt one of
/// --decrypt-every to read when it was sent. --webrtc adds participants on an independent stack that
/// decrypt and check everything, to confirm what the bots say.
///
/// WHAT IS REPORTED
///
/// time to join: from the first byte of signaling to the first keyframe (to the first sound where no
/// pictures are published; to the keys for who only publishes). delay: from the sending of a packet by
/// its publisher to its arrival at a receiver, the bots' own work included; "the bots' own, at most" is
/// how long their thread was busy when a packet came. loss: packets that never came, also not as
/// retransmissions, of those that should have. freeze: a picture that stands still for more than 200 ms.
/// server CPU: user and system time of the process in /proc, for each RTP packet received from it. server
/// memory for a receiver: resident memory at the end of the count less that before the first join,
/// divided by the receivers; so start the server anew for it.
///
/// With --grow 1.3 --max-p99 50ms --max-loss 0% it finds out how many subscribers the server bears.
///
/// Exit code: 0 when all joined and every threshold was kept, 1 when not, 2 for a wrong command line.
///
/// EXAMPLES
///
///   plenum-loadtest --server http://127.0.0.1:8080 --key main:SECRET --preset broadcast
///   plenum-loadtest --start target/release/plenum --preset meeting --repeat 5
///   plenum-loadtest --start target/release/plenum --rooms 50 --participants 10 --webrtc 10
///   plenum-loadtest --whip-url http://127.0.0.1:8889/{room}/whip \
///       --whep-url http://127.0.0.1:8889/{room}/whep --preset broadcast --max-p99 20ms --max-loss 0.1%
#[derive(Debug, Parser)]
#[command(name = "plenum-loadtest", version, verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where the server's HTTP is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) server: String,
    /// Starts this server for each run, on free ports of loopback with raised rate limits, instead of
    /// using one that runs: a command to which `serve --config FILE` is added.
    #[arg(long, value_name = "COMMAND", conflicts_with = "server_pid")]
    pub(crate) start: Option<String>,
    /// Media threads of the server that --start starts.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "start")]
    pub(crate) shards: u16,
    /// API key that tokens are signed with, as ID:SECRET.
    #[arg(
        long,
        value_name = "ID:SECRET",
        env = "PLENUM_LOADTEST_KEY",
        hide_env_values = true
    )]
    key: Option<String>,
    /// One token for all bots, instead of a key.
    #[arg(
        long,
        env = "PLENUM_LOADTEST_TOKEN",
        hide_env_values = true,
        conflicts_with = "key"
    )]
    token: Option<String>,
    /// Publishes here by WHIP; {room} and {identity} are replaced. Implies --door http.
    #[arg(long, value_name = "URL")]
    whip_url: Option<String>,
    /// Receives here by WHEP; {room} and {publisher} are replaced.
    #[arg(long, value_name = "URL", requires = "whip_url")]
    whep_url: Option<String>,

    /// What to play; the options below change it.
    #[arg(long, value_enum)]
    pub(crate) preset: Option<PresetName>,
    /// How many rooms.
    #[arg(long, value_name = "N")]
    rooms: Option<u32>,
    /// In each room: who publishes and receives.
    #[arg(long, value_name = "N")]
    participants: Option<u32>,
    /// In each room: who only publishes.
    #[arg(long, value_name = "N")]
    publishers: Option<u32>,
    /// In each room: who only receives.
    #[arg(long, value_name = "N")]
    subscribers: Option<u32>,
    /// Of the subscribers of each room: how many stop dead once they receive, as a stopped process does.
    #[arg(long, value_name = "N", default_value_t = 0)]
    stopped: u32,
    /// Of the subscribers of each room: how many are behind a link of 100 kbit/s.
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow: u32,
    /// Receivers on the independent `webrtc` stack, in all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    webrtc: u32,
    /// What publishers show.
    #[arg(long, value_enum)]
    video: Option<VideoName>,
    /// Payload bit rate of pictures (with --simulcast of the highest layer), at 30 frames/s.
    #[arg(long, value_name = "RATE", value_parser = bitrate)]
    bitrate: Option<u64>,
    /// Pictures in three layers (VP8 and H264).
    #[arg(long)]
    simulcast: bool,
    /// Publishers are silent.
    #[arg(long)]
    no_audio: bool,
    /// How bots come in; who publishes and receives always comes by the native protocol.
    #[arg(long, value_enum)]
    door: Option<DoorName>,

    /// All media of the bots goes through the server's TURN, over UDP.
    #[arg(long)]
    turn: bool,

    /// In what time all come in.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ramp: Option<Duration>,
    /// From when all are there until counting begins.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    warmup: Option<Duration>,
    /// How long is counted.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// From when all have left until the server's memory is looked at once more.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    settle: Duration,
    /// What chance is drawn from: phases of publishers, names of rooms, credentials.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads of bots.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: u8,
    /// One of so many packets is decrypted and its stamp read; 1 checks every byte of all.
    #[arg(long, value_name = "N", default_value_t = 16)]
    decrypt_every: u32,
    /// How often receivers give transport-wide feedback; Chromium does every 60 ms.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60ms")]
    feedback: Duration,
    /// How bots let packets be protected: offered alone, or all for the server to choose.
    #[arg(long, value_enum, default_value = "any")]
    srtp: SrtpName,
    /// The server's process, if it is on this machine; found by its listening port when not given.
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,

    /// How often to play; medians and spreads are printed at the end.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) repeat: u32,
    /// Plays again with so many times the subscribers, until a threshold is broken; the exit code is that
    /// of the first run.
    #[arg(long, value_name = "FACTOR", value_parser = factor, conflicts_with = "repeat")]
    pub(crate) grow: Option<f64>,
    /// Prints reports as JSON: an array with one object for each run.
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes the JSON to a file too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json_file: Option<PathBuf>,
    /// Prints no line each second.
    #[arg(long)]
    quiet: bool,

    /// Fails when the 99th percentile of the delay is longer.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_p99: Option<Duration>,
    /// Fails when more packets are lost, as "0.1%".
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_loss: Option<f64>,
    /// Fails when the 95th percentile of the time to join is longer.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_join_p95: Option<Duration>,
    /// Fails when there are more freezes.
    #[arg(long, value_name = "N")]
    max_freezes: Option<u64>,
    /// Fails when the server takes more processor time for a packet, in microseconds.
    #[arg(long, value_name = "US")]
    max_cpu: Option<f64>,
}

/// A scenario by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PresetName {
    /// 1 publisher by WHIP, 100 subscribers by WHEP: 1 Mbit/s of pictures, and sound.
    Broadcast,
    /// 10 participants who see and hear each other.
    Meeting,
    /// 20 participants who hear each other.
    Audio,
    /// One after the other.
    All,
}

/// What publishers show.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum VideoName {
    /// VP8.
    Vp8,
    /// H.264.
    H264,
    /// AV1.
    Av1,
    /// No pictures.
    None,
}

/// How bots come in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DoorName {
    /// The WebSocket protocol `plenum.v1`.
    Native,
    /// WHIP and WHEP.
    Http,
}

/// How packets are protected.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SrtpName {
    /// The server chooses.
    Any,
    /// AES-256 in GCM.
    Gcm256,
    /// AES-128 in GCM.
    Gcm128,
    /// AES-128 in counter mode, with HMAC-SHA1.
    Cm,
}

impl PresetName {
    /// The presets it stands for.
    pub(crate) fn presets(self) -> Vec<Preset> {
        match self {
            Self::Broadcast => vec![Preset::Broadcast],
            Self::Meeting => vec![Preset::Meeting],
            Self::Audio => vec![Preset::Audio],
            Self::All => vec![Preset::Broadcast, Preset::Meeting, Preset::Audio],
        }
    }
}

impl Args {
    /// What runs must keep to.
    pub(crate) fn thresholds(&self) -> Thresholds {
        Thresholds {
            p99_max: self.max_p99,
            loss_max: self.max_loss,
            join_p95_max: self.max_join_p95,
            freezes_max: self.max_freezes,
            cpu_max: self.max_cpu,
        }
    }

    /// How to play one run.
    pub(crate) fn run_options(&self, scenario: Scenario, target: Target) -> RunOptions {
        let server = match self.server_pid {
            Some(pid) => Some(Process { pid }),
            None => Some(target.addr)
                .filter(|addr| addr.ip().is_loopback())
                .and_then(Process::listening),
        };
        RunOptions {
            target,
            scenario,
            threads: self.threads,
            server,
            settle: self.settle,
            is_talkative: !self.quiet,
            is_relayed: self.turn,
        }
    }

    /// What is played.
    pub(crate) fn scenario(&self, preset: Option<Preset>) -> Result<Scenario> {
        let base = preset.map_or_else(Scenario::default, Preset::scenario);
        let video = match self.video {
            Some(VideoName::None) => None,
            Some(VideoName::Vp8) => Some(Codec::Vp8),
            Some(VideoName::H264) => Some(Codec::H264),
            Some(VideoName::Av1) => Some(Codec::Av1),
            None => base.video.map(|video| video.codec),
        };
        let bitrate_bps = self.bitrate.unwrap_or(1_000_000);
        let scenario = Scenario {
            rooms: self.rooms.unwrap_or(base.rooms),
            participants: self.participants.unwrap_or(base.participants),
            publishers: self.publishers.unwrap_or(base.publishers),
            subscribers: self.subscribers.unwrap_or(base.subscribers),
            stopped: self.stopped,
            slow: self.slow,
            confirmers: self.webrtc,
            video: video.map(|codec| Video {
                codec,
                bitrate_bps,
                simulcast: self.simulcast,
            }),
            audio: base.audio && !self.no_audio,
            door: match self.door {
                Some(DoorName::Native) => Door::Native,
                Some(DoorName::Http) => Door::Http,
                None if self.whip_url.is_some() => Door::Http,
                None => base.door,
            },
            ramp: self.ramp.unwrap_or(base.ramp),
            warmup: self.warmup.unwrap_or(base.warmup),
            duration: self.duration.unwrap_or(base.duration),
            seed: self.seed,
            decrypt_every: self.decrypt_every.max(1),
            feedback: self.feedback,
            protection: match self.srtp {
                SrtpName::Any => Protection::Any,
                SrtpName::Gcm256 => Protection::Aes256Gcm,
                SrtpName::Gcm128 => Protection::Aes128Gcm,
                SrtpName::Cm => Protection::Aes128Cm,
            },
            ..base
        };
        self.check(&scenario)?;
        Ok(scenario)
    }

    /// Whether it can be played.
    fn check(&self, scenario: &Scenario) -> Result<()> {
        ensure!(
            scenario.bots() > 0,
            "there is nobody to play: give --preset or --participants"
        );
        ensure!(
            scenario.stopped + scenario.slow <= scenario.subscribers,
            "only subscribers can be stopped or slow, and there are {}",
            scenario.subscribers
        );
        let codec = scenario.video.map(|video| video.codec);
        let is_one_layer = codec == Some(Codec::Av1);
        ensure!(
            !(self.simulcast && is_one_layer),
            "AV1 is sent in one layer only"
        );
        ensure!(
            self.whip_url.is_none() || scenario.participants == 0 && scenario.door == Door::Http,
            "another server is reached by WHIP and WHEP only: use --publishers and --subscribers"
        );
        Ok(())
    }

    /// The server that runs already.
    pub(crate) async fn target(&self) -> Result<Target> {
        let server = self.whip_url.as_ref().unwrap_or(&self.server);
        let addr: SocketAddr = Url::parse(server)?.resolve().await?;
        let pass = match (&self.key, &self.token) {
            (Some(key), _) => Pass::Key(read_key(key)?),
            (None, Some(token)) => Pass::Token(token.clone()),
            (None, None) if self.whip_url.is_some() => Pass::None,
            (None, None) => bail!("what lets the bots in? give --key, --token or --start"),
        };
        let mut target = Target::plenum(addr, pass);
        if let Some(url) = &self.whip_url {
            target.whip.clone_from(url);
        }
        if let Some(url) = &self.whep_url {
            target.whep.clone_from(url);
        }
        Ok(target)
    }
}

fn read_key(text: &str) -> Result<Key> {
    let (id, secret) = text.split_once(':').context("--key is ID:SECRET")?;
    Ok(Key {
        id: id.to_owned(),
        secret: secret.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_change_a_preset() {
        let args =
            parse("x --preset broadcast --subscribers 5 --video h264 --bitrate 2Mbps --ramp 1s");
        let scenario = args.scenario(Some(Preset::Broadcast)).unwrap();
        assert_eq!((scenario.publishers, scenario.subscribers), (1, 5));
        let video = scenario.video.unwrap();
        assert_eq!((video.codec, video.bitrate_bps), (Codec::H264, 2_000_000));
        assert_eq!(scenario.ramp, Duration::from_secs(1));
    }

    #[test]
    fn nobody_to_play_and_impossible_plays_are_refused() {
        assert!(parse("x").scenario(None).is_err());
        let args = parse("x --participants 2 --video av1 --simulcast");
        assert!(args.scenario(None).is_err());
        assert!(parse("x --subscribers 2 --slow 3").scenario(None).is_err());
        let args = parse("x --whip-url http://h/{room}/whip --participants 2");
        assert!(args.scenario(None).is_err());
    }
}
