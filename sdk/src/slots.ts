/** Which receive slot carries which track: the client's copy of the server's map. */
import type { SlotSet } from './protocol'

/** One step of an update: a slot lost its track or got one. */
export type SlotStep =
  | { kind: 'cleared'; mid: string; track: string }
  | { kind: 'filled'; mid: string; track: string; ts: number | undefined }

/** Map from a slot's mid to the track it carries. */
export class SlotMap {
  readonly #tracks = new Map<string, string>()
  readonly #mids = new Map<string, string>()

  /** The slot a track is on. */
  midOf(track: string): string | undefined {
    return this.#mids.get(track)
  }

  /** The track on a slot. */
  trackOn(mid: string): string | undefined {
    return this.#tracks.get(mid)
  }

  /**
   * Applies an update and says what changed, every `cleared` before any `filled`, so that two
   * tracks can trade places. A slot that keeps its track gives no step.
   */
  apply(set: Readonly<SlotSet>): SlotStep[] {
    const cleared: SlotStep[] = []
    const filled: SlotStep[] = []
    const entries = Object.entries(set).filter(([mid, to]) => this.#tracks.get(mid) !== to?.track)
    for (const [mid] of entries) {
      const track = this.#tracks.get(mid)
      if (track === undefined) continue
      this.#tracks.delete(mid)
      this.#mids.delete(track)
      cleared.push({ kind: 'cleared', mid, track })
    }
    for (const [mid, to] of entries) {
      if (!to) continue
      const before = this.#mids.get(to.track)
      if (before !== undefined) {
        this.#tracks.delete(before)
        cleared.push({ kind: 'cleared', mid: before, track: to.track })
      }
      this.#tracks.set(mid, to.track)
      this.#mids.set(to.track, mid)
      filled.push({ kind: 'filled', mid, track: to.track, ts: to.ts })
    }
    return [...cleared, ...filled]
  }

  /** Replaces the whole map: slots that `set` does not name are empty. */
  replace(set: Readonly<SlotSet>): SlotStep[] {
    const all: SlotSet = {}
    for (const mid of this.#tracks.keys()) all[mid] = null
    return this.apply({ ...all, ...set })
  }
}

/**
 * Whether a frame belongs to the slot's new track: its RTP timestamp is at or after `ts`.
 * Both wrap at 2^32 (RFC 3550 §5.1).
 */
export function isReached(frame: number, ts: number): boolean {
  return ((frame - ts) >>> 0) < 0x8000_0000
}
