/** Why a broadcast is not to be seen, in words for the person in front of the page. */
import { PlenumError } from '@plenum/client'
import { explain } from '../errors'
import type { Explanation } from '../errors'

/** A problem, what can be done about it, and whether another token could help. */
export interface Problem extends Explanation {
  asksForToken?: boolean
}

/** The server answered 4xx; `body` is its problem document (RFC 9457) where there is one. */
export function refusalOf(status: number, body: unknown, hasToken: boolean): Problem {
  const { type, code, detail } = (typeof body === 'object' && body ? body : {}) as Record<string, unknown>
  const name = [type, code].filter((one) => typeof one === 'string').join(' ')
  if (status === 429 || /session|limit/i.test(name)) {
    const isCrowd = status !== 429 || /session/i.test(`${name} ${String(detail ?? '')}`)
    return isCrowd ? TOO_MANY_SESSIONS : explain(new PlenumError('rate_limited', ''))
  }
  if (!hasToken) return NEEDS_TOKEN
  if (typeof code === 'string' && /expired/.test(code)) return { ...explain(new PlenumError('token_expired', '')), asksForToken: true }
  return NOT_YOURS
}

const TOO_MANY_SESSIONS: Problem = {
  title: 'You are watching in too many places',
  advice: 'Close the broadcast in another window or on another device, then try again.',
}
const NEEDS_TOKEN: Problem = {
  title: 'This broadcast is not open to everyone',
  advice: 'Open the link you were invited with, or paste its token below.',
  asksForToken: true,
}
const NOT_YOURS: Problem = {
  title: 'This link does not open the broadcast',
  advice: 'It may have expired. Ask whoever invited you for a new one.',
  asksForToken: true,
}

/** The player could not load it, for reasons of the network or the server. */
export const NOT_LOADED: Problem = { title: 'The broadcast cannot be loaded', advice: 'Check your connection, then try again.' }
/** The player got it and could not play it. */
export const NOT_PLAYED: Problem = { title: 'The broadcast stopped playing', advice: 'Try again. If it goes on like this, try another browser.' }
/** No way to play HLS at all. */
export const NOT_SUPPORTED: Problem = { title: 'This browser cannot play broadcasts', advice: 'Use a present version of Chrome, Edge, Firefox or Safari.' }
/** It has none of the codecs. */
export const NO_CODEC: Problem = { title: 'This browser cannot play this broadcast', advice: 'It has no decoder for the format. Try another browser.' }
