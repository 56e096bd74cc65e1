/**
 * The signaling socket as one stay in a room: joins, numbers requests, resumes after a drop, and
 * joins anew when the server no longer knows the session. Knows nothing of media.
 */
import { Backoff } from './backoff'
import { PlenumError, toPlenumError } from './errors'
import { encodeClientMessage, parseServerMessage, SUBPROTOCOL, VERSION } from './protocol'
import type { Answer, Happening, Hello, Notice, OfferMessage, Request, Resume, ServerMessage, Welcome } from './protocol'

const WELCOME_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 15_000
const CLOSE_CODES_RETRIED: ReadonlySet<number> = new Set([1001, 1006, 1011, 1012, 1013, 4030, 4050])

/** What the session needs of a WebSocket. */
export type SocketLike = Pick<WebSocket, 'send' | 'close' | 'onopen' | 'onmessage' | 'onclose' | 'readyState'>

/** How a stay began. */
export type Beginning = 'joined' | 'resumed' | 'rejoined'

/** What the session asks of and tells its room. */
export interface SessionDelegate {
  /** The first frame without `resume`; a new stay (`resume` false) comes with a first offer. */
  hello(resume: boolean): Promise<Omit<Hello, 'v' | 'resume'>>
  welcomed(welcome: Welcome, how: Beginning): void
  /** An event in order, each exactly once. */
  received(message: Happening): void
  /** The socket dropped; the session tries again by itself. */
  suspended(): void
  /** It is over. `undefined`: this side left. */
  ended(error: PlenumError | undefined): void
}

type Reply = Extract<ServerMessage, { t: 'ok' | 'answer' }>

interface Waiting {
  resolve(reply: Reply): void
  reject(error: PlenumError): void
  timer: ReturnType<typeof setTimeout>
}

type State =
  | { at: 'new' }
  | { at: 'opening' }
  | { at: 'open'; socket: SocketLike }
  | { at: 'suspended'; wake: () => void }
  | { at: 'ended' }

/** One stay in a room, over as many sockets as it takes. */
export class Session {
  readonly #url: string
  readonly #delegate: SessionDelegate
  readonly #open: (url: string) => SocketLike
  readonly #waiting = new Map<number, Waiting>()
  #state: State = { at: 'new' }
  #resume: Resume | undefined
  #nextId = 1
  #ping: ReturnType<typeof setInterval> | undefined
  #pongTimer: ReturnType<typeof setTimeout> | undefined
  #rttMs = 0

  constructor(
    url: string,
    delegate: SessionDelegate,
    open: (url: string) => SocketLike = (url) => new WebSocket(url, SUBPROTOCOL),
  ) {
    this.#url = url
    this.#delegate = delegate
    this.#open = open
  }

  /** Round trip of the last ping in milliseconds, 0 before the first. */
  get rttMs(): number {
    return this.#rttMs
  }

  get isOpen(): boolean {
    return this.#state.at === 'open'
  }

  /** Joins. One attempt: whoever calls decides whether to try again. */
  async join(signal?: AbortSignal): Promise<void> {
    try {
      await this.#attempt(signal)
    } catch (error) {
      this.#end()
      throw error
    }
  }

  /** Takes the next id for a request or an offer. */
  takeId(): number {
    return this.#nextId++
  }

  /** Sends a request and waits for its answer. Rejects with `connection_lost` when the socket drops. */
  request(request: Request, id: number = this.takeId()): Promise<Reply> {
    if (this.#state.at !== 'open') {
      return Promise.reject(new PlenumError('connection_lost', 'the signaling connection is down'))
    }
    const reply = this.#expect(id)
    this.#state.socket.send(encodeClientMessage({ ...request, id }))
    return reply
  }

  /** Sends an offer and waits for the answer. */
  async offer(offer: OfferMessage): Promise<Answer> {
    return asAnswer(await this.request({ t: 'offer', ...offer }, offer.id))
  }

