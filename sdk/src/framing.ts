/**
 * One message on a data channel:
 *
 * ```text
 * +----------------+---------------------------+---------+
 * | u16 big endian | that many bytes of JSON   | payload |
 * | header length  | {to?, topic}/{from,topic} |         |
 * +----------------+---------------------------+---------+
 * ```
 */
import { PlenumError } from './errors'

/** Largest whole message: header length, header and payload. */
export const MESSAGE_BYTES_MAX = 64 * 1024

/** What the sender says about a message. */
export interface OutgoingHeader {
  /** Identities it is meant for; everyone else in the room when left out. */
  to?: string[]
  topic: string
}

/** A message as received; the server stamps the sender. */
export interface IncomingMessage {
  /** The sender's identity; empty when the server itself sent it. */
  from: string
  topic: string
  payload: Uint8Array
}

/** Builds a message. Throws `too_large` above 64 KiB. */
export function frameMessage(header: OutgoingHeader, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(header))
  const total = 2 + json.length + payload.length
  if (total > MESSAGE_BYTES_MAX || json.length > 0xffff) {
    throw new PlenumError('too_large', `a message may have ${MESSAGE_BYTES_MAX} bytes, not ${total}`)
  }
  const message = new Uint8Array(total)
  new DataView(message.buffer).setUint16(0, json.length)
  message.set(json, 2)
  message.set(payload, 2 + json.length)
  return message
}

/** Takes a message apart; `undefined`: it is malformed. */
export function parseMessage(bytes: Uint8Array): IncomingMessage | undefined {
  if (bytes.length < 2) return undefined
  const end = 2 + new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint16(0)
  if (bytes.length < end) return undefined
  try {
    const header: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(2, end)))
    if (typeof header !== 'object' || header === null) return undefined
    const { from, topic } = header as Record<string, unknown>
    if (typeof topic !== 'string') return undefined
    return { from: typeof from === 'string' ? from : '', topic, payload: bytes.slice(end) }
  } catch {
    return undefined
  }
}
