/**
 * The server's clock as far as `Date` headers tell it. One header is good to a second only; each
 * further one narrows the interval in which the difference to our clock must lie.
 */
export class ServerClock {
  /** Bounds of server time minus ours, in ms. */
  #low = -Infinity
  #high = Infinity

  /** An answer with this `Date` to what was sent and came back at these times of our clock. */
  note(date: string | null, sentMs: number, receivedMs: number): void {
    const second = Date.parse(date ?? '')
    if (Number.isNaN(second)) return
    const [low, high] = [second - receivedMs, second + SECOND_MS - sentMs]
    this.#low = Math.max(this.#low, low)
    this.#high = Math.min(this.#high, high)
    // One of the clocks was set.
    if (this.#low > this.#high) [this.#low, this.#high] = [low, high]
  }

  /** The server's time now; `undefined` while it is not known to within a quarter of a second. */
  at(nowMs: number): number | undefined {
    if (this.#high - this.#low > 2 * GOOD_MS) return undefined
    return nowMs + (this.#low + this.#high) / 2
  }
}

const SECOND_MS = 1000
const GOOD_MS = 250
