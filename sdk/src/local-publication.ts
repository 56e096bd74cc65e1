/** A track of the local participant as it is sent and announced. */
import { preferCodec } from './codecs'
import type { VideoCodec } from './codecs'
import { encodingsFor } from './encodings'
import type { LayerChoice } from './encodings'
import { PlenumError } from './errors'
import { allowExtensions, DEPENDENCY_DESCRIPTOR, SIMULCAST_EXTENSIONS } from './extensions'
import type { Kind, PublishEntry, Source } from './protocol'
import { StatsReader } from './stats'
import type { TrackStats } from './stats'

/** How a track is published. */
export interface PublishOptions extends LayerChoice {
  source?: Source
  name?: string
  /** Free text for the other participants' applications. */
  meta?: string
  /** Sent in this codec where the room takes it; otherwise the room's own choice. */
  codec?: VideoCodec
  /** Sound in two channels. Default false. */
  stereo?: boolean
  /** Sends next to nothing while it is silent. Default false. */
  dtx?: boolean
  muted?: boolean
}

/** One published (or soon to be published) local track. */
export class LocalPublication {
  readonly kind: Kind
  readonly source: Source
  readonly #options: PublishOptions
  readonly #stats = new StatsReader()
  #id: string | undefined
  #name: string
  #meta: string
  #track: MediaStreamTrack | null
  #muted: boolean
  /** As the room knows it; another value than `#muted` is still to be told. */
  #toldMuted = false
  /** The codec to offer first: what was asked for at the start, or what the room asked for since. */
  #codec: VideoCodec | undefined
  #transceiver: RTCRtpTransceiver | undefined
  #settle: { resolve(): void; reject(error: PlenumError): void } | undefined
  /** Resolves once the server announced the track; rejects when it refused. */
  readonly published: Promise<void>

