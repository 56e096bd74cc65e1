/**
 * What the viewer page does: waits for a broadcast, plays it, comes back after trouble, or shows
 * the room by WHEP instead. Events in, effects out; knows no page, no player and no clock.
 */
import type { Problem } from './problems'
import type { Status } from './status'

/** `broadcast`: HLS, for many. `instant`: WHEP, a fraction of a second behind, for whoever has a token. */
export type Mode = 'broadcast' | 'instant'

/** Where it stands. */
export type Phase =
  | { at: 'looking' }
  | { at: 'waiting' }
  | { at: 'ended' }
  /** Instant, and not started (again). */
  | { at: 'offering'; isStopped: boolean }
  | { at: 'loading' }
  | { at: 'playing'; isStalled: boolean }
  | { at: 'retrying'; isStarting: boolean }
  /** `isFinal` false: it goes on by itself as soon as the server says otherwise. */
  | { at: 'refused'; problem: Problem; isFinal: boolean }

/** Why a player gave up. */
export interface Failure {
  /** HTTP status of the first playlist, where that is what failed. */
  status?: number
  retryAfterS?: number
  problem: Problem
}

/** What happens to the page. */
export type ViewerEvent =
  | { t: 'status'; status: Status }
  | { t: 'denied'; problem: Problem }
  | { t: 'unknown' }
  | { t: 'choose'; mode: Mode }
  | { t: 'watch' }
  | { t: 'stop' }
  | { t: 'playing' }
  | { t: 'stalled' }
  | { t: 'steady' }
  | { t: 'ended' }
  | { t: 'failed'; failure: Failure }
  | { t: 'due' }

/** What is to be done; `retry`: tell `due` after so long. */
export type Effect = { t: 'play'; mode: Mode } | { t: 'quit'; mode: Mode } | { t: 'retry'; afterMs: number } | { t: 'poll' }

const FAILURES_MAX = 6
const RETRY_MS = 1000
const RETRY_MAX_MS = 15_000
const STARTING_S = 2
const STARTING_MAX_S = 30

/** The page's state. */
export class ViewerState {
  #mode: Mode = 'broadcast'
  #phase: Phase = { at: 'looking' }
  #status: Status | undefined
  #isChosen = false
  #canInstant: boolean
  #failures = 0
  /** When the broadcast began that is played, and the one that was played to its end. */
  #playedStart: string | undefined
  #endedStart: { at: string | undefined } | undefined

  /** `canInstant`: there is a token that may open the room. */
  constructor(canInstant: boolean) {
    this.#canInstant = canInstant
  }

  get mode(): Mode {
    return this.#mode
  }

  get phase(): Phase {
    return this.#phase
  }

  /** The server's last word. */
  get status(): Status | undefined {
    return this.#status
  }

  get canInstant(): boolean {
    return this.#canInstant
  }

  /** There is something to choose between. */
  get hasChoice(): boolean {
    return this.#canInstant && (this.#isOn || this.#mode === 'broadcast' || this.#isChosen)
  }

  /** What a button in the middle of the picture would do. */
  get action(): 'watch' | 'again' | undefined {
    const { at } = this.#phase
    if (at === 'refused') return 'again'
    if (at === 'offering') return 'watch'
    return this.#canInstant && (at === 'waiting' || at === 'ended') ? 'watch' : undefined
  }

  /** Takes an event in and says what is to be done. */
  apply(event: ViewerEvent): Effect[] {
    switch (event.t) {
      case 'status':
        return this.#heard(event.status)
      case 'denied':
        return this.#denied(event.problem)
      case 'unknown':
        // The room itself may be there all the same.
        return this.#phase.at === 'looking' && this.#canInstant ? this.#offer() : []
      case 'choose':
        return event.mode === this.#mode ? [] : this.#choose(event.mode)
      case 'watch':
        return this.#watch()
      case 'stop':
        if (this.#mode !== 'instant' || !this.#isBusy) return []
        this.#phase = { at: 'offering', isStopped: true }
        return [{ t: 'quit', mode: 'instant' }]
      case 'due':
        return this.#phase.at === 'retrying' ? this.#play('broadcast') : []
      default:
        return this.#isBusy ? this.#played(event) : []
    }
  }

  /** The broadcast runs, and it is not the one whose end was seen. */
  get #isOn(): boolean {
    const status = this.#status
    return status !== undefined && isOn(status) && !(this.#endedStart && this.#endedStart.at === status.startedAt)
  }

  get #isBusy(): boolean {
    const { at } = this.#phase
    return at === 'loading' || at === 'playing'
  }

