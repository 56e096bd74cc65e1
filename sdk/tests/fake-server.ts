/** A scripted signaling server for tests: real sockets, no media. */
import { WebSocket, WebSocketServer } from 'ws'
import type { ServerMessage, Welcome } from '../src/generated/protocol'

/** Any frame of the client. */
export interface Frame {
  t: string
  id?: number
  [field: string]: unknown
}

/** One socket of the client. */
export class FakeSocket {
  readonly frames: Frame[] = []
  readonly #socket: WebSocket
  #wake: (() => void) | undefined

  constructor(socket: WebSocket) {
    this.#socket = socket
    socket.on('message', (data) => {
      this.frames.push(JSON.parse(String(data)) as Frame)
      this.#wake?.()
    })
  }

  /** Waits for the first frame of a type. */
  async frame(type: string): Promise<Frame> {
    for (;;) {
      const found = this.frames.find(({ t }) => t === type)
      if (found) return found
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  send(message: ServerMessage | Record<string, unknown>): void {
    this.#socket.send(JSON.stringify(message))
  }

  welcome(fields: Partial<Welcome> = {}): void {
    this.send({ ...WELCOME, ...fields })
  }

  close(code: number): void {
    this.#socket.close(code)
  }

  /** Breaks the connection without a close frame. */
  cut(): void {
    this.#socket.terminate()
  }
}

/** Listens on a free port. */
export class FakeServer {
  readonly #server: WebSocketServer
  readonly #sockets: FakeSocket[] = []
  #taken = 0
  #wake: (() => void) | undefined

  private constructor(server: WebSocketServer) {
    this.#server = server
    server.on('connection', (socket) => {
      this.#sockets.push(new FakeSocket(socket))
      this.#wake?.()
    })
  }

  static async start(): Promise<FakeServer> {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'plenum.v1' })
    await new Promise((resolve) => server.once('listening', resolve))
    return new FakeServer(server)
  }

  get url(): string {
    const address = this.#server.address()
    if (typeof address !== 'object' || !address) throw new Error('not listening')
    return `ws://127.0.0.1:${address.port}/v1/signal`
  }

  /** The next socket of the client, in the order they were opened. */
  async socket(): Promise<FakeSocket> {
    while (this.#sockets.length <= this.#taken) {
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return this.#sockets[this.#taken++]!
  }

  /** How often the client connected. */
  get count(): number {
    return this.#sockets.length
  }

  stop(): void {
    for (const client of this.#server.clients) client.terminate()
    this.#server.close()
  }
}

const WELCOME: { t: 'welcome' } & Welcome = {
  t: 'welcome', v: 1, session: 's1', resumeKey: 'k1', resumed: false, resync: false, features: ['slots'],
  room: { id: 'r_1', name: 'r', metadata: '', participants: 1, broadcasting: false, recording: false },
  self: { id: 'p_1', identity: 'ann', name: 'Ann', metadata: '', attributes: {}, tracks: [] },
  grants: { canPublish: true, canPublishSources: [], canSubscribe: true, canPublishData: true, canUpdateOwnMetadata: false, roomAdmin: false },
  participants: [], slots: {}, iceServers: [],
  limits: { audioSlots: 16, videoSlots: 48, tracks: 32, frameBytes: 262_144, dataBytes: 65_536, sendBytes: 16_384 },
  ping: { intervalMs: 60_000, timeoutMs: 60_000 }, n: 0,
}
