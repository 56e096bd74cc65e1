/** The one RTCPeerConnection of a stay: receive slots, publications, data channels, offers. */
import { DataChannels } from './channels'
import { PlenumError, toPlenumError } from './errors'
import { allowExtensions, DEPENDENCY_DESCRIPTOR } from './extensions'
import type { LocalPublication } from './local-publication'
import type { Answer, IceServer, OfferMessage, PublishEntry } from './protocol'
import { withStereoSlots } from './sdp'
import { trimCodecs } from './slot-codecs'

const AUDIO_SLOTS_FIRST = 3
const VIDEO_SLOTS_FIRST = 6
const AUDIO_SLOTS_MAX = 16
const VIDEO_SLOTS_MAX = 48
const DISCONNECTED_MS = 3000
const RELAY_PATIENCE_MS = 2500
const REPLAY_MS = 200
const RESTARTS_MAX = 3
const RETRY_MS = 1000
const RETRIES_MAX = 5

/** What the peer asks of and tells its room. */
export interface PeerDelegate {
  takeId(): number
  /** Sends an offer; rejects with a retryable error while the socket is down. */
  offer(offer: OfferMessage): Promise<Answer>
  /** A publication was muted or unmuted while it was being announced. */
  muteChanged(publication: LocalPublication): void
  transportChanged(state: RTCPeerConnectionState): void
  /** ICE restarts did not help: a new session is needed. */
  failed(): void
}

/** Media endpoint of the local participant. */
export class Peer {
  readonly channels: DataChannels
  readonly #pc: RTCPeerConnection
  readonly #delegate: PeerDelegate
  /** Each with the shape of its section. */
  readonly #publications = new Map<LocalPublication, string>()
  readonly #free: { key: string; transceiver: RTCRtpTransceiver }[] = []
  readonly #slots: RTCRtpTransceiver[] = []
  #isOffering = false
  #isDirty = false
  #restartWanted = false
  #restarts = 0
  #retries = 0
  #disconnectedTimer: ReturnType<typeof setTimeout> | undefined

