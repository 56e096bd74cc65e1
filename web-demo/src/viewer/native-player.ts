/** Plays a broadcast where the browser knows HLS itself and has no MSE: iPhones before iOS 17.1. */
import type { Player, PlayerDelegate } from './player'
import { windowOf } from './player'
import { NOT_LOADED, NOT_PLAYED, refusalOf } from './problems'
import { AUTO } from './quality'
import type { ServerClock } from './server-clock'
import type { Failure } from './state'

const EDGE_S = 2
const BEHIND_S = 12

type SafariVideo = HTMLVideoElement & { getStartDate?(): Date }

export class NativePlayer implements Player {
  readonly rungs = []
  readonly chosen = AUTO
  readonly shown = AUTO
  readonly #video: SafariVideo
  readonly #listening = new AbortController()

  constructor(video: HTMLVideoElement, url: string, hasToken: boolean, delegate: PlayerDelegate) {
    this.#video = video
    const { signal } = this.#listening
    video.addEventListener('playing', () => delegate.playing(), { signal })
    video.addEventListener('waiting', () => delegate.stalled(), { signal })
    video.addEventListener('ended', () => delegate.ended(), { signal })
    video.addEventListener('error', () => {
      const isNetwork = video.error?.code !== MediaError.MEDIA_ERR_DECODE
      void whyFailed(url, hasToken, isNetwork).then((failure) => signal.aborted || delegate.failed(failure))
    }, { signal })
    video.src = url
  }

  get isBehind(): boolean {
    const range = windowOf(this.#video)
    return range !== undefined && range.end - this.#video.currentTime > BEHIND_S
  }

  latencyS(clock: ServerClock): number | undefined {
    const start = this.#video.getStartDate?.().getTime()
    const now = clock.at(Date.now())
    if (start === undefined || Number.isNaN(start) || now === undefined) return undefined
    return (now - start) / 1000 - this.#video.currentTime
  }

  choose(): void {}

  hold(): void {}

  resume(): void {}

  goLive(): void {
    const range = windowOf(this.#video)
    if (range) this.#video.currentTime = Math.max(range.start, range.end - EDGE_S)
  }

  stop(): void {
    this.#listening.abort()
    this.#video.removeAttribute('src')
    this.#video.load()
  }
}

/** The element does not tell what the server answered. */
async function whyFailed(url: string, hasToken: boolean, isNetwork: boolean): Promise<Failure> {
  try {
    const response = await fetch(url, { cache: 'no-store' })
    if (response.ok) return { problem: isNetwork ? NOT_LOADED : NOT_PLAYED }
    const retryAfterS = Number.parseInt(response.headers.get('retry-after') ?? '', 10)
    const isGone = response.status === 404 || response.status === 410
    const body: unknown = await response.json().catch(() => undefined)
    return {
      status: response.status,
      problem: response.status < 500 && !isGone ? refusalOf(response.status, body, hasToken) : NOT_LOADED,
      ...(Number.isNaN(retryAfterS) ? {} : { retryAfterS }),
    }
  } catch {
    return { problem: NOT_LOADED }
  }
}
