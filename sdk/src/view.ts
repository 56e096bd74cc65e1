/**
 * How large each remote picture is shown, and when to tell the server.
 *
 * Growing is told after 100 ms, because someone waits for a sharper picture. Shrinking and hiding
 * are told after 3 s, because scrolling and resizing come back often.
 */
import type { ViewEntry } from './protocol'

const UP_MS = 100
const DOWN_MS = 3000
const PIXEL_RATIO_MAX = 2
const STEP_PIXELS = 16 // sizes are rounded up to this, so that a border of one pixel says nothing

/** What one track's viewer wants, in physical pixels. */
export type Wanted = Required<Pick<ViewEntry, 'w' | 'h' | 'paused'>> & Pick<ViewEntry, 'layer' | 'priority'>

/** One element that shows a track. */
export interface Shown {
  /** CSS pixels. */
  width: number
  height: number
  visible: boolean
}

/** The view that serves all elements of a track: the largest visible one decides. */
export function wantedFor(elements: readonly Shown[], pixelRatio: number): Wanted {
  const ratio = Math.min(Math.max(pixelRatio, 1), PIXEL_RATIO_MAX)
  let w = 0
  let h = 0
  for (const { width, height, visible } of elements) {
    if (!visible || width * height <= w * h) continue
    w = width
    h = height
  }
  const scale = (pixels: number) => Math.ceil((pixels * ratio) / STEP_PIXELS) * STEP_PIXELS
  return { w: scale(w), h: scale(h), paused: w * h === 0 }
}

/** Holds back views until they are due and hands them out as one batch. */
export class ViewQueue {
  readonly #told = new Map<string, Wanted>()
  readonly #waiting = new Map<string, { view: Wanted; dueMs: number }>()

  /** Notes what a track's viewer wants now. */
  want(track: string, view: Wanted, nowMs: number): void {
    const told = this.#told.get(track)
    if (told && isSame(told, view)) {
      this.#waiting.delete(track)
      return
    }
    const delay = told ? (isMore(view, told) ? UP_MS : DOWN_MS) : view.paused ? DOWN_MS : UP_MS
    const waiting = this.#waiting.get(track)
    // A change of mind keeps the clock of the first change, so that resizing cannot postpone forever.
    const dueMs = waiting ? Math.min(waiting.dueMs, nowMs + delay) : nowMs + delay
    this.#waiting.set(track, { view, dueMs: delay === DOWN_MS ? nowMs + delay : dueMs })
  }

  /** Forgets a track that is gone. */
  forget(track: string): void {
    this.#told.delete(track)
    this.#waiting.delete(track)
  }

  /** Makes everything due again: the server knows nothing (a new session). */
  reset(nowMs: number): void {
    for (const [track, view] of this.#told) {
      if (!this.#waiting.has(track)) this.#waiting.set(track, { view, dueMs: nowMs })
    }
    this.#told.clear()
  }

  /** The views that are due, or `undefined` when none is. */
  poll(nowMs: number): Record<string, Wanted> | undefined {
    const due: Record<string, Wanted> = {}
    for (const [track, { view, dueMs }] of this.#waiting) {
      if (dueMs > nowMs) continue
      due[track] = view
      this.#told.set(track, view)
      this.#waiting.delete(track)
    }
    return Object.keys(due).length > 0 ? due : undefined
  }

  /** When {@link poll} will next have something. */
  get nextMs(): number | undefined {
    let next: number | undefined
    for (const { dueMs } of this.#waiting.values()) next = Math.min(next ?? dueMs, dueMs)
    return next
  }
}

function isSame(a: Wanted, b: Wanted): boolean {
  return (
    a.paused === b.paused && a.layer === b.layer && a.priority === b.priority &&
    (a.paused || (a.w === b.w && a.h === b.h))
  )
}

function isMore(a: Wanted, b: Wanted): boolean {
  if (a.paused !== b.paused) return b.paused
  // Someone chose a layer or a priority: that is a click and wants an answer now.
  if (a.layer !== b.layer || a.priority !== b.priority) return true
  return a.w * a.h > b.w * b.h
}
