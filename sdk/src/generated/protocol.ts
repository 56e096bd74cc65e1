// Generated from signaling/src/message.rs; do not edit.
// Renew with: PLENUM_WRITE_GENERATED=1 cargo test -p plenum-signaling --test generated

/**
 * Any message of a client.
 */
export type ClientMessage = { "t": "hello" } & Hello | { "t": "offer" } & OfferMessage | { "t": "trickle" } & Trickle | { "t": "unpublish" } & Unpublish | { "t": "track" } & TrackMessage | { "t": "subscribe" } & SubscribeMessage | { "t": "view" } & ViewMessage | { "t": "self" } & SelfChange | { "t": "send" } & Send | { "t": "ping" } & Ping | { "t": "leave" } & Leave;

/**
 * Any message of the server.
 */
export type ServerMessage = { 
/**
 * Its number, one more than that of the event before.
 */
n: number, } & ({ "t": "need" } & Need | { "t": "slots" } & Slots | { "t": "joined" } & Joined | { "t": "left" } & Left | { "t": "updated" } & Updated | { "t": "published" } & PublishedTrack | { "t": "unpublished" } & UnpublishedTrack | { "t": "track" } & TrackChange | { "t": "stream" } & StreamChange | { "t": "codec" } & CodecWish | { "t": "room" } & RoomChange | { "t": "data" } & DataMessage | { "t": "grants" } & GrantsView | { "t": "restart_ice" } & RestartIce) | ServerReply;

/**
 * What happened, numbered and repeated after a resume.
 */
export type ServerEvent = { "t": "need" } & Need | { "t": "slots" } & Slots | { "t": "joined" } & Joined | { "t": "left" } & Left | { "t": "updated" } & Updated | { "t": "published" } & PublishedTrack | { "t": "unpublished" } & UnpublishedTrack | { "t": "track" } & TrackChange | { "t": "stream" } & StreamChange | { "t": "codec" } & CodecWish | { "t": "room" } & RoomChange | { "t": "data" } & DataMessage | { "t": "grants" } & GrantsView | { "t": "restart_ice" } & RestartIce;

/**
 * Answers to requests, and notices of which only the latest counts.
 */
export type ServerReply = { "t": "welcome" } & Welcome | { "t": "answer" } & Answer | { "t": "ok" } & Done | { "t": "err" } & ErrorReply | { "t": "pong" } & Pong | { "t": "speakers" } & Speakers | { "t": "token" } & Token | { "t": "ice_servers" } & IceServers | { "t": "goaway" } & GoAway | { "t": "bye" } & Bye;

/**
 * Audio or video.
 */
export type Kind = "audio" | "video";

/**
 * What a track shows or plays.
 */
export type Source = "camera" | "microphone" | "screen_share" | "screen_share_audio";

/**
 * The codecs that are forwarded.
 */
export type Codec = "opus" | "vp8" | "h264" | "vp9" | "av1";

/**
 * The JSON part at the head of a data channel message.
 *
 * A client names receivers in `to` (identities; everyone else in the room when absent), the server
 * puts the sender's identity in `from`.
 */
export type DataHeader = { 
/**
 * Receivers, by identity; from the client only.
 */
to?: Array<string>, 
/**
 * The sender's identity; from the server only.
 */
from?: string, 
/**
 * What the message is about, for the application to choose; at most 128 bytes.
 */
topic?: string, };

/**
 * Why something was refused or ended; the text form is stable.
 */
export type ErrorCode = "bad_message" | "unknown_type" | "unsupported_version" | "unauthorized" | "token_expired" | "forbidden" | "room_not_found" | "room_full" | "room_closed" | "duplicate_identity" | "removed" | "not_found" | "conflict" | "bad_sdp" | "codec_unsupported" | "stale_offer" | "publish_denied" | "subscribe_denied" | "limit_exceeded" | "rate_limited" | "too_large" | "resume_unknown" | "slow_consumer" | "idle" | "aac_unavailable" | "server_shutdown" | "internal";

/**
 * The first frame.
 */
