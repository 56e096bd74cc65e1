/** Plays a broadcast by hls.js; a chunk of its own, loaded when there is something to play. */
import Hls from 'hls.js'
import type { ErrorData, HlsConfig } from 'hls.js'
import type { Player, PlayerDelegate } from './player'
import { NO_CODEC, NOT_LOADED, NOT_PLAYED, NOT_SUPPORTED, refusalOf } from './problems'
import { AUTO } from './quality'
import type { Rung } from './quality'
import { paceFor, Recovery } from './recovery'
import type { ErrorKind } from './recovery'
import type { ServerClock } from './server-clock'
import type { Failure } from './state'

const CONFIG: Partial<HlsConfig> = {
  lowLatencyMode: true,
  // Fragments are fMP4 already: there is nothing worth a worker.
  enableWorker: false,
  capLevelToPlayerSize: true,
  backBufferLength: 60,
  // One stall is no reason to stay a second further behind for good; see `#settle`.
  liveSyncOnStallIncrease: 0.5,
  // The page decides what a refusal of the first playlist means.
  manifestLoadPolicy: {
    default: { maxTimeToFirstByteMs: 10_000, maxLoadTimeMs: 15_000, timeoutRetry: null, errorRetry: null },
  },
}
/** Further behind the target than this, a button leads back. */
const BEHIND_S = 3
/** After so long without a stall the distance that stalls added is given up. */
const SETTLED_MS = 60_000

export class HlsPlayer implements Player {
  chosen = AUTO
  readonly #hls: Hls
  readonly #video: HTMLVideoElement
  readonly #delegate: PlayerDelegate
  readonly #hasToken: boolean
  readonly #recovery = new Recovery()
  readonly #listening = new AbortController()
  #isHeld = false
  #stalledAtMs = performance.now()

  constructor(video: HTMLVideoElement, url: string, hasToken: boolean, delegate: PlayerDelegate) {
    this.#video = video
    this.#delegate = delegate
    this.#hasToken = hasToken
    this.#hls = new Hls(CONFIG)
    if (!Hls.isSupported()) {
      queueMicrotask(() => delegate.failed({ problem: NOT_SUPPORTED }))
      return
    }
    this.#listen()
    this.#hls.loadSource(url)
    this.#hls.attachMedia(video)
  }

  get rungs(): readonly Rung[] {
    return this.#hls.levels.map(({ height, frameRate, bitrate }) => ({ height, frameRate, bitrate }))
  }

  get shown(): number {
    return this.#hls.currentLevel
  }

  get isBehind(): boolean {
    const { targetLatency, latency } = this.#hls
    return targetLatency !== null && latency - targetLatency > BEHIND_S
  }

  latencyS(clock: ServerClock): number | undefined {
    const sent = this.#hls.playingDate?.getTime()
    const now = clock.at(Date.now())
    const known = sent === undefined || now === undefined ? this.#hls.latency : (now - sent) / 1000
    return known > 0 ? known : undefined
  }

  choose(level: number): void {
    this.chosen = level
    this.#hls.nextLevel = level
    this.#delegate.changed()
  }

  hold(): void {
    this.#isHeld = true
    this.#setPace()
  }

  resume(): void {
    this.#isHeld = this.isBehind
    this.#setPace()
  }

  goLive(): void {
    this.#isHeld = false
    this.#setPace()
    const { liveSyncPosition } = this.#hls
    if (liveSyncPosition !== null && liveSyncPosition > this.#video.currentTime) this.#video.currentTime = liveSyncPosition
  }

  stop(): void {
    this.#listening.abort()
    this.#hls.destroy()
  }

  #listen(): void {
    const hls = this.#hls
    const { signal } = this.#listening
    hls.on(Hls.Events.LEVEL_UPDATED, () => this.#setPace())
    hls.on(Hls.Events.LEVELS_UPDATED, () => this.#delegate.changed())
    hls.on(Hls.Events.MANIFEST_PARSED, () => this.#delegate.changed())
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this.#delegate.changed())
    hls.on(Hls.Events.ERROR, (_, data) => this.#failed(data))
    this.#video.addEventListener('playing', () => this.#delegate.playing(), { signal })
    this.#video.addEventListener('ended', () => this.#delegate.ended(), { signal })
    this.#video.addEventListener('timeupdate', () => this.#settle(), { signal })
    this.#video.addEventListener('waiting', () => {
      this.#stalledAtMs = performance.now()
      this.#delegate.stalled()
    }, { signal })
  }

  /** Set after construction only: told earlier, hls.js wants a fixed distance in place of the playlist's. */
  #setPace(): void {
    const { targetLatency, latestLevelDetails: details, config } = this.#hls
    if (targetLatency === null || !details) return
    const { latencyMaxS, rateMax } = paceFor(targetLatency, details.targetduration, this.#isHeld)
    config.liveMaxLatencyDuration = latencyMaxS
    config.maxLiveSyncPlaybackRate = rateMax
    // hls.js leaves the rate as it was when it is to change it no more.
    if (this.#isHeld) this.#video.playbackRate = 1
  }

  /** Goes back to the playlist's distance after a minute without trouble. */
  #settle(): void {
    if (performance.now() - this.#stalledAtMs < SETTLED_MS) return
    this.#stalledAtMs = performance.now()
    const { latestLevelDetails: details, targetLatency } = this.#hls
    const wanted = details?.partHoldBack || details?.holdBack
    if (wanted && targetLatency !== null && targetLatency > wanted) this.#hls.targetLatency = wanted
  }

  #failed(data: ErrorData): void {
    if (!data.fatal) return
    const isManifest = data.details.startsWith('manifest')
    if (isManifest) {
      this.#delegate.failed(this.#manifestFailure(data))
      return
    }
    const kind: ErrorKind = KINDS[data.type] ?? 'other'
    switch (this.#recovery.next(kind, performance.now())) {
      case 'load':
        this.#hls.startLoad()
        return
      case 'swap':
        this.#hls.swapAudioCodec()
        this.#hls.recoverMediaError()
        return
      case 'media':
        this.#hls.recoverMediaError()
        return
      case 'fail':
        this.#delegate.failed({ problem: kind === 'network' ? NOT_LOADED : NOT_PLAYED })
    }
  }

  #manifestFailure({ details, response, networkDetails }: ErrorData): Failure {
    if (details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) return { status: 415, problem: NO_CODEC }
    const status = response?.code
    if (!status) return { problem: NOT_LOADED }
    const isGone = status === 404 || status === 410
    const xhr = networkDetails instanceof XMLHttpRequest ? networkDetails : undefined
    const retryAfterS = Number.parseInt(xhr?.getResponseHeader('retry-after') ?? '', 10)
    return {
      status,
      problem: status < 500 && !isGone ? refusalOf(status, parsed(xhr?.responseText), this.#hasToken) : NOT_LOADED,
      ...(Number.isNaN(retryAfterS) ? {} : { retryAfterS }),
    }
  }
}

const KINDS: Readonly<Record<string, ErrorKind>> = { networkError: 'network', mediaError: 'media' }

function parsed(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '')
  } catch {
    return undefined
  }
}
