/** Sound or pictures of another participant, as they come through whichever slot carries them. */
import type { AdaptiveView } from './adaptive'
import type { Playback } from './audio'
import { cover } from './cover'
import type { Kind } from './protocol'
import { StatsReader } from './stats'
import type { TrackStats } from './stats'

/**
 * Lives as long as its publication. Elements stay attached while the server moves the track from
 * slot to slot or takes its slot away; they show nothing while there is none.
 */
export class RemoteTrack {
  readonly kind: Kind
  /** The publication's id. */
  readonly id: string
  readonly #playback: Playback
  readonly #view: AdaptiveView
  readonly #elements = new Map<HTMLMediaElement, (() => void) | undefined>()
  readonly #stats = new StatsReader()
  #receiver: RTCRtpReceiver | undefined
  #firstTs: number | undefined

  /** @internal */
  constructor(id: string, kind: Kind, playback: Playback, view: AdaptiveView) {
    this.id = id
    this.kind = kind
    this.#playback = playback
    this.#view = view
  }

  /** The track to play; `null` while no slot carries it. It may change. */
  get mediaStreamTrack(): MediaStreamTrack | null {
    return this.#receiver?.track ?? null
  }

  /** Elements that play it. */
  get attachedElements(): readonly HTMLMediaElement[] {
    return [...this.#elements.keys()]
  }

  /** Plays it in an element, a new one by default, which the caller puts into the page. */
  attach(element: HTMLMediaElement = document.createElement(this.kind)): HTMLMediaElement {
    if (this.#elements.has(element)) return element
    element.autoplay = true
    if (element instanceof HTMLVideoElement) {
      element.playsInline = true
      // Sound has a track and an element of its own.
      element.muted = true
    }
    this.#elements.set(element, undefined)
    if (this.kind === 'video') this.#view.observe(this.id, element)
    this.#show(element)
    return element
  }

  /** Stops playing it in one element, or in all; returns those. */
  detach(element?: HTMLMediaElement): HTMLMediaElement[] {
    const detached = element ? [element].filter((one) => this.#elements.has(one)) : [...this.#elements.keys()]
    for (const one of detached) {
      this.#clear(one)
      this.#elements.delete(one)
      this.#view.unobserve(this.id, one)
    }
    return detached
  }

  /** Figures since the last call; `undefined` while no slot carries it. */
  async getStats(): Promise<TrackStats | undefined> {
    const report = await this.#receiver?.getStats()
    return report && this.#stats.read(report)
  }

  /** A slot carries it from RTP timestamp `ts` on. @internal */
  bind(receiver: RTCRtpReceiver, ts: number | undefined): void {
    this.#receiver = receiver
    this.#firstTs = ts
    for (const element of this.#elements.keys()) this.#show(element)
  }

  /** No slot carries it. @internal */
  unbind(): void {
    this.#receiver = undefined
    for (const element of this.#elements.keys()) this.#clear(element)
  }

  #show(element: HTMLMediaElement): void {
    const track = this.mediaStreamTrack
    if (!track) return
    this.#elements.get(element)?.()
    element.srcObject = new MediaStream([track])
    const covered = element instanceof HTMLVideoElement && this.#firstTs !== undefined
    this.#elements.set(element, covered ? cover(element, this.#firstTs) : undefined)
    this.#playback.play(element)
  }

  #clear(element: HTMLMediaElement): void {
    this.#elements.get(element)?.()
    this.#elements.set(element, undefined)
    this.#playback.release(element)
    element.srcObject = null
  }
}