export type Hello = { 
/**
 * The protocol versions the client speaks; the server takes the highest it knows.
 */
v: Array<number>, 
/**
 * The token; may be left out where an `Authorization: Bearer` header carried it.
 */
token?: string, 
/**
 * What the client is, for the server's log.
 */
sdk?: Sdk, 
/**
 * The optional parts the client knows: `slots`, `sdpz`.
 */
features?: Array<string>, 
/**
 * The display name typed before joining; counts for guests, and for whom the token lets change
 * its own metadata. At most 256 bytes.
 */
name?: string, 
/**
 * Continues an earlier session instead of starting a new one.
 */
resume?: Resume, 
/**
 * The first offer, so that media starts after one round trip; answered in `welcome.answer`, or by
 * an `err` with its id right after `welcome`.
 */
offer?: OfferMessage, 
/**
 * Receive every track of the others without asking; true when absent.
 */
autoSubscribe?: boolean, 
/**
 * Whom `participants`, `joined` and `left` tell about.
 */
roster?: Roster, };

/**
 * What the client is.
 */
export type Sdk = { 
/**
 * `plenum-js`, for one.
 */
name: string, 
/**
 * Its version.
 */
version: string, 
/**
 * Browser and system.
 */
platform?: string, };

/**
 * Whom the roster lists.
 */
export type Roster = "all" | "publishers";

/**
 * Continues a session after its socket was lost, within 30 s.
 */
export type Resume = { 
/**
 * `welcome.session`.
 */
session: string, 
/**
 * `welcome.resumeKey`; good for one resume, which brings the next.
 */
key: string, 
/**
 * The number of the last event seen.
 */
n: number, };

/**
 * An SDP offer and what its sections publish.
 */
export type OfferMessage = { 
/**
 * The offer's id, higher than that of every offer before; the answer echoes it.
 */
id: number, 
/**
 * The SDP. Either this or `sdpz`.
 */
sdp?: string, 
/**
 * The SDP as base64 of its raw deflate form (RFC 1951); at most 1 MiB when inflated.
 */
sdpz?: string, 
/**
 * One entry for each section that publishes a track.
 */
publish?: Array<PublishEntry>, 
/**
 * The offer carries new ICE credentials on purpose; for the server's log.
 */
iceRestart?: boolean, };

/**
 * One section of an offer as the track it publishes.
 */
export type PublishEntry = { 
/**
 * The section; 1 to 16 visible ASCII characters.
 */
mid: string, 
/**
 * What the track shows or plays.
 */
source: Source, 
/**
 * The track's name; at most 256 bytes.
 */
name?: string, 
/**
 * Starts muted.
 */
muted?: boolean, 
/**
 * Width of the largest layer, 0 when unknown.
 */
width?: number, 
/**
 * Height of the largest layer, 0 when unknown.
 */
height?: number, 
/**
 * The codec to answer first, where the room prefers no other.
 */
codec?: Codec, 
/**
 * Sound in two channels: the answer says so, no SDP has to be edited.
 */
stereo?: boolean, 
/**
 * Next to nothing is sent in silence: the answer says so (Opus' `usedtx`).
 */
dtx?: boolean, };

/**
 * A candidate of the client, or null for the end of candidates.
 */
export type Trickle = { 
/**
 * As `RTCIceCandidate.toJSON()` has it.
 */
candidate: TrickleCandidate | null, };

/**
 * The parts of `RTCIceCandidateInit` that are looked at.
 */
export type TrickleCandidate = { 
/**
 * The candidate line.
 */
candidate: string, 
/**
 * Its section.
 */
sdpMid?: string, };

/**
 * Ends a track of one's own; its section becomes inactive in the next offer.
 */
export type Unpublish = { 
/**
 * Request id.
 */
id: number, 
/**
 * The track.
 */
track: string, };

/**
 * Changes a track of one's own. Which layers it has is seen in its packets.
 */
export type TrackMessage = { 
/**
 * Request id.
 */
id: number, 
/**
 * The track.
 */
track: string, 
/**
 * Stops or resumes it for everyone.
 */
muted?: boolean, 
/**
 * Renames it; at most 256 bytes.
 */
name?: string, 
/**
 * Free text for the others' applications; at most 4 KiB.
 */
meta?: string, };

/**
 * Chooses which tracks to receive: exactly one of `all` and `set`.
 */
export type SubscribeMessage = { 
/**
 * Request id.
 */
id: number, 
/**
 * Every track, present and future, or none.
 */
all?: boolean, 
/**
 * Track id to wanted or not; at most 512.
 */
set?: { [key in string]: boolean }, };

/**
 * How tracks are shown.
 */
export type ViewMessage = { 
/**
 * Track id to view; at most 512.
 */
set: { [key in string]: ViewEntry }, };

/**
 * How one track is shown. Replaces the track's earlier view as a whole.
 */
