/** A room as the application sees it. */
import { AdaptiveView } from './adaptive'
import { Playback } from './audio'
import { deflated, toBase64 } from './deflate'
import { listDevices } from './devices'
import type { DeviceKind } from './devices'
import { Emitter } from './emitter'
import { PlenumError, toPlenumError } from './errors'
import { frameMessage } from './framing'
import { LocalParticipant } from './local-participant'
import type { SendOptions } from './local-participant'
import type { LocalPublication } from './local-publication'
import { PageWatch } from './page-watch'
import { Peer } from './peer'
import type { Answer, Happening, Hello, OfferMessage, Request, RoomPatch, Welcome } from './protocol'
import type { RemoteParticipant } from './remote-participant'
import type { DataEvent, RoomEvents } from './room-events'
import { Roster } from './roster'
import { Session } from './session'
import type { Beginning, SocketLike } from './session'
import { signalUrl } from './url'
import { VERSION } from './version'

/** How a room behaves. */
export interface RoomOptions {
  /** Ask for the layer that fits the size on screen, and for nothing that is hidden. Default true. */
  adaptiveStream?: boolean
  /** Receive every track of the others without asking. Default true. */
  autoSubscribe?: boolean
  /** `publishers`: do not list participants without a track. Default `all`. */
  roster?: 'all' | 'publishers'
  /**
   * False: takes part without picture and sound, neither sent nor received. Messages then go over
   * the signaling socket, and no peer connection is made. Default true.
   */
  media?: boolean
  /** Leave when the page is closed, reloaded or left. Default true. */
  leaveWithPage?: boolean
  /** Passed to RTCPeerConnection. */
  rtcConfig?: RTCConfiguration
  /** Opens the signaling socket; for tests and unusual environments. */
  openSocket?: (url: string) => SocketLike
}

/** What `connect` may be told. */
export interface ConnectOptions {
  /** The name others see; counts for guests and for whom the token lets choose it. */
  name?: string
  signal?: AbortSignal
}

/** Where a room stands. */
export type RoomState = 'disconnected' | 'connecting' | 'connected' | 'reconnecting'

/** One stay in a room. Can be connected again after `disconnected`. */
export class Room extends Emitter<RoomEvents> {
  readonly localParticipant: LocalParticipant
  readonly #options: RoomOptions
  readonly #hasMedia: boolean
  readonly #playback: Playback
  readonly #view: AdaptiveView
  readonly #roster: Roster
  readonly #page: PageWatch
  #state: RoomState = 'disconnected'
  #session: Session | undefined
  #peer: Peer | undefined
  #firstOffer: OfferMessage | undefined
  #token = ''
  #autoSubscribe: boolean
  #participantCount = 0
  #displayName: string | undefined
  #sendBytesMax = 0
  #canDeflate = false
  #name = ''
  #metadata = ''

