/** The messages of `plenum.v1` in the shapes the SDK works with; the types are the server's own. */
import type {
  ClientMessage, ServerEvent, ServerMessage, ServerReply, SlotContent,
} from './generated/protocol'

export type {
  Answer, Codec, GrantsView, Hello, IceServer, Kind, Layer, Limits, OfferMessage, Participant,
  ParticipantPatch, PublishEntry, Resume, Room as RoomView, RoomPatch, ServerEvent, ServerMessage, ServerReply,
  SlotContent, Source, StreamChange, StreamReason, StreamState, Track, TrackPatch, ViewEntry, Welcome,
} from './generated/protocol'

/** Highest protocol version this SDK speaks. */
export const VERSION = 1
/** The WebSocket subprotocol. */
export const SUBPROTOCOL = 'plenum.v1'

/** What slots carry, by mid. */
export type SlotSet = { [mid in string]: SlotContent | null }

type Message<T extends ClientMessage['t']> = Extract<ClientMessage, { t: T }>
type Unnumbered<M> = M extends unknown ? Omit<M, 'id'> : never

/** Requests that are answered by `ok`, `answer` or `err` with the same id. */
export type Request = Unnumbered<
  Message<'offer'> | Message<'unpublish'> | Message<'track'> | Message<'subscribe'> | Message<'self'> | Message<'send'>
>

/** Messages without an answer. */
export type Notice = Message<'view'> | Message<'ping'> | { t: 'leave' }

/** An event or a notice that is not an answer. */
export type Happening = ServerEvent | Extract<ServerReply, { t: 'speakers' | 'token' | 'ice_servers' }>

/**
 * Reads one text frame. `undefined`: not an object with a type, or a type this SDK does not know,
 * which a newer server may send and which is ignored.
 */
export function parseServerMessage(text: string): ServerMessage | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { t } = value as { t?: unknown }
  return typeof t === 'string' && KNOWN.has(t) ? (value as ServerMessage) : undefined
}

/** Writes one text frame. */
export function encodeClientMessage(message: ClientMessage | Notice): string {
  return JSON.stringify(message)
}

const KNOWN_TYPES: { [T in ServerMessage['t']]: true } = {
  need: true, slots: true, joined: true, left: true, updated: true, published: true,
  unpublished: true, track: true, stream: true, codec: true, room: true, data: true, grants: true,
  restart_ice: true, welcome: true, answer: true, ok: true, err: true, pong: true, speakers: true,
  token: true, ice_servers: true, goaway: true, bye: true,
}
const KNOWN: ReadonlySet<string> = new Set(Object.keys(KNOWN_TYPES))