export type ViewEntry = { 
/**
 * Pixels on screen; 0 means no limit.
 */
w?: number, 
/**
 * Pixels on screen; 0 means no limit.
 */
h?: number, 
/**
 * Frames a second that are enough; 0 means no limit.
 */
fps?: number, 
/**
 * 1 to 255, higher is served first; 0 means the default of the track's source.
 */
priority?: number, 
/**
 * Not shown: nothing of it is sent.
 */
paused?: boolean, 
/**
 * At most this layer, by index from the lowest.
 */
layer?: number, 
/**
 * At most this temporal layer, by index from the lowest.
 */
temporal?: number, };

/**
 * Changes what others see of oneself; guests may change their name, all else needs the grant
 * `canUpdateOwnMetadata`.
 */
export type SelfChange = { 
/**
 * Request id.
 */
id: number, 
/**
 * Display name; at most 256 bytes.
 */
name?: string, 
/**
 * Free text; at most 64 KiB.
 */
metadata?: string, 
/**
 * Merged into one's attributes, an empty value removes one; 64 KiB in all.
 */
attributes?: { [key in string]: string }, };

/**
 * A message to participants, for clients without a data channel.
 */
export type Send = { 
/**
 * Request id; without one there is no answer.
 */
id?: number, 
/**
 * Receivers, by identity; everyone else in the room when absent.
 */
to?: Array<string>, 
/**
 * What it is about; at most 128 bytes.
 */
topic?: string, 
/**
 * The payload as text, at most 16 KiB. Either this or `data64`.
 */
data?: string, 
/**
 * The payload as base64 of at most 16 KiB of bytes.
 */
data64?: string, };

/**
 * Asks for `pong`, to measure the round trip.
 */
export type Ping = { 
/**
 * The client's time, echoed.
 */
ts: number, 
/**
 * The round trip last measured, in ms.
 */
rtt?: number, };

/**
 * Ends the session at once; it cannot be resumed.
 */
export type Leave = Record<symbol, never>;

/**
 * Answers `hello`.
 *
 * In a resumed session without `resync` the lists are empty and the missed events follow; otherwise
 * this is a snapshot that replaces everything the client knew.
 */
export type Welcome = { 
/**
 * The chosen version.
 */
v: number, 
/**
 * The session, for `hello.resume`.
 */
session: string, 
/**
 * The key for the next resume; a new one comes with each `welcome`.
 */
resumeKey: string, 
/**
 * An earlier session goes on.
 */
resumed: boolean, 
/**
 * An earlier session goes on but too many events were missed: this is a fresh snapshot.
 */
resync: boolean, 
/**
 * What of `hello.features` the server has too.
 */
features: Array<string>, 
/**
 * The room.
 */
room: Room, 
/**
 * Oneself.
 */
self: Participant, 
/**
 * What one may do.
 */
grants: GrantsView, 
/**
 * The others.
 */
participants: Array<Participant>, 
/**
 * What each slot carries, by mid.
 */
slots: { [key in string]: SlotContent | null }, 
/**
 * TURN servers for `RTCPeerConnection`; may be empty.
 */
iceServers: Array<IceServer>, 
/**
 * Limits of this server.
 */
limits: Limits, 
/**
 * How often to ping.
 */
ping: PingTimes, 
/**
 * Answers `hello.offer`.
 */
answer?: Answer, 
/**
 * The number of the last event before this message.
 */
n: number, };

/**
 * A room as its participants see it.
 */
export type Room = { 
/**
 * Its id, new each time the room is opened.
 */
id: string, 
/**
 * Its name.
 */
name: string, 
/**
 * Free text of the application.
 */
metadata: string, 
/**
 * How many are in it, oneself and those without a track included.
 */
participants: number, 
/**
 * Its program goes out to people who are not in it.
 */
broadcasting: boolean, 
/**
 * What is said and shown is recorded.
 */
recording: boolean, };

/**
 * A participant as the others see it.
 */
export type Participant = { 
/**
 * The id of this stay.
 */
id: string, 
/**
 * The name the application knows it by, unique in the room.
 */
identity: string, 
/**
 * The name to show; may be empty.
 */
name: string, 
/**
 * Free text.
 */
metadata: string, 
/**
 * Named values.
 */
attributes: { [key in string]: string }, 
/**
 * What it publishes.
 */
tracks: Array<Track>, };

/**
 * A published track.
 */
export type Track = { 
/**
 * Its id.
 */
id: string, 
/**
 * Audio or video.
 */
kind: Kind, 
/**
 * What it shows or plays.
 */
source: Source, 
/**
 * The publisher's name for it.
 */
name: string, 
/**
 * Stopped for now.
 */
muted: boolean, 
/**
 * The codec last seen; absent before the first packet.
 */
codec?: Codec, 
/**
 * Its layers, lowest first.
 */
layers: Array<Layer>, 
/**
 * Free text of the publisher's application.
 */
meta?: string, 
/**
 * The section it is published in; in one's own tracks only.
 */
mid?: string, };

