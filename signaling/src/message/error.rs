//! The stable error codes, shared by the native protocol and the room API, and the close codes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// Why something was refused or ended; the text form is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TS, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The text form.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it in the room API, WHIP and WHEP.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

error_codes! {
    /// Not JSON, not an object with `t`, or a field is missing or of the wrong type or size.
    BadMessage = "bad_message", 400;
    /// There is no message of this type.
    UnknownType = "unknown_type", 400;
    /// No common protocol version; `supported` lists the server's.
    UnsupportedVersion = "unsupported_version", 400;
    /// No token, or one that does not verify.
    Unauthorized = "unauthorized", 401;
    /// The token was good but is over.
    TokenExpired = "token_expired", 401;
    /// The token does not allow this.
    Forbidden = "forbidden", 403;
    /// There is no such room and joining does not create one.
    RoomNotFound = "room_not_found", 404;
    /// The room has as many participants as it may.
    RoomFull = "room_full", 429;
    /// The room was ended.
    RoomClosed = "room_closed", 410;
    /// The same identity joined again; the newer session stays.
    DuplicateIdentity = "duplicate_identity", 409;
    /// Removed by an administrator.
    Removed = "removed", 403;
    /// No such track, participant or resource.
    NotFound = "not_found", 404;
    /// Not possible in the present state.
    Conflict = "conflict", 409;
    /// The offer cannot be used; the message says why.
    BadSdp = "bad_sdp", 400;
    /// No codec in common.
    CodecUnsupported = "codec_unsupported", 415;
    /// The offer's id is not higher than that of an earlier one.
    StaleOffer = "stale_offer", 409;
    /// Publishing this is not allowed.
    PublishDenied = "publish_denied", 403;
    /// Subscribing is not allowed.
    SubscribeDenied = "subscribe_denied", 403;
    /// Too many of something; the message says of what.
    LimitExceeded = "limit_exceeded", 422;
    /// Too often; `retryAfterMs` says when again.
    RateLimited = "rate_limited", 429;
    /// Too many bytes.
    TooLarge = "too_large", 413;
    /// The session cannot be resumed: join anew.
    ResumeUnknown = "resume_unknown", 410;
    /// The client did not read what was sent to it.
    SlowConsumer = "slow_consumer", 408;
    /// Nothing was heard of the client for too long.
    Idle = "idle", 408;
    /// This build has no AAC, without which an RTMP target would get no sound.
    AacUnavailable = "aac_unavailable", 409;
    /// The server is going down.
    ServerShutdown = "server_shutdown", 503;
    /// A fault of the server.
    Internal = "internal", 500;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// WebSocket close codes. A client retries only on 1001, 1006, 1011 to 1013, 4030 and 4050.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// Nothing was heard of the client (RFC 6455: going away); the session can be resumed.
    Idle = 1001,
    /// A binary frame, or text that is not UTF-8 (RFC 6455 §7.4.1: unacceptable data).
    Unacceptable = 1003,
    /// A fault of the server (RFC 6455 §7.4.1).
    Internal = 1011,
    /// The session ended as it should.
    Normal = 4000,
    /// No token, or one that does not verify or is over.
    Unauthorized = 4001,
    /// The token does not allow this.
    Forbidden = 4003,
    /// There is no such room, it is full, or it was ended.
    RoomNotFound = 4004,
    /// No common version, or the first frame was no `hello`.
    Version = 4006,
    /// No `hello` within 5 s.
    HelloTimeout = 4008,
    /// The same identity joined again.
    Duplicate = 4009,
    /// Removed by an administrator.
    Removed = 4010,
    /// A frame was too large.
    TooLarge = 4013,
    /// Too many messages.
    RateLimited = 4029,
    /// More than 1 MiB was waiting to be read by the client.
    SlowConsumer = 4030,
    /// The server is going down.
    Shutdown = 4050,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl From<ErrorCode> for CloseCode {
    /// The close code after an error that ends the socket.
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Unauthorized | ErrorCode::TokenExpired => Self::Unauthorized,
            ErrorCode::Forbidden | ErrorCode::PublishDenied | ErrorCode::SubscribeDenied => {
                Self::Forbidden
            }
            ErrorCode::RoomNotFound | ErrorCode::RoomFull | ErrorCode::RoomClosed => {
                Self::RoomNotFound
            }
            ErrorCode::BadMessage | ErrorCode::UnknownType | ErrorCode::UnsupportedVersion => {
                Self::Version
            }
            ErrorCode::DuplicateIdentity => Self::Duplicate,
            ErrorCode::Removed => Self::Removed,
            ErrorCode::TooLarge => Self::TooLarge,
            ErrorCode::RateLimited => Self::RateLimited,
            ErrorCode::SlowConsumer => Self::SlowConsumer,
            ErrorCode::ServerShutdown => Self::Shutdown,
            ErrorCode::Idle => Self::Idle,
            ErrorCode::Internal => Self::Internal,
            ErrorCode::NotFound
            | ErrorCode::AacUnavailable
            | ErrorCode::Conflict
            | ErrorCode::BadSdp
            | ErrorCode::CodecUnsupported
            | ErrorCode::StaleOffer
            | ErrorCode::LimitExceeded
            | ErrorCode::ResumeUnknown => Self::Normal,
        }
    }
}
