//! `plenum rooms` and `plenum participants`: the room API of the running server.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, in_path};
use super::{ConfigSource, print};

#[derive(Debug, Subcommand)]
pub(super) enum RoomsCommand {
    /// List all rooms.
    Ls(Listing),
    /// Show one room.
    Show(OneRoom),
    /// End a room and everyone's stay in it.
    Rm(OneRoom),
}

#[derive(Debug, Subcommand)]
pub(super) enum ParticipantsCommand {
    /// List everyone in a room.
    Ls(OneRoom),
    /// Remove a participant.
    Kick(OneParticipant),
    /// Mute a participant's track, or all of them.
    Mute(MuteOptions),
}

#[derive(Args, Debug)]
pub(super) struct Listing {
    #[command(flatten)]
    pub(super) source: ConfigSource,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct OneRoom {
    #[command(flatten)]
    pub(super) listing: Listing,
    /// The room's name.
    pub(super) room: String,
}

#[derive(Args, Debug)]
pub(super) struct OneParticipant {
    #[command(flatten)]
    source: ConfigSource,
    /// The room's name.
    room: String,
    /// The participant's identity.
    identity: String,
}

#[derive(Args, Debug)]
pub(super) struct MuteOptions {
    #[command(flatten)]
    of: OneParticipant,
    /// Only this track.
    #[arg(long)]
    track: Option<String>,
    /// Unmute instead.
    #[arg(long)]
    off: bool,
}

pub(super) fn rooms(command: RoomsCommand) -> Result<()> {
    match command {
        RoomsCommand::Ls(listing) => {
            let config = listing.source.load()?;
            let rooms = all(&Client::new(&config)?, "/v1/rooms")?;
            print_list(&listing, &rooms, |room| {
                format!(
                    "{:<32} {:>6} participants",
                    text(room, "name"),
                    room["participants"]
                )
            })
        }
        RoomsCommand::Show(OneRoom { listing, room }) => {
            let config = listing.source.load()?;
            let path = format!("/v1/rooms/{}", in_path(&room)?);
            let room = Client::new(&config)?.ask("GET", &path, None)?;
            print(&serde_json::to_string_pretty(&room)?)
        }
        RoomsCommand::Rm(OneRoom { listing, room }) => {
            let config = listing.source.load()?;
            let path = format!("/v1/rooms/{}", in_path(&room)?);
            Client::new(&config)?.ask("DELETE", &path, None).map(drop)
        }
    }
}

pub(super) fn participants(command: ParticipantsCommand) -> Result<()> {
    match command {
        ParticipantsCommand::Ls(OneRoom { listing, room }) => {
            let config = listing.source.load()?;
            let path = format!("/v1/rooms/{}/participants", in_path(&room)?);
            let participants = all(&Client::new(&config)?, &path)?;
            print_list(&listing, &participants, |one| {
                let tracks = one["tracks"].as_array().map_or(0, Vec::len);
                format!(
                    "{:<32} {:<32} {tracks:>3} tracks",
                    text(one, "identity"),
                    text(one, "name")
                )
            })
        }
        ParticipantsCommand::Kick(of) => {
            let config = of.source.load()?;
            Client::new(&config)?
                .ask("DELETE", &of.path()?, None)
                .map(drop)
        }
        ParticipantsCommand::Mute(options) => mute(&options),
    }
}

impl OneParticipant {
    fn path(&self) -> Result<String> {
        let (room, identity) = (in_path(&self.room)?, in_path(&self.identity)?);
        Ok(format!("/v1/rooms/{room}/participants/{identity}"))
    }
}

fn mute(options: &MuteOptions) -> Result<()> {
    let config = options.of.source.load()?;
    let (client, path) = (Client::new(&config)?, options.of.path()?);
    let tracks = match &options.track {
        Some(track) => vec![in_path(track)?.to_owned()],
        None => {
            let participant = client.ask("GET", &path, None)?;
            let tracks = participant["tracks"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            tracks
                .iter()
                .map(|track| text(track, "id").to_owned())
                .collect()
        }
    };
    let body = json!({ "muted": !options.off });
    for track in tracks {
        client.ask("PATCH", &format!("{path}/tracks/{track}"), Some(&body))?;
    }
    Ok(())
}

/// All parts of a list.
pub(super) fn all(client: &Client<'_>, path: &str) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut page = client.ask("GET", path, None)?;
    loop {
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        let Some(cursor) = page["nextCursor"].as_str() else {
            return Ok(items);
        };
        page = client.ask("GET", &format!("{path}?cursor={}", in_path(cursor)?), None)?;
    }
}

pub(super) fn print_list(
    listing: &Listing,
    items: &[Value],
    line: impl Fn(&Value) -> String,
) -> Result<()> {
    if listing.json {
        return print(&serde_json::to_string_pretty(items)?);
    }
    items.iter().try_for_each(|item| print(&line(item)))
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