/**
 * One simulcast layer.
 */
export type Layer = { 
/**
 * Its rid; absent for a track without simulcast.
 */
rid?: string, 
/**
 * Packets of it arrive at present.
 */
live: boolean, 
/**
 * Picture width, 0 when unknown.
 */
width: number, 
/**
 * Picture height, 0 when unknown.
 */
height: number, 
/**
 * Bits per second over the last second.
 */
bitrate: number, };

/**
 * What a slot carries.
 */
export type SlotContent = { 
/**
 * The track.
 */
track: string, 
/**
 * Frames with an RTP timestamp before this one (serial number arithmetic) are still of the
 * slot's earlier track; absent when there was none.
 */
ts?: number, };

/**
 * An entry for `RTCConfiguration.iceServers`.
 */
export type IceServer = { 
/**
 * STUN and TURN addresses.
 */
urls: Array<string>, 
/**
 * TURN user name.
 */
username: string, 
/**
 * TURN password.
 */
credential: string, 
/**
 * When the credentials end, in ms since 1970.
 */
expiresAt: number, };

/**
 * Limits a client should keep to.
 */
export type Limits = { 
/**
 * Audio slots in all.
 */
audioSlots: number, 
/**
 * Video slots in all.
 */
videoSlots: number, 
/**
 * Tracks published at a time.
 */
tracks: number, 
/**
 * Bytes of one frame.
 */
frameBytes: number, 
/**
 * Bytes of one data channel message, its header included.
 */
dataBytes: number, 
/**
 * Bytes of the payload of `send`.
 */
sendBytes: number, };

/**
 * How often to ping.
 */
export type PingTimes = { 
/**
 * Ping this often.
 */
intervalMs: number, 
/**
 * Without `pong` for this long the socket is dead.
 */
timeoutMs: number, };

/**
 * Answers an offer.
 */
export type Answer = { 
/**
 * The offer's id.
 */
id: number, 
/**
 * The SDP, with all of the server's candidates.
 */
sdp: string, 
/**
 * What became of each entry of `offer.publish`.
 */
published: Array<PublishedEntry>, 
/**
 * What every slot carries now, by mid.
 */
slots: { [key in string]: SlotContent | null }, };

/**
 * What became of one section that wanted to publish: a track or an error.
 */
export type PublishedEntry = { 
/**
 * The section.
 */
mid: string, 
/**
 * The track it became.
 */
track?: string, 
/**
 * Why there is none.
 */
error?: ErrorCode, };

/**
 * More slots are needed.
 */
export type Need = { 
/**
 * Audio slots in all.
 */
audio: number, 
/**
 * Video slots in all.
 */
video: number, };

/**
 * Slots carry other tracks from now on; only the changed ones.
 */
export type Slots = { 
/**
 * Mid to content.
 */
set: { [key in string]: SlotContent | null }, };

/**
 * Someone joined.
 */
export type Joined = { 
/**
 * Who.
 */
p: Participant, };

/**
 * Someone left, and its tracks with it.
 */
export type Left = { 
/**
 * Who.
 */
id: string, 
/**
 * Why.
 */
reason: LeftReason, };

/**
 * Why a participant left.
 */
export type LeftReason = "left" | "duplicate_identity" | "removed" | "connection_lost" | "failed" | "room_closed";

/**
 * Someone changed.
 */
export type Updated = { 
/**
 * Who.
 */
id: string, 
/**
 * The changed fields.
 */
patch: ParticipantPatch, };

/**
 * The changed fields of a participant.
 */
export type ParticipantPatch = { 
/**
 * The new name.
 */
name?: string, 
/**
 * The new metadata.
 */
metadata?: string, 
/**
 * All attributes as they are now.
 */
attributes?: { [key in string]: string }, };

/**
 * A track was published.
 */
export type PublishedTrack = { 
/**
 * Who published it.
 */
id: string, 
/**
 * The track.
 */
track: Track, };

/**
 * A track ended.
 */
export type UnpublishedTrack = { 
/**
 * Who published it.
 */
id: string, 
/**
 * The track.
 */
track: string, };

/**
 * A track changed.
 */
export type TrackChange = { 
/**
 * The track.
 */
track: string, 
/**
 * The changed fields.
 */
patch: TrackPatch, };

