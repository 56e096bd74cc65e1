/** When to try again after the signaling socket dropped. */

const DELAYS_MS = [0, 300, 1200, 2700, 4800] as const
const DELAY_LAST_MS = 7000
const JITTER_MS = 1000
const JITTER_FROM = 2 // the first two tries are immediate on purpose
const TRIES_MAX = 10
const TIME_MAX_MS = 60_000

/** Milliseconds to wait before try number `attempt` (from 0); `random` lies in [0, 1). */
export function backoffDelay(attempt: number, random: number): number {
  const delay = DELAYS_MS[attempt] ?? DELAY_LAST_MS
  return attempt < JITTER_FROM ? delay : delay + Math.floor(random * JITTER_MS)
}

/** Counts the tries of one outage. */
export class Backoff {
  #attempt = 0
  readonly #startedMs: number

  constructor(nowMs: number) {
    this.#startedMs = nowMs
  }

  /** Milliseconds until the next try; `undefined`: give up (10 tries or 60 s). */
  next(nowMs: number, random: number): number | undefined {
    if (this.#attempt >= TRIES_MAX) return undefined
    const delay = backoffDelay(this.#attempt, random)
    if (nowMs + delay - this.#startedMs > TIME_MAX_MS) return undefined
    this.#attempt += 1
    return delay
  }
}
