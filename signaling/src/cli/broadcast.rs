//! `plenum broadcast`: the broadcasts of the running server.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{Client, in_path};
use super::remote::{Listing, OneRoom, all, print_list, text};
use super::{ConfigSource, print};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum BroadcastCommand {
    /// Begin a broadcast of a room; prints its id and where it can be watched.
    Start(Start),
    /// End a broadcast of a room.
    Stop(Stop),
    /// List the broadcasts of a room.
    Ls(OneRoom),
}

#[derive(Args, Debug)]
pub(super) struct Start {
    #[command(flatten)]
    of: OneRoom,
    /// Tells several broadcasts of a room apart.
    #[arg(long, default_value = "")]
    name: String,
    /// Whose picture is shown [default: auto].
    #[arg(long, value_enum, conflicts_with = "participant")]
    follow: Option<Rule>,
    /// Show this participant only, by identity.
    #[arg(long, value_name = "IDENTITY")]
    participant: Option<String>,
    /// Push it to this address by RTMP, stream key included; may be given several times.
    #[arg(long, value_name = "URL")]
    push: Vec<String>,
    /// Record it.
    #[arg(long)]
    record: bool,
    /// Do not serve it as HLS.
    #[arg(long)]
    no_hls: bool,
}

/// Whose picture is shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rule {
    /// A shared screen if there is one, else who speaks.
    Auto,
    /// Who speaks.
    Speaker,
    /// Shared screens only.
    Screen,
}

#[derive(Args, Debug)]
pub(super) struct Stop {
    #[command(flatten)]
    source: ConfigSource,
    /// The room's name.
    room: String,
    /// The broadcast, by id; may be left out when the room has only one.
    id: Option<String>,
    /// All of the room.
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

pub(super) fn run(command: BroadcastCommand) -> Result<()> {
    match command {
        BroadcastCommand::Start(options) => start(&options),
        BroadcastCommand::Stop(options) => stop(&options),
        BroadcastCommand::Ls(OneRoom { listing, room }) => {
            let config = listing.source.load()?;
            let broadcasts = all(&Client::new(&config)?, &path(&room)?)?;
            print_list(&listing, &broadcasts, line)
        }
    }
}

fn start(options: &Start) -> Result<()> {
    let OneRoom { listing, room } = &options.of;
    let config = listing.source.load()?;
    let begun = Client::new(&config)?.ask("POST", &path(room)?, Some(&body(options)))?;
    show_begun(listing, &config, &begun)
}

fn body(options: &Start) -> Value {
    let follow = match (options.follow, &options.participant) {
        (_, Some(_)) => "participant",
        (Some(Rule::Speaker), None) => "speaker",
        (Some(Rule::Screen), None) => "screen",
        (Some(Rule::Auto) | None, None) => "auto",
    };
    let targets: Vec<_> = options
        .push
        .iter()
        .map(|url| json!({ "url": url }))
        .collect();
    json!({
        "name": options.name,
        "follow": follow,
        "participant": options.participant,
        "hls": !options.no_hls,
        "targets": targets,
        "record": options.record,
    })
}

fn show_begun(listing: &Listing, config: &Config, begun: &Value) -> Result<()> {
    if listing.json {
        return print(&serde_json::to_string_pretty(begun)?);
    }
    print(text(begun, "id"))?;
    let base = config.public_url(config.http.addr);
    if begun["hls"].is_object() {
        let (room, name) = (text(begun, "room"), text(begun, "name"));
        let place = if name.is_empty() {
            String::new()
        } else {
            format!("+{name}")
        };
        print(&format!("watch      {base}/watch/{room}{place}"))?;
        print(&format!("hls        {base}{}", text(&begun["hls"], "url")))?;
    }
    if begun["flv"].is_object() {
        print(&format!("flv        {base}{}", text(&begun["flv"], "url")))?;
    }
    for target in begun["targets"].as_array().into_iter().flatten() {
        print(&format!("pushed to  {}", text(target, "url")))?;
    }
    match begun["recording"].as_str() {
        Some(id) => print(&format!("recording  {id}")),
        None => Ok(()),
    }
}

fn stop(options: &Stop) -> Result<()> {
    let config = options.source.load()?;
    let (client, path) = (Client::new(&config)?, path(&options.room)?);
    let ids = match &options.id {
        Some(id) => vec![id.clone()],
        None => {
            let running = running(&all(&client, &path)?);
            if !options.all && running.len() > 1 {
                bail!(
                    "the room has several broadcasts: name one of {}, or --all",
                    running.join(", ")
                );
            }
            running
        }
    };
    if ids.is_empty() && !options.all {
        bail!("the room has no broadcast");
    }
    for id in ids {
        let path = format!("{path}/{}", in_path(&id)?);
        client
            .ask("DELETE", &path, None)
            .with_context(|| id.clone())?;
    }
    Ok(())
}

/// The ids of those that are not over.
fn running(broadcasts: &[Value]) -> Vec<String> {
    let running = broadcasts
        .iter()
        .filter(|one| text(one, "state") != "ended");
    running.map(|one| text(one, "id").to_owned()).collect()
}

fn line(one: &Value) -> String {
    let viewers = |kind: &str| one[kind]["viewers"].as_u64().unwrap_or(0);
    let targets = one["targets"].as_array().map_or(0, Vec::len);
    let follow = match one["participant"].as_str() {
        Some(identity) => format!("participant {identity}"),
        None => text(one, "follow").to_owned(),
    };
    format!(
        "{}  {:<12} {:<8} {:>6} viewers {targets:>2} targets  {}  {follow}",
        text(one, "id"),
        text(one, "name"),
        text(one, "state"),
        viewers("hls") + viewers("flv"),
        text(one, "startedAt"),
    )
}

fn path(room: &str) -> Result<String> {
    Ok(format!("/v1/rooms/{}/broadcasts", in_path(room)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: BroadcastCommand,
    }

    fn parsed(words: &str) -> Option<BroadcastCommand> {
        let words = std::iter::once("broadcast").chain(words.split(' '));
        Line::try_parse_from(words).ok().map(|line| line.command)
    }

    #[test]
    fn what_is_typed_is_what_is_asked() {
        let asked = |words: &str| match parsed(words) {
            Some(BroadcastCommand::Start(options)) => body(&options),
            other => panic!("{words}: {other:?}"),
        };
        let plain = json!({
            "name": "", "follow": "auto", "participant": null, "hls": true, "targets": [], "record": false,
        });
        assert_eq!(asked("start r"), plain);
        let all = asked(
            "start r --name main --participant ann --push rtmp://a/b/c --push rtmps://d/e/f --record --no-hls",
        );
        let targets = json!([{ "url": "rtmp://a/b/c" }, { "url": "rtmps://d/e/f" }]);
        let expected = json!({
            "name": "main", "follow": "participant", "participant": "ann", "hls": false,
            "targets": targets, "record": true,
        });
        assert_eq!(all, expected);
        assert_eq!(asked("start r --follow screen")["follow"], "screen");
        for words in [
            "start",
            "start r --follow nobody",
            "start r --follow screen --participant ann",
            "stop",
            "stop r b_0000000000000001 --all",
        ] {
            assert!(parsed(words).is_none(), "{words}");
        }
    }

    #[test]
    fn those_that_are_over_are_not_stopped_again() {
        let one = |id: &str, state: &str| json!({ "id": id, "state": state });
        let list = [
            one("b_1", "ended"),
            one("b_2", "live"),
            one("b_3", "paused"),
        ];
        assert_eq!(running(&list), ["b_2", "b_3"]);
    }
}
