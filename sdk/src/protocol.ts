/** The messages of `plenum.v1`, as the SDK reads and writes them. */

export type Kind = 'audio' | 'video'
export type Source = 'camera' | 'microphone' | 'screen_share' | 'screen_share_audio'

/** One simulcast layer of a track, lowest first. */
export interface LayerState {
  rid?: string | null
  live: boolean
  width: number
  height: number
  bitrateBps?: number
}

/** A track as announced to others. */
export interface TrackState {
  id: string
  kind: Kind
  source: Source
  name: string
  muted: boolean
  codec?: string | null
  layers: LayerState[]
}

/** A participant as announced to others. */
export interface ParticipantState {
  id: string
  identity: string
  name: string
  metadata: string
  attributes: Record<string, string>
  tracks: TrackState[]
}

export interface Grants {
  canPublish: boolean
  canPublishSources: Source[]
  canSubscribe: boolean
  canPublishData: boolean
  roomAdmin: boolean
}

export interface RoomInfo {
  id?: string
  name: string
  metadata: string
}

/** What a slot carries from the RTP timestamp `ts` on. */
export interface SlotChange {
  track: string
  ts?: number | null
}

export type SlotSet = Record<string, SlotChange | null>

/** One section of an offer as the track it publishes. */
export interface Publish {
  mid: string
  source: Source
  name: string
  muted: boolean
  width?: number
  height?: number
  layers?: number
  codec?: string
  stereo?: boolean
  dtx?: boolean
}

export interface OfferBody {
  id: number
  sdp: string
  publish: Publish[]
  iceRestart?: boolean
}

export interface Published {
  mid: string
  track?: string | null
  error?: { code: string; message: string } | null
}

export interface AnswerBody {
  id: number
  sdp: string
  published: Published[]
  slots: SlotSet
}

/** How a subscribed track is shown; sizes in physical pixels, 0 means no limit. */
export interface View {
  w?: number
  h?: number
  fps?: number
  priority?: number
  paused?: boolean
  layer?: number | null
}

export interface Resume {
  session: string
  key: string
  n: number
}

export interface Hello {
  t: 'hello'
  v: number[]
  token: string
  sdk: { name: string; version: string; platform: string }
  features: string[]
  name?: string
  resume?: Resume
  offer?: OfferBody
  autoSubscribe: boolean
  roster: 'all' | 'publishers'
}

export interface IceServer {
  urls: string[]
  username?: string
  credential?: string
  expiresAt?: number
}

export interface Welcome {
  t: 'welcome'
  v: number
  session: string
  resumeKey: string
  resync?: boolean
  features: string[]
  room: RoomInfo
  self: ParticipantState & { grants?: Grants }
  participants: ParticipantState[]
  slots: SlotSet
  iceServers: IceServer[]
  ping: { intervalMs: number; timeoutMs: number }
  answer?: AnswerBody
  n: number
}

/** Requests that are answered by `ok`, `answer` or `err` with the same id. */
export type Request =
  | ({ t: 'offer' } & Omit<OfferBody, 'id'>)
  | { t: 'unpublish'; track: string }
  | { t: 'track'; track: string; muted?: boolean; name?: string }
  | { t: 'subscribe'; set?: Record<string, boolean>; all?: boolean }
  | { t: 'self'; name?: string; metadata?: string; attributes?: Record<string, string> }
  | { t: 'send'; to?: string[]; topic: string; data: string }

/** Messages without an answer. */
export type Notice =
  | { t: 'view'; set: Record<string, View> }
  | { t: 'ping'; ts: number; rtt: number }
  | { t: 'leave' }

export type StreamReason = 'bandwidth' | 'muted' | 'codec' | 'view'

/** What the server sends after the welcome; all but `ok`, `err`, `answer` and `pong` carry `n`. */
export type ServerMessage =
  | ({ t: 'answer' } & AnswerBody)
  | { t: 'ok'; id: number }
  | { t: 'err'; id?: number | null; code: string; message: string; retryAfterMs?: number | null }
  | { t: 'pong'; ts: number }
  | { t: 'need'; audio: number; video: number }
  | { t: 'slots'; set: SlotSet }
  | { t: 'joined'; p: ParticipantState }
  | { t: 'left'; id: string; reason?: string }
  | { t: 'updated'; id: string; patch: Partial<ParticipantState> }
  | { t: 'published'; id: string; track: TrackState }
  | { t: 'unpublished'; track: string }
  | { t: 'track'; track: string; patch: Partial<TrackState> }
  | { t: 'speakers'; levels: Record<string, number> }
  | { t: 'stream'; track: string; state: 'active' | 'paused'; layer?: number | null; reason?: StreamReason | null }
  | { t: 'room'; patch: Partial<RoomInfo> }
  | { t: 'data'; from: string; topic: string; data: string }
  | { t: 'grants'; grants: Grants }
  | { t: 'token'; token: string }
  | { t: 'ice_servers'; servers: IceServer[] }
  | { t: 'restart_ice'; reason?: string }
  | { t: 'goaway'; action: 'resume' | 'rejoin' | 'stop'; afterMs: number; reason?: string }
  | { t: 'bye'; code: string }

/** A message of a kind this SDK knows, with its event number. */
export type Incoming = (ServerMessage | Welcome) & { n?: number }

/**
 * Reads one text frame. `undefined`: not an object with a type, or a type this SDK does not know,
 * which a newer server may send and which is ignored.
 */
export function parseIncoming(text: string): Incoming | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { t } = value as { t?: unknown }
  return typeof t === 'string' && KNOWN.has(t) ? (value as Incoming) : undefined
}

const KNOWN: ReadonlySet<string> = new Set<Incoming['t']>([
  'welcome', 'answer', 'ok', 'err', 'pong', 'need', 'slots', 'joined', 'left', 'updated',
  'published', 'unpublished', 'track', 'speakers', 'stream', 'room', 'data', 'grants', 'token',
  'ice_servers', 'restart_ice', 'goaway', 'bye',
])
