/** Other participants and what they publish. */
import type { AdaptiveView } from './adaptive'
import type { Codec, Kind, Layer, Participant as ParticipantView, Request, Source, StreamChange, Track, TrackPatch } from './protocol'
import type { RemoteTrack } from './remote-track'

/** A layer by how good it looks; `auto` follows the size on screen. */
export type Quality = 'auto' | 'low' | 'medium' | 'high'

/** What arrives of a track at present. */
export type StreamStatus = Pick<StreamChange, 'state' | 'layer' | 'reason'>

const QUALITY_LAYERS: Readonly<Record<Quality, number | undefined>> = { auto: undefined, low: 0, medium: 1, high: 2 }

/** Another participant's track as announced, whether or not it is received. */
export class RemotePublication {
  readonly id: string
  readonly kind: Kind
  readonly source: Source
  readonly participant: RemoteParticipant
  /** Attach elements to it at any time; they play while a slot carries it. */
  readonly track: RemoteTrack
  name: string
  /** Free text of the publisher's application; may be empty. */
  meta: string
  muted: boolean
  /** `undefined` before its first packet. */
  codec: Codec | undefined
  /** Simulcast layers, lowest first. */
  layers: readonly Layer[]
  stream: StreamStatus = { state: 'paused' }
  readonly #view: AdaptiveView
  readonly #request: (request: Request) => Promise<unknown>

  /** @internal */
  constructor(
    view: Track,
    participant: RemoteParticipant,
    track: RemoteTrack,
    adaptive: AdaptiveView,
    request: (request: Request) => Promise<unknown>,
  ) {
    this.id = view.id
    this.kind = view.kind
    this.source = view.source
    this.name = view.name
    this.meta = view.meta ?? ''
    this.muted = view.muted
    this.codec = view.codec
    this.layers = view.layers
    this.participant = participant
    this.track = track
    this.#view = adaptive
    this.#request = request
  }

  /** A slot carries it. */
  get isSubscribed(): boolean {
    return this.track.mediaStreamTrack !== null
  }

  /** The layer chosen by hand, by index from the lowest; `undefined`: it follows the size on screen. */
  get layer(): number | undefined {
    return this.#view.overrideOf(this.id).layer
  }

  /** Receives it or not, whatever `autoSubscribe` says. */
  async setSubscribed(subscribed: boolean): Promise<void> {
    await this.#request({ t: 'subscribe', set: { [this.id]: subscribed } })
  }

  /** Chooses how good the picture may at most be. */
  setQuality(quality: Quality): void {
    this.setLayer(QUALITY_LAYERS[quality])
  }

  /** Asks for at most this layer at any size; `undefined`: the one that fits the size on screen. */
  setLayer(layer: number | undefined): void {
    const { priority } = this.#view.overrideOf(this.id)
    this.#view.override(this.id, {
      ...(layer === undefined ? {} : { layer }),
      ...(priority === undefined ? {} : { priority }),
    })
  }

  /** 1 to 255; higher is served first when the path is narrow. 0: the default of its source. */
  setPriority(priority: number): void {
    const { layer } = this.#view.overrideOf(this.id)
    this.#view.override(this.id, { ...(layer === undefined ? {} : { layer }), priority })
  }

  /** Takes over what the server says; true: its mute state changed. @internal */
  update(patch: TrackPatch): boolean {
    const wasMuted = this.muted
    this.name = patch.name ?? this.name
    this.meta = patch.meta ?? this.meta
    this.muted = patch.muted ?? this.muted
    this.codec = patch.codec ?? this.codec
    this.layers = patch.layers ?? this.layers
    return wasMuted !== this.muted
  }
}

/** Someone else in the room. */
export class RemoteParticipant {
  readonly isLocal = false
  /** Id of this stay. */
  readonly id: string
  /** The name the application knows it by, unique in the room. */
  readonly identity: string
  /** The name to show; may be empty. */
  name: string
  metadata: string
  attributes: Readonly<Record<string, string>>
  /** 0 (silent) to 1. */
  audioLevel = 0
  /** By id. */
  readonly publications = new Map<string, RemotePublication>()

  /** @internal */
  constructor(view: ParticipantView) {
    this.id = view.id
    this.identity = view.identity
    this.name = view.name
    this.metadata = view.metadata
    this.attributes = view.attributes
  }

  /** The first publication of a source. */
  publication(source: Source): RemotePublication | undefined {
    for (const publication of this.publications.values()) if (publication.source === source) return publication
    return undefined
  }

  /** Takes over what the server says. @internal */
  update(patch: Partial<ParticipantView>): void {
    this.name = patch.name ?? this.name
    this.metadata = patch.metadata ?? this.metadata
    this.attributes = patch.attributes ?? this.attributes
  }
}