  /** Waits for what became of an offer that rode in `hello` but was not answered by `welcome`. */
  async answerTo(offerId: number): Promise<Answer> {
    return asAnswer(await this.#expect(offerId))
  }

  /** Sends a message without an answer; dropped while the socket is down. */
  notify(notice: Notice): void {
    if (this.#state.at === 'open') this.#state.socket.send(encodeClientMessage(notice))
  }

  /** Tries again at once instead of waiting for the next turn. */
  wake(): void {
    if (this.#state.at === 'suspended') this.#state.wake()
  }

  /** Gives up the server's session and joins a new one with the same token. */
  rejoin(): void {
    this.#resume = undefined
    if (this.#state.at === 'open') this.#drop(this.#state.socket, 'joining anew')
  }

  /** Leaves the room for good. */
  leave(): void {
    if (this.#state.at === 'ended') return
    this.notify({ t: 'leave' })
    this.#end()
    this.#delegate.ended(undefined)
  }

  async #attempt(signal?: AbortSignal): Promise<void> {
    if (this.#state.at === 'new') this.#state = { at: 'opening' }
    const resume = this.#resume
    // The first offer is made while the socket opens.
    const hello = this.#delegate.hello(resume !== undefined).then((body) => {
      return encodeClientMessage({ t: 'hello', v: [VERSION], ...body, ...(resume ? { resume } : {}) })
    })
    await this.#enter(this.#open(this.#url), hello, signal)
    // Left while the welcome was on its way.
    if (this.#hasEnded()) throw new PlenumError('ended', 'the session has ended')
  }

  /** Takes the welcome in and listens on, in one step: the next frame may be an event. */
  #opened(socket: SocketLike, welcome: Welcome): void {
    if (this.#hasEnded()) {
      socket.onmessage = socket.onclose = null
      socket.close(1000)
      return
    }
    const isFirst = this.#state.at === 'opening'
    const { resumed, resync } = welcome
    this.#resume = {
      session: welcome.session,
      key: welcome.resumeKey,
      // The events after our number follow, unless the welcome is a fresh snapshot.
      n: resumed && !resync && this.#resume ? this.#resume.n : welcome.n,
    }
    this.#state = { at: 'open', socket }
    socket.onmessage = ({ data }) => this.#receive(String(data), socket)
    socket.onclose = ({ code, reason }) => this.#closed(socket, code, reason)
    this.#startPing(welcome.ping, socket)
    this.#delegate.welcomed(welcome, isFirst ? 'joined' : resumed ? 'resumed' : 'rejoined')
  }

  #expect(id: number): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new PlenumError('timeout', 'the server did not answer'))
      }, REQUEST_TIMEOUT_MS)
      this.#waiting.set(id, { resolve, reject, timer })
    })
  }

  #enter(socket: SocketLike, hello: Promise<string>, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (error: PlenumError) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
        socket.onopen = socket.onmessage = socket.onclose = null
        if (socket.readyState < 2) socket.close()
        reject(error)
      }
      const abort = () => fail(aborted())
      const timer = setTimeout(
        () => fail(new PlenumError('timeout', 'the server did not answer')),
        WELCOME_TIMEOUT_MS,
      )
      if (signal?.aborted) abort()
      signal?.addEventListener('abort', abort)
      let isOpen = false
      hello.catch((error: unknown) => fail(toPlenumError(error)))
      socket.onopen = () => {
        isOpen = true
        hello.then((frame) => socket.send(frame), () => {})
      }
      socket.onmessage = ({ data }) => {
        const message = parseServerMessage(String(data))
        if (message?.t === 'err') fail(new PlenumError(message.code, message.message))
        if (message?.t === 'bye') fail(byeError(message.code))
        if (message?.t !== 'welcome') return
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
        this.#opened(socket, message)
        resolve()
      }
      socket.onclose = ({ code, reason }) => {
        fail(isOpen ? closeError(code, reason) : new PlenumError('unreachable', 'the server cannot be reached'))
      }
    })
  }

  #receive(text: string, socket: SocketLike): void {
    const message = parseServerMessage(text)
    if (!message || message.t === 'welcome') return
    if ('n' in message && this.#resume) {
      if (message.n <= this.#resume.n) return // replayed, but already seen
      this.#resume.n = message.n
    }
    switch (message.t) {
      case 'ok':
      case 'answer':
        this.#settle(message.id, message)
        return
      case 'err':
        if (message.id !== undefined) this.#settle(message.id, message)
        return
      case 'pong':
        this.#rttMs = Math.max(0, Math.round(performance.now() - message.ts))
        clearTimeout(this.#pongTimer)
        return
      case 'bye':
        this.#byeSaid(message.code, socket)
        return
      case 'goaway':
        this.#goAway(message, socket)
        return
      default:
        this.#delegate.received(message)
    }
  }

  #settle(id: number, message: Extract<ServerMessage, { t: 'ok' | 'answer' | 'err' }>): void {
    const waiting = this.#waiting.get(id)
    if (!waiting) return
    this.#waiting.delete(id)
    clearTimeout(waiting.timer)
    if (message.t === 'err') waiting.reject(new PlenumError(message.code, message.message))
    else waiting.resolve(message)
  }

  /** A server that goes down, unlike a room that is over, is worth coming back to. */
  #byeSaid(code: string | undefined, socket: SocketLike): void {
    if (code !== 'server_shutdown') {
      this.#finish(byeError(code))
      return
    }
    this.#resume = undefined
    this.#drop(socket, 'the server goes down')
  }

  #goAway(message: Extract<ServerMessage, { t: 'goaway' }>, socket: SocketLike): void {
    if (message.action === 'stop') {
      this.#finish(new PlenumError('server_shutdown', message.reason || 'the server is stopping'))
      return
    }
    setTimeout(() => {
      if (message.action === 'rejoin') this.#resume = undefined
      this.#drop(socket, 'asked to come again')
    }, message.afterMs)
  }

  /** Treats a socket as gone without waiting for its close handshake. */
  #drop(socket: SocketLike, reason: string): void {
    if (this.#state.at !== 'open' || this.#state.socket !== socket) return
    socket.onmessage = socket.onclose = null
    socket.close(1000, reason)
    this.#closed(socket, 1006, reason)
  }

  #closed(socket: SocketLike, code: number, reason: string): void {
    if (this.#state.at !== 'open' || this.#state.socket !== socket) return
    const error = closeError(code, reason)
    this.#stopPing()
    this.#rejectWaiting(new PlenumError('connection_lost', 'the signaling connection was lost', error))
    if (!CLOSE_CODES_RETRIED.has(code)) {
      this.#finish(error)
      return
    }
    this.#state = { at: 'suspended', wake: () => {} }
    this.#delegate.suspended()
    void this.#recover()
  }

  async #recover(): Promise<void> {
    const backoff = new Backoff(performance.now())
    for (;;) {
      const delay = backoff.next(performance.now(), Math.random())
      if (delay === undefined) {
        this.#finish(new PlenumError('unreachable', 'the server cannot be reached'))
        return
      }
      await this.#pause(delay)
      if (this.#hasEnded()) return
      try {
        await this.#attempt()
        return
      } catch (thrown) {
        const error = toPlenumError(thrown)
        if (this.#hasEnded()) return
        if (error.code === 'resume_unknown') this.#resume = undefined
        else if (!error.retryable) {
          this.#finish(error)
          return
        }
      }
    }
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs)
      if (this.#state.at !== 'suspended') return
      this.#state.wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #startPing({ intervalMs, timeoutMs }: Welcome['ping'], socket: SocketLike): void {
    this.#stopPing()
    this.#ping = setInterval(() => {
      this.notify({ t: 'ping', ts: Math.round(performance.now()), rtt: this.#rttMs })
      clearTimeout(this.#pongTimer)
      this.#pongTimer = setTimeout(() => this.#drop(socket, 'no pong'), timeoutMs)
    }, intervalMs)
  }

  #stopPing(): void {
    clearInterval(this.#ping)
    clearTimeout(this.#pongTimer)
  }

  #rejectWaiting(error: PlenumError): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#waiting.clear()
  }

  #hasEnded(): boolean {
    return this.#state.at === 'ended'
  }

  #finish(error: PlenumError): void {
    if (this.#hasEnded()) return
    this.#end()
    this.#delegate.ended(error)
  }

  #end(): void {
    const state = this.#state
    this.#state = { at: 'ended' }
    this.#stopPing()
    this.#rejectWaiting(new PlenumError('ended', 'the session has ended'))
    if (state.at === 'suspended') state.wake()
    if (state.at !== 'open') return
    state.socket.onmessage = state.socket.onclose = null
    state.socket.close(1000)
  }
}

function aborted(): PlenumError {
  return new PlenumError('aborted', 'the call was aborted')
}

function asAnswer(reply: Reply): Answer {
  if (reply.t === 'answer') return reply
  throw new PlenumError('bad_message', 'an offer was not answered')
}

function byeError(code: string = 'ended'): PlenumError {
  return new PlenumError(code, BYE_TEXTS[code] ?? `the server ended the session: ${code}`)
}

const BYE_TEXTS: Readonly<Record<string, string>> = {
  duplicate_identity: 'the same identity joined from somewhere else',
  removed: 'you were removed from the room',
  room_closed: 'the room was closed',
}

function closeError(code: number, reason: string): PlenumError {
  return new PlenumError(CLOSE_ERRORS[code] ?? 'connection_lost', reason || `the connection was closed (${code})`)
}

const CLOSE_ERRORS: Readonly<Record<number, string>> = {
  4001: 'unauthorized',
  4003: 'forbidden',
  4004: 'room_not_found',
  4006: 'unsupported_version',
  4008: 'timeout',
  4009: 'duplicate_identity',
  4010: 'removed',
  4013: 'too_large',
  4029: 'rate_limited',
  4030: 'slow_consumer',
  4050: 'server_shutdown',
}
