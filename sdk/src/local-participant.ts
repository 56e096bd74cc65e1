/** The participant at this end: its devices, publications and messages. */
import { openCamera, openMicrophone, openScreen } from './devices'
import type { CameraOptions, MicrophoneOptions, ScreenOptions } from './devices'
import { PlenumError, toPlenumError } from './errors'
import { LocalPublication } from './local-publication'
import type { PublishOptions } from './local-publication'
import type { GrantsView, Happening, Participant as ParticipantView, Request, Source } from './protocol'

/** What a message is sent with. */
export interface SendOptions {
  /** Identities; everyone else in the room by default. */
  to?: string[]
  /** Default empty. */
  topic?: string
  /** False: sent once, out of order, dropped when the path is slow. Default true. */
  reliable?: boolean
  signal?: AbortSignal
}

/** What the local participant asks of its room. @internal */
export interface LocalDelegate {
  publish(publication: LocalPublication, signal?: AbortSignal): Promise<void>
  unpublish(publication: LocalPublication): void
  request(request: Request): Promise<unknown>
  send(payload: Uint8Array, options: SendOptions): Promise<void>
  published(publication: LocalPublication): void
  unpublished(publication: LocalPublication): void
  /** Muted, unmuted, or from another device. */
  changed(publication: LocalPublication): void
  mutedByRoom(publication: LocalPublication): void
  deviceFailed(source: Source, error: PlenumError): void
}

type DeviceSource = 'camera' | 'microphone'

/** Publishes, mutes and sends on behalf of the person at this end. */
export class LocalParticipant {
  readonly isLocal = true
  /** Id of this stay; empty before the first `connected`. */
  id = ''
  identity = ''
  name = ''
  metadata = ''
  attributes: Readonly<Record<string, string>> = {}
  /** What the token allows; `undefined` before the first `connected`. */
  grants: GrantsView | undefined
  /** 0 (silent) to 1. */
  audioLevel = 0
  readonly #delegate: LocalDelegate
  readonly #publications = new Map<Source, LocalPublication>()
  readonly #extra = new Set<LocalPublication>()
  readonly #options: { camera: CameraOptions; microphone: MicrophoneOptions } = { camera: {}, microphone: {} }
  /** Calls about one source run one after the other: a double click must not open two cameras. */
  readonly #turns = new Map<Source, Promise<unknown>>()

  /** @internal */
  constructor(delegate: LocalDelegate) {
    this.#delegate = delegate
  }

