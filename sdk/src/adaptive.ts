/** Watches the elements that show remote pictures and tells the server what they need. */
import { ViewQueue, wantedFor } from './view'
import type { Shown, Wanted } from './view'

/** What a caller set by hand for one track; it outranks the size on screen. */
export type ViewOverride = Partial<Pick<Wanted, 'layer' | 'priority'>>

/** One per room. */
export class AdaptiveView {
  readonly #send: (set: Record<string, Wanted>) => void
  readonly #queue = new ViewQueue()
  readonly #shown = new Map<Element, Shown>()
  readonly #elements = new Map<string, Set<Element>>()
  readonly #overrides = new Map<string, ViewOverride>()
  readonly #sizes: ResizeObserver | undefined
  readonly #sights: IntersectionObserver | undefined
  readonly #pageChanged = () => this.#review()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(isAdaptive: boolean, send: (set: Record<string, Wanted>) => void) {
    this.#send = send
    if (!isAdaptive || typeof ResizeObserver === 'undefined') return
    this.#sizes = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) this.#note(target, contentRect)
    })
    this.#sights = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) this.#note(target, { visible: isIntersecting })
    })
    document.addEventListener('visibilitychange', this.#pageChanged)
  }

  /** An element shows a track from now on. */
  observe(track: string, element: Element): void {
    if (!this.#sizes || !this.#sights) return
    // Nothing is told before the observers have measured it.
    this.#shown.set(element, { width: 0, height: 0, visible: false })
    let elements = this.#elements.get(track)
    if (!elements) this.#elements.set(track, (elements = new Set()))
    elements.add(element)
    this.#sizes.observe(element)
    this.#sights.observe(element)
  }

  /** An element no longer shows a track. */
  unobserve(track: string, element: Element): void {
    if (!this.#elements.get(track)?.delete(element)) return
    this.#shown.delete(element)
    this.#sizes?.unobserve(element)
    this.#sights?.unobserve(element)
    this.#want(track)
  }

  /** Sets or (with `{}`) lifts what the caller wants regardless of size. */
  override(track: string, override: ViewOverride): void {
    this.#overrides.set(track, override)
    this.#want(track)
  }

  /** What the caller set for a track. */
  overrideOf(track: string): ViewOverride {
    return this.#overrides.get(track) ?? {}
  }

  /** A track is gone. */
  forget(track: string): void {
    for (const element of this.#elements.get(track) ?? []) {
      this.#shown.delete(element)
      this.#sizes?.unobserve(element)
      this.#sights?.unobserve(element)
    }
    this.#elements.delete(track)
    this.#overrides.delete(track)
    this.#queue.forget(track)
  }

  /** The server must be told everything again. */
  reset(): void {
    this.#queue.reset(performance.now())
    this.#schedule()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#sizes?.disconnect()
    this.#sights?.disconnect()
    if (this.#sizes) document.removeEventListener('visibilitychange', this.#pageChanged)
  }

  #note(element: Element, change: Partial<Shown>): void {
    const shown = this.#shown.get(element)
    if (!shown) return
    const { width = shown.width, height = shown.height, visible = shown.visible } = change
    this.#shown.set(element, { width, height, visible })
    for (const [track, elements] of this.#elements) if (elements.has(element)) this.#want(track)
  }

  #want(track: string): void {
    const override = this.#overrides.get(track) ?? {}
    const elements = this.#elements.get(track)
    // Nobody ever showed it through an element: the application handles the track itself.
    let wanted: Wanted = { w: 0, h: 0, paused: false }
    if (elements) {
      const shown = document.hidden ? [] : [...elements].map((element) => this.#shown.get(element)!)
      wanted = wantedFor(shown, window.devicePixelRatio)
    }
    // A chosen layer comes at any size, but a hidden picture still pauses.
    if (override.layer !== undefined && !wanted.paused) wanted = { w: 0, h: 0, paused: false }
    this.#queue.want(track, { ...wanted, ...override }, performance.now())
    this.#schedule()
  }

  #review(): void {
    for (const track of this.#elements.keys()) this.#want(track)
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    const next = this.#queue.nextMs
    if (next === undefined) return
    this.#timer = setTimeout(() => {
      const due = this.#queue.poll(performance.now())
      if (due) this.#send(due)
      this.#schedule()
    }, Math.max(0, next - performance.now()))
  }
}
