/** Whether a room is broadcast, and how many watch: asked of the server again and again. */
import { refusalOf } from './problems'
import type { Problem } from './problems'

/** What the server says about a room's broadcast. */
export interface Status {
  state: 'none' | 'starting' | 'live' | 'ended'
  viewers?: number
  /** RFC 3339; tells one broadcast of a room from the next. */
  startedAt?: string
}

/** One answer; `denied`: the server will not tell this viewer. */
export type StatusAnswer = { status: Status } | { denied: Problem }

/** The path of a broadcast's file, with the token of the page where it has one. */
export function livePath(room: string, file: string, token: string): string {
  const path = `/live/${encodeURIComponent(room)}/${file}`
  return token ? `${path}?${new URLSearchParams({ token })}` : path
}

/** Asks once. Rejects when the server cannot be reached or does not make sense. */
export async function askStatus(room: string, token: string, heard: (date: string | null, sentMs: number) => void): Promise<StatusAnswer> {
  const sentMs = Date.now()
  const response = await fetch(livePath(room, 'status.json', token), { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) })
  // What a cache kept for a while tells no time.
  if (!response.headers.has('age')) heard(response.headers.get('date'), sentMs)
  if (response.status === 404) return { status: { state: 'none' } }
  const body: unknown = await response.json().catch(() => undefined)
  if (response.ok) return { status: readStatus(body) }
  if (response.status >= 500) throw new Error(`the server answered ${response.status}`)
  return { denied: refusalOf(response.status, body, token !== '') }
}

const TIMEOUT_MS = 10_000
const STATES: ReadonlySet<unknown> = new Set(['none', 'starting', 'live', 'ended'])

/** Reads `status.json`; throws on what is none. */
export function readStatus(body: unknown): Status {
  const { state, viewers, startedAt } = (body ?? {}) as Record<keyof Status, unknown>
  if (!STATES.has(state)) throw new Error('no status of a broadcast')
  const status: Status = { state: state as Status['state'] }
  if (typeof viewers === 'number' && viewers >= 0) status.viewers = Math.round(viewers)
  if (typeof startedAt === 'string') status.startedAt = startedAt
  return status
}

/** What polling needs and tells. */
export interface PollDelegate {
  ask(): Promise<StatusAnswer>
  answered(answer: StatusAnswer): void
  failed(): void
  isHidden(): boolean
  /** In [0, 1). */
  random(): number
}

const EVERY_MS = 5000
const HIDDEN_MS = 30_000
const FAILING_MAX_MS = 60_000

/** Asks every 5 s; more seldom while nobody looks or no answer comes. */
export class StatusPoll {
  readonly #delegate: PollDelegate
  #timer: ReturnType<typeof setTimeout> | undefined
  #failures = 0
  #isAsking = false
  #isRunning = false

  constructor(delegate: PollDelegate) {
    this.#delegate = delegate
  }

  /** Asks now, and goes on. */
  start(): void {
    this.#isRunning = true
    void this.#ask()
  }

  stop(): void {
    this.#isRunning = false
    clearTimeout(this.#timer)
  }

  /** A good moment: the page is looked at again, or something has just changed. */
  now(): void {
    if (this.#isRunning) void this.#ask()
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return
    clearTimeout(this.#timer)
    this.#isAsking = true
    try {
      const answer = await this.#delegate.ask()
      this.#failures = 'denied' in answer ? this.#failures + 1 : 0
      if (this.#isRunning) this.#delegate.answered(answer)
    } catch {
      this.#failures += 1
      if (this.#isRunning) this.#delegate.failed()
    }
    this.#isAsking = false
    if (this.#isRunning) this.#timer = setTimeout(() => void this.#ask(), this.#delayMs())
  }

  #delayMs(): number {
    const failing = Math.min(EVERY_MS * 2 ** this.#failures, FAILING_MAX_MS)
    const delay = this.#delegate.isHidden() ? Math.max(failing, HIDDEN_MS) : failing
    // A thousand viewers that began together do not go on asking together.
    return delay * (0.9 + 0.2 * this.#delegate.random())
  }
}