  #heard(status: Status): Effect[] {
    const wasOver = this.#status !== undefined && !isOn(this.#status)
    this.#status = status
    if (isOn(status)) return this.#look()
    this.#endedStart = undefined
    // A player that missed the last of it waits for more, which never comes.
    if (wasOver && this.#mode === 'broadcast' && this.#phase.at === 'playing' && this.#phase.isStalled) {
      this.#phase = { at: 'ended' }
      return [{ t: 'quit', mode: 'broadcast' }]
    }
    return this.#look()
  }

  /** Acts on the server's last word. */
  #look(): Effect[] {
    const { at } = this.#phase
    // Whatever was refused is over once the broadcast is.
    const isForgiven = at === 'refused' && (!this.#phase.isFinal || !this.#isOn)
    const isOpen = at === 'looking' || at === 'waiting' || at === 'ended' || isForgiven
    if (this.#mode === 'instant') {
      if (at !== 'offering' || this.#phase.isStopped || this.#isChosen || !this.#isOn) return []
      return this.#play('broadcast')
    }
    if (isOpen && this.#isOn) return this.#play('broadcast')
    if (!isOpen && (at !== 'retrying' || this.#isOn)) return []
    if (this.#status?.state === 'none' && at === 'looking' && this.#canInstant && !this.#isChosen) return this.#offer()
    if (this.#status) this.#phase = { at: this.#status.state === 'none' && at !== 'ended' ? 'waiting' : 'ended' }
    return []
  }

  #denied(problem: Problem): Effect[] {
    if (this.#mode === 'instant' || this.#isBusy) return []
    if (this.#phase.at === 'looking' && this.#canInstant && !this.#isChosen) return this.#offer()
    this.#phase = { at: 'refused', problem, isFinal: false }
    return []
  }

  #offer(): Effect[] {
    this.#mode = 'instant'
    this.#phase = { at: 'offering', isStopped: false }
    return []
  }

  #play(mode: Mode): Effect[] {
    this.#mode = mode
    this.#phase = { at: 'loading' }
    this.#playedStart = this.#status?.startedAt
    return [{ t: 'play', mode }]
  }

  #choose(mode: Mode): Effect[] {
    if (mode === 'instant' && !this.#canInstant) return []
    const quit: Effect[] = this.#isBusy ? [{ t: 'quit', mode: this.#mode }] : []
    this.#isChosen = true
    this.#failures = 0
    if (mode === 'instant') return [...quit, ...this.#play('instant')]
    this.#mode = 'broadcast'
    this.#phase = { at: 'looking' }
    return [...quit, ...(this.#status ? this.#look() : [{ t: 'poll' } as const])]
  }

  #watch(): Effect[] {
    if (this.action === undefined) return []
    if (this.#mode === 'instant') return this.#play('instant')
    if (this.action === 'watch') return this.#choose('instant')
    this.#failures = 0
    if (this.#isOn) return this.#play('broadcast')
    this.#phase = { at: 'looking' }
    return [{ t: 'poll' }]
  }

  #played(event: Extract<ViewerEvent, { t: 'playing' | 'stalled' | 'steady' | 'ended' | 'failed' }>): Effect[] {
    switch (event.t) {
      case 'playing':
        this.#phase = { at: 'playing', isStalled: false }
        return []
      case 'stalled':
        if (this.#phase.at === 'playing') this.#phase = { at: 'playing', isStalled: true }
        return []
      case 'steady':
        this.#failures = 0
        return []
      case 'ended':
        this.#endedStart = { at: this.#playedStart }
        this.#phase = { at: 'ended' }
        return [{ t: 'quit', mode: this.#mode }, ...(this.#isOn ? this.#look() : [{ t: 'poll' } as const])]
      case 'failed':
        return this.#failed(event.failure)
    }
  }

  #failed({ status, retryAfterS, problem }: Failure): Effect[] {
    const quit: Effect = { t: 'quit', mode: this.#mode }
    const isRefusal = status !== undefined && status >= 400 && status < 500 && status !== 404 && status !== 410
    if (this.#mode === 'instant' || isRefusal) {
      this.#phase = { at: 'refused', problem, isFinal: true }
      return [quit]
    }
    if (status === 503) {
      this.#phase = { at: 'retrying', isStarting: true }
      return [quit, { t: 'retry', afterMs: Math.min(Math.max(retryAfterS ?? STARTING_S, 1), STARTING_MAX_S) * 1000 }]
    }
    this.#failures += 1
    if (this.#failures > FAILURES_MAX) {
      this.#phase = { at: 'refused', problem, isFinal: true }
      return [quit]
    }
    this.#phase = { at: 'retrying', isStarting: false }
    return [quit, { t: 'retry', afterMs: Math.min(RETRY_MS * 2 ** (this.#failures - 1), RETRY_MAX_MS) }, { t: 'poll' }]
  }
}

function isOn({ state }: Status): boolean {
  return state === 'live' || state === 'starting'
}