/**
 * The changed fields of a track.
 */
export type TrackPatch = { 
/**
 * Muted or not.
 */
muted?: boolean, 
/**
 * The new name.
 */
name?: string, 
/**
 * The new free text.
 */
meta?: string, 
/**
 * The codec.
 */
codec?: Codec, 
/**
 * All layers as they are now.
 */
layers?: Array<Layer>, };

/**
 * What one receives of a track changed.
 */
export type StreamChange = { 
/**
 * The track.
 */
track: string, 
/**
 * Whether anything of it comes.
 */
state: StreamState, 
/**
 * The layer that comes, by index from the lowest; when active.
 */
layer?: number, 
/**
 * Why nothing comes; when paused.
 */
reason?: StreamReason, };

/**
 * One's own track should be sent in another codec.
 */
export type CodecWish = { 
/**
 * The track.
 */
track: string, 
/**
 * The codec, one of those its section was offered with.
 */
codec: Codec, };

/**
 * Whether anything of a track comes.
 */
export type StreamState = "active" | "paused";

/**
 * Why nothing of a track comes.
 */
export type StreamReason = "bandwidth" | "muted" | "codec" | "view";

/**
 * The room changed.
 */
export type RoomChange = { 
/**
 * The changed fields.
 */
patch: RoomPatch, };

/**
 * The changed fields of a room.
 */
export type RoomPatch = { 
/**
 * How many are in it now; told to those whose roster is `publishers`, at most once a second.
 */
participants?: number, 
/**
 * The new metadata.
 */
metadata?: string, 
/**
 * Its program goes out to people who are not in it, from now on or no more.
 */
broadcasting?: boolean, 
/**
 * What is said and shown is recorded, from now on or no more.
 */
recording?: boolean, };

/**
 * A message of a participant that did not come over a data channel.
 */
export type DataMessage = { 
/**
 * The sender's identity.
 */
from: string, 
/**
 * What it is about.
 */
topic: string, 
/**
 * The payload, where it is UTF-8. Either this or `data64`.
 */
data?: string, 
/**
 * The payload as base64.
 */
data64?: string, };

/**
 * What one may do.
 */
export type GrantsView = { 
/**
 * Publish tracks.
 */
canPublish: boolean, 
/**
 * Of these sources only; empty means all.
 */
canPublishSources: Array<Source>, 
/**
 * Receive tracks.
 */
canSubscribe: boolean, 
/**
 * Send messages.
 */
canPublishData: boolean, 
/**
 * Change one's own metadata and attributes.
 */
canUpdateOwnMetadata: boolean, 
/**
 * Moderate the room through the room API.
 */
roomAdmin: boolean, };

/**
 * Offer with new ICE credentials, please.
 */
export type RestartIce = { 
/**
 * Why, for people.
 */
reason: string, };

/**
 * A request was carried out.
 */
export type Done = { 
/**
 * The request.
 */
id: number, };

/**
 * A request was refused, or the session cannot go on.
 */
export type ErrorReply = { 
/**
 * The request; absent when the error is not about one.
 */
id?: number, 
/**
 * What is wrong; stable.
 */
code: ErrorCode, 
/**
 * The same for people.
 */
message: string, 
/**
 * Try again after this time.
 */
retryAfterMs?: number, 
/**
 * The versions the server speaks; with `unsupported_version`.
 */
supported?: Array<number>, };

/**
 * Answers `ping`.
 */
export type Pong = { 
/**
 * The client's time, echoed.
 */
ts: number, };

/**
 * Who speaks; only what changed.
 */
export type Speakers = { 
/**
 * Participant id to level, 0 (silent now) to 1.
 */
levels: { [key in string]: number }, };

/**
 * A fresh token.
 */
export type Token = { 
/**
 * The token.
 */
token: string, };

/**
 * Fresh TURN credentials.
 */
export type IceServers = { 
/**
 * The servers.
 */
iceServers: Array<IceServer>, };

/**
 * The server asks to reconnect or to go.
 */
export type GoAway = { 
/**
 * What to do.
 */
action: GoAwayAction, 
/**
 * When.
 */
afterMs: number, 
/**
 * Where to go instead.
 */
url?: string, 
/**
 * Why, for people.
 */
reason: string, };

/**
 * What to do on `goaway`.
 */
export type GoAwayAction = "resume" | "rejoin" | "stop";

/**
 * The session is over.
 */
export type Bye = { 
/**
 * Why; absent after `leave`.
 */
code?: ErrorCode, };
