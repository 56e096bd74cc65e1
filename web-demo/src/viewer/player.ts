/** What the page needs of whatever plays a broadcast in a `<video>` element. */
import type { Rung } from './quality'
import type { ServerClock } from './server-clock'
import type { Failure } from './state'

/** What a player tells. */
export interface PlayerDelegate {
  playing(): void
  /** Nothing comes any more; it may go on. */
  stalled(): void
  /** Played to the end of the broadcast. */
  ended(): void
  /** Nothing helps; the player is to be stopped. */
  failed(failure: Failure): void
  /** Other rungs, or another one shown. */
  changed(): void
}

/** Plays one broadcast until it is stopped. */
export interface Player {
  /** The ladder; empty where the browser keeps it to itself. */
  readonly rungs: readonly Rung[]
  /** The rung asked for, `AUTO` by default, and the one shown. */
  readonly chosen: number
  readonly shown: number
  /** How long ago what is seen was sent, in s. */
  latencyS(clock: ServerClock): number | undefined
  /** Further back than it needs to be. */
  readonly isBehind: boolean
  choose(level: number): void
  /** The person paused or went back: do not hurry to the live edge. */
  hold(): void
  /** The person goes on: follow the live edge again, unless that is far ahead. */
  resume(): void
  /** Jumps to the live edge and follows it. */
  goLive(): void
  stop(): void
}

/** Ranges of time that can be played, in the element's own seconds. */
export function windowOf(video: HTMLVideoElement): { start: number; end: number } | undefined {
  const { seekable } = video
  if (seekable.length === 0) return undefined
  const [start, end] = [seekable.start(0), seekable.end(seekable.length - 1)]
  return Number.isFinite(end - start) ? { start, end } : undefined
}

/** MSE plays what hls.js loads; without it the browser must know HLS itself. */
export function hasMse(): boolean {
  return 'ManagedMediaSource' in globalThis || 'MediaSource' in globalThis
}
