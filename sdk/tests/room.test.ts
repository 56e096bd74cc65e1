import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { WebSocket } from 'ws'
import { Room } from '../src/room'
import type { RoomOptions } from '../src/room'
import { SUBPROTOCOL } from '../src/protocol'
import type { SocketLike } from '../src/session'
import { FakeServer } from './fake-server'

describe('a room without media', () => {
  let server: FakeServer
  let room: Room

  beforeEach(async () => {
    vi.stubGlobal('navigator', { userAgent: 'test' })
    vi.stubGlobal('window', new EventTarget())
    vi.stubGlobal('document', new EventTarget())
    // Whoever makes one fails at once.
    vi.stubGlobal('RTCPeerConnection', undefined)
    server = await FakeServer.start()
    room = make({ media: false, roster: 'publishers' })
  })

  afterEach(() => {
    room.disconnect()
    server.stop()
    vi.unstubAllGlobals()
  })

  function make(options: RoomOptions): Room {
    const openSocket = (url: string) => {
      const socket = new WebSocket(url, SUBPROTOCOL)
      socket.on('error', () => {}) // `close` follows, which is what browsers go by
      return socket as unknown as SocketLike
    }
    return new Room({ ...options, openSocket })
  }

  async function join() {
    const joining = room.connect(server.url.replace('/v1/signal', ''), 'T')
    const socket = await server.socket()
    const hello = await socket.frame('hello')
    socket.welcome()
    await joining
    return { socket, hello }
  }

  it('joins without an offer and asks for no tracks', async () => {
    const { hello } = await join()
    expect(hello).toMatchObject({ token: 'T', autoSubscribe: false, roster: 'publishers' })
    expect(hello).not.toHaveProperty('offer')
    expect(room.state).toBe('connected')
    expect(room.transport).toBe('new')
  })

  it('sends and gets messages over the socket', async () => {
    const { socket } = await join()
    const heard = new Promise<string>((resolve) => room.on('data', ({ from, topic, text }) => resolve(`${from} ${topic} ${text()}`)))
    socket.send({ t: 'data', n: 1, from: 'ben', topic: 'chat', data: 'hello' })
    expect(await heard).toBe('ben chat hello')
    for (const reliable of [true, false]) {
      socket.frames.length = 0
      const sending = room.localParticipant.sendData('hi', { topic: 'chat', reliable })
      const { id, topic, data64 } = await socket.frame('send')
      expect([topic, Buffer.from(String(data64), 'base64').toString()]).toEqual(['chat', 'hi'])
      socket.send({ t: 'ok', id })
      await sending
    }
  })

  it('refuses what needs a connection', async () => {
    await expect(room.localParticipant.sendData('early')).rejects.toMatchObject({ code: 'not_connected' })
    await join()
    await expect(room.localParticipant.sendData('x'.repeat(16_385))).rejects.toMatchObject({ code: 'too_large' })
    const track = Object.assign(new EventTarget(), { kind: 'audio', stop: vi.fn() })
    await expect(room.localParticipant.publish(track as unknown as MediaStreamTrack)).rejects.toMatchObject({ code: 'forbidden' })
    await expect(room.setAutoSubscribe(true)).rejects.toMatchObject({ code: 'forbidden' })
    expect(room.localParticipant.publications).toEqual([])
    expect(track.stop).toHaveBeenCalled()
  })

  it('ignores what is about media, and comes back after a drop', async () => {
    const { socket } = await join()
    socket.send({ t: 'need', n: 1, audio: 4, video: 8 })
    socket.send({ t: 'restart_ice', n: 2 })
    const back = new Promise<void>((resolve) => room.on('reconnected', resolve))
    const events = new Promise<void>((resolve) => room.on('reconnecting', resolve))
    socket.cut()
    await events
    const again = await server.socket()
    expect(await again.frame('hello')).toMatchObject({ resume: { session: 's1', key: 'k1' } })
    again.welcome({ resumed: true })
    await back
    expect(room.state).toBe('connected')
  })
})