  constructor(track: MediaStreamTrack, options: PublishOptions = {}) {
    this.#track = track
    this.kind = track.kind === 'audio' ? 'audio' : 'video'
    this.source = options.source ?? (this.kind === 'audio' ? 'microphone' : 'camera')
    this.#name = options.name ?? ''
    this.#meta = options.meta ?? ''
    this.#muted = options.muted ?? false
    this.#options = options
    this.#codec = options.codec
    this.published = new Promise((resolve, reject) => (this.#settle = { resolve, reject }))
    this.published.catch(() => {}) // whoever publishes awaits it; nobody else has to
  }

  /** The server's id; `undefined` until it is announced. */
  get id(): string | undefined {
    return this.#id
  }

  /** The name others see; changed by `localParticipant.describe`. */
  get name(): string {
    return this.#name
  }

  /** Free text for the others' applications; changed by `localParticipant.describe`. */
  get meta(): string {
    return this.#meta
  }

  /** The captured track; `null` while a camera is off. */
  get track(): MediaStreamTrack | null {
    return this.#track
  }

  get muted(): boolean {
    return this.#muted
  }

  /** Its section in the offer. */
  get mid(): string | undefined {
    return this.#transceiver?.mid ?? undefined
  }

  /** Figures since the last call. */
  async getStats(): Promise<TrackStats | undefined> {
    const report = await this.#transceiver?.sender.getStats()
    return report && this.#stats.read(report)
  }

  /** Shows the picture in an element (a new one by default), without sound. */
  attach(element: HTMLVideoElement = document.createElement('video')): HTMLVideoElement {
    element.muted = true
    element.autoplay = true
    element.playsInline = true
    element.srcObject = this.#track ? new MediaStream([this.#track]) : null
    return element
  }

  /** What decides whether a free section can carry this publication. @internal */
  get sectionKey(): string {
    return `${this.source}/${this.#encodings().length}/${this.#codec ?? ''}`
  }

  /** Takes a section of a connection: a free one of the same shape, or a new one. @internal */
  bind(pc: RTCPeerConnection, free: RTCRtpTransceiver | undefined): RTCRtpTransceiver {
    this.#id = undefined
    const transceiver = free ?? pc.addTransceiver(this.#track ?? this.kind, this.#init())
    if (free) {
      free.direction = 'sendonly'
      void free.sender.replaceTrack(this.#track)
    } else if (this.kind === 'video') {
      this.#prepare(transceiver)
    }
    this.#transceiver = transceiver
    if (this.#muted) void this.mute()
    return transceiver
  }

  /** Gives its section back. @internal */
  unbind(): RTCRtpTransceiver | undefined {
    const transceiver = this.#transceiver
    this.#transceiver = undefined
    this.#id = undefined
    if (!transceiver || transceiver.currentDirection === 'stopped') return undefined
    transceiver.direction = 'inactive'
    void transceiver.sender.replaceTrack(null).catch(() => {})
    return transceiver
  }

  /** Its entry in an offer; `undefined`: it is published already. @internal */
  announce(): PublishEntry | undefined {
    if (this.#id !== undefined || this.mid === undefined) return undefined
    this.#toldMuted = this.#muted
    const { width = 0, height = 0 } = this.#track?.getSettings() ?? {}
    const { source, name, mid } = this
    const shape = this.kind === 'video' ? { width, height } : this.#soundWishes()
    return { mid, source, name, muted: this.#muted, ...shape, ...(this.#codec ? { codec: this.#codec } : {}) }
  }

  /** Others were told another name or text. @internal */
  described({ name, meta }: { name?: string; meta?: string }): void {
    this.#name = name ?? this.#name
    this.#meta = meta ?? this.#meta
  }

  /** Goes on in another codec from the next offer on. @internal */
  prefer(codec: VideoCodec): void {
    this.#codec = codec
    if (this.#transceiver) preferCodec(this.#transceiver, codec)
  }

  /** The server announced it. True: there is more to tell of it than the offer said. @internal */
  accepted(id: string): boolean {
    this.#id = id
    this.#settle?.resolve()
    return this.mutedToTell !== undefined || this.#meta !== ''
  }

  /** Whether it is muted, when the room does not know yet. @internal */
  get mutedToTell(): boolean | undefined {
    return this.#toldMuted === this.#muted ? undefined : this.#muted
  }

  /** The room knows that it is muted or not. @internal */
  toldMuted(muted: boolean): void {
    this.#toldMuted = muted
  }

  /** Whether this, from the room, is news: somebody there muted or unmuted it. @internal */
  isMutedAnew(muted: boolean): boolean {
    return this.#toldMuted !== muted
  }

  /** The server refused it. @internal */
  refused(error: PlenumError): void {
    this.#settle?.reject(error)
  }

  /** Stops sending. A camera is let go, so that its light goes out. @internal */
  async mute(): Promise<void> {
    this.#muted = true
    if (this.kind === 'audio') {
      if (this.#track) this.#track.enabled = false
      return
    }
    if (this.source === 'camera') {
      this.#track?.stop()
      this.#track = null
    }
    await this.#transceiver?.sender.replaceTrack(null)
  }

  /** Sends again, a camera with a freshly opened track. @internal */
  async unmute(track: MediaStreamTrack | null = this.#track): Promise<void> {
    this.#muted = false
    if (track) await this.replace(track)
  }

  /** Sends another captured track instead, without a new offer. @internal */
  async replace(track: MediaStreamTrack): Promise<void> {
    if (this.#track !== track) this.#track?.stop()
    this.#track = track
    if (this.kind === 'audio') track.enabled = !this.#muted
    if (!this.#muted || this.kind === 'audio') await this.#transceiver?.sender.replaceTrack(track)
  }

  #encodings(): RTCRtpEncodingParameters[] {
    if (this.kind === 'audio') return [{}]
    return encodingsFor(this.source, this.#longSide(), this.#options)
  }

  /** A phone held upright captures 720x1280: it is as large as 1280x720. */
  #longSide(): number {
    const { width = 1280, height = 720 } = this.#track?.getSettings() ?? {}
    return Math.max(width, height)
  }

  #init(): RTCRtpTransceiverInit {
    return { direction: 'sendonly', ...(this.kind === 'video' ? { sendEncodings: this.#encodings() } : {}) }
  }

  #prepare(transceiver: RTCRtpTransceiver): void {
    allowExtensions(transceiver, DEPENDENCY_DESCRIPTOR, ...SIMULCAST_EXTENSIONS)
    if (this.#track && this.source === 'screen_share' && !this.#track.contentHint) {
      this.#track.contentHint = 'detail'
    }
    if (this.#codec) preferCodec(transceiver, this.#codec)
  }

  #soundWishes(): Pick<PublishEntry, 'stereo' | 'dtx'> {
    const { stereo, dtx } = this.#options
    return { ...(stereo ? { stereo } : {}), ...(dtx ? { dtx } : {}) }
  }
}