  constructor(config: RTCConfiguration, delegate: PeerDelegate) {
    this.#delegate = delegate
    this.#pc = new RTCPeerConnection({ ...config, bundlePolicy: 'max-bundle' })
    this.channels = new DataChannels(this.#pc)
    this.#pc.onconnectionstatechange = () => this.#stateChanged()
    this.addSlots(AUDIO_SLOTS_FIRST, VIDEO_SLOTS_FIRST)
  }

  get state(): RTCPeerConnectionState {
    return this.#pc.connectionState
  }

  /** The receiver of a slot. */
  receiver(mid: string): RTCRtpReceiver | undefined {
    return this.#slots.find((slot) => slot.mid === mid)?.receiver
  }

  /** Creates slots until there are this many in all; the caller negotiates. */
  addSlots(audio: number, video: number): void {
    this.#fill('audio', Math.min(audio, AUDIO_SLOTS_MAX))
    this.#fill('video', Math.min(video, VIDEO_SLOTS_MAX))
  }

  /** Adds a publication to the next offer. */
  add(publication: LocalPublication): void {
    const key = publication.sectionKey
    const free = this.#free.findIndex((one) => one.key === key)
    const transceiver = free < 0 ? undefined : this.#free.splice(free, 1)[0]?.transceiver
    publication.bind(this.#pc, transceiver)
    this.#publications.set(publication, key)
  }

  /** Takes a publication out of the next offer; its section stays for the next of its shape. */
  remove(publication: LocalPublication): void {
    const key = this.#publications.get(publication)
    if (key === undefined) return
    this.#publications.delete(publication)
    const transceiver = publication.unbind()
    if (transceiver) this.#free.push({ key, transceiver })
  }

  /** The server announced a publication whose answer was lost with its socket. */
  confirm(mid: string, track: string): void {
    for (const publication of this.#publications.keys()) {
      if (publication.mid === mid && publication.id === undefined) this.#accept(publication, track)
    }
  }

  /** The offer that rides in `hello`. */
  async firstOffer(): Promise<OfferMessage> {
    this.#isOffering = true
    return await this.#offer()
  }

  /** Applies the answer that came with `welcome`. */
  async accept(answer: Answer): Promise<void> {
    try {
      await this.#apply(answer)
    } finally {
      this.#isOffering = false
    }
    if (this.#isDirty) this.negotiate()
  }

  /** The server refused the offer that came with `hello`. */
  async refuse(error: PlenumError): Promise<void> {
    this.#isOffering = false
    await this.#abandon(error)
  }

  /** The session goes on after its socket dropped: offers again what was lost on the way. */
  resume(): void {
    // The events that were missed come first and may say what became of the lost offer.
    if (this.#isDirty) setTimeout(() => this.negotiate(), REPLAY_MS)
  }

  /** Relays to try when no direct path opens. */
  setIceServers(servers: readonly IceServer[], isFirst: boolean): void {
    if (servers.length === 0) return
    this.#pc.setConfiguration({
      ...this.#pc.getConfiguration(),
      iceServers: servers.map(({ urls, username, credential }) => ({ urls, username, credential })),
    })
    // The first offer was made before the relays were known.
    if (!isFirst) return
    const patience = this.#pc.getConfiguration().iceTransportPolicy === 'relay' ? 0 : RELAY_PATIENCE_MS
    setTimeout(() => {
      if (this.#pc.connectionState === 'new' || this.#pc.connectionState === 'connecting') this.restartIce()
    }, patience)
  }

  /** New ICE credentials with the next offer. */
  restartIce(): void {
    this.#restartWanted = true
    this.negotiate()
  }

  /** Offers what changed. Changes during an outstanding offer go together into the next one. */
  negotiate(): void {
    this.#isDirty = true
    if (!this.#isOffering) void this.#negotiate()
  }

  /** Ends everything. */
  close(): void {
    clearTimeout(this.#disconnectedTimer)
    this.#pc.onconnectionstatechange = null
    this.channels.close()
    this.#pc.close()
  }

  getStats(): Promise<RTCStatsReport> {
    return this.#pc.getStats()
  }

  async #negotiate(): Promise<void> {
    this.#isOffering = true
    while (this.#isDirty && this.#pc.signalingState !== 'closed') {
      await undefined // what is changed in the same breath goes into the same offer
      this.#isDirty = false
      try {
        const offer = await this.#offer()
        await this.#apply(await this.#delegate.offer(offer))
        this.#retries = 0
      } catch (thrown) {
        const error = toPlenumError(thrown, 'media_failed')
        if (error.retryable && this.#retries < RETRIES_MAX) {
          this.#isDirty = true
          // A lost connection is no try: the offer goes out once the session is back.
          if (error.code !== 'connection_lost') this.#retryLater()
          break
        }
        await this.#abandon(error)
      }
    }
    this.#isOffering = false
  }

  #retryLater(): void {
    this.#retries += 1
    setTimeout(() => {
      if (this.#isDirty) this.negotiate()
    }, RETRY_MS)
  }

  async #offer(): Promise<OfferMessage> {
    const iceRestart = this.#restartWanted
    this.#restartWanted = false
    const made = await this.#pc.createOffer({ iceRestart })
    const sdp = withStereoSlots(made.sdp ?? '')
    try {
      await this.#pc.setLocalDescription({ type: 'offer', sdp })
    } catch {
      await this.#pc.setLocalDescription({ type: 'offer', sdp: made.sdp ?? '' })
    }
    const publish = [...this.#publications.keys()]
      .map((publication) => publication.announce())
      .filter((entry): entry is PublishEntry => entry !== undefined)
    return {
      id: this.#delegate.takeId(),
      sdp: this.#pc.localDescription?.sdp ?? sdp,
      publish,
      ...(iceRestart ? { iceRestart } : {}),
    }
  }

  async #apply(answer: Answer): Promise<void> {
    await this.#pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp })
    for (const { mid, track, error } of answer.published) {
      const publication = [...this.#publications.keys()].find((one) => one.mid === mid)
      if (!publication) continue
      if (track) {
        this.#accept(publication, track)
      } else {
        this.remove(publication)
        publication.refused(new PlenumError(error ?? 'publish_denied', `the track was not published: ${error}`))
      }
    }
  }

  #accept(publication: LocalPublication, track: string): void {
    if (publication.accepted(track)) this.#delegate.muteChanged(publication)
  }

  /** The server refused the whole offer: go back to the last agreed state. */
  async #abandon(error: PlenumError): Promise<void> {
    for (const publication of [...this.#publications.keys()]) {
      if (publication.id !== undefined) continue
      this.remove(publication)
      publication.refused(error)
    }
    if (this.#pc.signalingState === 'have-local-offer') {
      await this.#pc.setLocalDescription({ type: 'rollback' }).catch(() => {})
    }
  }

  #fill(kind: 'audio' | 'video', count: number): void {
    const have = this.#slots.filter((slot) => slot.receiver.track.kind === kind).length
    for (let i = have; i < count; i += 1) {
      const slot = this.#pc.addTransceiver(kind, { direction: 'recvonly' })
      trimCodecs(slot)
      if (kind === 'video') allowExtensions(slot, DEPENDENCY_DESCRIPTOR)
      this.#slots.push(slot)
    }
  }

  #stateChanged(): void {
    const state = this.#pc.connectionState
    clearTimeout(this.#disconnectedTimer)
    if (state === 'connected') this.#restarts = 0
    if (state === 'disconnected') {
      this.#disconnectedTimer = setTimeout(() => this.restartIce(), DISCONNECTED_MS)
    }
    this.#delegate.transportChanged(state)
    if (state !== 'failed') return
    this.#restarts += 1
    if (this.#restarts > RESTARTS_MAX) this.#delegate.failed()
    else this.restartIce()
  }
}