  constructor(options: RoomOptions = {}) {
    super()
    this.#options = options
    this.#hasMedia = options.media ?? true
    this.#autoSubscribe = this.#hasMedia && (options.autoSubscribe ?? true)
    this.#playback = new Playback((canPlay) => this.emit('audioPlaybackBlocked', !canPlay))
    this.#view = new AdaptiveView(options.adaptiveStream ?? true, (set) => this.#session?.notify({ t: 'view', set }))
    this.localParticipant = this.#makeLocal()
    this.#roster = new Roster(this.localParticipant, this.#playback, this.#view, {
      emit: (name, ...args) => this.emit(name, ...args),
      request: (request) => this.#request(request),
      receiver: (mid) => this.#peer?.receiver(mid),
    })
    this.#page = new PageWatch({
      wake: () => this.#session?.wake(),
      networkChanged: () => this.#peer?.restartIce(),
      // It must not linger in the room until its session runs out.
      left: () => (options.leaveWithPage ?? true) && this.disconnect(),
      devicesChanged: () => this.emit('deviceChange'),
    })
  }

  /** Lists cameras, microphones or loudspeakers. */
  static devices(kind: DeviceKind): Promise<MediaDeviceInfo[]> {
    return listDevices(kind)
  }

  get state(): RoomState {
    return this.#state
  }

  /** The room's name; empty before the first `connected`. */
  get name(): string {
    return this.#name
  }

  /** Free text of the application. */
  get metadata(): string {
    return this.#metadata
  }

  /** The others, by id of their stay. */
  get participants(): ReadonlyMap<string, RemoteParticipant> {
    return this.#roster.participants
  }

  /** Who speaks, loudest first. */
  get activeSpeakers(): readonly (LocalParticipant | RemoteParticipant)[] {
    return this.#roster.speakers
  }

  /** How many are in the room, oneself and those the roster leaves out included. */
  get participantCount(): number {
    return this.#options.roster === 'publishers' ? this.#participantCount : this.#roster.participants.size + 1
  }

  /** State of the media path. */
  get transport(): RTCPeerConnectionState {
    return this.#peer?.state ?? 'new'
  }

  /** Round trip of the signaling connection in ms, 0 before the first ping. */
  get signalRttMs(): number {
    return this.#session?.rttMs ?? 0
  }

  /** False: sound waits for a gesture. */
  get canPlayAudio(): boolean {
    return this.#playback.canPlay
  }

  /** Finds a participant by the name the application knows it by. */
  participant(identity: string): RemoteParticipant | undefined {
    return this.#roster.byIdentity(identity)
  }

  /** Warms up name resolution and TLS before `connect`. */
  async prepare(url: string): Promise<void> {
    const health = new URL('/healthz', signalUrl(url).replace(/^ws/, 'http'))
    await fetch(health, { mode: 'no-cors' }).catch(() => {})
  }

  /**
   * Joins. Resolves when the server let this participant in; media follows within a moment.
   * What was published before rides in the first offer. One attempt: a failure is reported, not retried.
   */
  async connect(url: string, token: string, options: ConnectOptions = {}): Promise<void> {
    if (this.#state !== 'disconnected') throw new PlenumError('conflict', 'the room is connected already')
    const target = signalUrl(url)
    this.#token = token
    this.#displayName = options.name
    this.#state = 'connecting'
    const session = new Session(target, this.#sessionDelegate(), this.#options.openSocket)
    this.#session = session
    try {
      await session.join(options.signal)
    } catch (error) {
      this.#end()
      throw toPlenumError(error)
    }
    this.#page.start()
  }

  /** Leaves and lets go of every device. */
  disconnect(): void {
    if (this.#session) this.#session.leave()
    else this.localParticipant.close()
  }

  /** Starts sound that the browser held back; call it inside a click or key handler. */
  startAudio(): Promise<void> {
    return this.#playback.start()
  }

  /** Receives every track, present and future, or none but those asked for one by one. */
  async setAutoSubscribe(on: boolean): Promise<void> {
    if (on && !this.#hasMedia) throw withoutMedia()
    this.#autoSubscribe = on
    if (this.#session?.isOpen) await this.#request({ t: 'subscribe', all: on })
  }

  /** Switches camera, microphone or loudspeaker; no new offer is needed. */
  switchDevice(kind: DeviceKind, deviceId: string): Promise<void> {
    if (kind === 'speaker') return this.#playback.setSink(deviceId)
    return this.localParticipant.switchDevice(kind, deviceId)
  }

  /** Everything the browser knows about the connection. */
  async getStats(): Promise<RTCStatsReport | undefined> {
    return await this.#peer?.getStats()
  }

  #makeLocal(): LocalParticipant {
    return new LocalParticipant({
      publish: (publication, signal) => this.#publish(publication, signal),
      unpublish: (publication) => this.#unpublish(publication),
      request: (request) => this.#request(request),
      send: (payload, options) => this.#send(payload, options),
      published: (publication) => this.emit('localTrackPublished', publication),
      unpublished: (publication) => this.emit('localTrackUnpublished', publication),
      changed: (publication) => this.emit('localTrackChanged', publication),
      mutedByRoom: (publication) => this.emit('localTrackMutedByRoom', publication),
      deviceFailed: (source, error) => this.emit('mediaDeviceError', source, error),
    })
  }

  #sessionDelegate() {
    return {
      hello: (resume: boolean) => this.#hello(resume),
      welcomed: (welcome: Welcome, how: Beginning) => this.#welcomed(welcome, how),
      received: (event: Happening) => this.#received(event),
      suspended: () => {
        this.#state = 'reconnecting'
        this.#roster.silence()
        this.emit('reconnecting')
      },
      ended: (error: PlenumError | undefined) => {
        this.#end()
        this.localParticipant.close()
        this.emit('disconnected', error)
      },
    }
  }

  async #hello(resume: boolean): Promise<Omit<Hello, 'v' | 'resume'>> {
    if (!resume && this.#hasMedia) {
      this.#firstOffer = await this.#openPeer().firstOffer()
    }
    const offer = resume ? undefined : this.#firstOffer
    return {
      token: this.#token,
      sdk: { name: 'plenum-js', version: VERSION, platform: navigator.userAgent.slice(0, 128) },
      features: ['slots', 'sdpz'],
      autoSubscribe: this.#autoSubscribe,
      roster: this.#options.roster ?? 'all',
      ...(this.#displayName ? { name: this.#displayName } : {}),
      ...(offer ? { offer } : {}),
    }
  }

  /** A new connection for a new stay; what was published goes into its first offer. */
  #openPeer(): Peer {
    this.#peer?.close()
    this.#roster.clearSlots()
    const peer = new Peer(this.#options.rtcConfig ?? {}, {
      takeId: () => this.#session!.takeId(),
      offer: (offer) => this.#offer(offer),
      incomplete: (publication) => this.#tellAbout(publication),
      transportChanged: (state) => this.emit('transport', state),
      failed: () => this.#session?.rejoin(),
    })
    peer.channels.received = (message, reliable) => {
      this.#deliver(message.from, message.topic, message.payload, reliable)
    }
    this.#peer = peer
    for (const publication of this.localParticipant.publications) peer.add(publication)
    return peer
  }

  #welcomed(welcome: Welcome, how: Beginning): void {
    const peer = this.#peer
    this.#name = welcome.room.name
    this.#metadata = welcome.room.metadata
    this.#participantCount = welcome.room.participants
    this.#sendBytesMax = welcome.limits.sendBytes
    this.#canDeflate = welcome.features.includes('sdpz')
    this.localParticipant.update(welcome.self)
    this.localParticipant.grants = welcome.grants
    peer?.setIceServers(welcome.iceServers, how !== 'resumed')
    this.#state = 'connected'
    if (how === 'joined') this.emit('connected')
    if (how !== 'resumed' || welcome.resync) {
      this.#roster.restore(welcome)
      this.#view.reset()
    }
    if (peer && how === 'resumed') this.#resumed(welcome, peer)
    else if (peer) void this.#acceptFirst(welcome, peer)
    if (how !== 'joined') this.emit('reconnected')
  }

  #resumed(welcome: Welcome, peer: Peer): void {
    for (const { mid, id, muted } of welcome.self.tracks) {
      if (mid !== undefined) peer.confirm(mid, id)
      // What the room muted meanwhile stays muted; its event may come only after what we tell here.
      const publication = this.localParticipant.publications.find((one) => one.id === id)
      if (publication?.isMutedAnew(muted)) void this.localParticipant.follow({ t: 'track', track: id, patch: { muted } })
    }
    for (const publication of this.localParticipant.publications) this.#tellAbout(publication)
    peer.resume()
  }

  async #acceptFirst(welcome: Welcome, peer: Peer): Promise<void> {
    try {
      await peer.accept(welcome.answer ?? (await this.#lateAnswer()))
    } catch (error) {
      await peer.refuse(toPlenumError(error, 'media_failed'))
    }
  }

  async #lateAnswer(): Promise<Answer> {
    const answer = await this.#session!.answerTo(this.#firstOffer?.id ?? 0)
    this.#roster.replaceSlots(answer.slots)
    return answer
  }

  async #offer(offer: OfferMessage): Promise<Answer> {
    if (!this.#session) throw new PlenumError('connection_lost', 'the room is not connected')
    const answer = await this.#session.offer(this.#canDeflate ? await deflated(offer) : offer)
    // At once: a `slots` event behind the answer must not be undone by the answer's older map.
    this.#roster.replaceSlots(answer.slots)
    return answer
  }

  #received(event: Happening): void {
    if (this.#roster.apply(event)) return
    switch (event.t) {
      case 'need':
        this.#peer?.addSlots(event.audio, event.video)
        this.#peer?.negotiate()
        return
      case 'published':
        if (event.id === this.localParticipant.id && event.track.mid !== undefined) {
          this.#peer?.confirm(event.track.mid, event.track.id)
        }
        return
      case 'unpublished':
      case 'track':
        void this.localParticipant.follow(event)
        return
      case 'codec':
        if (event.codec !== 'opus') this.#peer?.preferCodec(event.track, event.codec)
        return
      case 'room':
        this.#roomChanged(event.patch)
        return
      case 'data':
        this.#deliver(event.from, event.topic, payloadOf(event), true)
        return
      case 'grants': {
        const { t: _type, ...grants } = event
        this.localParticipant.grants = grants
        this.emit('permissions', grants)
        return
      }
      case 'token':
        this.#token = event.token
        this.emit('token', event.token)
        return
      case 'ice_servers':
        this.#peer?.setIceServers(event.iceServers, false)
        return
      case 'restart_ice':
        this.#peer?.restartIce()
        return
      default:
    }
  }

  #roomChanged({ metadata, participants }: RoomPatch): void {
    if (participants !== undefined) {
      this.#participantCount = participants
      this.emit('participantCount', participants)
    }
    if (metadata === undefined) return
    this.#metadata = metadata
    this.emit('metadata', metadata)
  }

  async #publish(publication: LocalPublication, signal?: AbortSignal): Promise<void> {
    if (!this.#hasMedia) throw withoutMedia()
    if (this.#peer) {
      this.#peer.add(publication)
      this.#peer.negotiate()
    }
    if (!signal) return await publication.published
    await Promise.race([publication.published, rejectOnAbort(signal)])
  }

  #unpublish(publication: LocalPublication): void {
    const { id } = publication
    publication.refused(new PlenumError('aborted', 'unpublished before it was announced'))
    this.#peer?.remove(publication)
    // While the socket is down the silent section tells the server enough.
    if (id !== undefined) void this.#request({ t: 'unpublish', track: id }).catch(() => {})
  }

  #tellAbout(publication: LocalPublication): void {
    const { id, mutedToTell: muted, name, meta } = publication
    if (id === undefined) return
    const told = this.#request({ t: 'track', track: id, ...(muted === undefined ? {} : { muted }), name, meta })
    told.then(() => muted !== undefined && publication.toldMuted(muted)).catch(() => {})
  }

  #request(request: Request): Promise<unknown> {
    if (!this.#session) return Promise.reject(new PlenumError('not_connected', 'the room is not connected'))
    return this.#session.request(request)
  }

  async #send(payload: Uint8Array, { to, topic = '', reliable = true, signal }: SendOptions): Promise<void> {
    const overSocket = () => this.#request({ t: 'send', topic, data64: toBase64(payload), ...(to ? { to } : {}) })
    if (!this.#hasMedia) {
      if (this.#session && payload.length > this.#sendBytesMax) {
        throw new PlenumError('too_large', `without media a message has at most ${this.#sendBytesMax} bytes`)
      }
      await overSocket()
      return
    }
    const channels = this.#peer?.channels
    if (!channels) throw new PlenumError('not_connected', 'the room is not connected')
    const message = frameMessage({ ...(to ? { to } : {}), topic }, payload)
    if (!reliable) {
      channels.sendLossy(message)
      return
    }
    // Messages get through even where media does not (yet).
    if (!channels.isOpen && payload.length <= this.#sendBytesMax && this.#session?.isOpen) {
      await overSocket()
      return
    }
    await channels.sendReliable(message, signal)
  }

  #deliver(from: string, topic: string, payload: Uint8Array, reliable: boolean): void {
    const text = () => new TextDecoder().decode(payload)
    const participant = this.#roster.byIdentity(from)
    const message: DataEvent = { from, topic, payload, participant, reliable, text, json: () => JSON.parse(text()) }
    this.emit('data', message)
  }

  #end(): void {
    this.#page.stop()
    this.#state = 'disconnected'
    this.#session = undefined
    this.#roster.clear()
    this.#peer?.close()
    this.#peer = undefined
  }
}

function withoutMedia(): PlenumError {
  return new PlenumError('forbidden', 'this room was made without media')
}

function payloadOf({ data, data64 }: { data?: string; data64?: string }): Uint8Array {
  if (data64 === undefined) return new TextEncoder().encode(data ?? '')
  return Uint8Array.from(atob(data64), (char) => char.charCodeAt(0))
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(new PlenumError('aborted', 'the call was aborted'))
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
}
