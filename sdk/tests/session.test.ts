import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import type { PlenumError } from '../src/errors'
import { SUBPROTOCOL } from '../src/protocol'
import type { Happening, Welcome } from '../src/protocol'
import { Session } from '../src/session'
import type { Beginning, SocketLike } from '../src/session'
import { FakeServer } from './fake-server'

/** Records what a session tells and lets a test wait for it. */
class Listener {
  readonly told: string[] = []
  readonly events: Happening[] = []
  ended: PlenumError | undefined
  #wake: (() => void)[] = []

  async hello(resume: boolean) {
    return resume ? { token: 'T' } : { token: 'T', offer: { id: 1, sdp: 'v=0' } }
  }

  welcomed(_: Welcome, how: Beginning): void {
    this.#tell(how)
  }

  received(event: Happening): void {
    this.events.push(event)
    this.#tell(event.t)
  }

  suspended(): void {
    this.#tell('suspended')
  }

  finished(error: PlenumError | undefined): void {
    this.ended = error
    this.#tell('ended')
  }

  async until(what: string): Promise<void> {
    while (!this.told.includes(what)) await new Promise<void>((resolve) => this.#wake.push(resolve))
  }

  #tell(what: string): void {
    this.told.push(what)
    for (const wake of this.#wake.splice(0)) wake()
  }
}

describe('a session', () => {
  let server: FakeServer
  let listener: Listener
  let session: Session

  beforeEach(async () => {
    server = await FakeServer.start()
    listener = new Listener()
    session = new Session(
      server.url,
      {
        hello: (resume) => listener.hello(resume),
        welcomed: (welcome, how) => listener.welcomed(welcome, how),
        received: (event) => listener.received(event),
        suspended: () => listener.suspended(),
        ended: (error) => listener.finished(error),
      },
      (url) => {
        const socket = new WebSocket(url, SUBPROTOCOL)
        socket.on('error', () => {}) // `close` follows, which is what browsers go by
        return socket as unknown as SocketLike
      },
    )
  })

  afterEach(() => {
    session.leave()
    server.stop()
  })

  async function join(fields: Partial<Welcome> = {}) {
    const joining = session.join()
    const socket = await server.socket()
    await socket.frame('hello')
    socket.welcome(fields)
    await joining
    return socket
  }

  it('sends the token and the first offer in the first frame', async () => {
    const socket = await join()
    expect(socket.frames[0]).toMatchObject({ t: 'hello', v: [1], token: 'T', offer: { id: 1 } })
    expect(socket.frames[0]).not.toHaveProperty('resume')
    expect(listener.told).toEqual(['joined'])
  })

  it('reports why it was refused', async () => {
    const joining = session.join()
    const socket = await server.socket()
    await socket.frame('hello')
    socket.send({ t: 'err', code: 'token_expired', message: 'too late' })
    await expect(joining).rejects.toMatchObject({ code: 'token_expired', retryable: false })
  })

  it('reports a server that is not there', async () => {
    server.stop()
    await expect(session.join()).rejects.toMatchObject({ code: 'unreachable' })
  })

  it('can be aborted while it joins', async () => {
    const abort = new AbortController()
    const joining = session.join(abort.signal)
    await server.socket()
    abort.abort()
    await expect(joining).rejects.toMatchObject({ code: 'aborted' })
  })

  it('matches answers to requests by id', async () => {
    const socket = await join()
    const muting = session.request({ t: 'track', track: 't_1', muted: true })
    const refused = session.request({ t: 'unpublish', track: 't_9' })
    const { id } = await socket.frame('track')
    const { id: other } = await socket.frame('unpublish')
    socket.send({ t: 'err', id: other!, code: 'not_found', message: 'no such track' })
    socket.send({ t: 'ok', id: id! })
    await expect(refused).rejects.toMatchObject({ code: 'not_found' })
    await expect(muting).resolves.toMatchObject({ t: 'ok' })
  })

  it('resumes with the key and the number of the last event', async () => {
    const first = await join({ n: 4 })
    first.send({ n: 5, t: 'need', audio: 3, video: 9 })
    await listener.until('need')
    first.cut()
    const second = await server.socket()
    expect((await second.frame('hello'))['resume']).toEqual({ session: 's1', key: 'k1', n: 5 })
    second.welcome({ resumed: true, resumeKey: 'k2', n: 6 })
    await listener.until('resumed')
    second.send({ n: 6, t: 'restart_ice', reason: 'x' })
    await listener.until('restart_ice')
    expect(listener.told).toEqual(['joined', 'need', 'suspended', 'resumed', 'restart_ice'])
    second.cut()
    const third = await server.socket()
    expect((await third.frame('hello'))['resume']).toEqual({ session: 's1', key: 'k2', n: 6 })
  })

  it('hands each event on once, also when it is replayed', async () => {
    const first = await join()
    first.send({ n: 1, t: 'need', audio: 3, video: 7 })
    await listener.until('need')
    first.cut()
    const second = await server.socket()
    await second.frame('hello')
    second.welcome({ resumed: true, n: 2 })
    second.send({ n: 1, t: 'need', audio: 3, video: 7 })
    second.send({ n: 2, t: 'restart_ice', reason: 'x' })
    await listener.until('restart_ice')
    expect(listener.events.map(({ t }) => t)).toEqual(['need', 'restart_ice'])
  })

  it('counts on from the snapshot when too much was missed', async () => {
    const first = await join({ n: 4 })
    first.cut()
    const second = await server.socket()
    await second.frame('hello')
    second.welcome({ resumed: true, resync: true, n: 900 })
    await listener.until('resumed')
    second.cut()
    const third = await server.socket()
    expect((await third.frame('hello'))['resume']).toMatchObject({ n: 900 })
  })

  it('joins anew, with an offer, when the server no longer knows it', async () => {
    const first = await join()
    first.cut()
    const second = await server.socket()
    await second.frame('hello')
    second.send({ t: 'err', code: 'resume_unknown', message: 'gone' })
    const third = await server.socket()
    const hello = await third.frame('hello')
    expect(hello).not.toHaveProperty('resume')
    expect(hello).toHaveProperty('offer')
    third.welcome({ session: 's2' })
    await listener.until('rejoined')
  })

  it('rejects requests that the drop left without an answer', async () => {
    const socket = await join()
    const muting = session.request({ t: 'track', track: 't_1', muted: true })
    await socket.frame('track')
    socket.cut()
    await expect(muting).rejects.toMatchObject({ code: 'connection_lost', retryable: true })
    await expect(session.request({ t: 'unpublish', track: 't_1' })).rejects.toMatchObject({ code: 'connection_lost' })
  })

  it.each([4030, 4050, 1001, 1011, 1013])('comes back after close code %i', async (code) => {
    const first = await join()
    first.close(code)
    const second = await server.socket()
    expect(await second.frame('hello')).toHaveProperty('resume')
  })

  it.each([
    [4001, 'unauthorized'],
    [4003, 'forbidden'],
    [4009, 'duplicate_identity'],
    [4010, 'removed'],
    [4029, 'rate_limited'],
  ])('stays away after close code %i', async (code, error) => {
    const socket = await join()
    socket.close(code)
    await listener.until('ended')
    expect(listener.ended?.code).toBe(error)
    expect(server.count).toBe(1)
  })

  it('ends with the reason of a bye', async () => {
    const socket = await join()
    socket.send({ t: 'bye', code: 'removed' })
    await listener.until('ended')
    expect(listener.ended?.code).toBe('removed')
  })

  it('comes back, as someone new, to a server that goes down', async () => {
    const first = await join()
    first.send({ t: 'bye', code: 'server_shutdown' })
    first.close(4050)
    const second = await server.socket()
    expect(await second.frame('hello')).toHaveProperty('offer')
    second.close(4050) // it is not up again yet
    const third = await server.socket()
    const hello = await third.frame('hello')
    expect(hello).not.toHaveProperty('resume')
    third.welcome({ session: 's2' })
    await listener.until('rejoined')
    expect(listener.ended).toBeUndefined()
  })

  it('comes back when asked to', async () => {
    const first = await join()
    first.send({ t: 'goaway', action: 'resume', afterMs: 0, reason: 'deploy' })
    const second = await server.socket()
    expect(await second.frame('hello')).toHaveProperty('resume')
    second.welcome({ resumed: true })
    await listener.until('resumed')
    second.send({ t: 'goaway', action: 'rejoin', afterMs: 0, reason: 'deploy' })
    const third = await server.socket()
    expect(await third.frame('hello')).toHaveProperty('offer')
  })

  it('says that it leaves and tells so', async () => {
    const socket = await join()
    session.leave()
    await socket.frame('leave')
    expect(listener.told.at(-1)).toBe('ended')
    expect(listener.ended).toBeUndefined()
  })

  it('notices a server that fell silent', async () => {
    const first = await join({ ping: { intervalMs: 20, timeoutMs: 20 } })
    await first.frame('ping')
    await listener.until('suspended')
    const second = await server.socket()
    expect(await second.frame('hello')).toHaveProperty('resume')
  })
})