  /** Everything published, muted or not. */
  get publications(): readonly LocalPublication[] {
    return [...this.#publications.values(), ...this.#extra]
  }

  get isCameraEnabled(): boolean {
    return this.#isSending('camera')
  }

  get isMicrophoneEnabled(): boolean {
    return this.#isSending('microphone')
  }

  get isScreenShareEnabled(): boolean {
    return this.#isSending('screen_share')
  }

  /** The publication of a source. */
  publication(source: Source): LocalPublication | undefined {
    return this.#publications.get(source)
  }

  /** Turns the camera on or off. Rejects with a `device_…` code when it cannot be opened. */
  setCameraEnabled(on: boolean, options?: CameraOptions): Promise<void> {
    if (options) this.#options.camera = options
    return this.#inTurn('camera', () => this.#setDevice('camera', on))
  }

  /** Unmutes or mutes the microphone. Rejects with a `device_…` code when it cannot be opened. */
  setMicrophoneEnabled(on: boolean, options?: MicrophoneOptions): Promise<void> {
    if (options) this.#options.microphone = options
    return this.#inTurn('microphone', () => this.#setDevice('microphone', on))
  }

  /** Starts or stops sharing a screen; the browser asks which. */
  setScreenShareEnabled(on: boolean, options: ScreenOptions = {}): Promise<void> {
    return this.#inTurn('screen_share', async () => {
      if (on === this.isScreenShareEnabled) return
      if (!on) {
        this.unpublish('screen_share_audio')
        this.unpublish('screen_share')
        return
      }
      const [picture, sound] = await openScreen(options)
      await Promise.all([
        picture && this.publish(picture, { source: 'screen_share' }),
        sound && this.publish(sound, { source: 'screen_share_audio' }),
      ])
    })
  }

  /** Switches to another camera or microphone without a new offer. */
  switchDevice(source: DeviceSource, deviceId: string): Promise<void> {
    return this.#inTurn(source, async () => {
      this.#options[source] = { ...this.#options[source], deviceId }
      const publication = this.#publications.get(source)
      if (!publication || (source === 'camera' && publication.muted)) return
      const track = await this.#openDevice(source)
      await publication.replace(track)
      this.#watch(publication, track)
      this.#delegate.changed(publication)
    })
  }

  /**
   * Publishes a track; before `connect` it rides in the first offer. The promise settles when the
   * server has announced or refused it.
   */
  async publish(
    track: MediaStreamTrack,
    options: PublishOptions & { signal?: AbortSignal } = {},
  ): Promise<LocalPublication> {
    const publication = new LocalPublication(track, options)
    const { source } = publication
    if (this.#publications.has(source)) this.#extra.add(publication)
    else this.#publications.set(source, publication)
    this.#watch(publication, track)
    this.#delegate.published(publication)
    try {
      await this.#delegate.publish(publication, options.signal)
    } catch (error) {
      this.unpublish(publication)
      throw error
    }
    return publication
  }

  /** Ends a publication and its track. */
  unpublish(what: LocalPublication | Source): void {
    const publication = typeof what === 'string' ? this.#publications.get(what) : what
    if (!publication) return
    const had = this.#extra.delete(publication)
    if (this.#publications.get(publication.source) === publication) this.#publications.delete(publication.source)
    else if (!had) return
    const { track } = publication
    this.#delegate.unpublish(publication)
    track?.stop()
    this.#delegate.unpublished(publication)
  }

  /** Changes the name (256 bytes at most) and free text (4 KiB) others see with a publication. */
  async describe(publication: LocalPublication, about: { name?: string; meta?: string }): Promise<void> {
    const { id } = publication
    if (id !== undefined) await this.#delegate.request({ t: 'track', track: id, ...about })
    publication.described(about)
  }

  /** Sends bytes, text or anything JSON can carry; 64 KiB at most. */
  async sendData(data: Uint8Array | string | object, options: SendOptions = {}): Promise<void> {
    const text = typeof data === 'string' ? data : data instanceof Uint8Array ? undefined : JSON.stringify(data)
    const payload = text === undefined ? (data as Uint8Array) : new TextEncoder().encode(text)
    await this.#delegate.send(payload, options)
  }

  /** Changes the name others see. */
  async setName(name: string): Promise<void> {
    await this.#delegate.request({ t: 'self', name })
    this.name = name
  }

  /** Changes the free text others see. */
  async setMetadata(metadata: string): Promise<void> {
    await this.#delegate.request({ t: 'self', metadata })
    this.metadata = metadata
  }

  /** Changes some named values; an empty one is removed. */
  async setAttributes(attributes: Record<string, string>): Promise<void> {
    await this.#delegate.request({ t: 'self', attributes })
    this.attributes = { ...this.attributes, ...attributes }
  }

  /** Takes over what the server says. @internal */
  update(view: Partial<ParticipantView>): void {
    this.id = view.id ?? this.id
    this.identity = view.identity ?? this.identity
    this.name = view.name ?? this.name
    this.metadata = view.metadata ?? this.metadata
    this.attributes = view.attributes ?? this.attributes
  }

  /** The server ended or muted a track of one's own without being asked. @internal */
  async follow(event: Extract<Happening, { t: 'track' | 'unpublished' }>): Promise<void> {
    const publication = this.publications.find(({ id }) => id === event.track)
    if (!publication) return
    const { source } = publication
    if (event.t === 'unpublished') this.unpublish(publication)
    else if (event.patch.muted !== undefined) await this.#inTurn(source, () => this.#mutedByRoom(publication, event.patch.muted!))
  }

  /** Stays muted when the room unmutes: nobody else opens a camera or microphone. Then says how it is. */
  async #mutedByRoom(publication: LocalPublication, muted: boolean): Promise<void> {
    const { id, source } = publication
    publication.toldMuted(muted)
    if (id === undefined || publication.muted === muted) return
    if (muted && source !== 'camera' && source !== 'microphone') {
      // A screen is shared anew, not unmuted.
      this.unpublish(publication)
      this.#delegate.mutedByRoom(publication)
      return
    }
    if (muted) {
      await publication.mute()
      this.#delegate.changed(publication)
      this.#delegate.mutedByRoom(publication)
    }
    await this.#tellMuted(publication).catch(() => {})
  }

  async #tellMuted(publication: LocalPublication): Promise<void> {
    const { id, muted } = publication
    if (id === undefined) return // told with the next offer or after its answer
    await this.#delegate.request({ t: 'track', track: id, muted })
    publication.toldMuted(muted)
  }

  /** Stops every device. @internal */
  close(): void {
    for (const publication of this.publications) this.unpublish(publication)
  }

  async #setDevice(source: DeviceSource, on: boolean): Promise<void> {
    const publication = this.#publications.get(source)
    if (!publication) {
      if (on) await this.publish(await this.#openDevice(source), { source })
      return
    }
    if (publication.muted !== on) return
    if (on) await publication.unmute(await this.#freshTrack(source, publication))
    else await publication.mute()
    this.#delegate.changed(publication)
    await this.#tellMuted(publication).catch((error: unknown) => {
      // While the socket is down the sender is already silent; the room tells it on resume.
      if (!toPlenumError(error).retryable) throw error
    })
  }

  async #freshTrack(source: DeviceSource, publication: LocalPublication): Promise<MediaStreamTrack> {
    if (publication.track?.readyState === 'live') return publication.track
    const track = await this.#openDevice(source)
    this.#watch(publication, track)
    return track
  }

  #openDevice(source: DeviceSource): Promise<MediaStreamTrack> {
    return source === 'camera' ? openCamera(this.#options.camera) : openMicrophone(this.#options.microphone)
  }

  #watch(publication: LocalPublication, track: MediaStreamTrack): void {
    track.addEventListener('ended', () => {
      if (publication.track !== track) return
      const { source } = publication
      if (source === 'camera' || source === 'microphone') void this.#inTurn(source, () => this.#replug(source, publication))
      else this.unpublish(publication)
    })
  }

  /** The device went away: goes on with the default one, or mutes. */
  async #replug(source: DeviceSource, publication: LocalPublication): Promise<void> {
    if (!this.publications.includes(publication) || publication.muted) return
    const { deviceId: _gone, ...rest } = this.#options[source]
    this.#options[source] = rest
    try {
      const track = await this.#openDevice(source)
      await publication.replace(track)
      this.#watch(publication, track)
      this.#delegate.changed(publication)
    } catch (error) {
      await this.#setDevice(source, false)
      this.#delegate.deviceFailed(source, toPlenumError(error, 'device_failed'))
    }
  }

  #isSending(source: Source): boolean {
    const publication = this.#publications.get(source)
    return publication !== undefined && !publication.muted
  }

  #inTurn<T>(source: Source, act: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(source) ?? Promise.resolve()).then(act, act)
    this.#turns.set(source, turn.catch(() => {}))
    return turn
  }
}
