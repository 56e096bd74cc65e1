//! `plenum token create` and `plenum token verify`.

use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConfigSource, choose_key, unix_time};
use crate::auth::{self, Claims, LIFETIME_MAX_S, PlenumClaim, VideoGrant};
use crate::config::{Config, Span};
use crate::message::Source;

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token.
    Create(Box<Create>),
    /// Say what a token allows, or why it is refused.
    Verify(Verify),
}

#[derive(Args, Debug)]
pub(super) struct Create {
    #[command(flatten)]
    source: ConfigSource,
    /// The room it is about.
    #[arg(long)]
    room: Option<String>,
    /// Whoever uses it has this identity.
    #[arg(long, conflicts_with = "guest", required_unless_present_any = ["guest", "admin"])]
    identity: Option<String>,
    /// Whoever uses it gets a fresh identity and picks a name.
    #[arg(long)]
    guest: bool,
    /// Display name.
    #[arg(long)]
    name: Option<String>,
    /// May publish these sources (camera, microphone, screen_share, screen_share_audio), or all
    /// when none is named. Without --publish and --subscribe both are allowed.
    #[arg(long, num_args = 0.., value_delimiter = ',', value_parser = parse_source)]
    publish: Option<Vec<Source>>,
    /// May receive.
    #[arg(long)]
    subscribe: bool,
    /// May moderate the room, or all rooms without --room; opens, lists and ends them too.
    #[arg(long)]
    admin: bool,
    /// Good for this long, at most 24h.
    #[arg(long, default_value = "10m")]
    ttl: Span,
    /// Sign with this key of [auth.keys].
    #[arg(long)]
    key: Option<String>,
    /// Print token, key and end as JSON.
    #[arg(long, conflicts_with = "url")]
    json: bool,
    /// Print a join link.
    #[arg(long, requires = "room")]
    url: bool,
}

#[derive(Args, Debug)]
pub(super) struct Verify {
    #[command(flatten)]
    source: ConfigSource,
    /// The token.
    token: String,
}

fn parse_source(text: &str) -> Result<Source, String> {
    serde_json::from_value(json!(text))
        .map_err(|_| "not one of camera, microphone, screen_share, screen_share_audio".to_owned())
}

pub(super) fn run(command: &Token) -> Result<()> {
    match command {
        Token::Create(create) => self::create(create),
        Token::Verify(verify) => self::verify(verify),
    }
}

fn create(create: &Create) -> Result<()> {
    let config = create.source.load()?;
    let key = choose_key(&config, create.key.as_deref())?;
    let claims = claims(create, unix_time()?)?;
    let exp = claims.exp;
    let token = auth::sign(&config.auth, key, claims)?;
    // Whatever is printed is good: names and lengths are checked by the verifier itself.
    auth::verify(&config.auth, &token, unix_time()?)?;
    if create.url {
        println!(
            "{}",
            join_link(&config, create.room.as_deref().unwrap_or_default(), &token)
        );
    } else if create.json {
        println!("{}", json!({ "token": token, "key": key, "exp": exp }));
    } else {
        println!("{token}");
    }
    Ok(())
}

fn claims(create: &Create, now_s: u64) -> Result<Claims> {
    let ttl_s = create.ttl.duration().as_secs();
    ensure!(
        ttl_s > 0 && ttl_s <= LIFETIME_MAX_S,
        "--ttl: a token is good for 1s to 24h"
    );
    if create.room.is_none() && !create.admin {
        bail!("--room is needed, except with --admin");
    }
    let joins = create.room.is_some() && (create.identity.is_some() || create.guest);
    let restricted = create.publish.is_some() || create.subscribe;
    let yes = |condition: bool| condition.then_some(true);
    let video = VideoGrant {
        room: create.room.clone(),
        room_join: yes(joins),
        can_publish: restricted.then_some(create.publish.is_some()),
        can_publish_sources: create.publish.clone().filter(|sources| !sources.is_empty()),
        can_subscribe: restricted.then_some(create.subscribe),
        room_admin: yes(create.admin),
        room_create: yes(create.admin),
        room_list: yes(create.admin),
        ..VideoGrant::default()
    };
    Ok(Claims {
        sub: create.identity.clone(),
        exp: now_s + ttl_s,
        nbf: Some(now_s),
        name: create.name.clone(),
        video,
        plenum: create.guest.then_some(PlenumClaim { guest: true }),
        ..Claims::default()
    })
}

/// `<public_url>/?room=R&token=T`; names of rooms and tokens need no escaping.
pub(super) fn join_link(config: &Config, room: &str, token: &str) -> String {
    format!(
        "{}/?room={room}&token={token}",
        config.public_url(config.http.addr)
    )
}

fn verify(verify: &Verify) -> Result<()> {
    let config = verify.source.load()?;
    let grants = auth::verify(&config.auth, verify.token.trim(), unix_time()?)?;
    let shown = json!({
        "key": grants.key,
        "identity": grants.identity,
        "guest": grants.guest,
        "name": grants.name,
        "room": grants.room,
        "roomJoin": grants.room_join,
        "roomAdmin": grants.room_admin,
        "roomCreate": grants.room_create,
        "roomList": grants.room_list,
        "hidden": grants.hidden,
        "canPublish": grants.media.publish,
        "canPublishSources": grants.view().can_publish_sources,
        "canSubscribe": grants.media.subscribe,
        "canPublishData": grants.media.publish_data,
        "canUpdateOwnMetadata": grants.update_own_metadata,
    });
    println!("{}", serde_json::to_string_pretty(&shown)?);
    Ok(())
}
