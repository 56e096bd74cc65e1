/** One try to reach the server in one way, with a peer connection that knows no other. */
import { PlenumError } from '@plenum/client'
import { isRelay, keepCandidates, serversFor } from './ways'
import type { Outcome, Way } from './ways'
import { offer, refusal } from './whep'
import type { Answered } from './whep'

/** A room in which nobody is disturbed, and the token for it. */
export interface TestRoom {
  room: string
  token: string
}

/** Asks for a test room, which needs a token that opens some room. */
export async function openTestRoom(token: string): Promise<TestRoom> {
  let response: Response
  try {
    response = await fetch('/v1/test-rooms', { method: 'POST', headers: { authorization: `Bearer ${token}` } })
  } catch (error) {
    throw new PlenumError('unreachable', String(error), error)
  }
  if (response.status !== 201) throw await refusal(response)
  return (await response.json()) as TestRoom
}

/** The longest that a way may take: some ten times there and back, even over a satellite. */
const LIMIT_MS = 8_000

/** A try that is under way. */
export class Attempt {
  /** What the server answered. */
  readonly answered: Promise<Answered>
  /** How it went; never rejects. */
  readonly outcome: Promise<Outcome>
  readonly #way: Way
  readonly #connection: RTCPeerConnection
  readonly #startedMs = performance.now()
  #problem = ''

  /** `servers`: what the server offered with an earlier answer. */
  constructor(way: Way, { room, token }: TestRoom, servers: readonly RTCIceServer[]) {
    this.#way = way
    this.#connection = new RTCPeerConnection({
      bundlePolicy: 'max-bundle',
      iceServers: serversFor(way, servers),
      iceTransportPolicy: isRelay(way) ? 'relay' : 'all',
    })
    this.#connection.addEventListener('icecandidateerror', ({ errorCode, errorText }) => {
      this.#problem = `error ${errorCode} ${errorText}`.trim()
    })
    for (const kind of ['audio', 'video']) this.#connection.addTransceiver(kind, { direction: 'recvonly' })
    const settled = this.#settled()
    this.answered = offer(this.#connection, room, token)
    this.outcome = this.#run(settled).catch((error: unknown) => ({ at: 'fails', why: error instanceof Error ? error.message : String(error) }))
  }

  async #run(settled: Promise<Outcome>): Promise<Outcome> {
    const { sdp } = await this.answered
    const isTcp = this.#way === 'tcp'
    await this.#connection.setRemoteDescription({ type: 'answer', sdp: keepCandidates(sdp, isTcp ? 'tcp' : 'udp') })
    return await settled
  }

  /** Resolves once it is connected, or will not be any more. */
  #settled(): Promise<Outcome> {
    const connection = this.#connection
    return new Promise((resolve) => {
      const fail = (why: string): void => resolve({ at: 'fails', why: this.#problem || why })
      const look = (): void => {
        if (connection.connectionState === 'connected') resolve({ at: 'works', ms: Math.round(performance.now() - this.#startedMs) })
        else if (connection.connectionState === 'failed' || connection.connectionState === 'closed') fail('no answer')
      }
      let hasRelay = false
      connection.addEventListener('connectionstatechange', look)
      connection.addEventListener('icecandidate', ({ candidate }) => {
        if (candidate?.candidate) hasRelay = true
        // The last one: without any there is no way from here.
        else if (!candidate && isRelay(this.#way) && !hasRelay) fail('the relay does not answer')
      })
      setTimeout(() => fail(`no answer in ${LIMIT_MS / 1000} s`), LIMIT_MS)
    })
  }

  /** Ends it here and on the server. */
  end(): void {
    this.answered.then(
      ({ end }) => void end(),
      () => this.#connection.close(),
    )
  }
}

/** Tries whether a WebSocket opens. */
export function trySignal(): Promise<Outcome> {
  const url = new URL('/v1/signal', location.href)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  const startedMs = performance.now()
  return new Promise((resolve) => {
    const socket = new WebSocket(url, 'plenum.v1')
    const done = (outcome: Outcome): void => {
      resolve(outcome)
      socket.close()
    }
    socket.addEventListener('open', () => done({ at: 'works', ms: Math.round(performance.now() - startedMs) }))
    socket.addEventListener('error', () => done({ at: 'fails', why: 'the WebSocket does not open' }))
    setTimeout(() => done({ at: 'fails', why: `no answer in ${LIMIT_MS / 1000} s` }), LIMIT_MS)
  })
}
