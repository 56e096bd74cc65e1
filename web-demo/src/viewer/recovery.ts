/** What to do about a fatal error of the player, by hls.js's rules, and when to stop doing it. */

/** Kinds of errors, by what may help. */
export type ErrorKind = 'network' | 'media' | 'other'

/**
 * `load`: start loading again. `media`: give the decoder a new start; `swap`: the same, after taking
 * the sound's codec for its sibling. `fail`: nothing here helps; a new player may.
 */
export type Repair = 'load' | 'media' | 'swap' | 'fail'

const NETWORK_WINDOW_MS = 30_000
const NETWORK_MAX = 3
const MEDIA_WINDOW_MS = 20_000

/** Counts the repairs of one player; those of long ago are forgotten. */
export class Recovery {
  #network: number[] = []
  #media: number[] = []

  next(kind: ErrorKind, nowMs: number): Repair {
    if (kind === 'network') {
      this.#network = [...this.#network.filter((at) => nowMs - at < NETWORK_WINDOW_MS), nowMs]
      return this.#network.length > NETWORK_MAX ? 'fail' : 'load'
    }
    if (kind === 'other') return 'fail'
    this.#media = [...this.#media.filter((at) => nowMs - at < MEDIA_WINDOW_MS), nowMs]
    return (['media', 'swap'] as const)[this.#media.length - 1] ?? 'fail'
  }
}

/** How far a viewer may fall behind before the player jumps, and how fast it plays to catch up. */
export interface Pace {
  latencyMaxS: number
  rateMax: number
}

const CATCH_UP_RATE = 1.25

/**
 * The pace of a player that is `targetS` behind the live edge when all is well. A little further back
 * it plays faster; more than a segment further back it jumps. (hls.js takes whoever is further back
 * than `2 * target + targetDuration` for somebody who went back, and would leave them there.) Held
 * (paused, or gone back on purpose), it does neither.
 */
export function paceFor(targetS: number, targetDurationS: number, isHeld: boolean): Pace {
  if (isHeld) return { latencyMaxS: Infinity, rateMax: 1 }
  return { latencyMaxS: targetS + targetDurationS, rateMax: CATCH_UP_RATE }
}
