//! The protocol as TypeScript types and as a JSON Schema, for `sdk/src/generated`.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use ts_rs::TS;

use super::*;

/// Both directions, as the root of the schema.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is wanted")]
struct Protocol {
    /// What a client sends.
    client: ClientMessage,
    /// What the server sends.
    server: ServerMessage,
}

/// The content of `protocol.schema.json` (JSON Schema 2020-12).
pub fn schema() -> String {
    let generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let schema = generator.into_root_schema_for::<Protocol>();
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The content of `protocol.ts`.
#[expect(clippy::too_many_lines, reason = "a list of all types")]
pub fn typescript() -> String {
    let config = ts_rs::Config::new().with_large_int("number");
    let mut text = String::from(
        "// Generated from signaling/src/message.rs; do not edit.\n\
         // Renew with: PLENUM_WRITE_GENERATED=1 cargo test -p plenum-signaling --test generated\n",
    );
    macro_rules! declare {
        ($($name:ident),* $(,)?) => {
            $(declare::<$name>(&mut text, &config);)*
        };
    }
    declare!(
        ClientMessage,
        ServerMessage,
        ServerEvent,
        ServerReply,
        Kind,
        Source,
        Codec,
        DataHeader,
        ErrorCode,
        Hello,
        Sdk,
        Roster,
        Resume,
        OfferMessage,
        PublishEntry,
        Trickle,
        TrickleCandidate,
        Unpublish,
        TrackMessage,
        SubscribeMessage,
        ViewMessage,
        ViewEntry,
        SelfChange,
        Send,
        Ping,
        Leave,
        Welcome,
        Room,
        Participant,
        Track,
        Layer,
        SlotContent,
        IceServer,
        Limits,
        PingTimes,
        Answer,
        PublishedEntry,
        Need,
        Slots,
        Joined,
        Left,
        LeftReason,
        Updated,
        ParticipantPatch,
        PublishedTrack,
        UnpublishedTrack,
        TrackChange,
        TrackPatch,
        StreamChange,
        CodecWish,
        StreamState,
        StreamReason,
        RoomChange,
        RoomPatch,
        DataMessage,
        GrantsView,
        RestartIce,
        Done,
        ErrorReply,
        Pong,
        Speakers,
        Token,
        IceServers,
        GoAway,
        GoAwayAction,
        Bye,
    );
    text
}

fn declare<T: TS>(text: &mut String, config: &ts_rs::Config) {
    text.push('\n');
    if let Some(docs) = T::docs() {
        text.push_str(docs.trim_end());
        text.push('\n');
    }
    text.push_str("export ");
    text.push_str(&T::decl(config));
    text.push('\n');
}
